//! The socket that clients connect to: where it is, whose it is, who may connect.
//!
//! A path belongs to whoever holds the lock beside it (`<socket>.lock`, flock(2)). Only with the lock
//! held is a socket that a killed daemon left behind taken away, and only what was bound here is
//! removed at the end: never a socket that the service manager passed.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use interprocess::local_socket::traits::{Listener as _, StreamCommon as _};
use interprocess::local_socket::{GenericFilePath, ListenerNonblockingMode, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket::{self, Stream};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::config::{Config, accounts};
use super::error::Error;
use super::token::Token;
use crate::id::{Credentials, Gid, Uid};
use crate::limits::{ACCEPT_PAUSE, SOCKET_PATH_BYTES_MAX, SYSTEM_SOCKET};
use crate::os::socket::{is_listened_on, peer_groups, take_inherited_listeners};
use crate::time::Time;
use crate::wire::{Answer, VERSION_MAX, Verdict};

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// The permission bits of the socket.
    mode: u32,
    /// Its group; by default the daemon's.
    group_id: Option<u32>,
}

impl Access {
    /// What `config` says of it.
    pub(super) fn of(config: &Config) -> Result<Self, Error> {
        let group = config.socket_group.as_deref().map(|name| {
            accounts::group_id(name).ok_or_else(|| Error::UnknownGroup { name: name.to_owned() })
        });
        Ok(Access { mode: config.socket_mode, group_id: group.transpose()?.map(|group| group.0) })
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: uds_local_socket::Listener,
    origin: Origin,
    /// Given up for a moment when there are no more descriptors, so that a client can be told so.
    reserve: Option<File>,
    /// Nothing is accepted before then.
    paused_until: Option<Time>,
}

/// Where the socket came from.
#[derive(Debug)]
enum Origin {
    /// The service manager: it is not ours to remove.
    Inherited,
    /// It was bound here.
    Bound(Binding),
}

/// A path that is ours as long as this lives.
#[derive(Debug)]
struct Binding {
    path: PathBuf,
    /// Device and inode of the socket, so that another's in its place is left alone.
    identity: (u64, u64),
    _lock: Lock,
}

/// A client that asked to be let in.
#[derive(Debug)]
pub(super) enum Accepted {
    /// It is connected.
    Client(Stream, Credentials),
    /// It left before it could be known who it is.
    Left(io::Error),
    /// It was told that there are too many, since no descriptor is left for it.
    TurnedAway(Uid),
    /// Nobody waits.
    Nobody,
    /// It cannot be taken; nothing is accepted for a while.
    Failed(io::Error),
}

impl Listener {
    /// The socket that the service manager passed, else one bound where `config` or the environment says.
    pub(super) fn open(config: &Config, registry: &Registry) -> Result<Self, Error> {
        let mut inherited = take_inherited_listeners().map_err(Error::Activation)?;
        let listener = match (inherited.pop(), inherited.len()) {
            (None, _) => Listener::bind(socket_path(config), Access::of(config)?)?,
            (Some(socket), 0) => Listener::inherit(socket)?,
            (Some(_), others) => return Err(Error::TooManyInherited { sockets: others + 1 }),
        };
        listener
            .socket
            .set_nonblocking(ListenerNonblockingMode::Accept)
            .and_then(|()| {
                let fd = listener.socket.inner().as_raw_fd();
                registry.register(&mut SourceFd(&fd), Token::Listener.into(), Interest::READABLE)
            })
            .map_err(|source| Error::Setup { what: "watch the socket", source })?;
        Ok(listener)
    }

    fn inherit(socket: OwnedFd) -> Result<Self, Error> {
        log::info!("listening on the socket that the service manager passed");
        Listener::over(socket.into(), Origin::Inherited)
    }

