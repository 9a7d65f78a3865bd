//! What is said on a client's connection.
//!
//! Every request carries a number of the client's choosing, and every reply names the request it
//! belongs to; replies to different requests come in any order.

use serde::{Deserialize, Serialize};

use super::Message;
use super::status::{FunctionStatus, Status, TaskState, TaskStatus, WorkerStatus};
use crate::id::{Epoch, FunctionName, Pid, PoolName, RequestId, TaskId};
use crate::task::{Outcome, Payload, Payloads, SharedSpec};

/// What a client asks of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The client's number for it.
    pub id: RequestId,
    /// What is asked.
    pub body: RequestBody,
}

/// The requests there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Run a task. Answered by [`ReplyBody::Accepted`], then, if it is attached, [`ReplyBody::Done`].
    Submit {
        /// What and how.
        spec: SharedSpec,
        /// Its arguments.
        args: Payload,
    },
    /// End a task. Answered by [`ReplyBody::CancelAnswered`]; the task's own outcome goes to whoever waits for it.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// The outcome of a task. Answered by [`ReplyBody::Done`], or by [`ReplyBody::NotDone`].
    Result {
        /// Which.
        task: TaskId,
        /// Whether to wait until there is one.
        wait: bool,
    },
    /// How the daemon is. Answered by [`ReplyBody::Status`].
    Status,
    /// A page of the workers. Answered by [`ReplyBody::Workers`].
    Workers {
        /// Rows to leave out: those of the pages before.
        skip: u32,
    },
    /// A page of the tasks that are not done, and of the kept results, in the order of their ids.
    /// Answered by [`ReplyBody::Tasks`].
    Tasks {
        /// Only those with a larger number.
        after: u64,
    },
    /// A page of the functions that can be run. Answered by [`ReplyBody::Functions`].
    Functions {
        /// Rows to leave out: those of the pages before.
        skip: u32,
    },
    /// Read the configuration again. Answered by [`ReplyBody::Reloaded`] when it is in force.
    Reload,
    /// Take nothing new, finish what was accepted, then stop. Answered by [`ReplyBody::Drained`] when all is done.
    Drain,
    /// Take new tasks of a quarantined function again. Answered by [`ReplyBody::Released`].
    Release {
        /// Which.
        function: FunctionName,
    },
    /// Run tasks that are alike: as many times `Submit`, with numbers of requests that count on from this one.
    /// Answered as those are, or by [`ReplyBody::AllAccepted`]; and what ends well one after the other by
    /// [`ReplyBody::AllDone`].
    SubmitAll {
        /// What and how.
        spec: SharedSpec,
        /// The arguments of each.
        args: Payloads,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request it belongs to; none for what the daemon says by itself.
    pub request: Option<RequestId>,
    /// What is answered.
    pub body: ReplyBody,
}

/// The replies there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// The first message on every accepted connection.
    Welcome(Welcome),
    /// The task was accepted: from here on it has exactly one outcome.
    Accepted {
        /// Its id.
        task: TaskId,
    },
    /// An attempt of the task has started; said only where that was asked for.
    Started {
        /// Which.
        task: TaskId,
    },
    /// How a task ended.
    Done {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// The task has no outcome yet.
    NotDone {
        /// Which.
        task: TaskId,
        /// What it is doing.
        state: TaskState,
    },
    /// What became of a request to cancel.
    CancelAnswered {
        /// Which task.
        task: TaskId,
        /// What became of it.
        answer: CancelAnswer,
    },
    /// How the daemon is.
    Status(Box<Status>),
    /// A page of workers; the last one if `more` is false.
    Workers {
        /// The rows.
        rows: Vec<WorkerStatus>,
        /// Whether there are further pages.
        more: bool,
    },
    /// A page of tasks; the last one if `more` is false.
    Tasks {
        /// The rows.
        rows: Vec<TaskStatus>,
        /// Whether there are further pages.
        more: bool,
    },
    /// A page of the functions that can be run; the last one if `more` is false.
    Functions {
        /// The rows.
        rows: Vec<FunctionStatus>,
        /// Whether there are further pages.
        more: bool,
    },
    /// The new configuration is in force; what it changed, in words.
    Reloaded {
        /// A line per change.
        changes: Vec<String>,
    },
    /// Everything accepted has been done; the daemon stops.
    Drained,
    /// The request was not carried out.
    Refused(Refusal),
    /// New tasks of the function are taken again.
    Released {
        /// Which.
        function: FunctionName,
    },
    /// So many requests, counting on from this one, were accepted as tasks, counting on from that one: in the place
    /// of as many times `Accepted`.
    AllAccepted {
        /// The id of the first.
        first: TaskId,
        /// How many there are.
        count: u32,
    },
    /// So many requests, counting on from this one, for tasks, counting on from that one, ended `ok`: in the place of
    /// as many times `Done`.
    AllDone {
        /// The id of the first.
        first: TaskId,
        /// The results of each.
        results: Payloads,
    },
}

