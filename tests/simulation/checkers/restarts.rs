//! Contract 7, restarts: never more live workers than the pool should have and never fewer without a
//! restart to come; failing workers are started again after a backoff, and a pool that fails more often
//! than its restart intensity allows says so and waits the longest backoff.

use std::collections::{BTreeMap, VecDeque};

use poold::id::{PoolName, SlotId, WorkerId};
use poold::limits::EARLY_DEATH;
use poold::supervisor::{Action, Event, Notice, PoolPolicy, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, Stage};
use crate::trial::Step;

/// Watches how often workers are started.
#[derive(Default)]
pub struct Restarts {
    /// Slots whose next start was put off.
    promised: BTreeMap<SlotId, (PoolName, Time)>,
    /// Slots whose last process failed to start, and when.
    failed: BTreeMap<SlotId, Time>,
    /// Failures of each pool that count, and those that may count, within the period.
    failures: BTreeMap<PoolName, Failures>,
    /// Pools that said that they are degraded.
    degraded: BTreeMap<PoolName, bool>,
    /// Starts after failures within the period, for each pool.
    starts: BTreeMap<PoolName, VecDeque<Time>>,
}

#[derive(Default)]
struct Failures {
    certain: VecDeque<Time>,
    possible: VecDeque<Time>,
}

