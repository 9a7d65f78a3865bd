//! How tasks end: each once, and in one place.
//!
//! [`Supervisor::withdraw`] takes a task that is not done out of wherever it is; [`Supervisor::conclude`]
//! gives a task that is nowhere any more its outcome and tells everyone who waits for it.

use std::time::Duration;

use super::accounts::Sum;
use super::action::EndReason;
use super::held::Progress;
use super::restart::backoff;
use super::tasks::{Extras, State, Task, TaskKey, Tasks, Watcher};
use super::timers::Timer;
use super::{Notice, Supervisor};
use crate::id::{AttemptId, Uid, WorkerId};
use crate::message::client::ReplyBody;
use crate::message::status::Phase;
use crate::task::{Attachment, Exit, Outcome, OutcomeKind, Payloads};
use crate::time::Time;

impl Supervisor {
    /// Takes a task that is not done out of its delay, its queue or its worker. An attempt that has
    /// started is stopped by ending its worker, for `reason`.
    pub(super) fn withdraw(&mut self, key: TaskKey, reason: EndReason) {
        let task = self.tasks.get(key);
        match task.state {
            State::Delayed => self.timers.disarm(Timer::TaskDelay(key)),
            State::Pending { ticket } => {
                let (pool, place) = (task.pool, task.place(ticket));
                self.pools[pool.0].queue.remove(&mut self.tasks.in_line, place, key, 1);
            }
            State::Reaping { worker, attempt, .. } | State::Running { worker, attempt, .. } => {
                self.abandon(worker, attempt, reason);
            }
            State::Done { .. } => unreachable!("a task that is done is not withdrawn"),
        }
    }

    /// Nobody waits for an attempt any more.
    fn abandon(&mut self, worker_id: WorkerId, attempt: AttemptId, reason: EndReason) {
        let Some(held) = self.held_mut(worker_id, attempt) else { return };
        held.task = None;
        match held.progress {
            Progress::Sent => self.recall(worker_id, attempt),
            Progress::Started { .. } => {
                self.timers.disarm(Timer::AttemptTimeout(worker_id, attempt));
                self.end_worker(worker_id.slot, reason);
            }
            Progress::Recalled | Progress::Overdue => {}
        }
    }

    /// Gives a task its outcome. It is in no queue and held by no worker.
    pub(super) fn conclude(&mut self, key: TaskKey, outcome: Outcome) {
        self.outcomes[outcome.kind() as usize] += 1;
        let task = self.tasks.get_mut(key);
        let Task { id, submitter, pool, attachment, .. } = *task;
        let extras = task.extras.take().map(|extras| *extras);
        let Extras { has_deadline, speaker, watchers, .. } = extras.unwrap_or_default();
        if has_deadline {
            self.timers.disarm(Timer::TaskDeadline(key));
        }
        self.pool_mut(pool).unfinished -= 1;
        for watcher in &watchers {
            if let Some(client) = self.clients.get_mut(&watcher.client) {
                client.watched.remove(&key);
                client.watches -= 1;
            }
            self.reply(*watcher, ReplyBody::Done { task: id, outcome: outcome.clone() });
        }
        self.note_of_task(|_| Notice::TaskDone { task: id, outcome: outcome.clone() });
        match attachment {
            Attachment::Attached => {
                self.tell_submitter(submitter, key, ReplyBody::Done { task: id, outcome });
                self.tasks.remove(key);
            }
            Attachment::Detached => self.keep(key, outcome),
        }
        self.silence(speaker);
    }

    /// Gives the first tasks of a run, all of them or some, the results that their attempts had. They are in no queue and
    /// held by no worker any more.
    pub(super) fn conclude_first(&mut self, key: TaskKey, results: Payloads) {
        let count = results.count();
        self.outcomes[OutcomeKind::Ok as usize] += u64::from(count);
        let task = self.tasks.get(key);
        let Task { id, submitter, pool, .. } = *task;
        let is_all = count == task.count();
        self.pool_mut(pool).unfinished -= u64::from(count);
        if self.tells_of_tasks {
            for (place, result) in (0..).zip(results.each()) {
                self.note(Notice::TaskDone { task: id.plus(place), outcome: Outcome::Ok(result) });
            }
        }
        let body = ReplyBody::AllDone { first: id, results };
        if is_all {
            self.tell_submitter(submitter, key, body);
            self.tasks.remove(key);
        } else {
            self.tasks.remove_first(key, count);
            self.reply(submitter, body);
        }
    }

    fn tell_submitter(&mut self, submitter: Watcher, key: TaskKey, body: ReplyBody) {
        if let Some(client) = self.clients.get_mut(&submitter.client) {
            client.attached.remove(&mut self.tasks.attached, key);
            self.reply(submitter, body);
        }
    }

