//! Workers, as they can be seen from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use poold::id::{AttemptId, FunctionName, Pid, PoolName, TaskId};
use poold::supervisor::PoolPolicy;
use poold::time::Time;

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was asked for.
    Asked,
    /// It has a process.
    Spawned(Pid),
    /// It can take attempts.
    Ready(Pid),
}

/// A worker that is not gone.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its pool.
    pub pool: PoolName,
    /// The revision of its pool when it was asked for.
    pub revision: u64,
    /// When it was asked for.
    pub asked_at: Time,
    /// How long it may go on after it was told to end.
    pub grace: Duration,
    /// How long it may take to become ready.
    pub start_timeout: Duration,
    /// How far it has come.
    pub stage: Stage,
    /// When it had a process.
    pub spawned_at: Option<Time>,
    /// When it became ready.
    pub ready_at: Option<Time>,
    /// When it said that it cannot become ready.
    pub not_ready_at: Option<Time>,
    /// When it broke the protocol.
    pub broke_at: Option<Time>,
    /// When its socket ended.
    pub hung_up_at: Option<Time>,
    /// When it first spoke of an attempt that it does not have, or took back that it is ready or not.
    pub lied_at: Option<Time>,
    /// When it was told to stop.
    pub stop_at: Option<Time>,
    /// When it was sent TERM.
    pub terminate_at: Option<Time>,
    /// When it was sent KILL.
    pub kill_at: Option<Time>,
    /// What it announced.
    pub functions: BTreeSet<FunctionName>,
    /// How many attempts it can run.
    pub capacity: u32,
    /// How many it can hold, those sent ahead included.
    pub ahead: u32,
    /// Whether its pool was made smaller: it may be one of those that go.
    pub may_leave: bool,
    /// Since when it has run what nobody waits for; it need not be given more.
    pub spoiled_at: Option<Time>,
    /// When it was told of as worn.
    pub worn_at: Option<Time>,
    /// How many it was sent.
    pub sent: u64,
    /// How many it finished.
    pub finished: u64,
    /// When it last began, finished or passed over something, or had nothing to do.
    pub heard_at: Time,
    /// Those it holds.
    pub holds: Vec<(AttemptId, TaskId)>,
    /// Those that were taken back from it without asking it, and that it has not passed over.
    pub taken_back: BTreeSet<AttemptId>,
}

impl Worker {
    /// Whether it has not begun with what it has, for longer than it may take.
    pub fn is_silent(&self, now: Time) -> bool {
        self.is_silent_since(now, self.start_timeout)
    }

    /// Whether it has not begun with what it has, for so long.
    pub fn is_silent_since(&self, now: Time, most: Duration) -> bool {
        self.ahead > self.capacity && self.heard_at + most <= now
    }

    /// How many attempts it was sent that were not taken back.
    pub fn taken(&self) -> u64 {
        self.finished + self.holds.len() as u64
    }

    /// One that was just asked for.
    pub fn asked(pool: &PoolPolicy, now: Time) -> Self {
        Worker {
            asked_at: now,
            pool: pool.name.clone(),
            revision: pool.revision,
            grace: pool.grace,
            start_timeout: pool.start_timeout,
            stage: Stage::Asked,
            spawned_at: None,
            ready_at: None,
            not_ready_at: None,
            broke_at: None,
            hung_up_at: None,
            lied_at: None,
            stop_at: None,
            terminate_at: None,
            kill_at: None,
            functions: BTreeSet::new(),
            capacity: 0,
            ahead: 0,
            heard_at: now,
            may_leave: false,
            spoiled_at: None,
            worn_at: None,
            sent: 0,
            finished: 0,
            holds: Vec::new(),
            taken_back: BTreeSet::new(),
        }
    }

    /// Whether it was told to end, or is expected to.
    pub fn is_ending(&self) -> bool {
        self.stop_at.is_some()
            || self.terminate_at.is_some()
            || self.kill_at.is_some()
            || self.broke_at.is_some()
            || self.hung_up_at.is_some()
            || self.not_ready_at.is_some()
    }

    /// Whether it has done what makes it end: runs what nobody waits for, or said what it must not.
    pub fn is_harmful(&self) -> bool {
        self.spoiled_at.is_some() || self.lied_at.is_some()
    }

    /// Whether it can take attempts.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_)) && !self.is_ending()
    }

    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        match self.stage {
            Stage::Asked => None,
            Stage::Spawned(pid) | Stage::Ready(pid) => Some(pid),
        }
    }
}
