//! What is said on a worker's socket.
//!
//! ```text
//!   daemon                                worker
//!     │ <───────────── Ready ─────────────── │   it can run these functions
//!     │ ────────────── Attempt n ──────────> │   or Attempts n, n + 1, … at once
//!     │ <───────────── Started n ─────────── │   written before the function is called
//!     │ <───────────── Finished n ────────── │   written before the next attempt starts
//!     │ ────────────── Recall n ───────────> │   only for one not known to have started
//!     │ <───────────── Recalled n ────────── │   or nothing, if `Started n` is on its way
//!     │ <───────────── Ask n ─────────────── │   a request of the function that runs as attempt n
//!     │ ────────────── Answer n ───────────> │   what a client would be answered
//!     │ ────────────── Stop ───────────────> │   finish what was started, then exit 0
//! ```
//!
//! A worker that maps the *page*, a piece of memory that it shares with the daemon, is sent attempts ahead of the
//! one that it runs. It says neither `Started` nor `Recalled`: what it begins, and what is taken back from it, is
//! settled on the page, and what it reports is put there too. That there is something to be taken it tells by a *bell*,
//! an eventfd.

use serde::{Deserialize, Serialize};

use super::Message;
use super::client::{Reply, Request};
use super::command::CommandSpec;
use super::resources::WorkLimits;
use super::status::FunctionInfo;
use crate::id::{AttemptId, FunctionName, Pid, TaskId, WorkerId};
use crate::task::{Failure, Payload, Payloads};

/// What the daemon says to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message.
    Setup(Box<Setup>),
    /// Run a function.
    Attempt {
        /// The daemon's number for it, growing by one from 1.
        attempt: AttemptId,
        /// The task it is an attempt of, for the function's log.
        task: TaskId,
        /// What to run.
        function: FunctionName,
        /// Its arguments.
        args: Payload,
    },
    /// Give an attempt back if it has not started. Answered by [`FromWorker::Recalled`], or not at all.
    Recall {
        /// Which.
        attempt: AttemptId,
    },
    /// What is replied to a request that an attempt made with [`FromWorker::Ask`].
    Answer {
        /// Which attempt.
        attempt: AttemptId,
        /// As a client is replied to.
        reply: Box<Reply>,
    },
    /// Take nothing new, finish what was started, and exit.
    Stop,
    /// Run a function many times, one after the other: as many times `Attempt`, with numbers of attempts and of tasks
    /// that count on from these. Said only to a worker that maps the page.
    Attempts {
        /// The number of the first.
        attempt: AttemptId,
        /// The task that the first is an attempt of.
        task: TaskId,
        /// What to run.
        function: FunctionName,
        /// The arguments of each.
        args: Payloads,
    },
}

/// Who a worker is and what it may run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Its address.
    pub worker: WorkerId,
    /// Whether functions that show faults may be announced.
    pub allow_fault_injection: bool,
    /// How many attempts it is to run at a time, each on a thread of its own.
    pub threads: u32,
    /// Functions that run a command, for it to have beside its own.
    pub commands: Vec<CommandSpec>,
    /// What its attempts may use.
    pub limits: WorkLimits,
    /// Bytes in the largest result.
    pub payload_bytes_max: u64,
    /// No bytes; its two open files are the page and its bell, if there is one.
    pub page: Payload,
}

/// What a worker says to the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// It can take attempts.
    Ready {
        /// What it can run.
        functions: Vec<FunctionInfo>,
        /// How many attempts it can hold at a time; 1 unless it runs several at once.
        capacity: u32,
        /// Whether it keeps to the page, so that more can be sent ahead.
        uses_page: bool,
        /// A thread of it, not its first, that ends only when it does: once that has ended the worker is dying, however
        /// long the kernel takes to take down its memory.
        sentinel: Option<Pid>,
    },
    /// It could not become ready, and exits.
    NotReady {
        /// Why.
        message: String,
    },
    /// An attempt starts: from here on the worker's death is its crash.
    Started {
        /// Which.
        attempt: AttemptId,
    },
    /// An attempt ended.
    Finished {
        /// Which.
        attempt: AttemptId,
        /// How.
        report: Report,
    },
    /// An attempt was given back before it started.
    Recalled {
        /// Which.
        attempt: AttemptId,
    },
    /// A function that runs asks the daemon for something, as a client of its own: the tasks that it
    /// submits attached end with the attempt. Answered by [`ToWorker::Answer`].
    Ask {
        /// The attempt that it runs as.
        attempt: AttemptId,
        /// As a client would ask it.
        request: Box<Request>,
    },
}

/// How a function ended, by its worker's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It returned this.
    Ok(Payload),
    /// It failed.
    Failed(Failure),
}

impl Message for ToWorker {
    fn payload(&self) -> Option<&Payload> {
        match self {
            ToWorker::Attempt { args, .. } => Some(args),
            ToWorker::Answer { reply, .. } => reply.payload(),
            ToWorker::Setup(setup) => Some(&setup.page),
            ToWorker::Recall { .. } | ToWorker::Stop | ToWorker::Attempts { .. } => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        match self {
            ToWorker::Attempt { args, .. } => Some(args),
            ToWorker::Answer { reply, .. } => reply.payload_mut(),
            ToWorker::Setup(setup) => Some(&mut setup.page),
            ToWorker::Recall { .. } | ToWorker::Stop | ToWorker::Attempts { .. } => None,
        }
    }

    fn payloads(&self) -> Option<&Payloads> {
        match self {
            ToWorker::Attempts { args, .. } => Some(args),
            ToWorker::Answer { reply, .. } => reply.payloads(),
            _ => None,
        }
    }

    fn payloads_mut(&mut self) -> Option<&mut Payloads> {
        match self {
            ToWorker::Attempts { args, .. } => Some(args),
            ToWorker::Answer { reply, .. } => reply.payloads_mut(),
            _ => None,
        }
    }
}

impl Message for FromWorker {
    fn payload(&self) -> Option<&Payload> {
        match self {
            FromWorker::Finished { report: Report::Ok(result), .. } => Some(result),
            FromWorker::Ask { request, .. } => request.payload(),
            FromWorker::Finished { report: Report::Failed(_), .. }
            | FromWorker::Ready { .. }
            | FromWorker::NotReady { .. }
            | FromWorker::Started { .. }
            | FromWorker::Recalled { .. } => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        match self {
            FromWorker::Finished { report: Report::Ok(result), .. } => Some(result),
            FromWorker::Ask { request, .. } => request.payload_mut(),
            FromWorker::Finished { report: Report::Failed(_), .. }
            | FromWorker::Ready { .. }
            | FromWorker::NotReady { .. }
            | FromWorker::Started { .. }
            | FromWorker::Recalled { .. } => None,
        }
    }

    fn payloads(&self) -> Option<&Payloads> {
        match self {
            FromWorker::Ask { request, .. } => request.payloads(),
            _ => None,
        }
    }

    fn payloads_mut(&mut self) -> Option<&mut Payloads> {
        match self {
            FromWorker::Ask { request, .. } => request.payloads_mut(),
            _ => None,
        }
    }
}
