//! No task waits beside a worker that could run it, unless that one stands by: what leaks a slot, or
//! forgets a task, is found at once and not only when everything has ended.

use poold::id::PoolName;
use poold::supervisor::Supervisor;

use super::order::waits_for;
use super::{Checker, Verdict, demand};
use crate::history::{History, State, Worker};
use crate::trial::Step;

/// Watches idle workers.
pub struct Utilization;

impl Checker for Utilization {
    fn name(&self) -> &'static str {
        "utilization"
    }

    fn settled(&mut self, history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        if !history.stopped_at.is_empty() || !history.live_tasks().any(|task| task.state == State::Pending) {
            return Ok(());
        }
        for (id, worker) in &history.workers {
            if !has_room(history, worker) || may_stand_by(history, &worker.pool) {
                continue;
            }
            let waiting = history.live_tasks().find(|task| waits_for(history, task, worker));
            demand(waiting.is_none(), || {
                format!(
                    "task {} waits and worker {id} has room for it",
                    waiting.map_or(0, |task| task.id.number)
                )
            })?;
        }
        Ok(())
    }
}

/// Whether a worker is sure to be given what waits for its pool.
pub fn has_room(history: &History, worker: &Worker) -> bool {
    let Some(pool) = history.pool(&worker.pool) else { return false };
    worker.is_ready()
        && worker.holds.len() < worker.capacity as usize
        && worker.taken_back.is_empty()
        && worker.revision == pool.revision
        && !worker.may_leave
        && worker.worn_at.is_none()
        && !worker.is_harmful()
}

/// Whether no more workers of a pool have room than it has beyond those in service.
pub fn may_stand_by(history: &History, name: &PoolName) -> bool {
    let Some(pool) = history.pool(name) else { return true };
    let ours = || history.workers.values().filter(|worker| worker.pool == *name);
    let ready = ours().filter(|worker| worker.is_ready() && worker.spoiled_at.is_none()).count();
    let with_room = ours().filter(|worker| has_room(history, worker)).count();
    with_room <= ready.saturating_sub(pool.workers as usize)
}
