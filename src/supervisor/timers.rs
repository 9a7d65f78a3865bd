//! What will happen by itself, and when.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

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

/// Stale entries that may always stay in the queue.
const STALE_MIN: usize = 64;

/// The instants that are waited for; each timer is armed at most once.
///
/// Most timers are disarmed long before they would go off. What is then stale stays in the queue until it comes
/// to the front, or until most of the queue is stale: to take each out at once would cost more.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Those that are armed.
    instants: BTreeMap<Timer, Time>,
    /// An entry for each of them, and stale ones, none of which is the first.
    queue: BinaryHeap<Reverse<Entry>>,
}

/// When which timer goes off; the order in which they do.
type Entry = (Time, Timer);

impl Timers {
    /// Has `timer` go off at `at`, and no longer when it was to go off before.
    pub(super) fn arm(&mut self, timer: Timer, at: Time) {
        let before = self.instants.insert(timer, at);
        if before == Some(at) {
            return;
        }
        self.queue.push(Reverse((at, timer)));
        if let Some(before) = before {
            self.drop_stale((before, timer));
        }
    }

    /// `timer` does not go off.
    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some(at) = self.instants.remove(&timer) {
            self.drop_stale((at, timer));
        }
    }

    /// When the first one goes off.
    pub(super) fn first(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the first one that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let Reverse((_, timer)) = self.queue.peek().filter(|Reverse((at, _))| *at <= now)?;
        let timer = *timer;
        self.disarm(timer);
        Some(timer)
    }

    /// An entry is stale now: if it is the first, it goes, and those that come to the front with it.
    fn drop_stale(&mut self, entry: Entry) {
        let Timers { instants, queue } = self;
        let is_stale = |Reverse((at, timer)): &Reverse<Entry>| instants.get(timer) != Some(at);
        if queue.peek() == Some(&Reverse(entry)) {
            queue.pop();
            while queue.len() > instants.len() && queue.peek().is_some_and(is_stale) {
                queue.pop();
            }
        }
        if queue.len() > 2 * instants.len() + STALE_MIN {
            queue.retain(|entry| !is_stale(entry));
        }
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

    #[test]
    fn timers_armed_again_at_their_first_instant_go_off_once() {
        let mut timers = Timers::default();
        for nanos in [5, 9, 5] {
            timers.arm(Timer::ResultExpiry, Time::from_nanos(nanos));
        }
        assert_eq!(timers.pop_due(Time::from_nanos(9)), Some(Timer::ResultExpiry));
        assert_eq!((timers.first(), timers.pop_due(Time::from_nanos(9))), (None, None));
    }

    #[test]
    fn timers_at_one_instant_come_in_the_order_of_their_kinds() {
        let mut timers = Timers::default();
        let now = Time::from_nanos(1);
        for timer in [Timer::ResultExpiry, Timer::SlotRestart(SlotId(2)), Timer::SlotRestart(SlotId(1))] {
            timers.arm(timer, now);
        }
        let order: Vec<Timer> = std::iter::from_fn(|| timers.pop_due(now)).collect();
        assert_eq!(
            order,
            [Timer::SlotRestart(SlotId(1)), Timer::SlotRestart(SlotId(2)), Timer::ResultExpiry]
        );
    }

    #[test]
    fn timers_that_are_disarmed_take_no_room_for_ever() {
        let mut timers = Timers::default();
        timers.arm(Timer::DrainTimeout, Time::ZERO);
        for number in 0..10_000 {
            timers.arm(Timer::Placement(number), Time::from_nanos(number));
            timers.disarm(Timer::Placement(number));
            assert!(timers.queue.len() <= 2 + STALE_MIN + 1, "{number}");
        }
        assert_eq!(timers.first(), Some(Time::ZERO));
    }
}
