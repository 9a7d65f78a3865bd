//! Sending attempts ahead of the one that a worker runs, so that short ones follow each other without a wait.
//!
//! Only to workers of which it is known without asking them what they have begun. How many, each worker's [`Pace`]
//! says: as many as it gets through between two looks at it. So whatever waits in a worker waits for about one
//! [`LOOK_INTERVAL`]; and not behind a long attempt while another worker is idle, nor behind less urgent ones.
//!
//! What is taken back from a worker stays among what it has to read, until it has passed it over. While that is all
//! that it has to do it is sent nothing more; so one that is stopped is found out, and is sent no more than it may
//! hold, even if all of that is taken back again before its time is over.

use std::time::Duration;

use super::action::EndReason;
use super::held::{Held, Progress};
use super::pools::PoolId;
use super::slots::{Slot, Worker};
use super::tasks::Tasks;
use super::{Action, Supervisor};
use crate::id::{AttemptId, SlotId, WorkerId};
use crate::limits::{ATTEMPTS_AHEAD_HURRIED, HURRY, LOOK_EARLY_MAX, LOOK_INTERVAL, LOOK_LONE_INTERVAL};
use crate::time::Time;

/// How many attempts a worker may hold, by how fast it was of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The most that it may ever hold; none is sent ahead below 2.
    most: u32,
    /// How many it may hold now.
    window: u32,
    /// Attempts that it finished since the window changed.
    finished: u32,
    /// Those that it finished since it was last looked at.
    done: u32,
    /// Until when it may hold only a few, since more urgent tasks than those that it holds have come.
    hurried_until: Option<Time>,
    /// When it will be looked at, if it will.
    look_at: Option<Time>,
    /// Looks in a row at which nothing was new.
    idle_looks: u32,
    /// Since when nothing was heard of it.
    silent_since: Time,
    /// Since when it has held something all the time, if it does.
    busy_since: Time,
}

impl Pace {
    /// For a worker that may hold at most so many attempts.
    pub(super) fn new(most: u32, now: Time) -> Self {
        Pace { most, window: 1, silent_since: now, busy_since: now, ..Pace::default() }
    }

    /// Whether attempts are sent ahead at all.
    pub(super) fn is_ahead(&self) -> bool {
        self.most > 1
    }

    pub(super) fn has_room(&self, held: u32) -> bool {
        self.room(held) > 0
    }

    /// How many more it may hold.
    pub(super) fn room(&self, held: u32) -> u32 {
        let most = if self.hurried_until.is_some() { ATTEMPTS_AHEAD_HURRIED } else { u32::MAX };
        self.window.min(most).saturating_sub(held)
    }

    /// How many of those that it holds it is left, if it is to get through with them between two looks: twice as many
    /// as it may be sent, so that not each change of pace has some taken back.
    fn keeps(&self) -> u32 {
        match self.window {
            0 | 1 => 1,
            window => 2 * window,
        }
    }

    /// From here on it may hold only a few for a while.
    fn hurry(&mut self, now: Time) {
        self.hurried_until = Some(now + HURRY);
    }

    /// It is sent something, and held nothing before.
    pub(super) fn becomes_busy(&mut self, now: Time) {
        self.busy_since = now;
        self.heard(now);
    }

    /// Something was heard of it.
    pub(super) fn heard(&mut self, now: Time) {
        self.silent_since = now;
        self.idle_looks = 0;
    }

    /// It finished so many attempts: with as many as it may hold, it may hold twice as many.
    pub(super) fn finished(&mut self, mut count: u32) {
        self.done = self.done.saturating_add(count);
        while self.finished + count >= self.window.max(1) {
            count -= self.window.max(1) - self.finished;
            self.window = (2 * self.window).min(self.most).max(1);
            self.finished = 0;
        }
        self.finished += count;
    }

    /// An interval is over and it still holds what it has not begun: it gets no more than it can do in one.
    fn slow_down(&mut self, now: Time) {
        self.window = self.done.clamp(1, self.window.max(1));
        self.finished = 0;
        self.done = 0;
        self.hurried_until = self.hurried_until.filter(|until| *until > now);
    }

    /// When it is to be looked at again: the later the longer nothing was new.
    fn next_look(&mut self) -> Duration {
        let wait = LOOK_INTERVAL * (1 << self.idle_looks.min(LOOK_DOUBLINGS_MAX));
        self.idle_looks += 1;
        wait
    }
}

/// How often the wait for the next look doubles while nothing is new.
const LOOK_DOUBLINGS_MAX: u32 = 4;

impl Supervisor {
    /// Has a worker looked at in time that was sent an attempt, or has to pass one over.
    pub(super) fn keep_watch(&mut self, id: SlotId) {
        let patience = self.patience_with(id);
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let worker_id = slot.worker_id();
        let Some(worker) = slot.worker_mut() else { return };
        if worker.pace.look_at.is_none() {
            let at = now + worker.pace.next_look().max(patience);
            worker.pace.look_at = Some(at);
            self.looks.insert((at, worker_id));
        }
    }

