//! Commands that the supervisor gives.

use std::fmt;
use std::time::Duration;

use super::recycling::Wear;
use crate::id::{AttemptId, ConnectionId, FunctionName, Pid, PoolName, SlotId, TaskId, Uid, WorkerId};
use crate::message::client::{Refusal, Reply};
use crate::message::status::Phase;
use crate::task::{Exit, Outcome, Payload, Payloads};

/// Something to be done by whoever drives the supervisor, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a process. Answered by `WorkerSpawned` or `SpawnFailed`.
    SpawnWorker {
        /// Its address.
        worker: WorkerId,
        /// The pool whose settings it is started with.
        pool: PoolName,
    },
    /// Send an attempt to a worker.
    SendAttempt {
        /// Which worker.
        worker: WorkerId,
        /// The number of the attempt with this worker.
        attempt: AttemptId,
        /// The task it is an attempt of.
        task: TaskId,
        /// What to run.
        function: FunctionName,
        /// Its arguments.
        args: Payload,
    },
    /// Send attempts to a worker that attempts are sent ahead to: as many times `SendAttempt`, with numbers of
    /// attempts and tasks that count on.
    SendAttempts {
        /// Which worker.
        worker: WorkerId,
        /// The number of the first.
        attempt: AttemptId,
        /// The task that the first is an attempt of.
        task: TaskId,
        /// What to run.
        function: FunctionName,
        /// The arguments of each.
        args: Payloads,
    },
    /// Find out what a worker that attempts are sent ahead to has begun, finished and passed over, and tell it by
    /// `AttemptStarted`, `AttemptFinished` or `AttemptsFinished`, and `AttemptsPassedOver`.
    LookAt {
        /// Which.
        worker: WorkerId,
    },
    /// Ask for attempts back that are not known to have started. Of a worker that attempts are sent ahead to,
    /// `AttemptsRecalled` or `AttemptStarted` is told at once of each; and `AttemptsPassedOver`, when it comes to what
    /// was taken back.
    RecallAttempts {
        /// Which worker.
        worker: WorkerId,
        /// The first.
        attempt: AttemptId,
        /// How many; 1 of a worker that has to be asked.
        count: u32,
    },
    /// Tell a worker to take nothing new and exit.
    StopWorker {
        /// Which.
        worker: WorkerId,
    },
    /// Signal a worker's process group. Given only between `WorkerSpawned` and `WorkerExited`.
    SignalWorker {
        /// Which.
        worker: WorkerId,
        /// With what.
        signal: Signal,
    },
    /// Say something to a client.
    Reply {
        /// Which.
        client: ConnectionId,
        /// What.
        reply: Reply,
    },
    /// Tell the operator.
    Notice(Notice),
    /// Everything has ended and every worker is gone: the daemon exits. The last action there is.
    Exit {
        /// Whether running tasks were killed.
        forced: bool,
    },
}

/// The two ways to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: it may end in its own way.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// Why a worker is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The task it ran was cancelled.
    Cancelled(TaskId),
    /// The task it ran exceeded a limit.
    TimedOut(TaskId),
    /// It was not ready in time.
    NotReadyInTime,
    /// It neither started an attempt that it was sent nor gave it back.
    Unresponsive,
    /// It closed its socket and lives on.
    HungUp,
    /// It broke the protocol.
    Broke,
    /// It has done, lived or grown as much as its pool lets it.
    Worn,
    /// Its pool has fewer slots now, or starts its workers otherwise.
    Replaced,
    /// The daemon stops.
    Shutdown,
}

impl EndReason {
    /// Whether nothing more can be expected of the worker, so that its other attempts are not waited for.
    pub(super) fn is_urgent(self) -> bool {
        match self {
            EndReason::HungUp | EndReason::Broke | EndReason::Unresponsive | EndReason::NotReadyInTime => {
                true
            }
            EndReason::Cancelled(_)
            | EndReason::TimedOut(_)
            | EndReason::Worn
            | EndReason::Replaced
            | EndReason::Shutdown => false,
        }
    }
}

