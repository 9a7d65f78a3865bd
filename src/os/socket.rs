//! What std and interprocess do not offer on Unix sockets: taking over an inherited one, asking whether a
//! path is listened on, and which groups a peer is in.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::id::Gid;

/// Asks for the supplementary groups of a peer (Linux 4.13; asm-generic/socket.h, which x86, ARM and
/// RISC-V follow).
const SO_PEERGROUPS: libc::c_int = 59;

/// Less than a piece of what was written takes of the kernel's memory, however short it is: the head of a buffer alone
/// (struct sk_buff) is larger.
const PIECE_BYTES_MIN: libc::c_int = 128;

/// Groups that there is room for at first: more than nearly every process has.
const GROUPS_AT_FIRST: usize = 32;

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

/// Whether the peer has read all that was written to a Unix stream socket (SIOCOUTQ); so also where that cannot be
/// told. While it has not, the kernel tells the writer of each piece that it reads.
///
/// What the kernel counts is memory, and it tells of a piece before it has given up the last byte of it: whoever asks
/// at once may find that byte, and would never be told again.
pub(crate) fn is_all_read(socket: impl AsFd) -> bool {
    let mut unread_bytes: libc::c_int = 0;
    // SAFETY: the call writes one integer, which lives through it.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unread_bytes) };
    result != 0 || unread_bytes < PIECE_BYTES_MIN
}

/// The supplementary groups that the peer of a connected socket had when it connected. Never waits: the
/// kernel remembers them, and no user database is asked.
///
/// # Errors
/// What the system gives.
pub(crate) fn peer_groups(socket: impl AsFd) -> io::Result<Vec<Gid>> {
    let socket = socket.as_fd();
    let mut groups = vec![0; GROUPS_AT_FIRST];
    loop {
        // No process has as many groups as would overflow this (NGROUPS_MAX is 65,536).
        let mut bytes = (groups.len() * mem::size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `bytes` bytes into `groups`, which has room for them, and the
        // length that it needs into `bytes`; both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / mem::size_of::<libc::gid_t>();
        match (result, io::Error::last_os_error()) {
            (0, _) => {
                groups.truncate(count);
                return Ok(groups.into_iter().map(Gid).collect());
            }
            (_, error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            (_, error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rustix::buffer::spare_capacity;
    use rustix::event::{Timespec, epoll};
    use rustix::thread::{CpuSet, sched_setaffinity};

    use super::*;

    #[test]
    fn writer_that_is_told_of_the_last_piece_finds_that_all_is_read() {
        const PIECES: usize = 20_000;
        /// What no reader takes, however busy the machine is.
        const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let interest = epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&poller, &near, epoll::EventData::new_u64(0), interest).unwrap();
        let reader = thread::spawn(move || {
            stay_on_processor(1);
            (0..PIECES).try_for_each(|_| far.read_exact(&mut [0]))
        });
        stay_on_processor(0);
        for piece in 0..PIECES {
            near.write_all(&[7]).unwrap();
            while !is_all_read(&near) {
                let mut events = Vec::with_capacity(1);
                let told = epoll::wait(&poller, spare_capacity(&mut events), Some(&PATIENCE)).unwrap();
                assert!(told > 0, "piece {piece} was read, and nobody is told any more");
            }
        }
        reader.join().unwrap().unwrap();
    }

    /// Has this thread run at the same time as one on another processor, where there are several.
    fn stay_on_processor(number: usize) {
        let mut processors = CpuSet::new();
        processors.set(number);
        // It may be forbidden, or there may be just one.
        let _ = sched_setaffinity(None, &processors);
    }

    #[test]
    fn piece_that_is_not_read_is_found_however_short() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        assert!(is_all_read(&near));
        near.write_all(&[7]).unwrap();
        assert!(!is_all_read(&near));
        far.read_exact(&mut [0]).unwrap();
        assert!(is_all_read(&near));
    }
}
