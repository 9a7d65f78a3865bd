//! Word from a dead generation changes nothing: an event about a worker that is gone is answered by no
//! order at all.

use poold::id::WorkerId;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::History;
use crate::trial::Step;

/// Watches what follows on late messages.
#[derive(Default)]
pub struct Generations {
    is_stale: bool,
}

impl Checker for Generations {
    fn name(&self) -> &'static str {
        "generations"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        self.is_stale = worker_of(event).is_some_and(|worker| !history.workers.contains_key(&worker));
        Ok(())
    }

    fn settled(&mut self, _history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        let timers_are_due = step.deadline_before.is_some_and(|deadline| deadline <= step.now);
        if !self.is_stale || timers_are_due {
            return Ok(());
        }
        let heeded = step
            .actions
            .iter()
            .find(|action| !matches!(action, Action::Notice(Notice::LateResultDropped { .. })));
        demand(heeded.is_none(), || format!("word from a dead worker was heeded: {heeded:?}"))
    }
}

/// The worker that an event is about.
fn worker_of(event: &Event) -> Option<WorkerId> {
    match event {
        Event::WorkerSpawned { worker, .. }
        | Event::SpawnFailed { worker, .. }
        | Event::WorkerReady { worker, .. }
        | Event::WorkerNotReady { worker, .. }
        | Event::AttemptStarted { worker, .. }
        | Event::AttemptFinished { worker, .. }
        | Event::AttemptsFinished { worker, .. }
        | Event::AttemptsRecalled { worker, .. }
        | Event::AttemptsPassedOver { worker, .. }
        | Event::WorkerMeasured { worker, .. }
        | Event::WorkerHungUp { worker }
        | Event::WorkerBroke { worker, .. }
        | Event::WorkerExited { worker, .. } => Some(*worker),
        Event::ClientConnected { .. }
        | Event::FunctionConnected { .. }
        | Event::ClientGone { .. }
        | Event::ClientBlocked { .. }
        | Event::ClientUnblocked { .. }
        | Event::Submitted { .. }
        | Event::SubmittedAll { .. }
        | Event::CancelRequested { .. }
        | Event::ResultRequested { .. }
        | Event::DrainRequested { .. }
        | Event::ReleaseRequested { .. }
        | Event::StopRequested
        | Event::PolicyChanged { .. }
        | Event::TimePassed => None,
    }
}