    fn bind(path: PathBuf, access: Access) -> Result<Self, Error> {
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Error::SocketPathTooLong { path, bytes, bytes_max: SOCKET_PATH_BYTES_MAX });
        }
        let lock = Lock::take(&path)?;
        remove_stale_socket(&path)?;
        let at = |source| Error::Bind { path: path.clone(), source };
        let name = path.as_path().to_fs_name::<GenericFilePath>().map_err(at)?;
        // For the owner alone at first, so that it is never open to more than it should be.
        let socket: uds_local_socket::Listener = ListenerOptions::new()
            .name(name)
            .mode((access.mode & 0o600) as _)
            .reclaim_name(false)
            .create_sync_as()
            .map_err(at)?;
        let identity = identity(&path).map_err(at)?;
        let listener =
            Listener::over(socket, Origin::Bound(Binding { path: path.clone(), identity, _lock: lock }))?;
        listener.set_access(access)?;
        log::info!("listening on {}", path.display());
        Ok(listener)
    }

    fn over(socket: uds_local_socket::Listener, origin: Origin) -> Result<Self, Error> {
        let reserve =
            open_reserve().map_err(|source| Error::Setup { what: "reserve a descriptor", source })?;
        Ok(Listener { socket, origin, reserve: Some(reserve), paused_until: None })
    }

    /// Lets those connect whom `access` names, exactly, whatever the umask. A socket that was inherited
    /// stays as the service manager made it; what others put in its place stays as it is.
    pub(super) fn set_access(&self, access: Access) -> Result<(), Error> {
        let Origin::Bound(Binding { path, identity: ours, .. }) = &self.origin else { return Ok(()) };
        if !identity(path).is_ok_and(|found| found == *ours) {
            return Err(Error::Displaced { path: path.clone() });
        }
        access
            .group_id
            .map_or(Ok(()), |group_id| lchown(path, None, Some(group_id)))
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(access.mode)))
            .map_err(|source| Error::Access { path: path.clone(), source })
    }

    /// The next client that waits.
    pub(super) fn accept(&mut self, now: Time) -> Accepted {
        if self.paused_until.is_some() {
            return Accepted::Nobody;
        }
        match self.socket.accept() {
            Ok(stream) => identify(stream),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN) => Accepted::Nobody,
                Some(Errno::CONNABORTED | Errno::INTR) => Accepted::Left(error),
                Some(Errno::MFILE | Errno::NFILE) if self.reserve.take().is_some() => self.turn_away(now),
                _ => {
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    Accepted::Failed(error)
                }
            },
        }
    }

    /// Uses the descriptor that was reserved to tell one client that there is none for it.
    fn turn_away(&mut self, now: Time) -> Accepted {
        let accepted = match self.socket.accept().map(identify) {
            Ok(Accepted::Client(stream, peer)) => {
                turn_away(&stream, Verdict::TooManyConnections);
                Accepted::TurnedAway(peer.user)
            }
            Ok(other) => other,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) => Accepted::Failed(error),
        };
        self.reserve = open_reserve().ok();
        if self.reserve.is_none() {
            self.paused_until = Some(now + ACCEPT_PAUSE);
        }
        accepted
    }

    /// When accepting goes on, if it pauses.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.paused_until
    }

    /// Ends a pause that is over. Says whether it did.
    pub(super) fn resume(&mut self, now: Time) -> bool {
        let is_over = self.paused_until.is_some_and(|until| until <= now);
        if is_over {
            self.paused_until = None;
            self.reserve = self.reserve.take().or_else(|| open_reserve().ok());
        }
        is_over
    }
}

/// Tells a client, as far as its socket takes it at once, why it is not let in.
pub(super) fn turn_away(stream: &Stream, verdict: Verdict) {
    let answer = Answer { verdict, version: VERSION_MAX };
    // A new socket's buffer is empty; a client that is gone already needs no answer.
    let _ = rustix::io::write(stream.inner(), &answer.encode());
}

fn identify(stream: Stream) -> Accepted {
    match credentials_of(&stream) {
        Ok(peer) => Accepted::Client(stream, peer),
        Err(error) => Accepted::Left(error),
    }
}

