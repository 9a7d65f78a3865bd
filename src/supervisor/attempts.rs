//! Sending tasks to workers, and what workers say of them.
//!
//! An attempt is *sent*, then *started*, then *finished*. Until it is known to have started it can be
//! recalled; once it has, the only way to stop it is to end its worker. Of a worker that attempts are sent ahead
//! to, see [`super::ahead`], it is known at once which of the two it is.

use std::time::Duration;

use super::action::EndReason;
use super::held::{Held, Progress};
use super::pools::{Pool, PoolId};
use super::slots::Slot;
use super::tasks::{Arguments, State, TaskKey};
use super::timers::Timer;
use super::{Action, Notice, Supervisor};
use crate::id::{AttemptId, SlotId, WorkerId};
use crate::message::client::ReplyBody;
use crate::message::status::Phase;
use crate::message::worker::Report;
use crate::task::{Attachment, CancelReason, Limit, Outcome, Payloads};

impl Supervisor {
    /// Sends waiting tasks to workers that have room.
    pub(super) fn dispatch(&mut self) {
        for pool in (0..self.pools.len()).map(PoolId) {
            while let Some(&(load, slot)) = self.pool(pool).open.first() {
                let Some(task) = self.take_next(pool, load, slot) else { break };
                self.send(slot, task);
            }
            self.even_out(pool);
        }
    }

    /// Takes what is next out of a pool's queue, for a worker that holds so much: of a run its share, or, where others
    /// wait for their turns, one task.
    fn take_next(&mut self, pool: PoolId, load: u32, slot: SlotId) -> Option<TaskKey> {
        let turn = self.pool(pool).queue.turn()?;
        let count = self.tasks.get(turn.task).count();
        let share = if turn.is_alone && count > 1 { self.share_of(pool, load, slot) } else { 1 };
        if share >= count {
            self.pools[pool.0].queue.take(&mut self.tasks.in_line, count);
            return Some(turn.task);
        }
        let cut = self.cut(turn.task, share);
        self.pools[pool.0].queue.take_first(cut, share);
        Some(cut.first)
    }

    /// How many tasks a worker that holds so much is sent at once: with what is left the others that have room get as
    /// much to do as it has.
    fn share_of(&self, pool: PoolId, load: u32, slot: SlotId) -> u32 {
        let Pool { open, queue, policy, .. } = self.pool(pool);
        let held: u64 = open.iter().map(|(load, _)| u64::from(*load)).sum();
        let each = (held + queue.len()).div_ceil(open.len() as u64);
        let worker = self.slots.get(&slot).and_then(Slot::worker);
        let room = worker.map_or(1, |worker| worker.room(worker.attempts_left(policy)));
        u32::try_from(each.saturating_sub(load.into())).map_or(room, |share| share.clamp(1, room))
    }

    fn send(&mut self, slot: SlotId, key: TaskKey) {
        let State::Pending { ticket } = self.tasks.get(key).state else { return };
        let Some(slot) = self.slots.get_mut(&slot) else { return };
        let worker_id = slot.worker_id();
        let Some(worker) = slot.worker_mut() else { return };
        let task = self.tasks.get(key);
        let (attempt, count) = (worker.last_attempt.plus(1), task.count());
        worker.last_attempt = worker.last_attempt.plus(count.into());
        worker.held.push(Held { attempt, count, id: task.id, task: Some(key), progress: Progress::Sent });
        let (id, function) = (task.id, task.function.clone());
        self.actions.push_back(match &task.args {
            Arguments::One(args) => {
                let args = args.clone();
                Action::SendAttempt { worker: worker_id, attempt, task: id, function, args }
            }
            Arguments::Many(args) => {
                let args = Payloads::clone(args);
                Action::SendAttempts { worker: worker_id, attempt, task: id, function, args }
            }
        });
        let pool = &mut self.pools[task.pool.0];
        if worker.pace.is_ahead() {
            if worker.held.count() == count {
                worker.pace.becomes_busy(self.now);
            }
            pool.least_urgent_sent = pool.least_urgent_sent.min(task.priority);
            self.keep_watch(worker_id.slot);
            self.look_soon(worker_id);
        } else {
            let at = self.now + pool.policy.start_timeout;
            self.timers.arm(Timer::AttemptStart(worker_id, attempt), at);
        }
        self.tasks.set_state(key, State::Running { worker: worker_id, attempt, ticket });
        self.check_attempts(worker_id.slot);
        self.review(worker_id.slot);
    }

