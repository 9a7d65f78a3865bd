//! Contract 1: every accepted task ends in exactly one outcome, told once to the connection that it
//! belongs to and to everyone who waits; a refused one is never accepted.

use std::collections::{BTreeMap, BTreeSet};

use poold::id::{ConnectionId, RequestId, TaskId};
use poold::message::client::ReplyBody;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::Outcome;
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, Request};
use crate::trial::Step;

/// Counts outcomes.
#[derive(Default)]
pub struct ExactlyOneOutcome {
    /// Submissions whose outcome is still to be told.
    owed: BTreeMap<(ConnectionId, RequestId), TaskId>,
    /// Tasks whose end was noted.
    noted: BTreeSet<TaskId>,
    /// Tasks that ended in this step.
    ended: BTreeSet<TaskId>,
}

impl Checker for ExactlyOneOutcome {
    fn name(&self) -> &'static str {
        "exactly_one_outcome"
    }

    fn event(&mut self, _history: &History, _now: Time, _event: &Event) -> Verdict {
        self.ended.clear();
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::Reply { client, reply } => match reply.request {
                Some(request) => self.reply(history, (*client, request), &reply.body),
                None => Err(format!("connection {} is told something that it did not ask for", client.0)),
            },
            Action::Notice(Notice::TaskDone { task, outcome }) => {
                demand(self.noted.insert(*task), || format!("task {task} ended twice"))?;
                self.outcome(history, *task, outcome)
            }
            Action::Exit { .. } => {
                let left = history.live.first();
                demand(left.is_none(), || format!("the daemon exits and task {left:?} never ended"))
            }
            Action::SpawnWorker { .. }
            | Action::SendAttempt { .. }
            | Action::SendAttempts { .. }
            | Action::RecallAttempts { .. }
            | Action::LookAt { .. }
            | Action::StopWorker { .. }
            | Action::SignalWorker { .. }
            | Action::Notice(_) => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        self.owed.retain(|(owner, _), _| history.clients.contains_key(owner));
        for task in &self.ended {
            demand(self.noted.contains(task), || format!("task {task} ended without a notice"))?;
            let untold = self.owed.iter().find(|(_, owed)| *owed == task);
            demand(untold.is_none(), || format!("task {task} ended and its submitter was not told"))?;
        }
        if history.exit.is_some() {
            return Ok(());
        }
        for ((client, request), body) in &history.requests {
            let answered_later = match body {
                Request::Submit(submission) => history.may_yet_be_known(&submission.spec),
                Request::Result { task, wait } => *wait && history.live.contains(task),
                Request::Cancel(_) | Request::Release => false,
                Request::Drain => true,
            };
            demand(answered_later, || {
                format!("request {} of connection {} was not answered: {body:?}", request.0, client.0)
            })?;
        }
        Ok(())
    }
}

impl ExactlyOneOutcome {
    fn reply(&mut self, history: &History, key: (ConnectionId, RequestId), body: &ReplyBody) -> Verdict {
        let name = || format!("request {} of connection {}", key.1.0, key.0.0);
        match (history.requests.get(&key), body) {
            (Some(Request::Submit(submission)), ReplyBody::Accepted { task }) => {
                demand(!history.tasks.contains_key(task), || format!("id {task} is given twice"))?;
                if submission.spec.attachment == poold::task::Attachment::Attached {
                    self.owed.insert(key, *task);
                }
                Ok(())
            }
            (None, ReplyBody::Done { task, outcome }) => {
                demand(self.owed.remove(&key) == Some(*task), || {
                    format!("{} is told an outcome of {task} that is not owed to it", name())
                })?;
                self.outcome(history, *task, outcome)
            }
            (Some(Request::Result { task: asked, .. }), ReplyBody::Done { task, outcome }) => {
                demand(asked == task, || format!("{} asked for {asked} and is told of {task}", name()))?;
                match history.tasks.contains_key(task) {
                    true => self.outcome(history, *task, outcome),
                    false => Ok(()),
                }
            }
            (Some(Request::Result { task: asked, wait: false }), ReplyBody::NotDone { task, .. })
            | (Some(Request::Cancel(asked)), ReplyBody::CancelAnswered { task, .. }) => {
                demand(asked == task, || format!("{} asked for {asked} and is told of {task}", name()))
            }
            (Some(Request::Drain), ReplyBody::Drained) => Ok(()),
            (Some(Request::Release), ReplyBody::Released { .. }) => Ok(()),
            (Some(_), ReplyBody::Refused(_)) => Ok(()),
            (asked, _) => Err(format!("{} was {asked:?} and is answered {body:?}", name())),
        }
    }

    fn outcome(&mut self, history: &History, id: TaskId, outcome: &Outcome) -> Verdict {
        let Some(task) = history.tasks.get(&id) else {
            return Err(format!("task {id} ended and was never accepted"));
        };
        match task.outcome() {
            Some(former) => demand(former == outcome, || format!("task {id} ended {former}, then {outcome}")),
            None => {
                self.ended.insert(id);
                Ok(())
            }
        }
    }
}
