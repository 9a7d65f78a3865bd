//! The file descriptors that a process was started with, and waiting on one.
//!
//! A process that was just executed owns what it inherited, and nothing in it knows. The functions that
//! adopt or close such descriptors are for the first lines of `main`.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
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
        None => close_range(FIRST_FD.unsigned_abs(), libc::c_uint::MAX, 0),
        Some(but) => {
            close_range(FIRST_FD.unsigned_abs(), but.saturating_sub(1), 0)?;
            close_range(but.saturating_add(1), libc::c_uint::MAX, 0)
        }
    }
}

/// Closes the descriptors from `first` to `last`, if there are any.
fn close_range(first: libc::c_uint, last: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the call reads no memory of ours, and no `OwnedFd` loses its own. `close_inherited` runs before anything
    // in this process has opened a descriptor; `wait_for_hangup_alone` closes those of its own thread, which uses none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
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
/// It holds nothing open meanwhile, the socket neither: the calling thread gets a table of descriptors of its own, and
/// that has only a poller in it. So when the other threads of its process have ended, all that these had open is
/// closed, though this one lives on.
///
/// To be called by a thread that uses no descriptor afterwards, and drops none.
///
/// # Errors
/// What the system gives.
pub(crate) fn wait_for_hangup_alone(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd().unsigned_abs();
    close_range(fd.saturating_add(1), libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    if let Some(last) = fd.checked_sub(1) {
        close_range(0, last, 0)?;
    }
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    // HUP and ERR are reported without being asked for.
    epoll::add(&poller, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::RDHUP)?;
    close_range(fd, fd, 0)?;
    let mut event = [MaybeUninit::uninit()];
    rustix::io::retry_on_intr(|| epoll::wait(&poller, &mut event, None).map(|_| ()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::fd::{BorrowedFd, IntoRawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread::{self, JoinHandle};

    use rustix::thread::gettid;

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

    /// A thread that waits for a hangup, which may come once it holds nothing open but its poller.
    fn wait_for_hangup_beside(near: &UnixStream) -> JoinHandle<io::Result<()>> {
        let near = near.as_raw_fd();
        let (tell, told) = mpsc::channel();
        let waiting = thread::spawn(move || {
            tell.send(gettid().as_raw_pid()).unwrap();
            // SAFETY: it is open until this thread is known to have no use for it.
            wait_for_hangup_alone(unsafe { BorrowedFd::borrow_raw(near) })
        });
        let descriptors = format!("/proc/self/task/{}/fd", told.recv().unwrap());
        while !waiting.is_finished() && fs::read_dir(&descriptors).is_ok_and(|open| open.count() != 1) {
            thread::yield_now();
        }
        waiting
    }

    #[test]
    fn hangup_is_seen_behind_unread_data() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"unread").unwrap();
        drop(far);
        wait_for_hangup_beside(&near).join().unwrap().unwrap();
    }

    #[test]
    fn whoever_waits_for_a_hangup_holds_nothing_open() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let waiting = wait_for_hangup_beside(&near);
        drop(near);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert!(!waiting.is_finished());
    }
}
