//! Facts that the supervisor is told.

use super::Policy;
use crate::id::{AttemptId, ConnectionId, Credentials, FunctionName, Pid, RequestId, TaskId, WorkerId};
use crate::message::status::FunctionInfo;
use crate::message::worker::Report;
use crate::task::{Exit, Payload, Payloads, SharedSpec};
use crate::time::Time;

/// Something that happened. Events about a worker that is no longer its slot's are ignored.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client connected and was let in.
    ClientConnected {
        /// Its connection, new.
        client: ConnectionId,
        /// Who it is.
        peer: Credentials,
    },
    /// A function that runs speaks for itself: it is a client, of its task's user, until `ClientGone`.
    FunctionConnected {
        /// Its connection, new.
        client: ConnectionId,
        /// The task it runs for.
        task: TaskId,
    },
    /// A client's connection ended.
    ClientGone {
        /// Which.
        client: ConnectionId,
    },
    /// A client has too many unread outcomes: none of its pending tasks is started for now.
    ClientBlocked {
        /// Which.
        client: ConnectionId,
    },
    /// A blocked client has read its outcomes.
    ClientUnblocked {
        /// Which.
        client: ConnectionId,
    },
    /// A client submitted a task.
    Submitted {
        /// Which client.
        client: ConnectionId,
        /// Its number for the request.
        request: RequestId,
        /// What to run and how.
        spec: SharedSpec,
        /// `spec.deadline` as an instant of the supervisor's time.
        deadline: Option<Time>,
        /// The arguments.
        args: Payload,
    },
    /// A client submitted tasks that are alike: as many times `Submitted`, with numbers of requests that count on.
    SubmittedAll {
        /// Which client.
        client: ConnectionId,
        /// Its number for the first.
        request: RequestId,
        /// What to run and how.
        spec: SharedSpec,
        /// `spec.deadline` as an instant of the supervisor's time.
        deadline: Option<Time>,
        /// The arguments of each.
        args: Payloads,
    },
    /// A client asked to cancel a task.
    CancelRequested {
        /// Which client.
        client: ConnectionId,
        /// Its number for the request.
        request: RequestId,
        /// Which task.
        task: TaskId,
    },
    /// A client asked for the outcome of a task.
    ResultRequested {
        /// Which client.
        client: ConnectionId,
        /// Its number for the request.
        request: RequestId,
        /// Which task.
        task: TaskId,
        /// Whether it waits until there is one.
        wait: bool,
    },
    /// A client that may administer asked to drain.
    DrainRequested {
        /// Which client.
        client: ConnectionId,
        /// Its number for the request.
        request: RequestId,
    },
    /// A client that may administer asked to take new tasks of a quarantined function again.
    ReleaseRequested {
        /// Which client.
        client: ConnectionId,
        /// Its number for the request.
        request: RequestId,
        /// Which function.
        function: FunctionName,
    },
    /// The daemon was told to stop; told so again, it stops at once.
    StopRequested,
    /// The configuration was read again.
    PolicyChanged {
        /// What holds from now on.
        policy: Box<Policy>,
    },
    /// The process asked for by `SpawnWorker` exists.
    WorkerSpawned {
        /// Which worker.
        worker: WorkerId,
        /// Its process.
        pid: Pid,
    },
    /// The process asked for by `SpawnWorker` could not be started.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// Why.
        message: String,
    },
    /// A worker can take attempts.
    WorkerReady {
        /// Which.
        worker: WorkerId,
        /// What it can run.
        functions: Vec<FunctionInfo>,
        /// How many attempts it can run at a time, at least 1.
        capacity: u32,
        /// How many it may hold then, those sent ahead included; if more than `capacity`, what it begins and what
        /// is taken back from it is known without asking it.
        ahead: u32,
    },
    /// A worker could not become ready; it exits by itself.
    WorkerNotReady {
        /// Which.
        worker: WorkerId,
        /// Why.
        message: String,
    },
    /// A worker is about to call the function of an attempt.
    AttemptStarted {
        /// Which worker.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
    },
    /// A worker reported how an attempt ended.
    AttemptFinished {
        /// Which worker.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
        /// How it ended.
        report: Report,
    },
    /// Attempts ended well one after the other: as many times `AttemptFinished`.
    AttemptsFinished {
        /// Which worker reported it.
        worker: WorkerId,
        /// The first.
        attempt: AttemptId,
        /// What each returned.
        results: Payloads,
    },
    /// A worker gave attempts back that it had not started.
    AttemptsRecalled {
        /// Which worker.
        worker: WorkerId,
        /// The first.
        attempt: AttemptId,
        /// How many; 1 of a worker that has to be asked.
        count: u32,
    },
    /// A worker that attempts are sent ahead to has come to attempts that were taken back from it before.
    AttemptsPassedOver {
        /// Which worker.
        worker: WorkerId,
        /// The first.
        attempt: AttemptId,
        /// How many.
        count: u32,
    },
    /// A worker's memory was measured, before it is told that the attempt finished after which it was.
    WorkerMeasured {
        /// Which.
        worker: WorkerId,
        /// Bytes of it that are resident.
        rss_bytes: u64,
    },
    /// A worker's socket or its sentinel ended. Nearly always because its process does, which is then told next.
    WorkerHungUp {
        /// Which.
        worker: WorkerId,
    },
    /// A worker broke the protocol; nothing more is read from it, and its process may still live.
    WorkerBroke {
        /// Which.
        worker: WorkerId,
        /// What it did.
        reason: String,
    },
    /// A worker's process ended, everything it had written was read, and it was reaped.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
    },
    /// The instant given by [`poll_deadline`](crate::supervisor::Supervisor::poll_deadline) has come.
    TimePassed,
}
