//! What will happen by itself, and when.

use std::collections::{BTreeMap, BTreeSet};

use super::tasks::TaskKey;
use crate::id::{AttemptId, ConnectionId, SlotId, WorkerId};
use crate::time::Time;

/// What an instant is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A submission waited long enough for a pool to say that it has the function.
    Placement(u64),
    /// A task's delay or backoff is over: it is queued.
    TaskDelay(TaskKey),
    /// A task must have ended.
    TaskDeadline(TaskKey),
    /// An attempt that was sent must have started or been given back.
    AttemptStart(WorkerId, AttemptId),
    /// An attempt must have ended.
    AttemptTimeout(WorkerId, AttemptId),
    /// A worker must be ready.
    WorkerStart(WorkerId),
    /// A worker has lasted: its failures before are forgotten.
    WorkerSettled(WorkerId),
    /// A worker has lived as long as its pool lets it.
    WorkerLifetime(WorkerId),
    /// A worker that was told to end is killed.
    WorkerGrace(WorkerId),
    /// A slot's backoff is over: its next worker is started.
    SlotRestart(SlotId),
    /// A client of a draining daemon must have read its outcomes.
    ClientReads(ConnectionId),
    /// The oldest result that is kept expires.
    ResultExpiry,
    /// Running tasks have had the time that a stopping daemon gives them.
    DrainTimeout,
}

/// The instants that are waited for; each timer is armed at most once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    instants: BTreeMap<Timer, Time>,
    queue: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// Has `timer` go off at `at`, and no longer when it was to go off before.
    pub(super) fn arm(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.instants.insert(timer, at) {
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((at, timer));
    }

    /// `timer` does not go off.
    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(at) = self.instants.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// When the first one goes off.
    pub(super) fn first(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the first one that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        self.first().filter(|at| *at <= now)?;
        let (_, timer) = self.queue.pop_first()?;
        self.instants.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_armed_again_go_off_once_at_the_later_instant() {
        let mut timers = Timers::default();
        timers.arm(Timer::ResultExpiry, Time::from_nanos(5));
        timers.arm(Timer::ResultExpiry, Time::from_nanos(9));
        assert_eq!(timers.pop_due(Time::from_nanos(8)), None);
        assert_eq!(timers.pop_due(Time::from_nanos(9)), Some(Timer::ResultExpiry));
        assert_eq!(timers.first(), None);
    }

    #[test]
    fn timers_that_are_due_come_in_the_order_of_their_instants() {
        let mut timers = Timers::default();
        timers.arm(Timer::DrainTimeout, Time::from_nanos(7));
        timers.arm(Timer::SlotRestart(SlotId(1)), Time::from_nanos(3));
        timers.arm(Timer::SlotRestart(SlotId(2)), Time::from_nanos(5));
        timers.disarm(Timer::SlotRestart(SlotId(2)));
        let now = Time::from_nanos(10);
        assert_eq!(timers.pop_due(now), Some(Timer::SlotRestart(SlotId(1))));
        assert_eq!(timers.pop_due(now), Some(Timer::DrainTimeout));
        assert_eq!(timers.pop_due(now), None);
    }
}
