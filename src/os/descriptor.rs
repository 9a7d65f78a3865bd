//! The file descriptors that a process was started with, and waiting on one.
//!
//! A process that was just executed owns what it inherited, and nothing in it knows. The functions that
//! adopt or close such descriptors are for the first lines of `main`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The first descriptor that is not a standard stream.
const FIRST_FD: RawFd = 3;

/// Closes every descriptor but standard input, output and error, and `but` (close_range(2), Linux 5.9).
///
/// Only for the first lines of `main`: afterwards, others own descriptors that this would close.
///
/// # Errors
/// What the system gives; `ENOSYS` on an older kernel.
pub(crate) fn close_inherited(but: Option<RawFd>) -> io::Result<()> {
    match but.and_then(|fd| libc::c_uint::try_from(fd).ok()) {
        None => close_range(FIRST_FD.unsigned_abs(), libc::c_uint::MAX),
        Some(but) => {
            close_range(FIRST_FD.unsigned_abs(), but.saturating_sub(1))?;
            close_range(but.saturating_add(1), libc::c_uint::MAX)
        }
    }
}

/// Closes the descriptors from `first` to `last`, if there are any.
fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the call reads no memory of ours. What it closes was inherited: `close_inherited` runs before
    // anything in this process has opened a descriptor, so no `OwnedFd` loses its own.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Standard input under a descriptor of its own (the lowest free one from 3 on, closed by `exec`);
/// `/dev/null` takes its place.
///
/// # Errors
/// What the system gives.
pub(crate) fn move_standard_input() -> io::Result<OwnedFd> {
    let moved = fcntl_dupfd_cloexec(io::stdin(), FIRST_FD)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(moved)
}

/// Has standard input, output and error be these, in that order.
///
/// # Errors
/// What the system gives.
pub(crate) fn replace_standard_streams([stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    Ok(rustix::stdio::dup2_stderr(stderr)?)
}

/// The inherited descriptor `fd`, owned from here on and closed by `exec`. Adopt each only once.
///
/// # Errors
/// `EBADF` when it is a standard stream or is not open.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < FIRST_FD {
        return Err(Errno::BADF.into());
    }
    // SAFETY: the call touches no memory, and fails for a number that is no open descriptor.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, as the call above found. It was given to this process by whoever executed it, to
    // be taken over, so nothing else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets `fd` stay open when this process executes another program.
///
/// # Errors
/// What the system gives.
pub(crate) fn keep_open_on_exec(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfd(&fd)?;
    Ok(fcntl_setfd(&fd, flags.difference(FdFlags::CLOEXEC))?)
}

/// Whether `fd` is a Unix stream socket.
pub(crate) fn is_unix_stream(fd: impl AsFd) -> bool {
    socket_domain(&fd) == Ok(AddressFamily::UNIX) && socket_type(&fd) == Ok(SocketType::STREAM)
}

/// Whether reading from `fd` would give something, or its end, at once.
///
/// # Errors
/// What the system gives.
pub(crate) fn is_readable(fd: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&fd, PollFlags::IN | PollFlags::RDHUP)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())))? > 0)
}

/// Waits until the other end of `socket` is closed, also for writing alone. Data does not wake it.
///
/// # Errors
/// What the system gives.
pub(crate) fn wait_for_hangup(socket: impl AsFd) -> io::Result<()> {
    // HUP and ERR are reported without being asked for.
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn standard_stream_is_not_adopted() {
        assert_eq!(adopt(0).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn closed_descriptor_is_not_adopted() {
        assert_eq!(adopt(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn adopted_descriptor_is_closed_by_exec() {
        let (one, _other) = UnixStream::pair().unwrap();
        keep_open_on_exec(&one).unwrap();
        assert_eq!(fcntl_getfd(&one).unwrap(), FdFlags::empty());
        let number = one.as_raw_fd();
        let adopted = adopt(one.into_raw_fd()).unwrap();
        assert_eq!(adopted.as_raw_fd(), number);
        assert_eq!(fcntl_getfd(&adopted).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn only_unix_stream_is_taken_for_one() {
        assert!(is_unix_stream(UnixStream::pair().unwrap().0));
        assert!(!is_unix_stream(File::open("/dev/null").unwrap()));
        assert!(!is_unix_stream(std::os::unix::net::UnixDatagram::pair().unwrap().0));
    }

    #[test]
    fn socket_is_readable_once_something_is_there() {
        let (near, mut far) = UnixStream::pair().unwrap();
        assert!(!is_readable(&near).unwrap());
        far.write_all(b"x").unwrap();
        assert!(is_readable(&near).unwrap());
    }

    #[test]
    fn hangup_is_seen_behind_unread_data() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"unread").unwrap();
        drop(far);
        wait_for_hangup(&near).unwrap();
    }
}
