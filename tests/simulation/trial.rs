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
use poold::supervisor::{Action, Event, Policy, Supervisor};
use poold::time::Time;

use crate::checkers::{self, Checker, Verdict};
use crate::history::{Fact, History};
use crate::trace::Trace;

/// The epoch of every simulated daemon.
pub const EPOCH: Epoch = Epoch(0x5f3a_91c2);

/// One event and what came of it.
#[derive(Debug)]
pub struct Step {
    /// When.
    pub now: Time,
    /// What the supervisor was told.
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

    /// The supervisor's first actions, before any event.
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
        self.ask(|checker, history| checker.event(history, now, &event))?;
        self.history.take_event(now, &event);
        let mut step = Step { now, event, actions: Vec::new(), deadline_before };
        while let Some(action) = self.supervisor.poll_action() {
            self.note(|| format!("                    -> {action:?}"));
            self.ask(|checker, history| checker.action(history, &action))?;
            self.history.take_action(&action);
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
