//! No task waits beside a worker that could run it: what leaks a slot, or forgets a task, is found at
//! once and not only when everything has ended.

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
            if !has_room(history, worker) {
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
fn has_room(history: &History, worker: &Worker) -> bool {
    let Some(pool) = history.pool(&worker.pool) else { return false };
    let live = history.workers.values().filter(|other| other.pool == pool.name).count();
    worker.is_ready()
        && worker.holds.len() < worker.capacity as usize
        && worker.revision == pool.revision
        && live <= pool.workers as usize
        && !worker.may_leave
        && worker.lied_at.is_none()
        && worker.spoiled_at.is_none()
}
