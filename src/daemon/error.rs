//! Why the daemon could not start, or could not go on.

use std::io;
use std::path::PathBuf;

/// Why the daemon could not start, or could not go on. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody listens on the socket already.
    #[error("{} is in use by another daemon; stop that one, or give this one its own --socket", socket.display())]
    AlreadyRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The path does not fit into an address.
    #[error(
        "the socket's path has {bytes} bytes and {bytes_max} is the most; choose a shorter one: {}",
        path.display()
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The longest there may be.
        bytes_max: usize,
    },
    /// There is something else in the socket's place.
    #[error("{} exists and is not a socket; move it away, or choose another --socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The lock beside the socket cannot be taken.
    #[error("cannot take the lock {}: {source}; is the directory there, and yours to write?", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}; is the directory there, and yours to write?", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Mode or group of the socket cannot be set.
    #[error(
        "cannot set mode and group of {}: {source}; poold must run as root or be a member of socket_group",
        path.display()
    )]
    Access {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket that was bound is no longer at its path.
    #[error("{} is not the socket that poold made: it was removed or replaced; restart poold", path.display())]
    Displaced {
        /// Where it was.
        path: PathBuf,
    },
    /// There is no group of that name.
    #[error("there is no group `{name}` in /etc/group; correct socket_group, or give the group's number")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// What the service manager passed cannot be used.
    #[error(
        "what the service manager passed is not a listening Unix stream socket ({0}); correct the socket unit"
    )]
    Activation(io::Error),
    /// The service manager passed several sockets.
    #[error("the service manager passed {sockets} sockets and poold listens on one; correct the socket unit")]
    TooManyInherited {
        /// How many.
        sockets: usize,
    },
    /// The system refused something at the start.
    #[error("cannot {what}: {source}")]
    Setup {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The system no longer reports events.
    #[error("cannot wait for events: {0}")]
    Loop(io::Error),
}

impl Error {
    /// The exit status of `poold` that goes with it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::AlreadyRunning { .. } => 3,
            Error::SocketPathTooLong { .. }
            | Error::NotASocket { .. }
            | Error::Lock { .. }
            | Error::Bind { .. }
            | Error::Access { .. }
            | Error::Displaced { .. }
            | Error::UnknownGroup { .. }
            | Error::Activation(_)
            | Error::TooManyInherited { .. } => 2,
            Error::Setup { .. } | Error::Loop(_) => 1,
        }
    }
}
