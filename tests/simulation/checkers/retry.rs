//! Contract 3, retries: as many as asked and no more, after the outcomes that allow it, with backoff,
//! and only once the former attempt's process is gone.

use std::collections::BTreeSet;

use poold::id::TaskId;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::{Limit, Outcome};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{End, History, State, Task};
use crate::trial::Step;

/// Watches tasks that are tried again.
#[derive(Default)]
pub struct Retry {
    /// Tasks that ended in this step.
    ended: BTreeSet<TaskId>,
}

impl Checker for Retry {
    fn name(&self) -> &'static str {
        "retry"
    }

    fn event(&mut self, _history: &History, _now: Time, _event: &Event) -> Verdict {
        self.ended.clear();
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::Notice(Notice::TaskDone { task, .. }) => {
                self.ended.insert(*task);
                Ok(())
            }
            Action::Notice(Notice::TaskRetried { task, outcome, wait, retries }) => {
                let Some(task) = history.tasks.get(task) else { return Ok(()) };
                let id = task.id;
                demand(!task.is_done(), || format!("task {id} is done and tried again"))?;
                demand(is_repeatable(outcome), || format!("task {id} is tried again after it {outcome}"))?;
                demand(task.retried + 1 + retries == task.submission.spec.retries, || {
                    format!("task {id} was tried again {} times and has {retries} left", task.retried + 1)
                })?;
                let restart = &history.policy.restart;
                demand(*wait >= restart.backoff_min / 2 && *wait <= restart.backoff_max * 3 / 2, || {
                    format!("task {id} is tried again after {wait:?}")
                })
            }
            Action::SendAttempt { task, .. } => match history.tasks.get(task) {
                Some(task) => has_waited(history, task),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        for task in self.ended.iter().filter_map(|id| history.tasks.get(id)) {
            let Some(outcome) = task.outcome() else { continue };
            let retries = task.submission.spec.retries;
            let is_over = task.retried == retries || !history.stopped_at.is_empty();
            demand(is_over || !is_repeatable(outcome), || {
                format!("task {} {outcome} after {} of {retries} retries", task.id, task.retried)
            })?;
        }
        Ok(())
    }
}

fn is_repeatable(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Crashed(_) | Outcome::TimedOut(Limit::Timeout) | Outcome::Lost { .. } => true,
        Outcome::Ok(_) | Outcome::Failed(_) | Outcome::TimedOut(Limit::Deadline) | Outcome::Cancelled(_) => {
            false
        }
    }
}

/// A delayed task is sent only when its delay is over and its former process is gone.
fn has_waited(history: &History, task: &Task) -> Verdict {
    let State::Delayed { until, former, .. } = &task.state else { return Ok(()) };
    demand(*until <= history.now, || {
        format!("task {} is sent before its delay is over at {until}", task.id)
    })?;
    let returned = task.attempts.last().is_some_and(|last| matches!(last.end, Some(End::Reported(_))));
    demand(former.is_none_or(|worker| returned || history.gone.contains_key(&worker)), || {
        format!("task {} is sent again while its former process {former:?} lives", task.id)
    })
}