/// What the daemon says of itself when a connection opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the program.
    pub version: String,
    /// The daemon's process.
    pub pid: Pid,
    /// The epoch of the ids it gives.
    pub epoch: Epoch,
    /// Bytes in the largest payload it takes.
    pub payload_bytes_max: u64,
}

/// What became of a request to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelAnswer {
    /// It ended `cancelled` by this request.
    Cancelled,
    /// It had ended before.
    AlreadyDone,
}

/// Why a request was not carried out. The daemon goes on, and so does the connection unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No pool has the function.
    #[error("there is no function `{function}`{}; `poolctl functions` lists them", nearest_hint(.nearest))]
    UnknownFunction {
        /// What was asked for.
        function: FunctionName,
        /// Names that look like it, the likeliest first.
        nearest: Vec<FunctionName>,
    },
    /// There is no pool of that name, or it does not have the function.
    #[error(
        "pool `{pool}` does not have the function `{function}`; `poolctl functions` lists what each pool has"
    )]
    NotInPool {
        /// The pool asked for.
        pool: PoolName,
        /// The function asked for.
        function: FunctionName,
    },
    /// As many tasks as the daemon may hold are waiting or running.
    #[error("the queue is full ({tasks_max} tasks); wait for some to end, or raise limits.queue_tasks")]
    QueueFull {
        /// The cap.
        tasks_max: u64,
    },
    /// As many bytes of arguments as the daemon may hold are waiting.
    #[error(
        "the queue is full ({bytes_max} bytes of arguments); wait for some to end, or raise limits.queue_bytes"
    )]
    QueueBytesFull {
        /// The cap.
        bytes_max: u64,
    },
    /// The arguments are too large.
    #[error(
        "the arguments take {bytes} bytes and {bytes_max} is the most; pass them in parts or as a file's name"
    )]
    PayloadTooLarge {
        /// Their size.
        bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// An option of the task is out of its range.
    #[error("{0}")]
    BadOption(String),
    /// A task would wait for another that can only run once it has ended.
    #[error(
        "task {ancestor} occupies pool `{pool}` and would wait for a task in it: both could wait for ever; submit to another pool, or detached"
    )]
    WouldDeadlock {
        /// The pool that the new task would go to.
        pool: PoolName,
        /// The task in that pool that waits, directly or through others.
        ancestor: TaskId,
    },
    /// The daemon stops and takes nothing new.
    #[error("the daemon is draining and takes no new tasks; submit again once it is back")]
    Draining,
    /// There is no such task: it never was, or was not detached and ended, or its result expired.
    #[error(
        "there is no task {task}: it was never accepted, belonged to a connection that ended, or its result expired"
    )]
    NoSuchTask {
        /// What was asked for.
        task: TaskId,
    },
    /// The user may not do this.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// As many clients as may wait for one task already do.
    #[error("{watchers_max} clients already wait for task {task}; ask again when it is done")]
    TooManyWatchers {
        /// The task.
        task: TaskId,
        /// The cap.
        watchers_max: u32,
    },
    /// The client waits for as many tasks as it may at a time.
    #[error("you wait for {waits_max} tasks already, the most at a time; wait for some to end")]
    TooManyWaits {
        /// The cap.
        waits_max: u32,
    },
    /// The configuration was not read again.
    #[error("the configuration was not reloaded and nothing changed: {0}")]
    NotReloaded(String),
    /// No worker of the pool has become ready, so that it is not known which functions it has.
    #[error("no worker of pool `{pool}` becomes ready: {failure}; mend that and submit again")]
    NoWorker {
        /// The pool.
        pool: PoolName,
        /// Why its last worker that failed did so.
        failure: String,
    },
    /// The client said something that is not in the protocol. The connection is closed.
    #[error("protocol error: {0}; the connection is closed")]
    Protocol(String),
    /// The client's tasks hold as many open files as they may.
    #[error("your tasks hold {descriptors_max} open files, the most at a time; wait for some to end")]
    TooManyDescriptors {
        /// The cap.
        descriptors_max: u32,
    },
    /// The function's tasks have killed too many workers in a row.
    #[error(
        "function `{function}` is quarantined: its tasks killed too many workers in a row; mend it, then `poolctl release {function}`"
    )]
    Quarantined {
        /// The function.
        function: FunctionName,
    },
    /// The function's tasks are taken anyway.
    #[error("function `{function}` is not quarantined; `poolctl status` names those that are")]
    NotQuarantined {
        /// The function.
        function: FunctionName,
    },
    /// The pool's workers keep failing, and it takes nothing new meanwhile.
    #[error("pool `{pool}` is degraded and takes no new tasks until it is well: {failure}")]
    Degraded {
        /// The pool.
        pool: PoolName,
        /// Why its last worker that failed did so.
        failure: String,
    },
    /// As many tasks as one user may have are waiting or running.
    #[error(
        "your user has {tasks_max} tasks that are not done, the most for one user; wait for some to end, or raise limits.user_tasks"
    )]
    UserQueueFull {
        /// The cap.
        tasks_max: u64,
    },
    /// As many bytes of arguments as one user may have are waiting.
    #[error(
        "your user's tasks hold {bytes_max} bytes of arguments or nearly, the most for one user; wait for some to end, or raise limits.user_bytes"
    )]
    UserQueueBytesFull {
        /// The cap.
        bytes_max: u64,
    },
    /// As many tasks with arguments in shared memory as the daemon has descriptors for are not done.
    #[error(
        "the queue is full ({descriptors_max} tasks with big arguments, a descriptor of the daemon each); wait for some to end, or raise its limit on open files"
    )]
    QueueDescriptorsFull {
        /// The cap.
        descriptors_max: u64,
    },
    /// As many such tasks of one user as there may be are not done.
    #[error(
        "your user has {descriptors_max} tasks with big arguments, the most for one user; wait for some to end, or raise the daemon's limit on open files"
    )]
    UserQueueDescriptorsFull {
        /// The cap.
        descriptors_max: u64,
    },
}

