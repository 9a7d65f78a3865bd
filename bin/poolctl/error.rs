//! What goes wrong in a command: the line it says on standard error, and the exit status.

use std::io;

use poold::client;
use poold::id::TaskId;
use poold::task::{CancelReason, Exit, Limit, Outcome};

use crate::terminal;

/// All is well.
pub(crate) const OK: u8 = 0;
/// The function failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong, or a standard stream cannot be used.
pub(crate) const USAGE: u8 = 2;
/// There is no daemon to talk to.
pub(crate) const NO_DAEMON: u8 = 3;
/// The daemon refused.
pub(crate) const REFUSED: u8 = 4;
/// A limit of the task ran out (as timeout(1)).
pub(crate) const TIMED_OUT: u8 = 124;
/// The task was cancelled.
pub(crate) const CANCELLED: u8 = 125;
/// `run` itself failed, and not the command (as env(1)).
pub(crate) const RUN_FAILED: u8 = 125;
/// The daemon that had accepted the task stopped.
pub(crate) const LOST: u8 = 126;
/// The worker exited by itself.
pub(crate) const WORKER_EXITED: u8 = 127;
/// The worker died of signal N: this plus N (as a shell says it).
pub(crate) const SIGNALLED: u8 = 128;
/// The worker died of SIGKILL, by whatever hand.
const KILLED: u8 = SIGNALLED + 9;
/// Ctrl-C, or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;
/// Standard output was closed (as a shell says of SIGPIPE).
pub(crate) const OUTPUT_CLOSED: u8 = 141;

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line, or a line of the input, cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The daemon could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A task ended otherwise than `ok`.
    #[error("{subject}: {outcome}{}", advice(.outcome))]
    NotOk {
        /// The task's function or id.
        subject: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// A task was asked for its result too early.
    #[error("{task}: not done, it is {state}; `poolctl wait {task}` waits for it")]
    NotDone {
        /// Which.
        task: TaskId,
        /// What it is doing.
        state: &'static str,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}; give it a file or a pipe")]
    Input(#[source] io::Error),
    /// The command cannot be given what it runs on.
    #[error("cannot hand over the directory and the standard streams: {0}; are they all open?")]
    Files(#[source] io::Error),
    /// A result is in shared memory that cannot be mapped.
    #[error("cannot read the result: {0}; raise the limit on this process's memory")]
    Result(#[source] io::Error),
    /// Standard output cannot be written to.
    #[error("cannot write to standard output: {0}; what was not written is lost")]
    Output(#[source] io::Error),
    /// Nobody reads standard output any more.
    #[error("standard output was closed")]
    OutputClosed,
}

impl Error {
    /// The exit status it calls for.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Input(_) | Error::Files(_) | Error::Result(_) | Error::Output(_) => {
                USAGE
            }
            Error::Client(
                client::Error::Refused(_)
                | client::Error::TooManyConnections
                | client::Error::NotAllowed
                | client::Error::TooManyOfUser,
            ) => REFUSED,
            Error::Client(_) => NO_DAEMON,
            Error::NotOk { outcome, .. } => outcome_status(outcome),
            Error::NotDone { .. } => REFUSED,
            Error::OutputClosed => OUTPUT_CLOSED,
        }
    }

    /// Says it on standard error. A reader who closed standard output knows, and is told nothing.
    pub(crate) fn complain(&self) {
        match self {
            Error::OutputClosed => terminal::clear(),
            _ => terminal::complain(self),
        }
    }
}

/// The exit status for a task that ended so.
pub(crate) fn outcome_status(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Ok(_) => OK,
        Outcome::Failed(_) => FAILED,
        Outcome::Crashed(Exit::Code(_)) => WORKER_EXITED,
        Outcome::Crashed(Exit::Signal(signal)) => {
            SIGNALLED.saturating_add(u8::try_from(*signal).unwrap_or(u8::MAX))
        }
        Outcome::Crashed(Exit::OutOfMemory { .. }) => KILLED,
        Outcome::TimedOut(_) => TIMED_OUT,
        Outcome::Cancelled(_) => CANCELLED,
        Outcome::Lost { .. } => LOST,
    }
}

/// What the caller may do about an outcome, where that is not plain from the outcome's own words.
pub(crate) fn advice(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) | Outcome::Failed(_) => "",
        Outcome::Crashed(_) => "; submit it with --retries to have it tried again",
        Outcome::TimedOut(Limit::Timeout) => "; submit it with a longer --timeout",
        Outcome::TimedOut(Limit::Deadline) => "; submit it with a later --deadline",
        Outcome::Cancelled(CancelReason::Shutdown) | Outcome::Lost { .. } => {
            "; submit it again once the daemon is back"
        }
        Outcome::Cancelled(CancelReason::Client | CancelReason::ClientGone | CancelReason::Dependency) => "",
    }
}

#[cfg(test)]
mod tests {
    use poold::message::client::Refusal;
    use poold::task::{Failure, FailureKind, Payload, Started};

    use super::*;

    #[test]
    fn status_every_outcome_has_its_own() {
        let failure = Failure { kind: FailureKind::Error, message: "no".into(), location: None };
        let statuses = [
            (Outcome::Ok(Payload::default()), 0),
            (Outcome::Failed(failure), 1),
            (Outcome::TimedOut(Limit::Timeout), 124),
            (Outcome::TimedOut(Limit::Deadline), 124),
            (Outcome::Cancelled(CancelReason::Shutdown), 125),
            (Outcome::Lost { started: Started::No }, 126),
            (Outcome::Crashed(Exit::Code(0)), 127),
            (Outcome::Crashed(Exit::Signal(9)), 137),
            (Outcome::Crashed(Exit::OutOfMemory { memory_max_bytes: None }), 137),
            (Outcome::Crashed(Exit::Signal(64)), 192),
            (Outcome::Crashed(Exit::Signal(-1)), 255),
        ];
        for (outcome, status) in statuses {
            assert_eq!(outcome_status(&outcome), status, "{outcome:?}");
        }
    }

    #[test]
    fn status_refusal_differs_from_a_daemon_that_is_not_there() {
        let refused = Error::from(client::Error::from(Refusal::Draining));
        let gone = Error::from(client::Error::Gone);
        assert_eq!((refused.status(), gone.status()), (4, 3));
    }
}
