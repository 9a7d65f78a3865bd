//! Starting and ending worker processes.
//!
//! | in the slot \ event | spawned | ready | hung up, broke | exited | told to end | grace over |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | nobody | – | – | – | – | – | – |
//! | starting | has a pid | ready | ending | failed | ending | – |
//! | ready | – | ending (broke) | ending | died or failed | ending | – |
//! | ending | killed | – | – | as told | – | killed |
//!
//! A worker that dies under an attempt, or as it was told, is replaced at once; one that *failed* (see
//! [`super::restart`]) after a backoff. One that has to end for the sake of one attempt and may finish others
//! first keeps its slot for that time, and its successor gets another.

use std::collections::BTreeSet;

use super::action::{EndReason, Signal};
use super::ahead::Pace;
use super::held::{Held, Progress};
use super::pools::PoolId;
use super::restart::{backoff, jittered};
use super::slots::{Occupant, Role, Slot, Stage, Worker};
use super::timers::Timer;
use super::{Action, Notice, Supervisor};
use crate::id::{AttemptId, Generation, Pid, SlotId, WorkerId};
use crate::limits::{EARLY_DEATH, RECYCLING_JITTER};
use crate::message::status::{FunctionInfo, Phase};
use crate::task::Exit;

/// How a slot lost its worker.
enum Vacancy {
    /// In the course of things: it is filled at once.
    Regular,
    /// In place of a worker that died: it is filled at once.
    Death,
    /// Its worker failed, for this reason.
    Failure(String),
}

impl Supervisor {
    /// Adds a slot to a pool and starts a worker in it.
    pub(super) fn add_slot(&mut self, pool: PoolId) -> SlotId {
        let id = self.next_slot;
        self.next_slot = SlotId(id.0 + 1);
        let slot = Slot {
            id,
            pool,
            generation: Generation(0),
            occupant: Occupant::Nobody,
            role: Role::Reserve,
            opening: None,
            retired: false,
            failures: 0,
            attempts: 0,
            restarts: 0,
        };
        self.slots.insert(id, slot);
        self.pool_mut(pool).slots.insert(id);
        self.start_worker(id);
        id
    }

