//! Sending tasks to workers, and what workers say of them.
//!
//! An attempt is *sent*, then *started*, then *finished*. Until it is known to have started it can be
//! recalled; once it has, the only way to stop it is to end its worker. Of a worker that attempts are sent ahead
//! to, see [`super::ahead`], it is known at once which of the two it is.

use super::action::EndReason;
use super::pools::PoolId;
use super::slots::{Held, Progress, Slot};
use super::tasks::{State, TaskKey};
use super::timers::Timer;
use super::{Action, Notice, Supervisor};
use crate::id::{AttemptId, SlotId, WorkerId};
use crate::message::client::ReplyBody;
use crate::message::status::Phase;
use crate::message::worker::Report;
use crate::task::{Attachment, CancelReason, Limit, Outcome};

impl Supervisor {
    /// Sends waiting tasks to workers that have room.
    pub(super) fn dispatch(&mut self) {
        for pool in 0..self.pools.len() {
            while let Some(&(_, slot)) = self.pools[pool].open.first() {
                let Some(task) = self.pools[pool].queue.pop(&mut self.tasks.in_line) else { break };
                self.send(slot, task);
            }
            self.even_out(PoolId(pool));
        }
    }

    fn send(&mut self, slot: SlotId, key: TaskKey) {
        let State::Pending { ticket } = self.tasks.get(key).state else { return };
        let Some(slot) = self.slots.get_mut(&slot) else { return };
        let worker_id = slot.worker_id();
        let Some(worker) = slot.worker_mut() else { return };
        worker.last_attempt = AttemptId(worker.last_attempt.0 + 1);
        let attempt = worker.last_attempt;
        let task = self.tasks.get(key);
        worker.held.push_back(Held { attempt, id: task.id, task: Some(key), progress: Progress::Sent });
        let send = Action::SendAttempt {
            worker: worker_id,
            attempt,
            task: task.id,
            function: task.function.clone(),
            args: task.args.clone(),
        };
        self.actions.push_back(send);
        let pool = &mut self.pools[task.pool.0];
        if worker.pace.is_ahead() {
            if worker.held.len() == 1 {
                worker.pace.becomes_busy(self.now);
            }
            pool.least_urgent_sent = pool.least_urgent_sent.min(task.priority);
            self.keep_watch(worker_id.slot);
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
        let held = worker.held_mut(attempt);
        let Some(held) = held.filter(|held| matches!(held.progress, Progress::Sent | Progress::Recalled))
        else {
            return self
                .worker_broke(worker_id, format!("it started attempt {}, which it was not sent", attempt.0));
        };
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
        let task = self.tasks.get(key);
        let of_function = self.policy.function_timeouts.get(&task.function).copied();
        let timeout = task.timeout().or(of_function).or(self.pools[task.pool.0].policy.timeout);
        if let Some(timeout) = timeout {
            self.timers.arm(Timer::AttemptTimeout(worker_id, attempt), now + timeout);
        }
    }

    pub(super) fn attempt_finished(&mut self, worker_id: WorkerId, attempt: AttemptId, report: Report) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pace.heard(now);
        worker.is_suspect = false;
        let Some(held) = worker.held_mut(attempt).copied() else {
            return self.worker_broke(
                worker_id,
                format!("it finished attempt {}, which it does not hold", attempt.0),
            );
        };
        if held.progress == Progress::Overdue {
            return self.note(Notice::LateResultDropped { worker: worker_id, attempt });
        }
        worker.pace.finished();
        self.forget_attempt(worker_id, attempt);
        self.count_finished(worker_id.slot);
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

    pub(super) fn attempt_recalled(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        let held = worker.held_mut(attempt).copied();
        let Some(held) = held.filter(|held| held.progress == Progress::Recalled) else {
            return self.worker_broke(
                worker_id,
                format!("it gave attempt {} back, which it was not asked for", attempt.0),
            );
        };
        if worker.pace.is_ahead() {
            worker.taken_back.insert(attempt);
        }
        let is_suspect = worker.is_suspect;
        self.forget_attempt(worker_id, attempt);
        if let Some(key) = held.task {
            self.take_back(key);
        }
        if is_suspect {
            self.end_worker(worker_id.slot, EndReason::Unresponsive);
        }
        self.review(worker_id.slot);
    }

    pub(super) fn attempt_passed_over(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let now = self.now;
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        if !worker.taken_back.remove(&attempt) {
            return self.worker_broke(
                worker_id,
                format!("it passed attempt {} over, which was not taken back", attempt.0),
            );
        }
        worker.pace.heard(now);
        worker.is_suspect = false;
        self.review(worker_id.slot);
    }

    /// A task whose attempt had not started waits again where it stood, unless the daemon stops.
    pub(super) fn take_back(&mut self, key: TaskKey) {
        let State::Running { ticket, .. } = self.tasks.get(key).state else { return };
        match self.phase {
            Phase::Serving | Phase::Draining => self.stand_back_in_line(key, ticket),
            Phase::ShuttingDown | Phase::Stopped => {
                self.conclude(key, Outcome::Cancelled(CancelReason::Shutdown));
            }
        }
    }

    /// An attempt was neither started nor given back: first it is asked for, then its worker is killed.
    pub(super) fn attempt_not_started(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let held = slot.worker().and_then(|worker| worker.held.iter().find(|held| held.attempt == attempt));
        match held.map(|held| held.progress) {
            Some(Progress::Sent) => self.recall(worker_id, attempt),
            Some(Progress::Recalled) => self.end_worker(worker_id.slot, EndReason::Unresponsive),
            Some(Progress::Started { .. } | Progress::Overdue) | None => {}
        }
    }

    /// Asks for an attempt back that is not known to have started.
    pub(super) fn recall(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        let Some(worker) = slot.worker_mut() else { return };
        let is_known_at_once = worker.pace.is_ahead();
        let Some(held) = worker.held_mut(attempt) else { return };
        held.progress = Progress::Recalled;
        if !is_known_at_once {
            let grace = self.pool(pool).policy.grace;
            self.timers.arm(Timer::AttemptStart(worker_id, attempt), self.now + grace);
        }
        self.actions.push_back(Action::RecallAttempt { worker: worker_id, attempt });
    }

    /// An attempt ran too long.
    pub(super) fn attempt_timed_out(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let held = slot.worker_mut().and_then(|worker| worker.held_mut(attempt));
        let Some(Held { task: Some(key), id, .. }) = held.copied() else { return };
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

    /// Strikes an attempt from those its worker holds.
    fn forget_attempt(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.forget(attempt);
        if !worker.pace.is_ahead() {
            self.timers.disarm(Timer::AttemptStart(worker_id, attempt));
        } else if worker.must_pass_over() {
            self.keep_watch(worker_id.slot);
        }
        self.timers.disarm(Timer::AttemptTimeout(worker_id, attempt));
    }
}
