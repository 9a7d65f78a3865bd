//! A child process that cannot be mistaken for another one.
//!
//! A pid means nothing once its process is reaped. As long as a [`Child`] exists its process is not
//! reaped, so that its pid, and the process group of the same number that it leads, are still its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::process::{
    PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, pidfd_open,
    waitid,
};

use super::{children, descriptor};
use crate::id::Pid;
use crate::task::Exit;

/// Has a descriptor tell of one thread's end.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());

/// A child process that was started as the leader of its own process group and is not reaped yet.
///
/// Its descriptor polls readable when the process has ended (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct Child {
    pid: rustix::process::Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Takes hold of the child `pid`, which nobody else may reap.
    ///
    /// # Errors
    /// Whatever pidfd_open(2) gives: above all that no descriptor is left.
    pub(crate) fn hold(pid: Pid) -> io::Result<Self> {
        let pid = as_rustix(pid)?;
        Ok(Child { pid, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Takes hold of the child `pid`, which nobody else knows of: one that cannot be held is ended.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub(crate) fn hold_or_end(pid: Pid) -> io::Result<Self> {
        Child::hold(pid).inspect_err(|_| {
            children::kill(pid);
            children::reap(pid);
        })
    }

    /// Takes hold of the child `pid` by the descriptor that came with it (CLONE_PIDFD of clone(2)).
    ///
    /// # Errors
    /// `pid` is no process id.
    pub(crate) fn hold_by(pid: Pid, pidfd: OwnedFd) -> io::Result<Self> {
        Ok(Child { pid: as_rustix(pid)?, pidfd })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid(self.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Asks it and its process group to end (SIGTERM). That the group is empty is no error.
    pub(crate) fn terminate_group(&self) {
        self.signal_group(Signal::TERM);
    }

    /// Sends its process group the signal of that number, if there is one.
    pub(crate) fn signal_group_by_number(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.signal_group(signal);
        }
    }

    /// Ends it and its process group (SIGKILL). That the group is empty is no error.
    pub(crate) fn kill_group(&self) {
        self.signal_group(Signal::KILL);
    }

    /// Ends it alone (SIGKILL).
    pub(crate) fn kill(&self) {
        // Failing, it would be because it has ended.
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Whether it has ended; it is not reaped. A child that somebody else reaped has ended.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.wait(WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT), Ok(None))
    }

    /// Reaps it, waiting for its end if that has not come yet.
    ///
    /// # Errors
    /// Whatever waitid(2) gives; ECHILD if somebody else reaped it.
    pub(crate) fn reap(self) -> io::Result<Exit> {
        let status = self.wait(WaitIdOptions::empty())?.ok_or(io::ErrorKind::WouldBlock)?;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ok(Exit::Code(code)),
            (None, Some(signal)) => Ok(Exit::Signal(signal)),
            (None, None) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn wait(&self, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
        rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(self.pidfd.as_fd()), options | WaitIdOptions::EXITED)
        })
    }

    fn signal_group(&self, signal: Signal) {
        // The number cannot be another group's: a process that is not reaped keeps it. What can fail:
        // EPERM, when all its members have changed their user; ESRCH, when all have left it.
        let _ = kill_process_group(self.pid, signal);
        // A leader can join another group of its session (setpgid(2)), where that did not reach it. One
        // that has ended or changed its user cannot be signalled.
        let _ = kill_process(self.pid, signal);
    }
}

/// A process that is no child of this one.
///
/// Its descriptor polls readable when the process has ended (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct Watched(OwnedFd);

impl Watched {
    /// Takes hold of the process that has the id `pid` now.
    ///
    /// # Errors
    /// Whatever pidfd_open(2) gives: above all that there is none.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Watched(pidfd_open(as_rustix(pid)?, PidfdFlags::empty())?))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One thread of another process.
///
/// Its descriptor polls readable when the thread has ended, be it the first of its process to end or the last
/// (PIDFD_THREAD of pidfd_open(2), since Linux 6.9).
#[derive(Debug)]
pub(crate) struct WatchedThread(OwnedFd);

impl WatchedThread {
    /// Takes hold of the thread that has the id `thread` now, if it is one of `process`, which is not reaped.
    ///
    /// # Errors
    /// `ESRCH` if it is none of its threads; `EINVAL` if the kernel has no such descriptors; else what the system gives.
    pub(crate) fn open(process: Pid, thread: Pid) -> io::Result<Self> {
        let pidfd = pidfd_open(as_rustix(thread)?, PIDFD_THREAD)?;
        // Whose thread is held can be told only now: before, the id might have become another's.
        let (process, thread) = (as_rustix(process)?.as_raw_nonzero(), as_rustix(thread)?.as_raw_nonzero());
        // SAFETY: three numbers are passed, and no signal is sent.
        match unsafe { libc::syscall(libc::SYS_tgkill, process.get(), thread.get(), 0) } {
            0 => Ok(WatchedThread(pidfd)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        descriptor::is_readable(self).unwrap_or(false)
    }
}

impl AsFd for WatchedThread {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn as_rustix(pid: Pid) -> io::Result<rustix::process::Pid> {
    let pid = i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw);
    pid.ok_or(io::ErrorKind::InvalidInput.into())
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[expect(clippy::zombie_processes, reason = "`Child` reaps it")]
    fn start(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        let child = command.args(["-c", script]).process_group(0).spawn().expect("sh starts");
        Child::hold(Pid(child.id())).expect("a child can be held")
    }

    #[test]
    fn child_that_exits_is_reaped_with_its_status() {
        assert_eq!(start("exit 7").reap().expect("it is our child"), Exit::Code(7));
    }

    #[test]
    fn killed_group_ends_the_child_by_the_signal() {
        let child = start("sleep 1000 & wait");
        assert!(!child.has_ended());
        child.kill_group();
        assert_eq!(child.reap().expect("it is our child"), Exit::Signal(9));
    }

    #[test]
    fn child_that_left_its_group_is_killed_all_the_same() {
        let leader = start("sleep 1000");
        let mut command = Command::new("sleep");
        let group = leader.pid.as_raw_nonzero().get();
        #[expect(clippy::zombie_processes, reason = "`Child` reaps it")]
        let child = command.arg("1000").process_group(group).spawn().expect("sleep starts");
        let child = Child::hold(Pid(child.id())).expect("a child can be held");
        child.kill_group();
        assert_eq!(child.reap().expect("it is our child"), Exit::Signal(9));
        leader.kill_group();
        leader.reap().expect("it is our child");
    }

    #[test]
    fn asking_whether_it_ended_does_not_reap() {
        let child = start("exit 3");
        rustix::event::poll(&mut [rustix::event::PollFd::new(&child, rustix::event::PollFlags::IN)], None)
            .expect("a pidfd can be polled");
        assert!(child.has_ended());
        assert!(child.has_ended());
        assert_eq!(child.reap().expect("it is our child"), Exit::Code(3));
    }
}
