//! Contract 4 and 5, what becomes of the process: told to end, it may go on for the grace and no
//! longer, and KILL is the last word. And no process is signalled without a reason.

use std::collections::BTreeMap;

use poold::id::{AttemptId, WorkerId};
use poold::supervisor::{Action, Event, Signal, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, Worker};
use crate::trial::Step;

/// Watches processes that must end.
#[derive(Default)]
pub struct Termination {
    /// Attempts that run although their task has no use for them, and since when.
    abandoned: BTreeMap<(WorkerId, AttemptId), Time>,
    /// Workers that were told to stop and run nothing, and since when.
    idle: BTreeMap<WorkerId, Time>,
}

impl Checker for Termination {
    fn name(&self) -> &'static str {
        "termination"
    }

    fn settled(&mut self, history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
        self.note(history);
        for action in &step.actions {
            match action {
                Action::SignalWorker { worker, signal } => {
                    signal_has_a_reason(history, *worker)?;
                    self.is_not_hurried(history, *worker, *signal)?;
                }
                Action::StopWorker { worker } => stop_has_a_reason(history, *worker)?,
                _ => {}
            }
        }
        if history.exit.is_some() {
            return Ok(());
        }
        let wakes_at = supervisor.poll_deadline();
        for (id, worker) in &history.workers {
            let Some((due, duty)) = self.duty(*id, worker) else { continue };
            demand(due > step.now || !matches!(step.event, Event::TimePassed), || {
                format!("worker {id} should have been {duty} by {due}: {worker:?}")
            })?;
            demand(wakes_at.is_some_and(|wakes_at| wakes_at <= due), || {
                format!("worker {id} must be {duty} by {due} and the supervisor sleeps until {wakes_at:?}")
            })?;
        }
        Ok(())
    }
}

impl Termination {
    fn note(&mut self, history: &History) {
        self.abandoned.retain(|(worker, attempt), _| history.attempt(*worker, *attempt).is_some());
        self.idle.retain(|worker, _| history.workers.contains_key(worker));
        for (id, worker) in &history.workers {
            let mut runs_something = false;
            for (attempt, _) in &worker.holds {
                let Some((_, held)) = history.attempt(*id, *attempt) else { continue };
                if held.started_at.is_some() {
                    runs_something = true;
                    if !history.is_wanted(*id, *attempt) {
                        self.abandoned.entry((*id, *attempt)).or_insert(history.now);
                    }
                }
            }
            let may_go = worker.stop_at.or(worker.not_ready_at).is_some();
            if may_go && !runs_something {
                self.idle.entry(*id).or_insert(history.now);
            } else {
                self.idle.remove(id);
            }
        }
    }

    /// KILL follows on TERM only when the grace is over, unless the daemon itself is in a hurry.
    fn is_not_hurried(&self, history: &History, id: WorkerId, signal: Signal) -> Verdict {
        let Some(worker) = history.workers.get(&id).filter(|_| signal == Signal::Kill) else { return Ok(()) };
        let abandoned =
            worker.holds.iter().filter_map(|(attempt, _)| self.abandoned.get(&(id, *attempt))).min();
        let told = [worker.stop_at, worker.terminate_at, worker.spoiled_at, abandoned.copied()];
        let told = told.into_iter().flatten().min();
        let waited = told.is_none_or(|since| since + worker.grace <= history.now);
        let is_lost = worker.broke_at.or(worker.hung_up_at).or(worker.lied_at).is_some();
        let nothing_is_left = !history.stopped_at.is_empty() && history.live.is_empty();
        let may_hurry = is_lost || ignores_recall(history, id, worker) || is_forced(history);
        demand(waited || may_hurry || nothing_is_left, || {
            format!("worker {id} is killed within its grace: {worker:?}")
        })
    }

    /// What must be done to a worker next, and when at the latest.
    fn duty(&self, id: WorkerId, worker: &Worker) -> Option<(Time, &'static str)> {
        if worker.kill_at.is_some() || worker.stage == Stage::Asked {
            return None;
        }
        let abandoned =
            worker.holds.iter().filter_map(|(attempt, _)| self.abandoned.get(&(id, *attempt))).min();
        let told = [worker.terminate_at, worker.broke_at, abandoned.copied()].into_iter().flatten().min();
        let killed = told.map(|since| (since + worker.grace, "killed"));
        let left =
            [self.idle.get(&id).copied(), worker.hung_up_at, worker.spoiled_at].into_iter().flatten().max();
        let started = worker.spawned_at.filter(|_| worker.ready_at.is_none());
        let told = match (worker.terminate_at, left, started) {
            (Some(_), _, _) => None,
            (None, Some(since), _) => Some(since + worker.grace),
            (None, None, Some(since)) => Some(since + worker.start_timeout),
            (None, None, None) => None,
        };
        [killed, told.map(|due| (due, "told to end"))].into_iter().flatten().min()
    }
}

fn signal_has_a_reason(history: &History, id: WorkerId) -> Verdict {
    let Some(worker) = history.workers.get(&id) else { return Ok(()) };
    let now = history.now;
    let unwanted = worker.holds.iter().any(|(attempt, _)| !history.is_wanted(id, *attempt));
    let works = worker.holds.iter().any(|(attempt, _)| history.is_wanted(id, *attempt));
    let was_slow = worker.ready_at.is_none() && worker.asked_at + worker.start_timeout <= now;
    let leaves =
        !works && (is_surplus(history, worker) || worker.stop_at.is_some() || history.live.is_empty());
    let not_needed = worker.ready_at.is_none() && (is_surplus(history, worker) || !history.is_serving());
    demand(
        unwanted
            || was_slow
            || is_forced(history)
            || leaves
            || not_needed
            || worker.broke_at.is_some()
            || worker.hung_up_at.is_some()
            || worker.not_ready_at.is_some()
            || worker.lied_at.is_some()
            || worker.spoiled_at.is_some()
            || ignores_recall(history, id, worker)
            || worker.terminate_at.is_some_and(|since| since < now),
        || format!("worker {id} is signalled without a reason: {worker:?}"),
    )
}

/// Whether a worker was asked for an attempt and neither started it nor gave it back within the grace.
fn ignores_recall(history: &History, id: WorkerId, worker: &Worker) -> bool {
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
            worker.revision != pool.revision || live > pool.workers as usize || worker.may_leave
        }
    }
}
