//! What std and interprocess do not offer on Unix sockets: taking over an inherited one, and asking
//! whether a path is listened on.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Takes over the listening sockets that the service manager passed (sd_listen_fds(3)), close-on-exec.
/// None are left for a second call.
///
/// # Errors
/// `InvalidInput` when the variables that announce them are wrong, or when one of them is not a
/// listening Unix stream socket.
pub(crate) fn take_inherited_listeners() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);

    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    sd_notify::listen_fds()?
        .map(|fd| {
            // SAFETY: the service manager opened it for this process (LISTEN_PID was checked), the call
            // above would have failed were it closed, and `TAKEN` sees to it that nobody else takes it.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            if is_listener(&socket)? { Ok(socket) } else { Err(io::ErrorKind::InvalidInput.into()) }
        })
        .collect()
}

/// Whether `socket` is a Unix stream socket that accepts connections.
fn is_listener(socket: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_domain(socket)? == AddressFamily::UNIX
        && sockopt::socket_type(socket)? == SocketType::STREAM
        && sockopt::socket_acceptconn(socket)?)
}

/// Whether a process listens on the socket at `path`. Never waits.
///
/// # Errors
/// Whatever connecting gives other than that nobody listens, for example that it is not allowed.
pub(crate) fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // EAGAIN: there is a listener, and its backlog is full.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
