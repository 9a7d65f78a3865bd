//! The part that decides: events in, actions out.

pub mod action;
pub mod event;
pub mod policy;

pub use action::{Action, EndReason, Notice, Signal};
pub use event::Event;
pub use policy::{Policy, PoolPolicy, RestartPolicy};

use std::collections::{BTreeMap, VecDeque};

use crate::id::Epoch;
use crate::message::status::{FunctionStatus, Phase, PoolStatus, TaskCounts, TaskStatus, WorkerStatus};
use crate::task::OutcomeKind;
use crate::time::Time;

/// The state machine.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    actions: VecDeque<Action>,
}

impl Supervisor {
    /// A supervisor that keeps to `policy`; `seed` draws its jitter. Poll its first actions at once.
    pub fn new(_now: Time, policy: Policy, _epoch: Epoch, _seed: u64) -> Self {
        Supervisor { policy, actions: VecDeque::new() }
    }

    /// Takes an event in. Afterwards poll actions until there is none.
    pub fn handle(&mut self, _now: Time, _event: Event) {}

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Event::TimePassed`] at the latest.
    pub fn poll_deadline(&self) -> Option<Time> {
        None
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether new tasks are taken.
    pub fn phase(&self) -> Phase {
        Phase::Serving
    }

    /// Tasks by state.
    pub fn task_counts(&self) -> TaskCounts {
        TaskCounts::default()
    }

    /// How tasks ended so far.
    pub fn outcomes(&self) -> BTreeMap<OutcomeKind, u64> {
        BTreeMap::new()
    }

    /// Requests refused so far.
    pub fn refusals(&self) -> u64 {
        0
    }

    /// The pools, in the order of the policy.
    pub fn pools(&self) -> Vec<PoolStatus> {
        Vec::new()
    }

    /// Workers by slot without the first `skip`, at most `rows_max`, and whether there are more.
    pub fn workers(&self, _now: Time, _skip: usize, _rows_max: usize) -> (Vec<WorkerStatus>, bool) {
        (Vec::new(), false)
    }

    /// Tasks with a number above `after`, at most `rows_max`, and whether there are more.
    pub fn tasks(&self, _now: Time, _after: u64, _rows_max: usize) -> (Vec<TaskStatus>, bool) {
        (Vec::new(), false)
    }

    /// The functions that can be run.
    pub fn functions(&self) -> Vec<FunctionStatus> {
        Vec::new()
    }

    /// Whether every pool has had a ready worker.
    pub fn is_ready(&self) -> bool {
        false
    }
}
