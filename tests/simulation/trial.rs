//! The supervisor on trial: every event goes to it through here, every action comes back through here,
//! and after each the checkers are asked.
//!
//! ```text
//!            event                    event
//!   world ──────────> Trial ───────────────────────> Supervisor
//!         <──────────   │   <───────────────────────
//!           actions     │            actions
//!                       └──> History ──> checkers ──> Violation
//! ```

use std::fmt;

use poold::id::Epoch;
use poold::message::client::{Reply, ReplyBody};
use poold::supervisor::{Action, Event, Notice, Policy, Supervisor};
use poold::time::Time;

use crate::checkers::{self, Checker, Verdict};
use crate::history::{Fact, History};
use crate::pieces;
use crate::trace::Trace;

/// The epoch of every simulated daemon.
pub const EPOCH: Epoch = Epoch(0x5f3a_91c2);

/// One event and what came of it.
#[derive(Debug)]
pub struct Step {
    /// When.
    pub now: Time,
    /// What the supervisor was told; of what it was told of many at once, the last.
    pub event: Event,
    /// What it ordered, in order.
    pub actions: Vec<Action>,
    /// What it had wanted to be woken for.
    pub deadline_before: Option<Time>,
}

/// A breach of the contract.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Who found it.
    pub checker: &'static str,
    /// In which step.
    pub step: u64,
    /// What is wrong.
    pub message: String,
}

/// A supervisor, the facts of its run and those who judge them.
pub struct Trial {
    /// On trial.
    pub supervisor: Supervisor,
    /// The facts.
    pub history: History,
    checkers: Vec<Box<dyn Checker>>,
    trace: Trace,
}

impl Trial {
    /// A trial from the supervisor's first breath.
    pub fn new(now: Time, policy: Policy, seed: u64, trace: Trace) -> Self {
        Trial {
            supervisor: Supervisor::new(now, policy.clone(), EPOCH, seed),
            history: History::new(now, policy),
            checkers: checkers::all(),
            trace,
        }
    }

    /// The supervisor's first actions, before any event: to the checkers, a step in which time passed.
    pub fn begin(&mut self) -> Result<Vec<Action>, Violation> {
        let now = self.history.now;
        self.judge_step(now, Event::TimePassed, None)
    }

    /// Tells the supervisor what happened and hands back what it ordered.
    pub fn step(&mut self, now: Time, event: Event) -> Result<Vec<Action>, Violation> {
        let deadline_before = self.supervisor.poll_deadline();
        self.supervisor.handle(now, event.clone());
        self.judge_step(now, event, deadline_before)
    }

    /// Lets the checkers know what the world alone knows.
    pub fn fact(&mut self, fact: Fact) -> Result<(), Violation> {
        self.note(|| format!("              fact  {fact:?}"));
        self.ask(|checker, history| checker.fact(history, fact))?;
        self.history.take_fact(fact);
        Ok(())
    }

    /// Adds a line to the account of the run.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(line);
    }

    /// The account of the run, as far as it was kept.
    pub fn account(&self) -> String {
        self.trace.text()
    }

    /// A breach found by someone other than the checkers.
    pub fn violation(&self, checker: &'static str, message: String) -> Violation {
        Violation { checker, step: self.history.step, message }
    }

    fn judge_step(
        &mut self,
        now: Time,
        event: Event,
        deadline_before: Option<Time>,
    ) -> Result<Vec<Action>, Violation> {
        if self.history.exit.is_some() {
            return match self.supervisor.poll_action() {
                Some(action) => Err(self.violation("shutdown", format!("after the exit comes {action:?}"))),
                None => Ok(Vec::new()),
            };
        }
        let number = self.history.step + 1;
        self.note(|| format!("{number:>6} {now:>14}  {event:?}"));
        let mut ordered = Vec::new();
        while let Some(action) = self.supervisor.poll_action() {
            self.note(|| format!("                    -> {action:?}"));
            ordered.push(action);
        }
        let mut ordered: Vec<Action> = ordered.into_iter().flat_map(pieces::of_action).collect();
        let mut events = pieces::of_event(&event);
        let last = events.pop().expect("an event stands for one at the least");
        let mut step = Step { now, event: last.clone(), actions: Vec::new(), deadline_before };
        for event in events {
            let answers = self.concern(&event);
            self.take_event(now, &event)?;
            for action in ordered.extract_if(.., |action| answers(action)) {
                self.take_action(&action)?;
                step.actions.push(action);
            }
        }
        self.take_event(now, &last)?;
        for action in ordered {
            self.take_action(&action)?;
            step.actions.push(action);
        }
        self.history.end_step(&step.event);
        let supervisor = &self.supervisor;
        for checker in &mut self.checkers {
            if let Err(message) = checker.settled(&self.history, &step, supervisor) {
                let (checker, step) = (checker.name(), self.history.step);
                return Err(Violation { checker, step, message });
            }
        }
        Ok(step.actions)
    }

    /// Which actions are the answer to one of several events that the supervisor was told of at once.
    fn concern(&self, event: &Event) -> impl Fn(&Action) -> bool + use<> {
        let asked = match event {
            Event::Submitted { client, request, .. } => Some((*client, *request)),
            _ => None,
        };
        let ended = match event {
            Event::AttemptFinished { worker, attempt, .. } => {
                self.history.attempt(*worker, *attempt).map(|(task, _)| task.id)
            }
            _ => None,
        };
        move |action| match action {
            Action::Reply { client, reply: Reply { request: Some(request), body } } => {
                let is_end = matches!(body, ReplyBody::Done { task, .. } if Some(*task) == ended);
                asked == Some((*client, *request)) || is_end
            }
            Action::Notice(Notice::TaskDone { task, .. }) => Some(*task) == ended,
            _ => false,
        }
    }

    fn take_event(&mut self, now: Time, event: &Event) -> Result<(), Violation> {
        self.ask(|checker, history| checker.event(history, now, event))?;
        self.history.take_event(now, event);
        Ok(())
    }

    fn take_action(&mut self, action: &Action) -> Result<(), Violation> {
        self.ask(|checker, history| checker.action(history, action))?;
        self.history.take_action(action);
        Ok(())
    }

    fn ask(
        &mut self,
        mut question: impl FnMut(&mut dyn Checker, &History) -> Verdict,
    ) -> Result<(), Violation> {
        for checker in &mut self.checkers {
            if let Err(message) = question(checker.as_mut(), &self.history) {
                let (checker, step) = (checker.name(), self.history.step);
                return Err(Violation { checker, step, message });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step {}, checker {}: {}", self.step, self.checker, self.message)
    }
}