    /// How long a worker may be left alone: longer if it holds one attempt, so that nothing waits behind that, and
    /// nobody is told when it begins.
    fn patience_with(&self, id: SlotId) -> Duration {
        let Some(worker) = self.slots.get(&id).and_then(Slot::worker) else { return LOOK_INTERVAL };
        let lone = worker.held.first().filter(|held| worker.held.count() == 1 && held.is_sent());
        match lone.and_then(|held| held.task) {
            Some(key) if !self.minds_start(key) => LOOK_LONE_INTERVAL,
            Some(_) | None => LOOK_INTERVAL,
        }
    }

    /// Looks at the workers whose time has come, or is so near that to wake up for it would cost more than to look now.
    pub(super) fn look_around(&mut self) {
        while let Some(&(at, worker)) = self.looks.first()
            && at <= self.now + LOOK_EARLY_MAX
        {
            self.looks.pop_first();
            self.look(worker);
        }
    }

    /// A worker is looked at no more.
    pub(super) fn forget_look(&mut self, worker: &Worker, worker_id: WorkerId) {
        if let Some(at) = worker.pace.look_at {
            self.looks.remove(&(at, worker_id));
        }
    }

    /// It is time to look at a worker: what has begun by now takes long, and what has not waits too long.
    fn look(&mut self, worker_id: WorkerId) {
        let now = self.now;
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        let start_timeout = self.pool(pool).policy.start_timeout;
        let patience = self.patience_with(worker_id.slot);
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pace.look_at = None;
        let first = worker.held.iter().find(|held| held.is_sent()).map(|held| held.attempt);
        if first.is_none() && !worker.must_pass_over() {
            return;
        }
        // One short attempt after the other: this one had no time yet.
        let due = worker.pace.busy_since + patience;
        if now + LOOK_EARLY_MAX < due {
            worker.pace.look_at = Some(due);
            self.looks.insert((due, worker_id));
            return;
        }
        worker.pace.slow_down(now);
        let is_silent = !worker.has_begun() && now.since(worker.pace.silent_since) >= start_timeout;
        let was_suspect = std::mem::replace(&mut worker.is_suspect, is_silent);
        self.keep_watch(worker_id.slot);
        match first {
            // If it has not begun with it by now, it is not well; else that is told in place of this.
            Some(first) if is_silent => {
                self.single_out_attempt(worker_id, first);
                return self.recall(worker_id, first);
            }
            // It was looked at since it was found to be silent.
            None if is_silent && was_suspect => {
                return self.end_worker(worker_id.slot, EndReason::Unresponsive);
            }
            Some(_) | None => {}
        }
        self.actions.push_back(Action::LookAt { worker: worker_id });
        self.take_back_surplus(worker_id);
        self.review(worker_id.slot);
    }

    /// Takes back what a worker was sent beyond what it gets through between two looks.
    fn take_back_surplus(&mut self, worker_id: WorkerId) {
        let Some(worker) = self.slot_of(worker_id).and_then(|slot| slot.worker()) else { return };
        let Some(surplus) = worker.held.nth(worker.pace.keeps()) else { return };
        self.part_attempts(worker_id, surplus);
        self.take_back_sent(worker_id.slot, |_, held| held.attempt >= surplus);
    }

    /// A worker that was to be looked at late has something new to do.
    pub(super) fn look_soon(&mut self, worker_id: WorkerId) {
        let soon = self.now + self.patience_with(worker_id.slot);
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        if let Some(at) = worker.pace.look_at.filter(|at| *at > soon) {
            worker.pace.look_at = Some(soon);
            self.looks.remove(&(at, worker_id));
            self.looks.insert((soon, worker_id));
        }
    }

    /// Takes back what was sent ahead: of a worker that is idle now, or of a task that is more urgent.
    pub(super) fn even_out(&mut self, id: PoolId) {
        let pool = self.pool(id);
        match (pool.open.first(), pool.queue.most_urgent()) {
            (Some((0, _)), None) => {
                if let Some(&slot) = pool.waiting_in.first()
                    && !self.is_taking_back(id)
                {
                    self.take_back_sent(slot, |_, _| true);
                }
            }
            (None, Some(priority)) if priority > pool.least_urgent_sent && !self.is_taking_back(id) => {
                self.make_way(id, priority);
            }
            (_, _) => {}
        }
    }

    /// Whether it is not known yet what came of taking attempts back: so long no more are.
    fn is_taking_back(&self, id: PoolId) -> bool {
        let workers = self.pool(id).slots.iter().filter_map(|slot| self.slots.get(slot)?.worker());
        let mut held = workers.filter(|worker| worker.pace.is_ahead()).flat_map(|worker| worker.held.iter());
        held.any(|held| held.progress == Progress::Recalled)
    }