    fn keep(&mut self, key: TaskKey, outcome: Outcome) {
        let (number, user) = (self.tasks.get(key).id.number, self.tasks.get(key).user);
        self.tasks.set_state(key, State::Done { outcome: Box::new(outcome) });
        self.kept.insert((self.now, number));
        self.kept_by_user.insert((user, self.now, number));
        self.expire_results_of(user);
        self.expire_results();
    }

    /// Gives up the oldest results, as far as age, count and bytes ask for it.
    pub(super) fn expire_results(&mut self) {
        while let Some(&(at, number)) = self.kept.first() {
            let Sum { counts, descriptors } = self.tasks.sum();
            let too_many = counts.kept > self.policy.results_max;
            let too_large = counts.result_bytes > self.policy.result_bytes_max
                || descriptors.results > self.policy.descriptors.results_max;
            let expires = at + self.policy.result_age_max;
            if !too_many && !too_large && expires > self.now {
                self.timers.arm(Timer::ResultExpiry, expires);
                return;
            }
            self.give_up_result(at, number);
        }
        self.timers.disarm(Timer::ResultExpiry);
    }

    /// Gives up the oldest results of a user who has more than one may have.
    pub(super) fn expire_results_of(&mut self, user: Uid) {
        if self.policy.is_privileged(user) {
            return;
        }
        let (kept_max, bytes_max) = (self.policy.user_results_max, self.policy.user_result_bytes_max);
        let descriptors_max = self.policy.descriptors.user_results_max;
        let has_too_much = |tasks: &Tasks| {
            let Sum { counts, descriptors } = tasks.sum_of(user);
            counts.kept > kept_max || counts.result_bytes > bytes_max || descriptors.results > descriptors_max
        };
        while has_too_much(&self.tasks) {
            let oldest = self.kept_by_user.range((user, Time::ZERO, 0)..).next().copied();
            let Some((_, at, number)) = oldest.filter(|(owner, ..)| *owner == user) else { return };
            self.give_up_result(at, number);
        }
    }

    fn give_up_result(&mut self, kept_since: Time, number: u64) {
        self.kept.remove(&(kept_since, number));
        if let Some(key) = self.tasks.key(number) {
            let task = self.tasks.remove(key);
            self.kept_by_user.remove(&(task.user, kept_since, number));
            self.note(Notice::ResultExpired { task: task.id });
        }
    }

    /// The attempt of a task had started when its worker died.
    pub(super) fn crashed(&mut self, key: TaskKey, exit: Exit) {
        let outcome = Outcome::Crashed(exit);
        match self.use_retry(key, &outcome) {
            Some(wait) => {
                self.tasks.set_state(key, State::Delayed);
                self.timers.arm(Timer::TaskDelay(key), self.now + wait);
            }
            None => self.conclude(key, outcome),
        }
    }

    /// Takes one of a task's retries, if it has any left; says how long to wait.
    pub(super) fn use_retry(&mut self, key: TaskKey, outcome: &Outcome) -> Option<Duration> {
        let goes_on = match self.phase {
            Phase::Serving | Phase::Draining => true,
            Phase::ShuttingDown | Phase::Stopped => false,
        };
        let task = self.tasks.get_mut(key);
        let extras = task.extras.as_mut().filter(|extras| goes_on && extras.retries < extras.retries_max)?;
        extras.retries += 1;
        let speaker = extras.speaker.take();
        let wait = backoff(&self.policy.restart, extras.retries, &mut self.random);
        let notice = Notice::TaskRetried {
            task: task.id,
            outcome: outcome.clone(),
            wait,
            retries: extras.retries_max - extras.retries,
        };
        self.note(notice);
        self.silence(speaker);
        Some(wait)
    }

    /// The next attempt of a task waits for `wait`, and until the worker of this one is gone.
    pub(super) fn retry_once_reaped(
        &mut self,
        key: TaskKey,
        worker: WorkerId,
        attempt: AttemptId,
        wait: Duration,
    ) {
        if let Some(held) = self.held_mut(worker, attempt) {
            held.progress = Progress::Overdue;
        }
        self.tasks.set_state(key, State::Reaping { worker, attempt, not_before: self.now + wait });
    }

    /// The worker of a timed-out attempt is gone: its task waits out the rest of its backoff.
    pub(super) fn reaped(&mut self, key: TaskKey) {
        if let State::Reaping { not_before, .. } = self.tasks.get(key).state {
            self.tasks.set_state(key, State::Delayed);
            self.timers.arm(Timer::TaskDelay(key), not_before.max(self.now));
        }
    }
}
