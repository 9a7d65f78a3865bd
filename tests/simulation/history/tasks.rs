//! Requests and tasks, as they can be seen from outside.

use std::time::Duration;

use poold::id::{AttemptId, ConnectionId, Credentials, PoolName, TaskId, WorkerId};
use poold::message::worker::Report;
use poold::task::{Attachment, Exit, Outcome, Payload, TaskSpec};
use poold::time::Time;

/// A request without its answer.
#[derive(Clone, Debug)]
pub enum Request {
    /// A submission, neither accepted nor refused.
    Submit(Box<Submission>),
    /// A request to cancel.
    Cancel(TaskId),
    /// A request for an outcome.
    Result {
        /// Of which task.
        task: TaskId,
        /// Whether it waits.
        wait: bool,
    },
    /// A request to drain.
    Drain,
    /// A request to take a function's tasks again.
    Release,
}

/// What was submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// How many events came before it.
    pub step: u64,
    /// When.
    pub at: Time,
    /// What and how.
    pub spec: TaskSpec,
    /// Its deadline.
    pub deadline: Option<Time>,
    /// Its arguments.
    pub args: Payload,
}

/// An accepted task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The connection it came over.
    pub client: ConnectionId,
    /// Whose it is.
    pub owner: Credentials,
    /// The task whose function waits for it.
    pub parent: Option<TaskId>,
    /// What was submitted.
    pub submission: Submission,
    /// The pool it belongs to by the rules; none where a reload left that open.
    pub pool: Option<PoolName>,
    /// What it is doing.
    pub state: State,
    /// Its place in its connection's line.
    pub place: Place,
    /// Its attempts, in the order of sending.
    pub attempts: Vec<Attempt>,
    /// How often it was tried again.
    pub retried: u32,
    /// How often its function was called, by the world's word.
    pub calls: u32,
    /// Attempts that are known to have started.
    pub starts: u32,
    /// When it ended.
    pub done_at: Option<Time>,
}

/// Where a task stands in its connection's line: in an order of steps, as exactly as the contract says.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// It joined the line in this step or later.
    pub earliest: u64,
    /// It joined the line in this step or earlier.
    pub latest: u64,
}

/// What a task is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It waits for its delay or its backoff to pass, and for its former process to be gone.
    Delayed {
        /// The end of the delay.
        until: Time,
        /// The end of the delay, if the time before the acceptance does not count.
        until_at_latest: Time,
        /// The first step that came at or after that end.
        since_step: Option<u64>,
        /// The worker of the former attempt, which must be gone first.
        former: Option<WorkerId>,
    },
    /// It waits for a worker.
    Pending,
    /// A worker has its last attempt.
    Sent,
    /// Its worker died under it, and the supervisor has not said yet what follows.
    Judged(Exit),
    /// It ended.
    Done(Outcome),
}

/// An attempt that a worker was sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which worker.
    pub worker: WorkerId,
    /// Its number there.
    pub id: AttemptId,
    /// When its start was told.
    pub started_at: Option<Time>,
    /// Whether its function was called, by the world's word.
    pub called: bool,
    /// How long it may run, from its start.
    pub timeout: Option<Duration>,
    /// When the worker was asked to give it back.
    pub recall_at: Option<Time>,
    /// How it left the worker's hands.
    pub end: Option<End>,
}

/// How an attempt left its worker's hands.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The worker reported.
    Reported(Report),
    /// The worker gave it back.
    Recalled,
    /// The worker's process ended.
    Died(Exit),
}

impl Task {
    /// Whether it ended.
    pub fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Done(outcome) => Some(outcome),
            State::Delayed { .. } | State::Pending | State::Sent | State::Judged(_) => None,
        }
    }

    /// Whether it goes on when its connection ends.
    pub fn is_detached(&self) -> bool {
        self.submission.spec.attachment == Attachment::Detached
    }

    /// The last attempt, and where it was sent.
    pub fn holder(&self) -> Option<(WorkerId, AttemptId)> {
        self.attempts.last().map(|attempt| (attempt.worker, attempt.id))
    }

    /// Bytes of its arguments.
    pub fn argument_bytes(&self) -> u64 {
        self.submission.args.len()
    }
}

impl Attempt {
    /// One that was just sent.
    pub fn sent(worker: WorkerId, id: AttemptId) -> Self {
        Attempt { worker, id, started_at: None, called: false, timeout: None, recall_at: None, end: None }
    }

    /// When it has run for too long, if it has started.
    pub fn times_out_at(&self) -> Option<Time> {
        Some(self.started_at? + self.timeout?)
    }

    /// Whether its function is running or may yet run, as far as the supervisor can know.
    pub fn is_out(&self) -> bool {
        self.end.is_none()
    }
}