    /// Makes room for a task of that priority where the fewest attempts stand before it; and has the pool's workers hold
    /// only a few for a while, so that the next one waits for less.
    fn make_way(&mut self, id: PoolId, priority: i16) {
        let now = self.now;
        for slot in self.pool(id).slots.iter().copied().collect::<Vec<SlotId>>() {
            if let Some(worker) = self.slots.get_mut(&slot).and_then(Slot::worker_mut) {
                worker.pace.hurry(now);
                self.review(slot);
            }
        }
        let tasks = &self.tasks;
        let is_less_urgent = |held: &Held| held.is_sent() && priority_of(tasks, held) < Some(priority);
        let workers =
            self.pool(id).slots.iter().filter_map(|slot| Some((*slot, self.slots.get(slot)?.worker()?)));
        let ahead = workers.filter(|(_, worker)| worker.pace.is_ahead());
        let gives_way = ahead.filter(|(_, worker)| worker.held.iter().any(is_less_urgent));
        let first = gives_way.min_by_key(|(_, worker)| worker.held.count()).map(|(slot, _)| slot);
        if let Some(slot) = first {
            self.take_back_sent(slot, |tasks, held| priority_of(tasks, held) < Some(priority));
        }
        let slots = self.pool(id).slots.iter().filter_map(|slot| self.slots.get(slot)?.worker());
        let sent = slots.flat_map(|worker| worker.held.iter()).filter(|held| held.is_sent());
        let least_urgent = sent.filter_map(|held| priority_of(&self.tasks, held)).min();
        self.pool_mut(id).least_urgent_sent = least_urgent.unwrap_or(i16::MAX);
    }

    /// Takes back what a worker was sent and has not begun, as far as it is meant.
    pub(super) fn take_back_sent(&mut self, id: SlotId, is_meant: impl Fn(&Tasks, &Held) -> bool) {
        let Some(slot) = self.slots.get(&id) else { return };
        let worker_id = slot.worker_id();
        let sent =
            slot.worker().into_iter().flat_map(|worker| worker.held.iter()).filter(|held| held.is_sent());
        let meant = sent.filter(|held| is_meant(&self.tasks, held));
        for attempt in meant.map(|held| held.attempt).collect::<Vec<AttemptId>>() {
            self.recall(worker_id, attempt);
        }
        self.review(id);
    }
}

/// The priority of the tasks of attempts, unless those have ended without them.
fn priority_of(tasks: &Tasks, held: &Held) -> Option<i16> {
    held.task.map(|key| tasks.get(key).priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a worker finish as many as it may hold, so often.
    fn quickened(times: u32) -> Pace {
        let mut pace = Pace::new(64, Time::ZERO);
        for _ in 0..times {
            (0..pace.window).for_each(|_| pace.finished(1));
        }
        pace
    }

    #[test]
    fn worker_that_finishes_all_it_holds_may_hold_twice_as_much_up_to_the_most() {
        let windows: Vec<u32> = (0..8).map(|times| quickened(times).window).collect();
        assert_eq!(windows, [1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn worker_gets_no_more_than_it_does_between_two_looks() {
        let mut pace = quickened(5);
        pace.slow_down(Time::ZERO);
        assert_eq!((pace.window, pace.keeps()), (31, 62));
        (0..10).for_each(|_| pace.finished(1));
        pace.slow_down(Time::ZERO);
        assert_eq!((pace.window, pace.keeps()), (10, 20));
        pace.slow_down(Time::ZERO);
        assert_eq!((pace.window, pace.keeps()), (1, 1));
    }

    #[test]
    fn worker_that_is_hurried_holds_few_until_that_is_over() {
        let mut pace = Pace::new(1024, Time::ZERO);
        (0..10).for_each(|_| pace.finished(1024));
        assert_eq!(pace.room(10), 1014);
        pace.hurry(Time::ZERO);
        assert_eq!((pace.room(10), pace.room(64)), (ATTEMPTS_AHEAD_HURRIED - 10, 0));
        pace.slow_down(Time::ZERO);
        assert!(!pace.has_room(64));
        pace.slow_down(Time::ZERO + HURRY);
        pace.window = 1024;
        assert_eq!(pace.room(10), 1014);
    }

    #[test]
    fn worker_of_one_attempt_is_never_ahead() {
        let mut pace = Pace::new(1, Time::ZERO);
        (0..100).for_each(|_| pace.finished(1));
        assert!(!pace.is_ahead() && pace.has_room(0) && !pace.has_room(1));
    }

    #[test]
    fn worker_of_which_nothing_is_heard_is_looked_at_ever_less_often() {
        let mut pace = quickened(0);
        let waits: Vec<_> = (0..7).map(|_| pace.next_look()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16].map(|times| times * LOOK_INTERVAL));
        pace.heard(Time::ZERO);
        assert_eq!(pace.next_look(), LOOK_INTERVAL);
    }
}
