//! Shutdown: a drain refuses what is new and finishes what was accepted; a stop also cancels what has
//! not started; a second stop, or the drain timeout, kills. The exit is the last word, and says whether
//! something was lost.

use poold::message::client::ReplyBody;
use poold::supervisor::{Action, Event, Supervisor};
use poold::task::{CancelReason, Outcome, OutcomeKind};

use super::termination::is_forced;
use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, State};
use crate::trial::Step;

/// Watches the end.
pub struct Shutdown;

impl Checker for Shutdown {
    fn name(&self) -> &'static str {
        "shutdown"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let stops = !history.stopped_at.is_empty();
        match action {
            Action::SendAttempt { task, .. } => {
                demand(!stops, || format!("task {task} is sent while the daemon stops"))
            }
            Action::Reply { reply, .. } if reply.body == ReplyBody::Drained => {
                let left = history.live.first();
                demand(left.is_none(), || format!("the daemon is called drained and task {left:?} lives"))
            }
            Action::Exit { forced } => {
                demand(stops || history.drained_at.is_some(), || {
                    "the daemon exits and was not told to".to_owned()
                })?;
                demand(history.workers.is_empty(), || {
                    format!("the daemon exits and workers are there: {:?}", history.workers.keys())
                })?;
                demand(history.requests.is_empty(), || {
                    format!("the daemon exits and has not answered {:?}", history.requests)
                })?;
                let lost = history.outcomes.get(&OutcomeKind::Lost).copied().unwrap_or_default();
                demand(*forced == (lost > 0), || {
                    format!("the exit is forced: {forced}, and {lost} tasks are lost")
                })
            }
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        if history.exit.is_some() {
            return Ok(());
        }
        nothing_waits(history)?;
        nothing_is_lost_early(history, step)?;
        let timed_out = is_forced(history) && matches!(step.event, Event::TimePassed | Event::StopRequested);
        if timed_out {
            let spared = history.workers.iter().find(|(_, worker)| {
                worker.stage != Stage::Asked && worker.kill_at.is_none() && !worker.is_ending()
            });
            demand(spared.is_none(), || format!("the daemon is forced to stop and spares {spared:?}"))?;
            let runs = history.workers.iter().find(|(_, worker)| {
                worker.kill_at.is_none() && worker.holds.iter().any(|(_, id)| history.live.contains(id))
            });
            demand(runs.is_none(), || format!("the daemon is forced to stop and a task runs on: {runs:?}"))?;
        }
        let is_finished = !history.is_serving() && history.live.is_empty() && history.workers.is_empty();
        demand(!is_finished, || "everything has ended and the daemon does not exit".to_owned())
    }
}

/// Once the daemon stops, nothing waits to be started.
fn nothing_waits(history: &History) -> Verdict {
    if history.stopped_at.is_empty() {
        return Ok(());
    }
    let waiting = history
        .live_tasks()
        .find(|task| matches!(task.state, State::Pending | State::Delayed { .. } | State::Judged(_)));
    demand(waiting.is_none(), || format!("the daemon stops and a task waits: {waiting:?}"))
}

/// Only a forced stop loses tasks, and only running ones are.
fn nothing_is_lost_early(history: &History, step: &Step) -> Verdict {
    for task in history.tasks.values().filter(|task| task.done_at == Some(step.now)) {
        match task.outcome() {
            Some(Outcome::Lost { .. }) => demand(is_forced(history) && !task.attempts.is_empty(), || {
                format!("task {} is lost and nothing forced it", task.id)
            })?,
            Some(Outcome::Cancelled(CancelReason::Shutdown)) => {
                let last = task.attempts.last();
                let runs = last.is_some_and(|last| last.started_at.is_some() && last.is_out());
                demand(!runs || task.starts <= task.retried, || {
                    format!("task {} ran and is cancelled by the shutdown", task.id)
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}
