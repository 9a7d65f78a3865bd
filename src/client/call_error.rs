//! Why a call has no result: an opaque error that says what happened, to which task, in one line.
//!
//! How a task ended is decided elsewhere; here it is only told.

use std::fmt;
use std::sync::Arc;

use signal_hook::consts::SIGKILL;

use super::error::Error;
use crate::id::{BadName, FunctionName, TaskId};
use crate::message::client::Refusal;
use crate::task::{CancelReason, Exit, Failure, FailureKind, Outcome};

/// Why a call has no result, or has none yet. Cheap to clone.
///
/// Two things that are easily taken for one another have names of their own: a wait that ran out while the
/// call goes on ([`is_not_done`](Self::is_not_done), Python's `TimeoutError`), and a call that took longer
/// than it was given and has ended for that ([`is_timeout`](Self::is_timeout)).
#[derive(Clone)]
pub struct CallError(Arc<Inner>);

/// What kind of reason it is that a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The function returned an error.
    Failed,
    /// The function panicked.
    Panicked,
    /// The function does not accept the arguments, or they cannot be encoded.
    BadArguments,
    /// The worker process died under the call.
    Crashed,
    /// The call exceeded its timeout or its deadline.
    TimedOut,
    /// The call was cancelled.
    Cancelled,
    /// The daemon went away before the call ended.
    Lost,
    /// The daemon did not take the call.
    Refused,
    /// The result is not of the type that the caller asked for.
    BadResult,
    /// The wait ran out. The call goes on.
    NotDone,
    /// The executor was shut down before.
    ShutDown,
    /// There is no daemon to talk to, and the call was not made.
    Unreachable,
}

struct Inner {
    function: Option<FunctionName>,
    task: Option<TaskId>,
    cause: Cause,
}

pub(super) enum Cause {
    Outcome(Outcome),
    Refused(Refusal),
    BadFunctionName(BadName),
    BadArguments(String),
    BadResult(String),
    NotDone { unfinished: usize },
    ShutDown,
    Unreachable(Error),
}

impl CallError {
    /// The error of a call that was not made.
    pub(super) fn of_no_call(cause: Cause) -> Self {
        CallError(Arc::new(Inner { function: None, task: None, cause }))
    }

    /// The error of a call of `function`, which was accepted if it is a `task`.
    pub(super) fn new(function: &FunctionName, task: Option<TaskId>, cause: Cause) -> Self {
        CallError(Arc::new(Inner { function: Some(function.clone()), task, cause }))
    }

    /// What kind of reason it is.
    pub fn kind(&self) -> CallErrorKind {
        match &self.0.cause {
            Cause::Outcome(outcome) => kind_of(outcome),
            Cause::Refused(_) | Cause::BadFunctionName(_) => CallErrorKind::Refused,
            Cause::BadArguments(_) => CallErrorKind::BadArguments,
            Cause::BadResult(_) => CallErrorKind::BadResult,
            Cause::NotDone { .. } => CallErrorKind::NotDone,
            Cause::ShutDown => CallErrorKind::ShutDown,
            Cause::Unreachable(_) => CallErrorKind::Unreachable,
        }
    }

    /// Whether the call exceeded its own timeout or deadline. That a caller's wait ran out is
    /// [`is_not_done`](Self::is_not_done).
    pub fn is_timeout(&self) -> bool {
        self.kind() == CallErrorKind::TimedOut
    }

    /// Whether only the caller's wait ran out, and the call goes on.
    pub fn is_not_done(&self) -> bool {
        self.kind() == CallErrorKind::NotDone
    }

    /// Whether the call was cancelled, by whomever.
    pub fn is_cancelled(&self) -> bool {
        self.kind() == CallErrorKind::Cancelled
    }

    /// Whether the worker process died under the call; [`exit`](Self::exit) says of what.
    pub fn is_crash(&self) -> bool {
        self.kind() == CallErrorKind::Crashed
    }

    /// Whether the daemon went away before the call ended.
    pub fn is_lost(&self) -> bool {
        self.kind() == CallErrorKind::Lost
    }

