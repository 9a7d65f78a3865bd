//! The processes of a command: started in a group of their own, and all gone when the attempt is over.
//!
//! ```text
//!   worker ──vfork──> command: own session, killed with its worker, tells the guard its group ──exec──>
//!      │                                                          │
//!      └── its leader ended: group killed ──> guard told ──> leader reaped
//! ```
//!
//! The group's number is the leader's process id, which stays its own until the leader is reaped: so the
//! guard knows of each group from before it can start anything until after it was killed, and never kills
//! another's. A process that leaves its group (setsid(2)) escapes, unless a cgroup holds it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::id::Pid;
use crate::message::guard::Record;
use crate::message::resources::AttemptLimits;
use crate::os::execution::Execution;
use crate::os::pidfd::Child;
use crate::os::process;
use crate::task::Exit;

/// Where the guard is told of groups. Workers that the daemon did not start itself have none.
static GUARD: OnceLock<OwnedFd> = OnceLock::new();

/// What each command may use, unless its function has a limit of its own.
static LIMITS: OnceLock<AttemptLimits> = OnceLock::new();

/// Keeps what the daemon gave this process to tell the guard with.
pub(super) fn keep_guard(guard: OwnedFd) {
    // A second one would be the same pipe.
    let _ = GUARD.set(guard);
}

/// From here on, commands may use no more than that, unless their function says otherwise.
pub(super) fn limit_commands(limits: AttemptLimits) {
    // It is said once, before anything is run.
    let _ = LIMITS.set(limits);
}

/// Whether commands can be run here so that none is ever left behind.
pub(super) fn has_guard() -> bool {
    GUARD.get().is_some()
}

/// A command that was started. Its group ends with this value, at the latest.
#[derive(Debug)]
pub(super) struct Process {
    /// None once it is reaped.
    child: Option<Child>,
}

impl Process {
    /// Starts a command within its own limits, and within those of all commands where it has none.
    ///
    /// # Errors
    /// What the system gives: above all that there is no such program, or that it may not be executed.
    pub(super) fn start(mut execution: Execution<'_>) -> io::Result<Self> {
        execution.limits = execution.limits.or(LIMITS.get().copied().unwrap_or_default());
        execution.guard = GUARD.get();
        Ok(Process { child: Some(execution.start()?) })
    }

    /// Whether its first process has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.child.as_ref().is_none_or(Child::has_ended)
    }

    /// Polls readable when its first process has ended.
    pub(super) fn exit(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(AsFd::as_fd)
    }

    /// Sends its group the signal of that number, if there is one.
    pub(super) fn signal(&self, number: i32) {
        if let Some(child) = &self.child {
            child.signal_group_by_number(number);
        }
    }

    /// Asks its group to end (SIGTERM).
    pub(super) fn terminate(&self) {
        if let Some(child) = &self.child {
            child.terminate_group();
        }
    }

    /// Kills all that is left of its group; waits for its first process alone.
    ///
    /// # Errors
    /// What the system gives when asked how that process ended.
    pub(super) fn end(mut self) -> io::Result<Exit> {
        self.kill().unwrap_or(Err(io::ErrorKind::NotFound.into()))
    }

    fn kill(&mut self) -> Option<io::Result<Exit>> {
        let child = self.child.take()?;
        child.kill_group();
        if let Some(guard) = GUARD.get() {
            let record = Record::GroupEnded { worker: Pid(std::process::id()), group: child.pid() };
            // A guard that cannot be told would kill a group that is gone: nothing to be done about here.
            let _ = process::tell_guard(guard, record);
        }
        Some(child.reap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
