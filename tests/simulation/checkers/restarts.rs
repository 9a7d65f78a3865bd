//! Contract 7, restarts: never more live workers than the pool should have, and never fewer without a
//! restart to come; failing workers are started again after a backoff, and a pool that fails more often
//! than its restart intensity allows says so and waits the longest backoff.
//!
//! Whether a worker that died early failed or was unlucky is not always to be told from outside: some
//! failures are certain, more are possible. A worker that lasts ends its pool's backoffs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use poold::id::{PoolName, SlotId, WorkerId};
use poold::limits::EARLY_DEATH;
use poold::supervisor::{Action, Event, Notice, Policy, PoolPolicy, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, Worker};
use crate::trial::Step;

/// Watches how often workers are started.
#[derive(Default)]
pub struct Restarts {
    /// Slots whose next start was put off.
    promised: BTreeMap<SlotId, Promise>,
    /// Slots whose last process failed to start, and when.
    failed: BTreeMap<SlotId, Time>,
    pools: BTreeMap<PoolName, Record>,
}

/// A start that was put off.
struct Promise {
    pool: PoolName,
    due: Time,
    /// Whether its pool was reloaded since, which may have taken the slot away.
    is_open: bool,
}

/// What happened in a pool.
#[derive(Default)]
struct Record {
    /// Failures within the period, and what may have been failures.
    certain: VecDeque<Time>,
    possible: VecDeque<Time>,
    /// Starts after failures within the period.
    starts: VecDeque<Time>,
    /// Whether it said that it is degraded.
    is_degraded: bool,
    /// Workers that were there when the pool was made smaller, and by how many they were too many: those
    /// may yet finish.
    leaving: Vec<WorkerId>,
    surplus: usize,
}

