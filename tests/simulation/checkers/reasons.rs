//! Contract 2 and 4, the other side: no worker is told to end without a reason. What a client does to
//! one task, or a worker to itself, hurts nobody else.

use poold::id::WorkerId;
use poold::supervisor::{Action, Supervisor};

use super::{Checker, Verdict, demand};
use crate::history::{History, Worker};
use crate::trial::Step;

/// Watches over workers that do no harm.
pub struct Reasons;

impl Checker for Reasons {
    fn name(&self) -> &'static str {
        "reasons"
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        for action in &step.actions {
            match action {
                Action::SignalWorker { worker, .. } => signal_has_a_reason(history, *worker)?,
                Action::StopWorker { worker } => stop_has_a_reason(history, *worker)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn signal_has_a_reason(history: &History, id: WorkerId) -> Verdict {
    let Some(worker) = history.workers.get(&id) else { return Ok(()) };
    let now = history.now;
    let wanted = worker.holds.iter().filter(|(attempt, _)| history.is_wanted(id, *attempt)).count();
    let is_ready = worker.ready_at.is_some();
    let is_surplus = is_surplus(history, worker);

    let was_slow = !is_ready && worker.asked_at + worker.start_timeout <= now;
    let misbehaved =
        worker.broke_at.or(worker.hung_up_at).or(worker.not_ready_at).or(worker.lied_at).is_some();
    let works_in_vain = wanted < worker.holds.len() || worker.spoiled_at.is_some();
    let is_idle_and_may_go =
        wanted == 0 && (is_surplus || worker.stop_at.is_some() || history.live.is_empty());
    let is_not_needed_yet = !is_ready && (is_surplus || !history.is_serving());
    let was_told_before = worker.terminate_at.is_some_and(|since| since < now);
    demand(
        was_slow
            || misbehaved
            || works_in_vain
            || is_idle_and_may_go
            || is_not_needed_yet
            || was_told_before
            || worker.is_silent(now)
            || ignores_recall(history, id, worker)
            || is_forced(history),
        || format!("worker {id} is signalled without a reason: {worker:?}"),
    )
}

/// Whether a worker was asked for an attempt and neither started it nor gave it back within the grace.
pub fn ignores_recall(history: &History, id: WorkerId, worker: &Worker) -> bool {
    worker.holds.iter().any(|(attempt, _)| {
        let held = history.attempt(id, *attempt).filter(|(_, held)| held.started_at.is_none());
        held.and_then(|(_, held)| held.recall_at).is_some_and(|since| since + worker.grace <= history.now)
    })
}

fn stop_has_a_reason(history: &History, id: WorkerId) -> Verdict {
    let Some(worker) = history.workers.get(&id) else { return Ok(()) };
    let has_reason = is_surplus(history, worker)
        || !history.is_serving()
        || worker.broke_at.or(worker.not_ready_at).or(worker.lied_at).is_some();
    demand(has_reason, || format!("worker {id} is stopped without a reason: {worker:?}"))
}

/// Whether running tasks may be killed because the daemon stops.
pub fn is_forced(history: &History) -> bool {
    let timed_out =
        history.stopped_at.first().is_some_and(|since| *since + history.policy.drain_timeout <= history.now);
    history.stopped_at.len() > 1 || timed_out
}

/// Whether a worker's pool has no use for it any more.
fn is_surplus(history: &History, worker: &Worker) -> bool {
    match history.pool(&worker.pool) {
        None => true,
        Some(pool) => {
            let live = history.workers.values().filter(|other| other.pool == pool.name).count();
            let most = (pool.workers + pool.standby) as usize;
            let is_worn = worker.worn_at.is_some();
            worker.revision != pool.revision || live > most || worker.may_leave || is_worn
        }
    }
}
