//! How things are: what `status` and its sisters show.

use std::collections::BTreeMap;

use super::held::Progress;
use super::pools::PoolId;
use super::slots::{Slot, Worker};
use super::tasks::{State, Task};
use super::{Policy, Supervisor};
use crate::id::TaskId;
use crate::message::status::{
    FunctionStatus, Phase, PoolStatus, TaskCounts, TaskStatus, WorkerState, WorkerStatus,
};
use crate::task::{Attachment, OutcomeKind};
use crate::time::Time;

impl Supervisor {
    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether new tasks are taken.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether every pool has had a ready worker.
    pub fn is_ready(&self) -> bool {
        self.pool_order.iter().all(|id| self.pool(*id).functions.is_some())
    }

    /// Tasks by state.
    pub fn task_counts(&self) -> TaskCounts {
        self.tasks.counts()
    }

    /// How tasks ended so far; every kind is there.
    pub fn outcomes(&self) -> BTreeMap<OutcomeKind, u64> {
        OutcomeKind::ALL.into_iter().map(|kind| (kind, self.outcomes[kind as usize])).collect()
    }

    /// Requests refused so far.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// The pools, in the order of the policy; then those that it leaves out and that still have tasks
    /// or workers.
    pub fn pools(&self) -> Vec<PoolStatus> {
        let leaving = (0..self.pools.len()).map(PoolId).filter(|id| {
            let pool = self.pool(*id);
            pool.retired && (pool.unfinished > 0 || !pool.slots.is_empty())
        });
        self.pool_order.iter().copied().chain(leaving).map(|id| self.pool_status(id)).collect()
    }

    fn pool_status(&self, id: PoolId) -> PoolStatus {
        let pool = self.pool(id);
        let in_state = |states: &[WorkerState]| {
            let slots = pool.slots.iter().filter_map(|id| self.slots.get(id));
            slots.filter(|slot| states.contains(&slot.visible_state())).count() as u32
        };
        PoolStatus {
            name: pool.policy.name.clone(),
            workers: if pool.retired { 0 } else { pool.policy.workers },
            ready: in_state(&[WorkerState::Idle, WorkerState::Busy]),
            busy: in_state(&[WorkerState::Busy]),
            standby: in_state(&[WorkerState::Standby]),
            pending: pool.queue.len(),
            restarts: pool.restarts,
            degraded: pool.failures.are_too_many(),
            last_failure: pool.last_failure.clone(),
        }
    }

    /// The slots in the order of their numbers, without the first `skip`, at most `rows_max`; and
    /// whether there are more.
    pub fn workers(&self, now: Time, skip: usize, rows_max: usize) -> (Vec<WorkerStatus>, bool) {
        let rows = self.slots.values().skip(skip).take(rows_max).map(|slot| self.worker_status(now, slot));
        (rows.collect(), self.slots.len() > skip.saturating_add(rows_max))
    }

    fn worker_status(&self, now: Time, slot: &Slot) -> WorkerStatus {
        let held = slot.worker().and_then(|worker| worker.held.first());
        let task = held.and_then(|held| held.task).map(|key| self.tasks.get(key));
        let since = held.and_then(|held| match held.progress {
            Progress::Started { at } => Some(at),
            Progress::Sent | Progress::Recalled | Progress::Overdue => None,
        });
        WorkerStatus {
            slot: slot.id,
            generation: slot.generation,
            pool: self.pool(slot.pool).policy.name.clone(),
            state: slot.visible_state(),
            pid: slot.worker().and_then(|worker| worker.pid),
            task: held.map(|held| held.id),
            function: task.map(|task| task.function.clone()),
            running_ms: since.map(|since| now.since(since).as_millis() as u64),
            capacity: slot.worker().map_or(0, Worker::capacity),
            held: slot.worker().map_or(0, |worker| worker.held.count()),
            stuck: slot.worker().map_or(0, |worker| worker.held.stuck()),
            attempts: slot.attempts,
            restarts: slot.restarts,
            rss_bytes: None,
        }
    }

    /// The tasks with a number above `after`, in the order of their numbers, at most `rows_max`; and
    /// whether there are more.
    pub fn tasks(&self, now: Time, after: u64, rows_max: usize) -> (Vec<TaskStatus>, bool) {
        let mut tasks = self.tasks.after(after);
        let status = |(number, task): (u64, &Task)| self.task_status(now, TaskId { number, ..task.id }, task);
        let rows = tasks.by_ref().take(rows_max).map(status).collect();
        (rows, tasks.next().is_some())
    }

    fn task_status(&self, now: Time, id: TaskId, task: &Task) -> TaskStatus {
        TaskStatus {
            id,
            function: task.function.clone(),
            pool: self.pool(task.pool).policy.name.clone(),
            state: task.visible_state(),
            priority: task.priority,
            user: task.user,
            detached: task.attachment == Attachment::Detached,
            attempts: task.attempts,
            age_ms: now.since(task.accepted_at).as_millis() as u64,
            slot: match task.state {
                State::Running { worker, .. } | State::Reaping { worker, .. } => Some(worker.slot),
                State::Delayed | State::Pending { .. } | State::Done { .. } => None,
            },
        }
    }

    /// The functions that can be run, by name, without the first `skip`, at most `rows_max`; and whether
    /// there are more. Each with the pools that have it, in the order of the policy.
    pub fn functions(&self, skip: usize, rows_max: usize) -> (Vec<FunctionStatus>, bool) {
        let mut functions: BTreeMap<_, FunctionStatus> = BTreeMap::new();
        for pool in self.pool_order.iter().map(|id| self.pool(*id)) {
            for info in pool.served() {
                let row = functions.entry(info.name.clone()).or_insert_with(|| FunctionStatus {
                    name: info.name.clone(),
                    signature: info.signature.clone(),
                    summary: info.summary.clone(),
                    pools: Vec::new(),
                    quarantined: self.killers.are(&info.name),
                });
                row.pools.push(pool.policy.name.clone());
            }
        }
        let more = functions.len() > skip.saturating_add(rows_max);
        (functions.into_values().skip(skip).take(rows_max).collect(), more)
    }
}