/// Something an operator may want to know. Its text is a line of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A worker can take attempts.
    WorkerReady {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
        /// Its process.
        pid: Pid,
    },
    /// A worker's process ended.
    WorkerExited {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
        /// Its process.
        pid: Option<Pid>,
        /// How.
        exit: Exit,
        /// The tasks whose attempts died with it.
        crashed: Vec<TaskId>,
        /// Whether it had been told to end.
        expected: bool,
    },
    /// A worker could not be started or did not become ready.
    WorkerFailed {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
        /// Why.
        message: String,
    },
    /// A worker closed its socket or said something that is not in the protocol.
    WorkerBroke {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
        /// What it did.
        reason: String,
    },
    /// A worker takes no more attempts and is replaced once it holds none.
    WorkerWorn {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
        /// What has worn it.
        wear: Wear,
    },
    /// A worker was told to end.
    WorkerSignalled {
        /// Which.
        worker: WorkerId,
        /// With what.
        signal: Signal,
        /// Why.
        reason: EndReason,
    },
    /// A slot stays empty for a while.
    RestartDelayed {
        /// Which.
        slot: SlotId,
        /// Its pool.
        pool: PoolName,
        /// How long.
        wait: Duration,
    },
    /// A worker that stood by is in service: its pool lacked one.
    StandbyPromoted {
        /// Which.
        worker: WorkerId,
        /// Its pool.
        pool: PoolName,
    },
    /// New tasks of a function are refused: its tasks have killed too many workers in a row.
    FunctionQuarantined {
        /// Which.
        function: FunctionName,
        /// How many.
        killed: u32,
    },
    /// New tasks of a quarantined function are taken again.
    FunctionReleased {
        /// Which.
        function: FunctionName,
    },
    /// A pool restarts too often.
    PoolDegraded {
        /// Which.
        pool: PoolName,
        /// Its worker's last failure.
        cause: String,
    },
    /// A degraded pool has a worker again that lasts.
    PoolRecovered {
        /// Which.
        pool: PoolName,
    },
    /// A request was refused.
    Refused {
        /// Whose.
        client: ConnectionId,
        /// Who that is.
        user: Uid,
        /// Why.
        refusal: Refusal,
        /// How many requests, one after the other and for the same reason.
        count: u32,
    },
    /// A task was accepted.
    TaskAccepted {
        /// Which.
        task: TaskId,
        /// What it runs.
        function: FunctionName,
        /// Whose it is.
        user: Uid,
    },
    /// A worker called the function of a task.
    TaskStarted {
        /// Which.
        task: TaskId,
        /// Who runs it.
        worker: WorkerId,
    },
    /// A task will be tried again.
    TaskRetried {
        /// Which.
        task: TaskId,
        /// How the last attempt ended.
        outcome: Outcome,
        /// How long until it is queued, at the least.
        wait: Duration,
        /// Retries that remain.
        retries: u32,
    },
    /// A task ended.
    TaskDone {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// A result came for a task that had ended before.
    LateResultDropped {
        /// From whom.
        worker: WorkerId,
        /// Which attempt.
        attempt: AttemptId,
    },
    /// The result of a detached task was given up.
    ResultExpired {
        /// Which.
        task: TaskId,
    },
    /// The daemon takes tasks, or no longer does.
    PhaseChanged(Phase),
}

