//! Quarantine: a function is in it exactly from when its tasks have killed more workers in a row than the
//! policy allows until somebody releases it.
//!
//! Whether a worker that was about to be ended died of its function is not always to be told from outside:
//! some deaths are certain, more are possible.

use std::collections::{BTreeMap, BTreeSet};

use poold::id::FunctionName;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::History;
use crate::trial::Step;

/// Counts the dead.
#[derive(Default)]
pub struct Quarantine {
    certain: BTreeMap<FunctionName, u32>,
    possible: BTreeMap<FunctionName, u32>,
    /// Those that were certainly counted in this step.
    counted: BTreeSet<FunctionName>,
}

impl Checker for Quarantine {
    fn name(&self) -> &'static str {
        "quarantine"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        self.counted.clear();
        match event {
            Event::WorkerExited { worker: id, .. } => {
                let Some(worker) = history.workers.get(id) else { return Ok(()) };
                let started = worker.holds.iter().filter_map(|(attempt, _)| history.attempt(*id, *attempt));
                let started = started.filter(|(_, attempt)| {
                    attempt.started_at.is_some() && history.is_wanted(*id, attempt.id)
                });
                let functions: BTreeSet<FunctionName> =
                    started.map(|(task, _)| task.submission.spec.function.clone()).collect();
                let is_certain = worker.is_ready() && !worker.is_harmful();
                for function in functions {
                    *self.possible.entry(function.clone()).or_default() += 1;
                    if is_certain {
                        *self.certain.entry(function.clone()).or_default() += 1;
                        self.counted.insert(function);
                    }
                }
            }
            Event::AttemptFinished { worker, attempt, .. } => {
                if let Some((task, _)) = history.attempt(*worker, *attempt)
                    && history.is_wanted(*worker, *attempt)
                {
                    self.certain.remove(&task.submission.spec.function);
                    self.possible.remove(&task.submission.spec.function);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::Notice(Notice::FunctionQuarantined { function, .. }) => {
                let killed = self.possible.get(function).copied().unwrap_or_default();
                let most = history.policy.quarantine_after;
                let holds = most.is_some_and(|most| killed > most) && !history.quarantined.contains(function);
                demand(holds, || format!("{function} is quarantined: {killed} killed of {most:?}"))
            }
            Action::Notice(Notice::FunctionReleased { function }) => {
                self.certain.remove(function);
                self.possible.remove(function);
                demand(history.quarantined.contains(function), || format!("{function} was not quarantined"))
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, _step: &Step, supervisor: &Supervisor) -> Verdict {
        let told: BTreeSet<FunctionName> = supervisor.quarantined().cloned().collect();
        demand(told == history.quarantined, || format!("{told:?} are told of {:?}", history.quarantined))?;
        let Some(most) = history.policy.quarantine_after else { return Ok(()) };
        let over = self.counted.iter().find(|function| {
            self.certain.get(*function).is_some_and(|killed| *killed > most)
                && !history.quarantined.contains(*function)
        });
        demand(over.is_none(), || {
            format!("not quarantined: {over:?}, {:?} killed, {most} at most", self.certain)
        })
    }
}
