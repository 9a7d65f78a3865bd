//! What the daemon tells of itself: the rows that `poolctl status` and its sisters print.
//!
//! Durations are whole milliseconds, sizes bytes; the same structs make the `--json` output, so a
//! field's name is part of the command line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{FunctionName, Generation, Pid, PoolName, SlotId, TaskId, Uid};
use crate::task::OutcomeKind;

/// Whether new tasks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// They are.
    Serving,
    /// They are not; what was accepted is finished.
    Draining,
    /// They are not; what runs may end within the drain timeout.
    ShuttingDown,
    /// All work is over; workers are ending.
    Stopped,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The daemon's process.
    pub pid: Pid,
    /// Since the daemon started.
    pub uptime_ms: u64,
    /// Whether new tasks are taken.
    pub phase: Phase,
    /// Open client connections.
    pub connections: u64,
    /// Tasks by state, all pools together.
    pub tasks: TaskCounts,
    /// How tasks ended since the daemon started.
    pub outcomes: BTreeMap<OutcomeKind, u64>,
    /// Requests that were refused since the daemon started.
    pub refusals: u64,
    /// Log lines that were dropped because they came faster than they could be written.
    pub log_lines_dropped: u64,
    /// By what the limits of workers are enforced, and which cannot be, in words.
    pub limits: String,
    /// The pools, in the order of the configuration.
    pub pools: Vec<PoolStatus>,
    /// Functions whose new tasks are refused because they killed too many workers in a row.
    pub quarantined: Vec<FunctionName>,
}

/// Tasks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Waiting for a delay or a retry's backoff to pass.
    pub delayed: u64,
    /// Waiting for a worker.
    pub pending: u64,
    /// Sent to a worker.
    pub running: u64,
    /// Done, detached, and kept for whoever asks.
    pub kept: u64,
    /// Bytes of arguments of those not done.
    pub argument_bytes: u64,
    /// Bytes of results kept.
    pub result_bytes: u64,
}

/// How a pool is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: PoolName,
    /// Workers it should have.
    pub workers: u32,
    /// Workers that are ready.
    pub ready: u32,
    /// Workers that run an attempt.
    pub busy: u32,
    /// Workers that are ready beside those, and follow one that is lost.
    pub standby: u32,
    /// Tasks that wait for one of its workers.
    pub pending: u64,
    /// Processes started in place of ones that died.
    pub restarts: u64,
    /// Whether it restarts too often and waits the longest backoff between tries.
    pub degraded: bool,
    /// Why its last worker that failed did so.
    pub last_failure: Option<String>,
}

/// What a worker process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Started, not ready.
    Starting,
    /// Ready, with nothing to do.
    Idle,
    /// Ready, with an attempt.
    Busy,
    /// Told to end.
    Stopping,
    /// There is no process; one is started when the backoff is over.
    Down,
    /// Ready, and taking attempts only once another is lost.
    Standby,
}

/// How a slot and its worker are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The slot.
    pub slot: SlotId,
    /// Which of its processes this is.
    pub generation: Generation,
    /// The pool the slot belongs to.
    pub pool: PoolName,
    /// What the worker is doing.
    pub state: WorkerState,
    /// Its process, if there is one.
    pub pid: Option<Pid>,
    /// The task it runs.
    pub task: Option<TaskId>,
    /// The function of that task.
    pub function: Option<FunctionName>,
    /// How long that attempt has run.
    pub running_ms: Option<u64>,
    /// Attempts it can hold at a time.
    pub capacity: u32,
    /// Attempts it holds.
    pub held: u32,
    /// Of those, attempts that go on although their tasks have ended.
    pub stuck: u32,
    /// Attempts finished in this slot, by all its processes.
    pub attempts: u64,
    /// Processes started in this slot in place of ones that died.
    pub restarts: u64,
    /// Resident memory of its process.
    pub rss_bytes: Option<u64>,
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waiting for a delay or a retry's backoff to pass.
    Delayed,
    /// Waiting for a worker.
    Pending,
    /// Sent to a worker.
    Running,
    /// Ended this way.
    Done(OutcomeKind),
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Its id.
    pub id: TaskId,
    /// What it runs.
    pub function: FunctionName,
    /// Where.
    pub pool: PoolName,
    /// What it is doing.
    pub state: TaskState,
    /// Its priority.
    pub priority: i16,
    /// Whose it is.
    pub user: Uid,
    /// Whether it goes on when its connection ends.
    pub detached: bool,
    /// Attempts that started.
    pub attempts: u32,
    /// Since it was accepted.
    pub age_ms: u64,
    /// The slot that runs it.
    pub slot: Option<SlotId>,
}

/// What a worker says of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionInfo {
    /// Its name.
    pub name: FunctionName,
    /// What it accepts and returns: `is_prime(N: u128) -> bool`.
    pub signature: String,
    /// What it does, in a sentence.
    pub summary: String,
}

/// A function that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionStatus {
    /// Its name.
    pub name: FunctionName,
    /// What it accepts and returns.
    pub signature: String,
    /// What it does, in a sentence.
    pub summary: String,
    /// The pools that have it, in the order of the configuration.
    pub pools: Vec<PoolName>,
    /// Whether its new tasks are refused because it killed too many workers in a row.
    pub quarantined: bool,
}