impl Notice {
    /// How much it matters.
    pub fn level(&self) -> log::Level {
        match self {
            Notice::WorkerReady { .. }
            | Notice::WorkerWorn { .. }
            | Notice::StandbyPromoted { .. }
            | Notice::FunctionReleased { .. }
            | Notice::PoolRecovered { .. }
            | Notice::TaskRetried { .. }
            | Notice::PhaseChanged(_)
            | Notice::WorkerExited { expected: true, .. } => log::Level::Info,
            Notice::WorkerExited { expected: false, .. }
            | Notice::WorkerFailed { .. }
            | Notice::WorkerBroke { .. }
            | Notice::RestartDelayed { .. }
            | Notice::Refused { .. } => log::Level::Warn,
            Notice::PoolDegraded { .. } | Notice::FunctionQuarantined { .. } => log::Level::Error,
            Notice::WorkerSignalled { signal: Signal::Kill, .. } => log::Level::Warn,
            Notice::WorkerSignalled { signal: Signal::Terminate, .. } => log::Level::Info,
            Notice::TaskAccepted { .. }
            | Notice::TaskStarted { .. }
            | Notice::TaskDone { .. }
            | Notice::LateResultDropped { .. }
            | Notice::ResultExpired { .. } => log::Level::Debug,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::WorkerReady { worker, pool, pid } => {
                write!(formatter, "worker {worker} of pool {pool} (pid {}) is ready", pid.0)
            }
            Notice::WorkerExited { worker, pool, pid, exit, crashed, expected } => {
                write!(formatter, "worker {worker} of pool {pool}")?;
                if let Some(pid) = pid {
                    write!(formatter, " (pid {})", pid.0)?;
                }
                write!(formatter, " {}: {exit}", if *expected { "ended" } else { "died" })?;
                match crashed.as_slice() {
                    [] => Ok(()),
                    [task] => write!(formatter, "; crashed with it: task {task}"),
                    tasks => {
                        let ids: Vec<String> = tasks.iter().map(TaskId::to_string).collect();
                        write!(formatter, "; crashed with it: tasks {}", ids.join(", "))
                    }
                }
            }
            Notice::WorkerFailed { worker, pool, message } => {
                write!(formatter, "worker {worker} of pool {pool} could not start: {message}")
            }
            Notice::WorkerBroke { worker, pool, reason } => {
                write!(formatter, "worker {worker} of pool {pool} broke the protocol: {reason}")
            }
            Notice::WorkerWorn { worker, pool, wear } => {
                write!(formatter, "worker {worker} of pool {pool} is replaced once it is idle: {wear}")
            }
            Notice::WorkerSignalled { worker, signal, reason } => {
                let signal = match signal {
                    Signal::Terminate => "SIGTERM",
                    Signal::Kill => "SIGKILL",
                };
                write!(formatter, "worker {worker}: {signal}, because {reason}")
            }
            Notice::RestartDelayed { slot, pool, wait } => {
                write!(formatter, "slot {} of pool {pool} is restarted in {wait:?}", slot.0)
            }
            Notice::StandbyPromoted { worker, pool } => {
                write!(formatter, "worker {worker} of pool {pool} stood by and serves now")
            }
            Notice::FunctionQuarantined { function, killed } => write!(
                formatter,
                "function {function} is quarantined: its tasks killed {killed} workers in a row; `poolctl release {function}` lifts it"
            ),
            Notice::FunctionReleased { function } => {
                write!(formatter, "function {function} is no longer quarantined")
            }
            Notice::PoolDegraded { pool, cause } => {
                write!(formatter, "pool {pool} is degraded: its workers keep failing; the last one: {cause}")
            }
            Notice::PoolRecovered { pool } => write!(formatter, "pool {pool} is well again"),
            Notice::Refused { client, user, refusal, count } => {
                write!(formatter, "refused connection {} (uid {}): {refusal}", client.0, user.0)?;
                if *count > 1 {
                    write!(formatter, " ({count} tasks)")?;
                }
                Ok(())
            }
            Notice::TaskAccepted { task, function, user } => {
                write!(formatter, "task {task} accepted: {function}, for uid {}", user.0)
            }
            Notice::TaskStarted { task, worker } => {
                write!(formatter, "task {task} started on worker {worker}")
            }
            Notice::TaskRetried { task, outcome, wait, retries } => {
                write!(formatter, "task {task} {outcome}; tried again in {wait:?}, {retries} retries left")
            }
            Notice::TaskDone { task, outcome } => write!(formatter, "task {task} {outcome}"),
            Notice::LateResultDropped { worker, attempt } => {
                write!(
                    formatter,
                    "worker {worker}: result of attempt {} dropped, its task had ended",
                    attempt.0
                )
            }
            Notice::ResultExpired { task } => write!(formatter, "the result of task {task} expired"),
            Notice::PhaseChanged(phase) => formatter.write_str(match phase {
                Phase::Serving => "serving",
                Phase::Draining => "draining: no new tasks, those accepted are finished",
                Phase::ShuttingDown => "shutting down: pending tasks are cancelled, running ones may end",
                Phase::Stopped => "stopping the workers",
            }),
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Cancelled(task) => write!(formatter, "its task {task} was cancelled"),
            EndReason::TimedOut(task) => write!(formatter, "its task {task} timed out"),
            EndReason::NotReadyInTime => formatter.write_str("it was not ready in time"),
            EndReason::Unresponsive => formatter.write_str("it does not answer"),
            EndReason::HungUp => formatter.write_str("its socket or its sentinel ended before it did"),
            EndReason::Broke => formatter.write_str("it broke the protocol"),
            EndReason::Worn => formatter.write_str("it is worn"),
            EndReason::Replaced => formatter.write_str("it is replaced"),
            EndReason::Shutdown => formatter.write_str("the daemon stops"),
        }
    }
}