    /// Whether the daemon had no room for the call: to be made again once others have ended.
    pub fn is_queue_full(&self) -> bool {
        self.refusal().is_some_and(Refusal::is_queue_full)
    }

    /// What the function said of its failure, in its own words: the text of its error or its panic.
    pub fn message(&self) -> Option<&str> {
        self.failure().map(|failure| failure.message.as_str())
    }

    /// Where the function panicked: `file:line:column`.
    pub fn panic_location(&self) -> Option<&str> {
        self.failure().and_then(|failure| failure.location.as_deref())
    }

    /// How the worker process ended that died under the call.
    pub fn exit(&self) -> Option<Exit> {
        match self.outcome() {
            Some(Outcome::Crashed(exit)) => Some(*exit),
            _ => None,
        }
    }

    /// The signal that the worker process died of.
    pub fn signal(&self) -> Option<i32> {
        match self.exit() {
            Some(Exit::Signal(signal)) => Some(signal),
            // What the kernel sends then.
            Some(Exit::OutOfMemory { .. }) => Some(SIGKILL),
            Some(Exit::Code(_)) | None => None,
        }
    }

    /// Who or what cancelled the call.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        match self.outcome() {
            Some(Outcome::Cancelled(reason)) => Some(*reason),
            _ => None,
        }
    }

    /// Why the daemon did not take the call.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.0.cause {
            Cause::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The function that was called, once its name was found to be one.
    pub fn function(&self) -> Option<&FunctionName> {
        self.0.function.as_ref()
    }

    /// The task that the call became, if the daemon had accepted it.
    pub fn task(&self) -> Option<TaskId> {
        self.0.task
    }

    fn outcome(&self) -> Option<&Outcome> {
        match &self.0.cause {
            Cause::Outcome(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self.outcome() {
            Some(Outcome::Failed(failure)) => Some(failure),
            _ => None,
        }
    }
}

fn kind_of(outcome: &Outcome) -> CallErrorKind {
    match outcome {
        Outcome::Ok(_) => CallErrorKind::BadResult,
        Outcome::Failed(failure) => match failure.kind {
            FailureKind::Error => CallErrorKind::Failed,
            FailureKind::Panic => CallErrorKind::Panicked,
            FailureKind::BadArguments => CallErrorKind::BadArguments,
        },
        Outcome::Crashed(_) => CallErrorKind::Crashed,
        Outcome::TimedOut(_) => CallErrorKind::TimedOut,
        Outcome::Cancelled(_) => CallErrorKind::Cancelled,
        Outcome::Lost { .. } => CallErrorKind::Lost,
    }
}

impl fmt::Display for CallError {
    /// One line, whatever the function said.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { function, task, cause } = &*self.0;
        match (function, task) {
            (Some(function), Some(task)) => write!(formatter, "{function} (task {task}): ")?,
            (Some(function), None) => write!(formatter, "{function}: ")?,
            (None, _) => {}
        }
        let text = match cause {
            Cause::Outcome(outcome) => outcome.to_string(),
            Cause::Refused(refusal) => refusal.to_string(),
            Cause::BadFunctionName(error) => error.to_string(),
            Cause::BadArguments(reason) => format!("its arguments cannot be sent: {reason}"),
            Cause::BadResult(reason) => format!("its result is not of the type asked for: {reason}"),
            Cause::NotDone { unfinished: 1 } => "not done in the time that was waited".to_owned(),
            Cause::NotDone { unfinished } => {
                format!("{unfinished} calls are not done in the time that was waited")
            }
            Cause::ShutDown => "the executor was shut down; submit to another one".to_owned(),
            Cause::Unreachable(error) => error.to_string(),
        };
        formatter.write_str(&text.replace('\n', " "))
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CallError({:?}: {self})", self.kind())
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Unreachable(error) => error.source(),
            Cause::Refused(_)
            | Cause::BadFunctionName(_)
            | Cause::Outcome(_)
            | Cause::BadArguments(_)
            | Cause::BadResult(_)
            | Cause::NotDone { .. }
            | Cause::ShutDown => None,
        }
    }
}
