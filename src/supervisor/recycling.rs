//! Replacing workers before they do harm: after so many attempts, so long a life, or so much memory.
//!
//! A worker that is *worn* takes no more attempts, finishes those that it holds, and is told to stop. Its
//! slot is filled again because it is empty, not because something was counted: so no worker is ever missing.

use std::fmt;
use std::time::Duration;

use super::policy::PoolPolicy;
use super::pools::PoolId;
use super::slots::{Stage, Worker};
use super::timers::Timer;
use super::{Notice, Supervisor};
use crate::id::{SlotId, WorkerId};

/// What has worn a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wear {
    /// It was sent so many attempts.
    Attempts(u64),
    /// It was ready for so long.
    Lifetime(Duration),
    /// So many bytes of memory are resident.
    Memory(u64),
}

impl fmt::Display for Wear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wear::Attempts(sent) => write!(formatter, "it was sent {sent} attempts (max_attempts)"),
            Wear::Lifetime(lifetime) => write!(formatter, "it was ready for {lifetime:?} (max_lifetime)"),
            Wear::Memory(bytes) => write!(formatter, "{bytes} bytes of it are resident (max_rss)"),
        }
    }
}

impl Worker {
    /// The attempts that it may be sent: those of the policy, less its own share of the jitter.
    fn attempts_max(&self, policy: &PoolPolicy) -> Option<u64> {
        policy.max_attempts.map(|most| ((most as f64 * self.lasts).ceil() as u64).max(1))
    }

    /// How many more attempts it may be sent.
    pub(super) fn attempts_left(&self, policy: &PoolPolicy) -> u64 {
        let sent = self.finished + u64::from(self.held.count());
        self.attempts_max(policy).map_or(u64::MAX, |most| most.saturating_sub(sent))
    }
}

impl Supervisor {
    /// Finds out whether a worker has been sent all the attempts that it may be.
    pub(super) fn check_attempts(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get(&id) else { return };
        let Some(worker) = slot.worker() else { return };
        // What was taken back was not its to do.
        let sent = worker.finished + u64::from(worker.held.count());
        if worker.attempts_max(&self.pool(slot.pool).policy).is_some_and(|most| sent >= most) {
            self.wear_out(id, Wear::Attempts(sent));
        }
    }

    /// Has a worker end its life in time: anew when the policy has changed.
    pub(super) fn limit_lifetime(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get(&id) else { return };
        let (worker_id, policy) = (slot.worker_id(), &self.pool(slot.pool).policy);
        let Some(worker) = slot.worker() else { return };
        match (worker.stage, policy.max_lifetime) {
            (Stage::Ready { since, .. }, Some(most)) => {
                let at = since + most.mul_f64(worker.lasts);
                self.timers.arm(Timer::WorkerLifetime(worker_id), at);
            }
            (Stage::Starting | Stage::Ready { .. } | Stage::Ending { .. }, _) => {
                self.timers.disarm(Timer::WorkerLifetime(worker_id));
            }
        }
    }

    /// A worker has lived as long as it may.
    pub(super) fn lifetime_over(&mut self, worker: WorkerId) {
        let Some(since) = self.slot_of(worker).and_then(|slot| slot.worker()?.ready_since()) else { return };
        self.wear_out(worker.slot, Wear::Lifetime(self.now.since(since)));
    }

    /// The memory of a worker was measured after an attempt.
    pub(super) fn worker_measured(&mut self, worker: WorkerId, rss_bytes: u64) {
        let Some(slot) = self.slot_of(worker) else { return };
        let pool = slot.pool;
        if self.pool(pool).policy.max_rss_bytes.is_some_and(|most| rss_bytes > most) {
            self.wear_out(worker.slot, Wear::Memory(rss_bytes));
        }
    }

    /// Measures every worker of a pool by a new policy.
    pub(super) fn check_wear(&mut self, pool: PoolId) {
        for id in self.pool(pool).slots.iter().copied().collect::<Vec<SlotId>>() {
            self.check_attempts(id);
            self.limit_lifetime(id);
        }
    }

    /// A ready worker takes no more attempts and goes once it holds none. If it holds several at a time, its
    /// successor does not wait for the last of them.
    fn wear_out(&mut self, id: SlotId, wear: Wear) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (worker_id, pool) = (slot.worker_id(), slot.pool);
        let Some(worker) = slot.worker_mut() else { return };
        let Stage::Ready { capacity, .. } = worker.stage else { return };
        if worker.wear.is_some() {
            return;
        }
        worker.wear = Some(wear);
        let pool = self.pool(pool).policy.name.clone();
        self.note(Notice::WorkerWorn { worker: worker_id, pool, wear });
        if capacity > 1 {
            self.succeed(id);
        }
        self.review(id);
    }
}
