//! Contract 4: a cancelled task is cancelled at once. Pending, it never starts; held unstarted, it is
//! recalled and its worker left alone; running, the worker is ended (see `termination`).

use poold::id::{ConnectionId, RequestId, TaskId, WorkerId};
use poold::message::client::{CancelAnswer, Refusal, ReplyBody};
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::{CancelReason, Outcome};
use poold::time::Time;

use super::shutdown::holds_the_drain_up;
use super::{Checker, Verdict, demand};
use crate::history::{History, State};
use crate::trial::Step;

/// Watches requests to cancel.
#[derive(Default)]
pub struct Cancel {
    asked: Option<Asked>,
}

/// A request to cancel that the asker may make.
struct Asked {
    client: ConnectionId,
    request: RequestId,
    task: TaskId,
    was_live: bool,
    was_kept: bool,
    /// The worker that holds it unstarted and may be asked to give it back.
    unstarted_at: Option<WorkerId>,
}

impl Checker for Cancel {
    fn name(&self) -> &'static str {
        "cancel"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        self.asked = None;
        if let Event::CancelRequested { client, request, task: id } = event
            && let Some(task) = history.tasks.get(id)
            && history.may_touch(*client, task)
        {
            let unstarted_at = match (&task.state, task.attempts.last()) {
                (State::Sent, Some(held)) if held.started_at.is_none() && held.recall_at.is_none() => {
                    Some(held.worker)
                        .filter(|worker| history.workers.get(worker).is_some_and(|w| w.is_ready()))
                }
                _ => None,
            };
            self.asked = Some(Asked {
                client: *client,
                request: *request,
                task: *id,
                was_live: !task.is_done(),
                was_kept: history.kept.contains(id),
                unstarted_at,
            });
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::Notice(Notice::TaskDone { task: id, outcome: Outcome::Cancelled(reason) }) = action
        else {
            return Ok(());
        };
        let has_reason = match reason {
            CancelReason::Client => {
                self.asked.as_ref().is_some_and(|asked| asked.task == *id && asked.was_live)
            }
            CancelReason::ClientGone => history
                .tasks
                .get(id)
                .is_some_and(|task| !history.clients.contains_key(&task.client) && !task.is_detached()),
            CancelReason::Shutdown => {
                !history.stopped_at.is_empty()
                    || history.tasks.get(id).is_some_and(|task| holds_the_drain_up(history, task))
            }
            CancelReason::Dependency => false,
        };
        demand(has_reason, || format!("task {id} is cancelled ({}) without a reason", reason.as_str()))
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        let Some(asked) = &self.asked else { return Ok(()) };
        let id = asked.task;
        let answer = step.actions.iter().find_map(|action| match action {
            Action::Reply { client, reply }
                if *client == asked.client && reply.request == Some(asked.request) =>
            {
                Some(&reply.body)
            }
            _ => None,
        });
        if !asked.was_live {
            let is_true = match answer {
                Some(ReplyBody::CancelAnswered { answer: CancelAnswer::AlreadyDone, .. }) => true,
                Some(ReplyBody::Refused(Refusal::NoSuchTask { .. })) => !asked.was_kept,
                _ => false,
            };
            return demand(is_true, || format!("the cancel of {id}, which is done, is answered {answer:?}"));
        }
        let expected = ReplyBody::CancelAnswered { task: id, answer: CancelAnswer::Cancelled };
        demand(answer == Some(&expected), || format!("the cancel of {id} is answered {answer:?}"))?;
        let outcome = history.tasks.get(&id).and_then(|task| task.outcome());
        demand(outcome == Some(&Outcome::Cancelled(CancelReason::Client)), || {
            format!("task {id} was cancelled and is {outcome:?}")
        })?;
        let Some(holder) = asked.unstarted_at else { return Ok(()) };
        let recalled =
            |action: &Action| matches!(action, Action::RecallAttempts { worker, .. } if *worker == holder);
        let hurt =
            |action: &Action| matches!(action, Action::SignalWorker { worker, .. } if *worker == holder);
        demand(step.actions.iter().any(recalled), || {
            format!("task {id} had not started and is not recalled")
        })?;
        demand(!step.actions.iter().any(hurt), || {
            format!("task {id} had not started and its worker is killed")
        })
    }
}
