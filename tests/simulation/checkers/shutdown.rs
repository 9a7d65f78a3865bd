//! Shutdown: a drain refuses what is new and finishes what was accepted, but for what a client that does not
//! read holds back longer than the drain timeout; a stop also cancels what has
//! not started; a second stop, or the drain timeout, kills. The exit is the last word, and says whether
//! something was lost.

use poold::id::TaskId;
use poold::message::client::ReplyBody;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::{CancelReason, Outcome, OutcomeKind};

use super::reasons::is_forced;
use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, State, Task};
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
        nobody_is_spared(history, step)?;
        nobody_holds_the_drain_up(history, step)?;
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

/// Only a forced stop loses tasks, and only running ones are; they are not cancelled.
fn nothing_is_lost_early(history: &History, step: &Step) -> Verdict {
    for (id, outcome) in ended(step) {
        let Some(task) = history.tasks.get(id) else { continue };
        match outcome {
            Outcome::Lost { .. } => demand(is_forced(history) && !task.attempts.is_empty(), || {
                format!("task {id} is lost and nothing forced it")
            })?,
            Outcome::Cancelled(CancelReason::Shutdown) => {
                let last = task.attempts.last();
                let runs = last.is_some_and(|last| last.started_at.is_some() && last.is_out());
                demand(!runs || task.starts <= task.retried, || {
                    format!("task {id} ran and is cancelled by the shutdown")
                })?;
            }
            Outcome::Ok(_)
            | Outcome::Failed(_)
            | Outcome::Crashed(_)
            | Outcome::TimedOut(_)
            | Outcome::Cancelled(_) => {}
        }
    }
    Ok(())
}

/// A forced stop kills at once, and whatever runs beyond the drain timeout is killed.
fn nobody_is_spared(history: &History, step: &Step) -> Verdict {
    let is_second = matches!(step.event, Event::StopRequested) && history.stopped_at.len() > 1;
    let is_forced_now = is_second || ended(step).any(|(_, outcome)| matches!(outcome, Outcome::Lost { .. }));
    let is_overdue = matches!(step.event, Event::TimePassed) && is_forced(history);
    let spared = history.workers.iter().find(|(_, worker)| {
        let runs = worker.holds.iter().any(|(_, id)| history.live.contains(id));
        let must_be_killed = is_forced_now || (is_overdue && runs);
        must_be_killed && worker.stage != Stage::Asked && worker.kill_at.is_none()
    });
    demand(spared.is_none(), || format!("the daemon is forced to stop and spares {spared:?}"))
}

/// What waits for its client to read is cancelled when that has had the drain timeout.
fn nobody_holds_the_drain_up(history: &History, step: &Step) -> Verdict {
    if !matches!(step.event, Event::TimePassed) {
        return Ok(());
    }
    let waiting = history
        .live_tasks()
        .filter(|task| {
            matches!(task.state, State::Pending | State::Delayed { .. }) && task.attempts.is_empty()
        })
        .find(|task| holds_the_drain_up(history, task));
    demand(waiting.is_none(), || format!("a client does not read and holds the drain up: {waiting:?}"))
}

/// Whether a task's client has not read for the drain timeout, nor has the daemon drained for less.
pub fn holds_the_drain_up(history: &History, task: &Task) -> bool {
    let blocked_at = history.clients.get(&task.client).and_then(|client| client.blocked_at);
    let since = history.drained_at.zip(blocked_at).map(|(drained_at, blocked_at)| drained_at.max(blocked_at));
    !task.is_detached() && since.is_some_and(|since| since + history.policy.drain_timeout <= history.now)
}

/// The tasks that ended in a step, and how.
fn ended(step: &Step) -> impl Iterator<Item = (&TaskId, &Outcome)> {
    step.actions.iter().filter_map(|action| match action {
        Action::Notice(Notice::TaskDone { task, outcome }) => Some((task, outcome)),
        _ => None,
    })
}
