//! Contract 3: an attempt is never repeated unless asked, never more often than asked, and never beside
//! the one before it. Judged by when functions were really called.

use poold::supervisor::Action;

use super::{Checker, Verdict, demand};
use crate::history::{End, Fact, History};

/// Counts calls.
pub struct AtMostOnce;

impl Checker for AtMostOnce {
    fn name(&self) -> &'static str {
        "at_most_once"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::SendAttempt { worker, task: id, .. } = action else { return Ok(()) };
        let Some(task) = history.tasks.get(id) else { return Ok(()) };
        for former in &task.attempts {
            demand(!former.is_out(), || {
                format!("task {id} is sent to {worker} while {} still holds it", former.worker)
            })?;
            let may_have_gone_on = former.called && matches!(former.end, Some(End::Recalled));
            demand(!may_have_gone_on, || format!("task {id} was started by {} and recalled", former.worker))?;
        }
        Ok(())
    }

    fn fact(&mut self, history: &History, fact: Fact) -> Verdict {
        match fact {
            Fact::FunctionCalled(worker, attempt) => match history.attempt(worker, attempt) {
                Some((task, _)) => demand(task.calls <= task.retried, || {
                    format!(
                        "task {} is called for the {}. time after {} retries",
                        task.id,
                        task.calls + 1,
                        task.retried
                    )
                }),
                None => Ok(()),
            },
            Fact::ProcessEnded(_) => Ok(()),
        }
    }
}