    pub(super) fn attempt_started(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pace.heard(now);
        worker.is_suspect = false;
        let held = worker.held.get(attempt).map(|held| held.progress);
        if !matches!(held, Some(Progress::Sent | Progress::Recalled)) {
            return self
                .worker_broke(worker_id, format!("it started attempt {}, which it was not sent", attempt.0));
        }
        self.single_out_attempt(worker_id, attempt);
        let Some(held) = self.held_mut(worker_id, attempt) else { return };
        held.progress = Progress::Started { at: now };
        let Held { task, id, .. } = *held;
        self.timers.disarm(Timer::AttemptStart(worker_id, attempt));
        self.review(worker_id.slot);
        let Some(key) = task else {
            return self.end_worker(worker_id.slot, EndReason::Cancelled(id));
        };
        self.note(Notice::TaskStarted { task: id, worker: worker_id });
        let task = self.tasks.get_mut(key);
        task.attempts += 1;
        if task.report_start && task.attachment == Attachment::Attached {
            let (submitter, task) = (task.submitter, id);
            self.reply(submitter, ReplyBody::Started { task });
        }
        if let Some(timeout) = self.timeout_of(key) {
            self.timers.arm(Timer::AttemptTimeout(worker_id, attempt), now + timeout);
        }
    }

    /// How long an attempt of a task may take.
    fn timeout_of(&self, key: TaskKey) -> Option<Duration> {
        let task = self.tasks.get(key);
        let of_function = self.policy.function_timeouts.get(&task.function).copied();
        task.timeout().or(of_function).or(self.pool(task.pool).policy.timeout)
    }

    /// Whether it matters when an attempt of a task begins.
    pub(super) fn minds_start(&self, key: TaskKey) -> bool {
        self.tasks.get(key).report_start || self.timeout_of(key).is_some()
    }

