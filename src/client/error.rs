//! What can go wrong between a caller and the daemon: one enum, and one line of text for each.
//!
//! How a task ended is an outcome and never an error here.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::message::client::Refusal;
use crate::wire::{VERSION_MAX, WireError};

/// Why the daemon could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens anywhere that was tried. Start a daemon, or name its socket.
    #[error("no daemon listens on {}; start `poold`, or name its socket with --socket or $POOLD_SOCKET", list(.tried))]
    NoDaemon {
        /// Every path and what came of it, in the order they were tried.
        tried: Vec<Tried>,
    },
    /// The socket is there, and this user may not connect to it.
    #[error("may not connect to {}, {access}; ask for membership in its group", .path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
        /// Who may.
        access: Access,
    },
    /// The socket could not be connected to for another reason.
    #[error("cannot connect to {}: {source}; name the daemon's socket with --socket or $POOLD_SOCKET", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Whoever listens is not a daemon of this kind.
    #[error("{} is not poold's socket; name the daemon's with --socket or $POOLD_SOCKET", .path.display())]
    NotADaemon {
        /// The socket.
        path: PathBuf,
    },
    /// There is no version of the protocol that both sides speak.
    #[error(
        "the daemon speaks version {daemon_version} of the protocol and this program {VERSION_MAX}; \
         install the same release of both"
    )]
    NoCommonVersion {
        /// The newest one that the daemon speaks.
        daemon_version: u16,
    },
    /// As many connections as the daemon may hold are open. Try again later.
    #[error(
        "the daemon has too many connections; try again when some are closed, or raise limits.connections"
    )]
    TooManyConnections,
    /// The daemon's configuration does not let this user in. Ask its operator.
    #[error(
        "not allowed: the daemon lets only those connect whom access.connect of its configuration names, and no worker's process; ask to be added"
    )]
    NotAllowed,
    /// As many connections as one user may have are open. Close some.
    #[error(
        "your user has as many connections to the daemon as one may; close some, or raise limits.user_connections"
    )]
    TooManyOfUser,
    /// The daemon did not carry out a request. For larger payloads than it takes it is not even asked.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A worker reaches its daemon over its own socket, and only on behalf of a function. Connect on the
    /// function's own thread; the connection can then be used by others.
    #[error(
        "this thread of a worker runs no function; connect on the function's own thread and hand the connection on"
    )]
    BesideFunctions,
    /// The arguments are large and there is no shared memory for them. Nothing was sent.
    #[error("cannot put the arguments into shared memory: {0}; pass them in parts or as a file's name")]
    Memory(#[source] io::Error),
    /// The daemon closed the connection or ended. What it had accepted is lost, unless it was detached
    /// and the daemon still runs.
    #[error("the daemon went away; see its log, and try again once it is back")]
    Gone,
    /// A message could not be made, or the daemon sent what is none.
    #[error("the daemon does not keep to the protocol: {0}; install the same release of both")]
    Protocol(#[from] WireError),
    /// The daemon answered another question than it was asked.
    #[error("the daemon gave an answer that does not fit the request; install the same release of both")]
    UnexpectedReply,
    /// Reading or writing failed.
    #[error("cannot talk to the daemon: {0}; try again")]
    Io(#[from] io::Error),
}

/// A socket that nobody was found to listen on.
#[derive(Debug)]
pub struct Tried {
    /// Its path.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for Tried {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.source.kind() {
            io::ErrorKind::NotFound => "there is no such file",
            io::ErrorKind::ConnectionRefused => "nobody listens",
            io::ErrorKind::PermissionDenied => "its directory may not be searched",
            _ => return write!(formatter, "{} ({})", self.path.display(), self.source),
        };
        write!(formatter, "{} ({reason})", self.path.display())
    }
}

fn list(tried: &[Tried]) -> String {
    tried.iter().map(Tried::to_string).collect::<Vec<_>>().join(" or ")
}

/// Who may use a socket: its permission bits, user and group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permission bits.
    pub mode: u32,
    /// The name or number of its user.
    pub user: String,
    /// The name or number of its group.
    pub group: String,
}

impl Access {
    /// Who may use the file at `path`.
    ///
    /// # Errors
    /// What the system says when it does not tell.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Access {
            mode: metadata.mode() & 0o7777,
            user: account_name("/etc/passwd", metadata.uid()),
            group: account_name("/etc/group", metadata.gid()),
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "which has mode {:04o}, user {} and group {}", self.mode, self.user, self.group)
    }
}

/// The name that `database` (passwd(5) or group(5)) has for `number`, or the number.
fn account_name(database: &str, number: u32) -> String {
    let text = std::fs::read_to_string(database).unwrap_or_default();
    find_account(&text, number).map_or_else(|| number.to_string(), str::to_owned)
}

/// The name in a line `NAME:PASSWORD:NUMBER…`.
fn find_account(database: &str, number: u32) -> Option<&str> {
    database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_daemon_names_every_path_tried_and_why_on_one_line() {
        let tried = |path: &str, kind: io::ErrorKind| Tried { path: path.into(), source: kind.into() };
        let error = Error::NoDaemon {
            tried: vec![
                tried("/run/user/1/poold.sock", io::ErrorKind::NotFound),
                tried("/run/poold/poold.sock", io::ErrorKind::ConnectionRefused),
            ],
        };
        assert_eq!(
            error.to_string(),
            "no daemon listens on /run/user/1/poold.sock (there is no such file) or /run/poold/poold.sock \
             (nobody listens); start `poold`, or name its socket with --socket or $POOLD_SOCKET"
        );
    }

    #[test]
    fn account_known_number_has_its_name() {
        let database = "root:x:0:\npoold:x:996:ann,bob\n";
        assert_eq!(find_account(database, 996), Some("poold"));
        assert_eq!(find_account(database, 99), None);
    }
}