    /// Whether workers that are lost are replaced.
    pub(super) fn keeps_workers(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::Draining => true,
            Phase::ShuttingDown | Phase::Stopped => false,
        }
    }

    fn start_worker(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let policy = &self.pools[slot.pool.0].policy;
        let lasts = 1.0 - RECYCLING_JITTER * self.random.f64();
        slot.occupant = Occupant::Worker(Worker::starting(policy.revision, lasts));
        let worker = slot.worker_id();
        self.timers.disarm(Timer::SlotRestart(id));
        self.timers.arm(Timer::WorkerStart(worker), self.now + policy.start_timeout);
        self.actions.push_back(Action::SpawnWorker { worker, pool: policy.name.clone() });
    }

    /// Starts a worker in place of one that died.
    pub(super) fn restart(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.restarts += 1;
        self.pools[slot.pool.0].restarts += 1;
        self.start_worker(id);
    }

    pub(super) fn worker_spawned(&mut self, worker_id: WorkerId, pid: Pid) {
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        worker.pid = Some(pid);
        if let Stage::Ending { reason, told, .. } = &mut worker.stage {
            *told = true;
            let reason = *reason;
            self.signal(worker_id, Signal::Kill, reason);
        }
    }

    pub(super) fn spawn_failed(&mut self, worker_id: WorkerId, message: String) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        slot.occupant = Occupant::Nobody;
        self.disarm_worker(worker_id);
        let pool = self.pool(pool).policy.name.clone();
        self.note(Notice::WorkerFailed { worker: worker_id, pool, message: message.clone() });
        self.vacated(worker_id.slot, Vacancy::Failure(message));
    }

    pub(super) fn worker_ready(
        &mut self,
        worker_id: WorkerId,
        functions: Vec<FunctionInfo>,
        capacity: u32,
        ahead: u32,
    ) {
        let since = self.now;
        let Some(slot) = self.slot_of(worker_id) else { return };
        let (pool_id, failed_before) = (slot.pool, slot.failures > 0);
        let Some(worker) = slot.worker_mut() else { return };
        match worker.stage {
            Stage::Starting => {
                worker.stage = Stage::Ready { capacity: capacity.max(1), since };
                worker.pace = Pace::new(if ahead > capacity { ahead } else { 1 }, since);
            }
            Stage::Ready { .. } => {
                return self.worker_broke(worker_id, "it said twice that it is ready".to_owned());
            }
            Stage::Ending { .. } => return,
        }
        let pid = worker.pid;
        self.timers.disarm(Timer::WorkerStart(worker_id));
        self.timers.disarm(Timer::WorkerGrace(worker_id));
        if failed_before {
            self.timers.arm(Timer::WorkerSettled(worker_id), since + EARLY_DEATH);
        }
        let pool = self.pool_mut(pool_id);
        pool.functions = Some(functions.into_iter().map(|info| (info.name.clone(), info)).collect());
        let name = pool.policy.name.clone();
        if let Some(pid) = pid {
            self.note(Notice::WorkerReady { worker: worker_id, pool: name, pid });
        }
        self.limit_lifetime(worker_id.slot);
        self.place_waiting();
        self.review(worker_id.slot);
        self.deal_roles(pool_id);
    }

    /// A worker gives up before it is ready. It exits by itself, or is killed after the grace.
    pub(super) fn worker_not_ready(&mut self, worker_id: WorkerId, message: String) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        let Some(worker) = slot.worker_mut().filter(|worker| worker.stage == Stage::Starting) else { return };
        worker.complaint = Some(message.clone());
        let policy = &self.pool(pool).policy;
        let (grace, pool) = (policy.grace, policy.name.clone());
        self.timers.arm(Timer::WorkerStart(worker_id), self.now + grace);
        self.note(Notice::WorkerFailed { worker: worker_id, pool, message });
    }

    /// A worker can no longer be talked to.
    pub(super) fn worker_broke(&mut self, worker_id: WorkerId, reason: String) {
        let Some(slot) = self.slot_of(worker_id) else { return };
        let pool = slot.pool;
        let Some(worker) = slot.worker_mut() else { return };
        if worker.is_broken {
            return;
        }
        worker.is_broken = true;
        worker.complaint.get_or_insert_with(|| reason.clone());
        let pool = self.pool(pool).policy.name.clone();
        self.note(Notice::WorkerBroke { worker: worker_id, pool, reason });
        self.end_worker(worker_id.slot, EndReason::Broke);
    }

    /// A worker's socket ended: unless its process follows within the grace, it is killed.
    pub(super) fn worker_hung_up(&mut self, worker_id: WorkerId) {
        if self.slot_of(worker_id).is_some() {
            self.end_worker(worker_id.slot, EndReason::HungUp);
        }
    }

    /// Counts attempts that a worker finished: it works.
    pub(super) fn count_finished(&mut self, id: SlotId, count: u32) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.attempts += u64::from(count);
        if let Some(worker) = slot.worker_mut() {
            worker.finished += u64::from(count);
            worker.pace.finished(count);
        }
        if slot.failures > 0 {
            self.worker_settled(id);
        }
    }

    /// A worker whose predecessors failed has lasted: the others of its pool need not wait longer.
    pub(super) fn worker_settled(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.failures = 0;
        self.timers.disarm(Timer::WorkerSettled(slot.worker_id()));
        let pool = slot.pool;
        self.forget_failures(pool);
        let siblings: Vec<SlotId> = self.pool(pool).slots.iter().copied().collect();
        for sibling in siblings {
            if self.slots.get(&sibling).is_some_and(|slot| slot.worker().is_none()) {
                self.restart(sibling);
            }
        }
    }

    /// A pool none of whose slots is failing any more is well.
    fn forget_failures(&mut self, id: PoolId) {
        let failing = |id: &SlotId| self.slots.get(id).is_some_and(|slot| slot.failures > 0);
        let pool = &mut self.pools[id.0];
        if pool.slots.iter().any(failing) {
            return;
        }
        pool.last_failure = None;
        if pool.failures.heal() {
            let pool = pool.policy.name.clone();
            self.note(Notice::PoolRecovered { pool });
        }
    }

    /// Tells a worker to end. Attempts that it has not started are asked for back; those that it has
    /// started and somebody waits for may end within the grace.
    pub(super) fn end_worker(&mut self, id: SlotId, reason: EndReason) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (worker_id, pool_id) = (slot.worker_id(), slot.pool);
        let Some(worker) = slot.worker_mut() else { return };
        let ready_since = match worker.stage {
            Stage::Starting => None,
            Stage::Ready { since, .. } => Some(since),
            Stage::Ending { .. } => return,
        };
        worker.stage = Stage::Ending { reason, ready_since, told: false };
        let sent = worker.held.iter().filter(|held| held.is_sent());
        let sent: Vec<AttemptId> = sent.map(|held| held.attempt).collect();
        let pool = &mut self.pools[pool_id.0];
        pool.list(slot, None);
        let grace = pool.policy.grace;
        self.timers.disarm(Timer::WorkerStart(worker_id));
        self.timers.disarm(Timer::WorkerSettled(worker_id));
        self.timers.disarm(Timer::WorkerLifetime(worker_id));
        self.timers.arm(Timer::WorkerGrace(worker_id), self.now + grace);
        for attempt in sent {
            self.recall(worker_id, attempt);
        }
        self.deal_roles(pool_id);
        if matches!(reason, EndReason::Cancelled(_) | EndReason::TimedOut(_)) && self.succeed(id) {
            self.pools[pool_id.0].restarts += 1;
        }
        self.review(id);
    }

    /// Starts the successor of a worker that is to end, in a slot of its own, if attempts that it has
    /// started and somebody waits for may go on: their pool need not stand still so long. No more workers
    /// are on their way out like this than the pool should have. Says whether it did.
    pub(super) fn succeed(&mut self, id: SlotId) -> bool {
        let Some(slot) = self.slots.get(&id) else { return false };
        let (pool_id, pool, failures) = (slot.pool, self.pool(slot.pool), slot.failures);
        let goes_on = |held: &Held| match held.progress {
            Progress::Sent | Progress::Started { .. } => held.task.is_some(),
            Progress::Recalled | Progress::Overdue => false,
        };
        let lingers = slot.worker().is_some_and(|worker| worker.held.iter().any(goes_on));
        let is_leaving = |id: &&SlotId| self.slots.get(id).is_some_and(|slot| slot.retired);
        let leaving = pool.slots.iter().filter(is_leaving).count();
        let is_in_service = slot.role == Role::Service && !slot.retired;
        let has_room = leaving < pool.policy.workers as usize;
        let succeeds = lingers && is_in_service && has_room && self.keeps_workers();
        if succeeds {
            self.slots.entry(id).and_modify(|slot| slot.retired = true);
            let successor = self.add_slot(pool_id);
            self.slots.entry(successor).and_modify(|slot| slot.failures = failures);
            self.deal_roles(pool_id);
        }
        succeeds
    }

    /// Looks again at a worker whose attempts have changed: what it can take, and whether it can go.
    pub(super) fn review(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (role, retired) = (slot.role, slot.retired);
        let pool = &mut self.pools[slot.pool.0];
        let Some(worker) = slot.worker() else { return };
        let is_outdated = retired || worker.revision != pool.policy.revision;
        let leaves_for = match worker.wear {
            Some(_) => Some(EndReason::Worn),
            None => is_outdated.then_some(EndReason::Replaced),
        };
        let load = worker.load().filter(|_| role == Role::Service && leaves_for.is_none());
        let (stage, is_empty) = (worker.stage, worker.held.is_empty());
        if worker.keeps_waiting() {
            pool.waiting_in.insert(id);
        } else {
            pool.waiting_in.remove(&id);
        }
        pool.list(slot, load);
        match (stage, leaves_for) {
            (Stage::Ready { .. }, Some(reason)) if is_empty => self.end_worker(id, reason),
            (Stage::Ready { .. } | Stage::Starting, _) => {}
            (Stage::Ending { .. }, _) => self.tell_to_end(id),
        }
    }

    /// Tells a worker that is to end to do so, unless it was told or still has attempts to finish.
    fn tell_to_end(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let worker_id = slot.worker_id();
        let Some(worker) = slot.worker_mut() else { return };
        let Stage::Ending { reason, ready_since, told } = &mut worker.stage else { return };
        let waits = !reason.is_urgent() && worker.held.iter().any(Held::is_needed);
        if *told || waits || worker.pid.is_none() {
            return;
        }
        *told = true;
        let reason = *reason;
        match reason {
            EndReason::Worn | EndReason::Replaced | EndReason::Shutdown if ready_since.is_some() => {
                self.actions.push_back(Action::StopWorker { worker: worker_id });
            }
            EndReason::HungUp => {}
            EndReason::Unresponsive => self.signal(worker_id, Signal::Kill, reason),
            EndReason::Worn
            | EndReason::Replaced
            | EndReason::Shutdown
            | EndReason::Cancelled(_)
            | EndReason::TimedOut(_)
            | EndReason::NotReadyInTime
            | EndReason::Broke => self.signal(worker_id, Signal::Terminate, reason),
        }
    }

    pub(super) fn grace_over(&mut self, worker_id: WorkerId) {
        let Some(worker) = self.slot_of(worker_id).and_then(Slot::worker_mut) else { return };
        if let (Stage::Ending { reason, told, .. }, Some(_)) = (&mut worker.stage, worker.pid) {
            *told = true;
            let reason = *reason;
            self.signal(worker_id, Signal::Kill, reason);
        }
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal, reason: EndReason) {
        self.actions.push_back(Action::SignalWorker { worker, signal });
        self.note(Notice::WorkerSignalled { worker, signal, reason });
    }

    pub(super) fn worker_exited(&mut self, worker_id: WorkerId, exit: Exit) {
        if self.slot_of(worker_id).is_none() {
            return;
        }
        let Some(slot) = self.slots.get_mut(&worker_id.slot) else { return };
        let pool = slot.pool;
        let Occupant::Worker(worker) = std::mem::replace(&mut slot.occupant, Occupant::Nobody) else {
            return;
        };
        self.pools[pool.0].list(slot, None);
        self.pools[pool.0].waiting_in.remove(&worker_id.slot);
        self.forget_look(&worker, worker_id);
        self.disarm_worker(worker_id);

        let mut crashed = Vec::new();
        let mut killers = BTreeSet::new();
        for held in worker.held.iter() {
            self.timers.disarm(Timer::AttemptStart(worker_id, held.attempt));
            self.timers.disarm(Timer::AttemptTimeout(worker_id, held.attempt));
            let Some(key) = held.task else { continue };
            match held.progress {
                Progress::Sent | Progress::Recalled => self.take_back(key),
                Progress::Started { .. } => {
                    crashed.push(held.id);
                    killers.insert(self.tasks.get(key).function.clone());
                    self.crashed(key, exit);
                }
                Progress::Overdue => self.reaped(key),
            }
        }
        self.count_killed(&worker, killers);
        let vacancy = self.judge(&worker, exit, !crashed.is_empty());
        let expected = matches!(vacancy, Vacancy::Regular)
            || matches!(
                worker.stage,
                Stage::Ending { reason: EndReason::Cancelled(_) | EndReason::TimedOut(_), .. }
            );
        let pool = self.pool(pool).policy.name.clone();
        self.note(Notice::WorkerExited { worker: worker_id, pool, pid: worker.pid, exit, crashed, expected });
        self.vacated(worker_id.slot, vacancy);
    }

    /// Whether a worker that is gone went as it should, died, or failed.
    fn judge(&self, worker: &Worker, exit: Exit, took_attempts: bool) -> Vacancy {
        let failed_since =
            |since| !took_attempts && worker.finished == 0 && self.now.since(since) < EARLY_DEATH;
        let failed = match worker.stage {
            Stage::Starting => true,
            Stage::Ready { since, .. } => failed_since(since),
            Stage::Ending { reason, ready_since, .. } => match reason {
                EndReason::Worn | EndReason::Replaced | EndReason::Shutdown => return Vacancy::Regular,
                EndReason::Cancelled(_) | EndReason::TimedOut(_) => false,
                EndReason::NotReadyInTime
                | EndReason::HungUp
                | EndReason::Broke
                | EndReason::Unresponsive => ready_since.is_none_or(failed_since),
            },
        };
        if !failed {
            return Vacancy::Death;
        }
        Vacancy::Failure(match (&worker.complaint, worker.stage) {
            (Some(complaint), _) => complaint.clone(),
            (None, Stage::Ending { reason: EndReason::NotReadyInTime, .. }) => {
                "it was not ready in time".to_owned()
            }
            (None, Stage::Starting | Stage::Ending { ready_since: None, .. }) => {
                format!("it died before it was ready: {exit}")
            }
            (None, Stage::Ready { .. } | Stage::Ending { .. }) => {
                format!("it died as soon as it was ready: {exit}")
            }
        })
    }

    /// Fills a slot whose worker is gone, if it is still wanted: at once, or after a backoff.
    fn vacated(&mut self, id: SlotId, vacancy: Vacancy) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.generation = Generation(slot.generation.0 + 1);
        let pool_id = slot.pool;
        let retired = slot.retired;
        if retired || !self.keeps_workers() {
            return self.remove_slot(id);
        }
        self.deal_roles(pool_id);
        match vacancy {
            Vacancy::Regular => self.start_worker(id),
            Vacancy::Death => self.restart(id),
            Vacancy::Failure(cause) => {
                let Some(slot) = self.slots.get_mut(&id) else { return };
                slot.failures += 1;
                let failures = slot.failures;
                let pool = &mut self.pools[pool_id.0];
                let name = pool.policy.name.clone();
                let became_degraded = pool.failures.record(self.now, &self.policy.restart);
                let wait = match pool.failures.are_too_many() {
                    true => jittered(self.policy.restart.backoff_max, &mut self.random),
                    false => backoff(&self.policy.restart, failures, &mut self.random),
                };
                pool.last_failure = Some(cause.clone());
                if became_degraded {
                    self.note(Notice::PoolDegraded { pool: name.clone(), cause });
                }
                self.timers.arm(Timer::SlotRestart(id), self.now + wait);
                self.note(Notice::RestartDelayed { slot: id, pool: name, wait });
            }
        }
    }

    /// Takes an empty slot away.
    pub(super) fn remove_slot(&mut self, id: SlotId) {
        self.timers.disarm(Timer::SlotRestart(id));
        if let Some(slot) = self.slots.remove(&id) {
            self.pool_mut(slot.pool).slots.remove(&id);
            if self.keeps_workers() {
                self.forget_failures(slot.pool);
            }
        }
    }

    fn disarm_worker(&mut self, worker: WorkerId) {
        self.timers.disarm(Timer::WorkerStart(worker));
        self.timers.disarm(Timer::WorkerSettled(worker));
        self.timers.disarm(Timer::WorkerLifetime(worker));
        self.timers.disarm(Timer::WorkerGrace(worker));
    }
}
