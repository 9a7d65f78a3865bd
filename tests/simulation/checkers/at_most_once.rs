//! Contract 3: an attempt is never repeated unless asked, never more often than asked, and never beside
//! the one before it. Judged by when functions were really called and when processes really ended.

use std::collections::BTreeSet;

use poold::id::WorkerId;
use poold::supervisor::Action;

use super::{Checker, Verdict, demand};
use crate::history::{End, Fact, History, Task};

/// Counts calls.
#[derive(Default)]
pub struct AtMostOnce {
    /// Workers whose process ended, whether that was told or not.
    ended: BTreeSet<WorkerId>,
}

impl Checker for AtMostOnce {
    fn name(&self) -> &'static str {
        "at_most_once"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::SendAttempt { worker, task: id, .. } = action else { return Ok(()) };
        let held = history.tasks.get(id).and_then(|task| task.attempts.iter().find(|former| former.is_out()));
        demand(held.is_none(), || format!("task {id} is sent to {worker} while a worker holds it: {held:?}"))
    }

    fn fact(&mut self, history: &History, fact: Fact) -> Verdict {
        match fact {
            Fact::FunctionCalled(worker, attempt) => match history.attempt(worker, attempt) {
                Some((task, _)) => self.may_be_called(task),
                None => Ok(()),
            },
            Fact::ProcessEnded(worker) => {
                self.ended.insert(worker);
                Ok(())
            }
        }
    }
}

impl AtMostOnce {
    fn may_be_called(&self, task: &Task) -> Verdict {
        demand(task.calls <= task.retried, || {
            format!(
                "task {} is called again: {} times after {} retries",
                task.id,
                task.calls + 1,
                task.retried
            )
        })?;
        let goes_on = task.attempts.iter().rev().skip(1).find(|former| {
            let returned = matches!(former.end, Some(End::Reported(_)));
            former.called && !returned && !self.ended.contains(&former.worker)
        });
        demand(goes_on.is_none(), || {
            format!("task {} is called while it runs elsewhere: {goes_on:?}", task.id)
        })
    }
}