fn credentials_of(stream: &Stream) -> io::Result<Credentials> {
    let credentials = stream.peer_creds()?;
    let user = credentials.euid().ok_or(io::ErrorKind::Unsupported)?;
    let primary = credentials.egid().map(Gid);
    let groups = peer_groups(stream.inner())?.into_iter().chain(primary).collect();
    Ok(Credentials { user: Uid(user), groups })
}

fn open_reserve() -> io::Result<File> {
    File::open("/dev/null")
}

impl Drop for Binding {
    /// Removes the socket, before its lock goes.
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// The right to a socket's path. Its file goes with it.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock of the socket at `socket`.
    fn take(socket: &Path) -> Result<Self, Error> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        let at = |source: io::Error| Error::Lock { path: path.clone(), source };
        loop {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
                .open(&path)
                .map_err(at)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::AlreadyRunning { socket: socket.to_owned() }),
                Err(error) => return Err(at(error.into())),
            }
            // Its former holder may have removed the file between the two calls: then this lock is of a
            // file that nobody else will find.
            let lock = Lock { path: path.clone(), file };
            if lock.is_in_place() {
                return Ok(lock);
            }
        }
    }

    fn is_in_place(&self) -> bool {
        let held = self.file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        held.is_ok_and(|held| identity(&self.path).is_ok_and(|found| found == held))
    }
}