impl Checker for Restarts {
    fn name(&self) -> &'static str {
        "restarts"
    }

    fn event(&mut self, history: &History, now: Time, event: &Event) -> Verdict {
        match event {
            Event::SpawnFailed { worker, .. } => {
                if let Some(failed) = history.workers.get(worker) {
                    self.fail(history, *worker, &failed.pool, now, true);
                }
            }
            Event::WorkerExited { worker, .. } => self.exit(history, *worker, now),
            Event::PolicyChanged { policy } => {
                self.promised.clear();
                self.failed.clear();
                self.failures.retain(|name, _| policy.pools.iter().any(|pool| pool.name == *name));
                self.degraded.retain(|name, _| policy.pools.iter().any(|pool| pool.name == *name));
            }
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::SpawnWorker { worker, pool } => match history.pool(pool) {
                Some(policy) => self.spawn(history, *worker, policy),
                None => Ok(()),
            },
            Action::Notice(Notice::RestartDelayed { slot, pool, wait }) => {
                let restart = &history.policy.restart;
                let is_degraded = self.degraded.get(pool) == Some(&true);
                let least = if is_degraded { restart.backoff_max / 2 } else { restart.backoff_min / 2 };
                self.promised.insert(*slot, (pool.clone(), history.now + *wait));
                demand(*wait >= least && *wait <= restart.backoff_max * 3 / 2, || {
                    format!("slot {} is put off for {wait:?}, degraded: {is_degraded}", slot.0)
                })
            }
            Action::Notice(Notice::PoolDegraded { pool, .. }) => {
                let possible = self.failures.get(pool).map_or(0, |failures| failures.possible.len());
                let was = self.degraded.insert(pool.clone(), true);
                demand(was != Some(true) && possible > history.policy.restart.intensity as usize, || {
                    format!("pool {pool} is degraded after {possible} failures, before: {was:?}")
                })
            }
            Action::Notice(Notice::PoolRecovered { pool }) => {
                self.failures.remove(pool);
                let was = self.degraded.insert(pool.clone(), false);
                demand(was == Some(true), || format!("pool {pool} recovers and was not degraded"))
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
        if !history.is_serving() {
            return Ok(());
        }
        let wakes_at = supervisor.poll_deadline();
        for pool in &history.policy.pools {
            let live = history.workers.values().filter(|worker| worker.pool == pool.name).count();
            if live >= pool.workers as usize {
                continue;
            }
            let mut put_off = 0;
            for (slot, (_, due)) in self.promised.iter().filter(|(_, (name, _))| *name == pool.name) {
                put_off += 1;
                demand(*due > step.now || !matches!(step.event, Event::TimePassed), || {
                    format!("slot {} should have been started at {due}", slot.0)
                })?;
                demand(wakes_at.is_some_and(|wakes_at| wakes_at <= *due), || {
                    format!(
                        "slot {} is to be started at {due} and the supervisor sleeps until {wakes_at:?}",
                        slot.0
                    )
                })?;
            }
            let was_reloaded = matches!(step.event, Event::PolicyChanged { .. });
            demand(live + put_off >= pool.workers as usize || was_reloaded, || {
                format!("pool {} has {live} workers, {put_off} put off, of {}", pool.name, pool.workers)
            })?;
            let certain = self.failures.get(&pool.name).map_or(0, |failures| failures.certain.len());
            let is_degraded = self.degraded.get(&pool.name) == Some(&true);
            demand(is_degraded || certain <= history.policy.restart.intensity as usize, || {
                format!("pool {} failed {certain} times within the period and is not degraded", pool.name)
            })?;
        }
        Ok(())
    }
}

impl Restarts {
    fn exit(&mut self, history: &History, id: WorkerId, now: Time) {
        let Some(worker) = history.workers.get(&id) else { return };
        let was_slow = worker
            .spawned_at
            .is_some_and(|since| worker.terminate_at.is_some_and(|at| since + worker.start_timeout <= at));
        let was_told = worker.stop_at.is_some()
            || worker.broke_at.is_some()
            || (worker.terminate_at.or(worker.kill_at).is_some() && !was_slow);
        match (worker.stage, worker.ready_at) {
            (Stage::Spawned(_) | Stage::Asked, _) => self.fail(history, id, &worker.pool, now, !was_told),
            (Stage::Ready(_), Some(since)) if worker.finished == 0 && now.since(since) <= EARLY_DEATH => {
                let is_certain = worker.sent == 0 && !was_told && now.since(since) < EARLY_DEATH;
                self.fail(history, id, &worker.pool, now, is_certain);
            }
            (Stage::Ready(_), _) => {
                self.failed.remove(&id.slot);
            }
        }
    }

    fn fail(&mut self, history: &History, id: WorkerId, pool: &PoolName, now: Time, is_certain: bool) {
        let failures = self.failures.entry(pool.clone()).or_default();
        let Failures { certain, possible } = failures;
        let period = history.policy.restart.period;
        possible.push_back(now);
        if is_certain {
            certain.push_back(now);
            self.failed.insert(id.slot, now);
        }
        while certain.front().is_some_and(|at| now.since(*at) >= period) {
            certain.pop_front();
        }
        while possible.front().is_some_and(|at| now.since(*at) > period) {
            possible.pop_front();
        }
    }

    fn spawn(&mut self, history: &History, id: WorkerId, pool: &PoolPolicy) -> Verdict {
        let (now, restart) = (history.now, &history.policy.restart);
        let name = &pool.name;
        demand(history.is_serving() || history.stopped_at.is_empty(), || {
            format!("worker {id} is started while the daemon stops")
        })?;
        let twin = history.workers.keys().find(|other| other.slot == id.slot);
        demand(twin.is_none(), || format!("worker {id} is started beside {twin:?}"))?;
        let newer = history.gone.keys().find(|gone| gone.slot == id.slot && gone.generation >= id.generation);
        demand(newer.is_none(), || format!("worker {id} is started after {newer:?}"))?;
        let live =
            history.workers.values().filter(|worker| worker.pool == *name && !worker.is_ending()).count();
        demand(live < pool.workers as usize, || {
            format!("worker {id} is started in pool {name}, which has {live} of {}", pool.workers)
        })?;
        if let Some((_, due)) = self.promised.remove(&id.slot) {
            demand(due <= now, || format!("worker {id} is started before its backoff is over at {due}"))?;
        }
        let Some(failed_at) = self.failed.remove(&id.slot) else { return Ok(()) };
        demand(now.since(failed_at) >= restart.backoff_min / 2, || {
            format!("worker {id} is started {:?} after its predecessor failed", now.since(failed_at))
        })?;
        let starts = self.starts.entry(name.clone()).or_default();
        while starts.front().is_some_and(|at| now.since(*at) >= restart.period) {
            starts.pop_front();
        }
        starts.push_back(now);
        let per_slot = 2 + 2 * restart.period.as_nanos() / restart.backoff_max.as_nanos().max(1);
        let most = u128::from(restart.intensity) + u128::from(pool.workers) * per_slot;
        demand(starts.len() as u128 <= most, || {
            format!("pool {name} had {} starts after failures within {:?}", starts.len(), restart.period)
        })
    }
}
