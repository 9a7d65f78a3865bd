//! Contract 12: a task ends with its connection unless it is detached, and so with the function, and the
//! function's task, that submitted it; a stranger learns and changes
//! nothing; a kept result can be read again and again until it expires.

use poold::id::{ConnectionId, RequestId, TaskId};
use poold::message::client::{Refusal, ReplyBody};
use poold::message::status::TaskState;
use poold::supervisor::{Action, Event, Supervisor};
use poold::task::{Outcome, Started};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, State};
use crate::trial::{EPOCH, Step};

/// Watches who may do what.
#[derive(Default)]
pub struct Ownership {
    asked: Option<Asked>,
}

/// A request about a task, as it stood before.
struct Asked {
    client: ConnectionId,
    request: RequestId,
    task: TaskId,
    waits: Option<bool>,
    standing: Standing,
}

/// What the asker has to do with the task.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Unknown,
    Stranger { was_live: bool },
    Live,
    Kept,
    Forgotten,
}

impl Checker for Ownership {
    fn name(&self) -> &'static str {
        "ownership"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        self.asked = match event {
            Event::ResultRequested { client, request, task, wait } => {
                Some((client, request, task, Some(*wait)))
            }
            Event::CancelRequested { client, request, task } => Some((client, request, task, None)),
            _ => None,
        }
        .map(|(client, request, task, waits)| Asked {
            client: *client,
            request: *request,
            task: *task,
            waits,
            standing: standing(history, *client, *task),
        });
        Ok(())
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        let left = history
            .live_tasks()
            .find(|task| !task.is_detached() && !history.clients.contains_key(&task.client));
        demand(left.is_none(), || format!("a connection is gone and its task lives: {left:?}"))?;
        let Some(asked) = &self.asked else { return Ok(()) };
        let answer = step.actions.iter().find_map(|action| match action {
            Action::Reply { client, reply }
                if *client == asked.client && reply.request == Some(asked.request) =>
            {
                Some(&reply.body)
            }
            _ => None,
        });
        demand(is_right(history, asked, answer), || {
            format!("the request about {} ({:?}) is answered {answer:?}", asked.task, asked.standing)
        })
    }
}

fn standing(history: &History, client: ConnectionId, id: TaskId) -> Standing {
    match history.tasks.get(&id) {
        None => Standing::Unknown,
        Some(task) if !history.may_touch(client, task) => Standing::Stranger { was_live: !task.is_done() },
        Some(task) if !task.is_done() => Standing::Live,
        Some(_) if history.kept.contains(&id) => Standing::Kept,
        Some(_) => Standing::Forgotten,
    }
}

fn is_right(history: &History, asked: &Asked, answer: Option<&ReplyBody>) -> bool {
    let task = history.tasks.get(&asked.task);
    let outcome = task.and_then(|task| task.outcome());
    let no_such_task = matches!(answer, Some(ReplyBody::Refused(Refusal::NoSuchTask { .. })));
    let not_allowed = matches!(answer, Some(ReplyBody::Refused(Refusal::NotAllowed(_))));
    match (asked.standing, asked.waits) {
        (Standing::Unknown, Some(_)) if asked.task.epoch != EPOCH => {
            let lost = Outcome::Lost { started: Started::Unknown };
            matches!(answer, Some(ReplyBody::Done { outcome, .. }) if *outcome == lost)
        }
        (Standing::Unknown, None) if asked.task.epoch != EPOCH => answer.is_some(),
        (Standing::Unknown, _) => no_such_task,
        (Standing::Stranger { was_live }, _) => {
            (not_allowed || no_such_task) && was_live == outcome.is_none()
        }
        (Standing::Live, Some(true)) => {
            let is_refused = |body: &ReplyBody| {
                matches!(
                    body,
                    ReplyBody::Refused(Refusal::TooManyWatchers { .. } | Refusal::TooManyWaits { .. })
                )
            };
            answer.is_none_or(is_refused)
        }
        (Standing::Live, Some(false)) => match (answer, task.map(|task| &task.state)) {
            (Some(ReplyBody::NotDone { state, .. }), Some(truth)) => is_same(*state, truth),
            _ => false,
        },
        (Standing::Kept, Some(_)) => {
            matches!(answer, Some(ReplyBody::Done { outcome: told, .. }) if Some(told) == outcome)
        }
        (Standing::Forgotten, Some(_)) => no_such_task,
        (Standing::Live | Standing::Kept | Standing::Forgotten, None) => true,
    }
}

fn is_same(told: TaskState, truth: &State) -> bool {
    match truth {
        State::Delayed { .. } => matches!(told, TaskState::Delayed | TaskState::Pending),
        State::Pending => told == TaskState::Pending,
        State::Sent => told == TaskState::Running,
        State::Judged(_) | State::Done(_) => false,
    }
}