impl Checker for Restarts {
    fn name(&self) -> &'static str {
        "restarts"
    }

    fn event(&mut self, history: &History, now: Time, event: &Event) -> Verdict {
        match event {
            Event::SpawnFailed { worker, .. } => {
                if let Some(failed) = history.workers.get(worker) {
                    self.fail(history, *worker, &failed.pool, now, is_current(history, failed));
                }
            }
            Event::WorkerExited { worker: id, .. } => {
                if let Some(worker) = history.workers.get(id) {
                    self.exit(history, *id, worker, now);
                }
            }
            Event::AttemptFinished { worker, .. } => {
                if let Some(worker) = history.workers.get(worker) {
                    let record = self.record(&worker.pool);
                    record.starts.clear();
                }
            }
            Event::PolicyChanged { policy } => self.reload(history, policy),
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::SpawnWorker { worker, pool } => match history.pool_ever(pool) {
                Some(policy) => self.spawn(history, *worker, policy),
                None => Ok(()),
            },
            Action::Notice(Notice::RestartDelayed { slot, pool, wait }) => {
                let restart = &history.policy.restart;
                let is_degraded = self.record(pool).is_degraded;
                let least = if is_degraded { restart.backoff_max / 2 } else { restart.backoff_min / 2 };
                let promise = Promise { pool: pool.clone(), due: history.now + *wait, is_open: false };
                self.promised.insert(*slot, promise);
                demand(*wait >= least && *wait <= restart.backoff_max * 3 / 2, || {
                    format!("slot {} is put off for {wait:?}, degraded: {is_degraded}", slot.0)
                })
            }
            Action::Notice(Notice::PoolDegraded { pool, .. }) => {
                let record = self.record(pool);
                let (was, possible) = (record.is_degraded, record.possible.len());
                record.is_degraded = true;
                demand(!was && possible > history.policy.restart.intensity as usize, || {
                    format!("pool {pool} is degraded after {possible} failures, and was before: {was}")
                })
            }
            Action::Notice(Notice::PoolRecovered { pool }) => {
                let record = self.record(pool);
                let was = std::mem::take(&mut record.is_degraded);
                record.certain.clear();
                demand(was, || format!("pool {pool} recovers and was not degraded"))
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
        if !history.is_serving() {
            return Ok(());
        }
        for action in &step.actions {
            if let Action::SpawnWorker { worker, pool } = action
                && let Some(pool) = history.pool_ever(pool)
            {
                self.is_not_too_many(history, *worker, pool)?;
            }
        }
        let wakes_at = supervisor.poll_deadline();
        for pool in &history.policy.pools {
            let live = history.workers.values().filter(|worker| worker.pool == pool.name).count();
            if live < workers_of(pool) {
                self.is_filled_up(step, pool, live, wakes_at)?;
                let intensity = history.policy.restart.intensity as usize;
                let record = self.record(&pool.name);
                demand(record.is_degraded || record.certain.len() <= intensity, || {
                    format!("pool {} failed more than {intensity} times and is not degraded", pool.name)
                })?;
            }
        }
        Ok(())
    }
}

impl Record {
    /// How many workers may still be there beyond the size of the pool.
    fn surplus_left(&self, history: &History) -> usize {
        self.leaving.iter().filter(|id| history.workers.contains_key(id)).count().min(self.surplus)
    }
}

impl Restarts {
    fn record(&mut self, pool: &PoolName) -> &mut Record {
        self.pools.entry(pool.clone()).or_default()
    }

    /// Workers that a pool lacks are to be started, in time.
    fn is_filled_up(&self, step: &Step, pool: &PoolPolicy, live: usize, wakes_at: Option<Time>) -> Verdict {
        let mut put_off = 0;
        for (slot, promise) in self.promised.iter().filter(|(_, promise)| promise.pool == pool.name) {
            let due = promise.due;
            put_off += usize::from(due > step.now || !matches!(step.event, Event::TimePassed));
            demand(promise.is_open || wakes_at.is_some_and(|wakes_at| wakes_at <= due), || {
                format!("slot {} is due at {due} and the supervisor sleeps until {wakes_at:?}", slot.0)
            })?;
        }
        let wanted = workers_of(pool);
        demand(live + put_off >= wanted, || {
            format!("pool {} has {live} workers, {put_off} put off, of {wanted}", pool.name)
        })
    }

    fn reload(&mut self, history: &History, policy: &Policy) {
        for promise in self.promised.values_mut() {
            promise.is_open = true;
        }
        let pools: BTreeSet<&PoolName> = history.workers.values().map(|worker| &worker.pool).collect();
        for name in pools {
            let ours = history.workers.iter().filter(|(_, worker)| worker.pool == *name);
            let leaving: Vec<WorkerId> = ours.map(|(id, _)| *id).collect();
            // The workers of a pool that was taken away go, even if the pool is back before they have gone.
            let goes_on = history.pool(name).and(policy.pools.iter().find(|pool| pool.name == *name));
            let wanted = goes_on.map_or(0, workers_of);
            let record = self.record(name);
            record.certain.clear();
            record.surplus = record.surplus_left(history).max(leaving.len().saturating_sub(wanted));
            record.leaving = leaving;
        }
    }

    fn exit(&mut self, history: &History, id: WorkerId, worker: &Worker, now: Time) {
        let was_slow = worker.terminate_at.is_some_and(|at| worker.asked_at + worker.start_timeout <= at);
        let gave_up = worker.not_ready_at.is_some();
        let is_failure = is_current(history, worker) && (gave_up || was_slow || !worker.is_ending());
        match (worker.stage, worker.ready_at) {
            (Stage::Asked | Stage::Spawned(_), _) | (Stage::Ready(_), None) => {
                self.fail(history, id, &worker.pool, now, is_failure);
            }
            (Stage::Ready(_), Some(since)) => {
                if now.since(since) <= EARLY_DEATH {
                    let is_certain = is_failure && worker.sent == 0 && now.since(since) < EARLY_DEATH;
                    self.fail(history, id, &worker.pool, now, is_certain);
                }
            }
        }
    }

    fn fail(&mut self, history: &History, id: WorkerId, pool: &PoolName, now: Time, is_certain: bool) {
        let period = history.policy.restart.period;
        let record = self.record(pool);
        record.possible.push_back(now);
        while record.possible.front().is_some_and(|at| now.since(*at) > period) {
            record.possible.pop_front();
        }
        if is_certain {
            record.certain.push_back(now);
        }
        while record.certain.front().is_some_and(|at| now.since(*at) >= period) {
            record.certain.pop_front();
        }
        if is_certain {
            self.failed.insert(id.slot, now);
        }
    }

    fn spawn(&mut self, history: &History, id: WorkerId, pool: &PoolPolicy) -> Verdict {
        demand(history.stopped_at.is_empty(), || format!("worker {id} is started while the daemon stops"))?;
        let twin = history.workers.keys().find(|other| other.slot == id.slot);
        demand(twin.is_none(), || format!("worker {id} is started beside {twin:?}"))?;
        let newer = history.gone.keys().find(|gone| gone.slot == id.slot && gone.generation >= id.generation);
        demand(newer.is_none(), || format!("worker {id} is started after {newer:?}"))?;
        self.is_not_too_early(history, id, pool)
    }

    /// A worker that runs what nobody waits for may be succeeded before it is told to end, and no more of
    /// those may linger than their pool should have.
    fn is_not_too_many(&mut self, history: &History, id: WorkerId, pool: &PoolPolicy) -> Verdict {
        let ours = || history.workers.values().filter(|worker| worker.pool == pool.name);
        let leaves = |worker: &Worker| worker.is_ending() || worker.is_harmful() || worker.worn_at.is_some();
        let live = ours().filter(|worker| !leaves(worker)).count();
        let surplus = self.record(&pool.name).surplus_left(history);
        let (all, most) = (ours().count(), workers_of(pool));
        demand(live <= most + surplus && all <= 2 * most + surplus, || {
            format!(
                "worker {id} is started in pool {}, which has {live} live of {all}, not {most}",
                pool.name
            )
        })
    }

    fn is_not_too_early(&mut self, history: &History, id: WorkerId, pool: &PoolPolicy) -> Verdict {
        let (now, restart) = (history.now, &history.policy.restart);
        let lasts = |worker: &Worker| {
            worker.finished > 0 || worker.ready_at.is_some_and(|since| now.since(since) >= EARLY_DEATH)
        };
        let is_well = history.workers.values().any(|worker| worker.pool == pool.name && lasts(worker));
        if let Some(promise) = self.promised.remove(&id.slot) {
            demand(promise.due <= now || is_well, || {
                format!("worker {id} is started before its backoff is over at {}", promise.due)
            })?;
        }
        let Some(failed_at) = self.failed.remove(&id.slot) else { return Ok(()) };
        demand(now.since(failed_at) >= restart.backoff_min / 2 || is_well, || {
            format!("worker {id} is started {:?} after its predecessor failed", now.since(failed_at))
        })?;
        let starts = &mut self.record(&pool.name).starts;
        while starts.front().is_some_and(|at| now.since(*at) >= restart.period) {
            starts.pop_front();
        }
        starts.push_back(now);
        let per_slot = 2 + 2 * restart.period.as_nanos() / restart.backoff_max.as_nanos().max(1);
        let most = u128::from(restart.intensity) + workers_of(pool) as u128 * per_slot;
        demand(starts.len() as u128 <= most, || {
            format!(
                "pool {} had {} starts after failures within {:?}",
                pool.name,
                starts.len(),
                restart.period
            )
        })
    }
}

/// How many processes a pool should have.
fn workers_of(pool: &PoolPolicy) -> usize {
    (pool.workers + pool.standby) as usize
}

/// Whether a worker is one that its pool goes on wanting.
fn is_current(history: &History, worker: &Worker) -> bool {
    !worker.may_leave && history.pool(&worker.pool).is_some_and(|pool| pool.revision == worker.revision)
}
