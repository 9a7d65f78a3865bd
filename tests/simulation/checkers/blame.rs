//! Contract 2: when a worker dies, the attempts that it had started and not reported crash, and no
//! other. What it had not started goes back, untouched and uncounted; what it had published counts.

use std::collections::BTreeSet;

use poold::id::TaskId;
use poold::message::worker::Report;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::{Outcome, OutcomeKind, Started};
use poold::time::Time;

use super::{Checker, Verdict, demand, ending};
use crate::history::{Fact, History, State, Task};
use crate::trial::Step;

/// Knows who died of what.
#[derive(Default)]
pub struct Blame {
    /// The report that came in this step, if its task waits for it.
    reported: Option<(TaskId, Report)>,
    /// Tasks whose functions were running when a worker died in this step.
    struck: BTreeSet<TaskId>,
    /// Tasks that a worker held unstarted when it died in this step.
    spared: BTreeSet<TaskId>,
}

impl Checker for Blame {
    fn name(&self) -> &'static str {
        "blame"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        self.reported = None;
        self.struck.clear();
        self.spared.clear();
        match event {
            Event::AttemptFinished { worker, attempt, report } => {
                if let Some((task, _)) = history.attempt(*worker, *attempt)
                    && task.state == State::Sent
                    && task.holder() == Some((*worker, *attempt))
                {
                    self.reported = Some((task.id, report.clone()));
                }
            }
            Event::WorkerExited { worker, .. } => {
                let holds = history.workers.get(worker).map(|worker| worker.holds.as_slice());
                for (attempt, _) in holds.unwrap_or_default() {
                    let Some((task, held)) = history.attempt(*worker, *attempt) else { continue };
                    if task.state == State::Sent && task.holder() == Some((*worker, *attempt)) {
                        if held.called {
                            self.struck.insert(task.id)
                        } else {
                            self.spared.insert(task.id)
                        };
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        if let Some((task, outcome)) = ending(history, action) {
            return self.judgement(task, outcome);
        }
        match action {
            Action::Notice(Notice::TaskRetried { task, outcome, .. }) => match history.tasks.get(task) {
                Some(task) => self.judgement(task, outcome),
                None => Err(format!("task {task} is tried again and was never accepted")),
            },
            Action::Notice(Notice::WorkerExited { worker, crashed, .. }) if history.stopped_at.is_empty() => {
                let crashed: BTreeSet<TaskId> = crashed.iter().copied().collect();
                demand(crashed.is_superset(&self.struck) && crashed.is_disjoint(&self.spared), || {
                    format!("{worker} died of {:?}, and {crashed:?} are blamed on it", self.struck)
                })
            }
            _ => Ok(()),
        }
    }

    fn fact(&mut self, history: &History, fact: Fact) -> Verdict {
        match fact {
            Fact::FunctionCalled(worker, attempt) => match history.attempt(worker, attempt) {
                Some((task, _)) => {
                    demand(task.outcome() != Some(&Outcome::Lost { started: Started::No }), || {
                        format!("task {} is lost as not started, and starts", task.id)
                    })
                }
                None => Ok(()),
            },
            Fact::ProcessEnded(_) => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        let out_of_time = |task: &Task| task.submission.deadline.is_some_and(|deadline| deadline <= step.now);
        if let Some((id, report)) = &self.reported
            && let Some(task) = history.tasks.get(id)
        {
            let published = task.outcome() == Some(&outcome_of(report));
            let had_timed_out = match &task.state {
                State::Done(outcome) => outcome.kind() == OutcomeKind::TimedOut,
                State::Delayed { .. } => true,
                State::Pending | State::Sent | State::Judged(_) => false,
            };
            demand(published || had_timed_out, || {
                format!("the report of task {id} was not published; it is {:?}", task.state)
            })?;
        }
        for id in &self.struck {
            let state = history.tasks.get(id).map(|task| &task.state);
            demand(!matches!(state, Some(State::Judged(_))), || {
                format!("the worker of task {id} died under it and nothing followed")
            })?;
        }
        for id in &self.spared {
            let Some(task) = history.tasks.get(id) else { continue };
            let goes_back = matches!(task.state, State::Pending | State::Sent)
                || out_of_time(task)
                || !history.stopped_at.is_empty();
            demand(goes_back, || format!("task {id} had not started and is {:?}", task.state))?;
        }
        Ok(())
    }
}

impl Blame {
    fn judgement(&self, task: &Task, outcome: &Outcome) -> Verdict {
        let id = task.id;
        match outcome {
            Outcome::Ok(_) | Outcome::Failed(_) => match &self.reported {
                Some((reported, report)) if *reported == id => demand(outcome_of(report) == *outcome, || {
                    format!("task {id} was reported {report:?} and ended {outcome:?}")
                }),
                Some(_) | None => Err(format!("task {id} ended {outcome} without a report")),
            },
            Outcome::Crashed(exit) => {
                demand(self.struck.contains(&id), || {
                    format!("task {id} crashed and no worker that had started it died")
                })?;
                demand(task.state == State::Judged(*exit), || {
                    format!("task {id} crashed of {exit} and its worker of something else: {:?}", task.state)
                })
            }
            Outcome::Lost { started } => {
                let called = task.attempts.last().is_some_and(|attempt| attempt.called);
                demand(*started == Started::Unknown || (*started == Started::Yes) == called, || {
                    format!("task {id} is lost, started: {started:?}; in truth its start is {called}")
                })
            }
            Outcome::TimedOut(_) | Outcome::Cancelled(_) => Ok(()),
        }
    }
}

fn outcome_of(report: &Report) -> Outcome {
    match report {
        Report::Ok(result) => Outcome::Ok(result.clone()),
        Report::Failed(failure) => Outcome::Failed(failure.clone()),
    }
}