impl Refusal {
    /// Whether it depends on how much is submitted: a part of it, or one of several tasks, may be taken all the same.
    pub fn is_of_amount(&self) -> bool {
        self.is_queue_full() || matches!(self, Refusal::PayloadTooLarge { .. })
    }

    /// Whether there is no room for a task for now: it can be submitted again once others have ended.
    pub fn is_queue_full(&self) -> bool {
        matches!(
            self,
            Refusal::QueueFull { .. }
                | Refusal::QueueBytesFull { .. }
                | Refusal::UserQueueFull { .. }
                | Refusal::UserQueueBytesFull { .. }
                | Refusal::QueueDescriptorsFull { .. }
                | Refusal::UserQueueDescriptorsFull { .. }
        )
    }
}

fn nearest_hint(nearest: &[FunctionName]) -> String {
    match nearest {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!(", did you mean {}?", names.join(" or "))
        }
    }
}

impl Message for Request {
    fn payload(&self) -> Option<&Payload> {
        match &self.body {
            RequestBody::Submit { args, .. } => Some(args),
            RequestBody::Cancel { .. }
            | RequestBody::Result { .. }
            | RequestBody::Status
            | RequestBody::Workers { .. }
            | RequestBody::Tasks { .. }
            | RequestBody::Functions { .. }
            | RequestBody::Reload
            | RequestBody::Drain
            | RequestBody::Release { .. }
            | RequestBody::SubmitAll { .. } => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        match &mut self.body {
            RequestBody::Submit { args, .. } => Some(args),
            RequestBody::Cancel { .. }
            | RequestBody::Result { .. }
            | RequestBody::Status
            | RequestBody::Workers { .. }
            | RequestBody::Tasks { .. }
            | RequestBody::Functions { .. }
            | RequestBody::Reload
            | RequestBody::Drain
            | RequestBody::Release { .. }
            | RequestBody::SubmitAll { .. } => None,
        }
    }

    fn payloads(&self) -> Option<&Payloads> {
        match &self.body {
            RequestBody::SubmitAll { args, .. } => Some(args),
            _ => None,
        }
    }

    fn payloads_mut(&mut self) -> Option<&mut Payloads> {
        match &mut self.body {
            RequestBody::SubmitAll { args, .. } => Some(args),
            _ => None,
        }
    }
}

impl Message for Reply {
    fn payload(&self) -> Option<&Payload> {
        match &self.body {
            ReplyBody::Done { outcome: Outcome::Ok(result), .. } => Some(result),
            _ => None,
        }
    }

    fn payload_mut(&mut self) -> Option<&mut Payload> {
        match &mut self.body {
            ReplyBody::Done { outcome: Outcome::Ok(result), .. } => Some(result),
            _ => None,
        }
    }

    fn payloads(&self) -> Option<&Payloads> {
        match &self.body {
            ReplyBody::AllDone { results, .. } => Some(results),
            _ => None,
        }
    }

    fn payloads_mut(&mut self) -> Option<&mut Payloads> {
        match &mut self.body {
            ReplyBody::AllDone { results, .. } => Some(results),
            _ => None,
        }
    }
}