    pub(super) fn attempt_finished(&mut self, worker_id: WorkerId, attempt: AttemptId, report: Report) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pace.heard(now);
        worker.is_suspect = false;
        self.single_out_attempt(worker_id, attempt);
        let Some(held) = self.held_mut(worker_id, attempt).copied() else {
            return self.worker_broke(
                worker_id,
                format!("it finished attempt {}, which it does not hold", attempt.0),
            );
        };
        if held.progress == Progress::Overdue {
            return self.note(Notice::LateResultDropped { worker: worker_id, attempt });
        }
        self.forget_attempts(worker_id, attempt, 1);
        self.count_finished(worker_id.slot, 1);
        match held.task {
            Some(key) => {
                let task = self.tasks.get_mut(key);
                if matches!(held.progress, Progress::Sent | Progress::Recalled) {
                    task.attempts += 1;
                }
                self.killers.forget(&task.function);
                let outcome = match report {
                    Report::Ok(result) => Outcome::Ok(result),
                    Report::Failed(failure) => Outcome::Failed(failure),
                };
                self.conclude(key, outcome);
            }
            None => self.note(Notice::LateResultDropped { worker: worker_id, attempt }),
        }
        self.review(worker_id.slot);
    }

    /// Attempts ended well one after the other. Those of a run are its first ones, unless the worker does as it likes.
    pub(super) fn attempts_finished(&mut self, worker: WorkerId, first: AttemptId, mut results: Payloads) {
        let mut attempt = first;
        while results.count() > 0 {
            self.part_attempts(worker, attempt);
            let held = self.held_mut(worker, attempt).copied();
            let (run, count) = match held {
                Some(Held {
                    task: Some(key),
                    count: 2..,
                    progress: Progress::Sent | Progress::Recalled,
                    ..
                }) => (Some(key), held.map_or(1, |held| held.count.min(results.count()))),
                Some(_) | None => (None, 1),
            };
            let ended =
                if count < results.count() { results.split_to(count) } else { std::mem::take(&mut results) };
            match run.filter(|_| count > 1) {
                Some(key) => self.run_finished(worker, attempt, key, ended),
                None => {
                    for result in ended.each() {
                        self.attempt_finished(worker, attempt, Report::Ok(result));
                    }
                }
            }
            attempt = attempt.plus(count.into());
        }
    }

    /// The first attempts of a run ended well, all of it or some.
    fn run_finished(&mut self, worker_id: WorkerId, attempt: AttemptId, key: TaskKey, results: Payloads) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pace.heard(now);
        worker.is_suspect = false;
        self.forget_attempts(worker_id, attempt, results.count());
        self.count_finished(worker_id.slot, results.count());
        self.killers.forget(&self.tasks.get(key).function);
        self.conclude_first(key, results);
        self.review(worker_id.slot);
    }

    pub(super) fn attempts_recalled(&mut self, worker_id: WorkerId, first: AttemptId, count: u32) {
        let (mut attempt, mut left) = (first, count);
        while left > 0 {
            self.part_attempts(worker_id, attempt);
            self.part_attempts(worker_id, attempt.plus(left.into()));
            let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
            let held = worker.held.get(attempt).copied();
            let Some(held) = held.filter(|held| held.progress == Progress::Recalled) else {
                return self.worker_broke(
                    worker_id,
                    format!("it gave attempt {} back, which it was not asked for", attempt.0),
                );
            };
            if worker.pace.is_ahead() {
                worker.taken_back.insert(attempt, held.count);
            }
            self.forget_attempts(worker_id, attempt, held.count);
            if let Some(key) = held.task {
                self.take_back(key);
            }
            attempt = attempt.plus(held.count.into());
            left -= held.count;
        }
        let worker = self.slot_of(worker_id).and_then(Slot::worker_mut);
        if worker.is_some_and(|worker| worker.is_suspect) {
            self.end_worker(worker_id.slot, EndReason::Unresponsive);
        }
        self.review(worker_id.slot);
    }

    pub(super) fn attempts_passed_over(&mut self, worker_id: WorkerId, attempt: AttemptId, count: u32) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        if !worker.taken_back.remove(attempt, count) {
            return self.worker_broke(
                worker_id,
                format!("it passed over what was not taken back: {count} attempts from {} on", attempt.0),
            );
        }
        worker.pace.heard(now);
        worker.is_suspect = false;
        self.review(worker_id.slot);
    }

    /// Tasks whose attempts had not started wait again where they stood, unless the daemon stops.
    pub(super) fn take_back(&mut self, key: TaskKey) {
        let State::Running { ticket, .. } = self.tasks.get(key).state else { return };
        match self.phase {
            Phase::Serving | Phase::Draining => self.stand_back_in_line(key, ticket),
            Phase::ShuttingDown | Phase::Stopped => {
                for key in self.take_apart(key) {
                    self.conclude(key, Outcome::Cancelled(CancelReason::Shutdown));
                }
            }
        }
    }

    /// An attempt was neither started nor given back: first it is asked for, then its worker is killed.
    pub(super) fn attempt_not_started(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        match self.held_mut(worker_id, attempt).map(|held| held.progress) {
            Some(Progress::Sent) => self.recall(worker_id, attempt),
            Some(Progress::Recalled) => self.end_worker(worker_id.slot, EndReason::Unresponsive),
            Some(Progress::Started { .. } | Progress::Overdue) | None => {}
        }
    }

    /// Asks for an attempt back that is not known to have started; for all of a run, if it is the first of one.
    pub(super) fn recall(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        let Some(worker) = slot.worker_mut() else { return };
        let is_known_at_once = worker.pace.is_ahead();
        let Some(held) = worker.held.get_mut(attempt) else { return };
        held.progress = Progress::Recalled;
        let count = held.count;
        if !is_known_at_once {
            let grace = self.pool(pool).policy.grace;
            self.timers.arm(Timer::AttemptStart(worker_id, attempt), self.now + grace);
        }
        self.actions.push_back(Action::RecallAttempts { worker: worker_id, attempt, count });
    }

    /// An attempt ran too long.
    pub(super) fn attempt_timed_out(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let held = self.held_mut(worker_id, attempt).copied();
        let Some(Held { task: Some(key), id, .. }) = held else { return };
        let outcome = Outcome::TimedOut(Limit::Timeout);
        match self.use_retry(key, &outcome) {
            Some(wait) => {
                self.retry_once_reaped(key, worker_id, attempt, wait);
                self.end_worker(worker_id.slot, EndReason::TimedOut(id));
            }
            None => {
                self.withdraw(key, EndReason::TimedOut(id));
                self.conclude(key, outcome);
            }
        }
    }

    /// A task has not ended in the time it was given.
    pub(super) fn deadline_passed(&mut self, key: TaskKey) {
        let id = self.tasks.get(key).id;
        self.withdraw(key, EndReason::TimedOut(id));
        self.conclude(key, Outcome::TimedOut(Limit::Deadline));
    }

    /// What an attempt is among those that its worker holds.
    pub(super) fn held_mut(&mut self, worker: WorkerId, attempt: AttemptId) -> Option<&mut Held> {
        self.slot_of(worker)?.worker_mut()?.held.get_mut(attempt)
    }

    /// Strikes attempts from those their worker holds: one, or the first ones of a run.
    fn forget_attempts(&mut self, worker_id: WorkerId, attempt: AttemptId, count: u32) {
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.held.forget(attempt, count);
        if !worker.pace.is_ahead() {
            self.timers.disarm(Timer::AttemptStart(worker_id, attempt));
        } else if worker.must_pass_over() {
            self.keep_watch(worker_id.slot);
        } else if !worker.held.is_empty() {
            self.look_soon(worker_id);
        }
        self.timers.disarm(Timer::AttemptTimeout(worker_id, attempt));
    }
}
