//! Contract 4 and 5, what becomes of the process: told to end, it may go on for the grace and no
//! longer, and KILL is the last word. (Whether there was a reason to end it: see `reasons`.)

use std::collections::BTreeMap;

use poold::id::{AttemptId, WorkerId};
use poold::supervisor::{Action, Event, Signal, Supervisor};
use poold::time::Time;

use super::reasons::{ignores_recall, is_forced};
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
            if let Action::SignalWorker { worker, signal: Signal::Kill } = action {
                self.is_not_hurried(history, *worker)?;
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

    /// Since when an attempt of a worker runs in vain.
    fn abandoned_at(&self, id: WorkerId, worker: &Worker) -> Option<Time> {
        worker.holds.iter().filter_map(|(attempt, _)| self.abandoned.get(&(id, *attempt))).min().copied()
    }

    /// KILL follows on TERM only when the grace is over, unless the daemon itself is in a hurry.
    fn is_not_hurried(&self, history: &History, id: WorkerId) -> Verdict {
        let Some(worker) = history.workers.get(&id) else { return Ok(()) };
        let told = [worker.stop_at, worker.terminate_at, worker.spoiled_at, self.abandoned_at(id, worker)];
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
        let told =
            [worker.terminate_at, worker.broke_at, self.abandoned_at(id, worker)].into_iter().flatten().min();
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