impl Drop for Lock {
    /// Removes the file while it is locked.
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// Takes away what a killed daemon left at `path`. To be called with the lock held.
fn remove_stale_socket(path: &Path) -> Result<(), Error> {
    let at = |source| Error::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // The lock says that no daemon is there; this, that no other program is, nor one whose lock was removed.
    if is_listened_on(path).map_err(at)? {
        return Err(Error::AlreadyRunning { socket: path.to_owned() });
    }
    log::info!("taking over {}, which a daemon that was killed left behind", path.display());
    fs::remove_file(path).map_err(at)
}

/// Device and inode of what is at `path`.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Where to listen: the first that is set of the configuration, `$POOLD_SOCKET`,
/// `$XDG_RUNTIME_DIR/poold.sock` and `/run/poold/poold.sock`.
fn socket_path(config: &Config) -> PathBuf {
    let default = || default_path(env::var_os("POOLD_SOCKET"), env::var_os("XDG_RUNTIME_DIR"));
    config.socket.clone().unwrap_or_else(default)
}

/// Where to listen in an environment of the caller's. What counts as not set must be what does for the
/// clients (`client::socket_paths`), or they would not find it: an empty variable, and a runtime directory
/// that is not absolute (XDG Base Directory Specification).
fn default_path(socket: Option<OsString>, runtime_directory: Option<OsString>) -> PathBuf {
    let user_socket = || {
        let directory = runtime_directory.map(PathBuf::from).filter(|directory| directory.is_absolute())?;
        Some(directory.join("poold.sock"))
    };
    socket
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(user_socket)
        .unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    const OPEN: Access = Access { mode: 0o660, group_id: None };

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).expect("the socket is there").mode() & 0o7777
    }

    fn names_in(directory: &tempfile::TempDir) -> Vec<OsString> {
        let entries = fs::read_dir(directory.path()).expect("the directory is there");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }

    #[test]
    fn second_daemon_on_the_same_socket_is_refused() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let first = Listener::bind(path.clone(), OPEN).expect("the path is free");
        let second = Listener::bind(path.clone(), OPEN);
        assert!(matches!(second, Err(Error::AlreadyRunning { socket }) if socket == path));
        UnixStream::connect(&path).expect("the first one still listens");
        drop(first);
    }

    #[test]
    fn socket_of_another_program_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let _other = UnixListener::bind(&path).expect("the path is free");
        assert!(matches!(Listener::bind(path.clone(), OPEN), Err(Error::AlreadyRunning { .. })));
        UnixStream::connect(&path).expect("it still listens");
    }

    #[test]
    fn stale_socket_is_taken_over() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        drop(UnixListener::bind(&path).expect("the path is free"));
        assert!(path.exists());
        let _listener = Listener::bind(path.clone(), OPEN).expect("nobody listens there");
        UnixStream::connect(&path).expect("we do now");
    }

    #[test]
    fn file_that_is_no_socket_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "mine").expect("it can be written");
        assert!(matches!(Listener::bind(path.clone(), OPEN), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read(&path).expect("it is still there"), b"mine");
        assert_eq!(names_in(&directory), ["notes.txt"], "no lock is left beside it");
    }

    #[test]
    fn mode_is_exact_whatever_the_umask() {
        let directory = directory();
        for mode in [0o600, 0o660, 0o666, 0o777] {
            let path = directory.path().join(format!("{mode:o}.sock"));
            let access = Access { mode, group_id: None };
            let _listener = Listener::bind(path.clone(), access).expect("the path is free");
            assert_eq!(mode_of(&path), mode);
        }
    }

    #[test]
    fn access_can_be_changed_while_it_listens() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let listener = Listener::bind(path.clone(), OPEN).expect("the path is free");
        listener.set_access(Access { mode: 0o600, group_id: None }).expect("it is ours");
        assert_eq!(mode_of(&path), 0o600);
    }

    #[test]
    fn access_to_what_is_in_the_sockets_place_is_not_changed() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let secret = directory.path().join("secret");
        fs::write(&secret, "mine").expect("it can be written");
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("it is ours");
        let listener = Listener::bind(path.clone(), OPEN).expect("the path is free");
        fs::remove_file(&path).expect("it is ours");
        assert!(matches!(listener.set_access(OPEN), Err(Error::Displaced { .. })));
        std::os::unix::fs::symlink(&secret, &path).expect("the path is free");
        assert!(matches!(listener.set_access(OPEN), Err(Error::Displaced { .. })));
        assert_eq!(mode_of(&secret), 0o600);
    }

    #[test]
    fn bound_socket_and_its_lock_are_removed_at_the_end() {
        let directory = directory();
        drop(Listener::bind(directory.path().join("poold.sock"), OPEN).expect("the path is free"));
        assert_eq!(names_in(&directory), Vec::<OsString>::new());
    }

    #[test]
    fn socket_of_another_in_our_place_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let listener = Listener::bind(path.clone(), OPEN).expect("the path is free");
        fs::rename(&path, directory.path().join("moved.sock")).expect("it is ours");
        let _other = UnixListener::bind(&path).expect("the path is free again");
        drop(listener);
        UnixStream::connect(&path).expect("the other one is still reached");
    }

    #[test]
    fn inherited_socket_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("poold.sock");
        let socket = UnixListener::bind(&path).expect("the path is free");
        drop(Listener::inherit(socket.into()).expect("it is a listener"));
        assert!(path.exists());
    }

    #[test]
    fn path_that_no_socket_can_have_is_refused_by_its_length() {
        let longest = directory().path().join("x".repeat(SOCKET_PATH_BYTES_MAX));
        assert!(matches!(
            Listener::bind(longest, OPEN),
            Err(Error::SocketPathTooLong { bytes_max: SOCKET_PATH_BYTES_MAX, .. })
        ));
    }

    #[test]
    fn default_path_is_the_first_that_a_client_would_try() {
        let path = |socket: &str, directory: &str| default_path(Some(socket.into()), Some(directory.into()));
        assert_eq!(path("/a", "/run/user/1"), Path::new("/a"));
        assert_eq!(path("", "/run/user/1"), Path::new("/run/user/1/poold.sock"));
        for directory in ["", "run"] {
            assert_eq!(path("", directory), Path::new(SYSTEM_SOCKET));
        }
        assert_eq!(default_path(None, None), Path::new(SYSTEM_SOCKET));
    }

    #[test]
    fn socket_group_that_is_not_there_is_named() {
        let access =
            |group: &str| Access::of(&Config { socket_group: Some(group.to_owned()), ..Config::default() });
        assert_eq!(access("root").expect("every system has it").group_id, Some(0));
        assert_eq!(access("4242").expect("a number").group_id, Some(4242));
        assert!(matches!(access("no such group"), Err(Error::UnknownGroup { .. })));
    }
}
