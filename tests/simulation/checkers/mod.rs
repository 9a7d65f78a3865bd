//! The contract, one clause a file. A checker sees every event before the history takes it in, every
//! action before the history takes it in, and the settled state after each step; it knows nothing of
//! how the supervisor works.

mod admission;
mod ahead;
mod at_most_once;
mod blame;
mod bounds;
mod cancel;
mod deadline;
mod driver;
mod exactly_one_outcome;
mod generations;
mod order;
mod ownership;
mod quarantine;
mod reasons;
mod recycling;
mod restarts;
mod retry;
mod shutdown;
mod status;
mod termination;
mod utilization;

use poold::message::client::{Reply, ReplyBody};
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::Outcome;
use poold::time::Time;

use crate::history::{Fact, History, Task};
use crate::trial::Step;

/// Nothing, or what is wrong in a sentence.
pub type Verdict = Result<(), String>;

/// Judges one clause of the contract.
pub trait Checker {
    /// The clause, as its file is named.
    fn name(&self) -> &'static str;

    /// Before the history takes in an event that happens at `now`.
    fn event(&mut self, _history: &History, _now: Time, _event: &Event) -> Verdict {
        Ok(())
    }

    /// Before the history takes in an action.
    fn action(&mut self, _history: &History, _action: &Action) -> Verdict {
        Ok(())
    }

    /// Before the history takes in what the world alone knows.
    fn fact(&mut self, _history: &History, _fact: Fact) -> Verdict {
        Ok(())
    }

    /// After each step.
    fn settled(&mut self, _history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        Ok(())
    }
}

/// Every clause.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(driver::Driver),
        Box::new(generations::Generations::default()),
        Box::new(exactly_one_outcome::ExactlyOneOutcome::default()),
        Box::new(blame::Blame::default()),
        Box::new(ahead::Ahead),
        Box::new(at_most_once::AtMostOnce::default()),
        Box::new(retry::Retry::default()),
        Box::new(cancel::Cancel::default()),
        Box::new(deadline::Deadline),
        Box::new(termination::Termination::default()),
        Box::new(reasons::Reasons),
        Box::new(order::Order::default()),
        Box::new(utilization::Utilization),
        Box::new(admission::Admission),
        Box::new(bounds::Bounds),
        Box::new(ownership::Ownership::default()),
        Box::new(restarts::Restarts::default()),
        Box::new(recycling::Recycling),
        Box::new(quarantine::Quarantine::default()),
        Box::new(shutdown::Shutdown),
        Box::new(status::Status),
    ]
}

/// The task whose end an action tells of, and its outcome, unless that was told before.
pub fn ending<'a>(history: &'a History, action: &'a Action) -> Option<(&'a Task, &'a Outcome)> {
    let (id, outcome) = match action {
        Action::Notice(Notice::TaskDone { task, outcome }) => (task, outcome),
        Action::Reply { reply: Reply { body: ReplyBody::Done { task, outcome }, .. }, .. } => (task, outcome),
        _ => return None,
    };
    history.tasks.get(id).filter(|task| !task.is_done()).map(|task| (task, outcome))
}

/// `Ok` if it holds, else the complaint.
pub fn demand(holds: bool, complaint: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(complaint()) }
}
