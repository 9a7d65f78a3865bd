//! What processes do that they should not: freeze, lie, break off, speak from the grave.

use std::time::Duration;

use poold::id::{AttemptId, WorkerId};
use poold::supervisor::Event;
use poold::task::Exit;

use crate::faults::Fault;
use crate::policies::ms;
use crate::processes::result;
use crate::trial::Violation;
use crate::world::{Happening, World};

/// An attempt number that no worker is ever sent.
const NEVER_SENT: AttemptId = AttemptId(1_000_000);

impl World {
    /// A worker can be heard no more, and its process goes on.
    pub fn breaks(&mut self, worker: WorkerId, fault: Fault, last_word: Event) {
        self.write(worker, last_word);
        if let Some(process) = self.processes.get_mut(&worker)
            && process.is_connected
        {
            process.is_connected = false;
            self.tally.count(fault);
        }
    }

    /// A worker speaks of an attempt that it was never sent, or has reported before.
    pub fn speak_out_of_turn(&mut self, worker: WorkerId) {
        if !self.odds.strike(&mut self.rng, Fault::SpeaksOutOfTurn) {
            return;
        }
        let reported = self.processes.get(&worker).and_then(|process| process.reported.first().copied());
        let attempt = reported.filter(|_| self.rng.bool()).unwrap_or(NEVER_SENT);
        self.tally.count(Fault::SpeaksOutOfTurn);
        let event = match self.rng.u32(0..4) {
            0 => Event::AttemptStarted { worker, attempt },
            1 => Event::AttemptFinished { worker, attempt, report: result(worker, attempt) },
            2 => Event::AttemptsRecalled { worker, attempt, count: 1 },
            _ => Event::AttemptsPassedOver { worker, attempt, count: 1 },
        };
        self.write(worker, event);
    }

    /// What a worker says when it is ready: nearly always that.
    pub fn contradict(&mut self, worker: WorkerId, ready: Event) -> Vec<Event> {
        if !self.strike(Fault::ContradictsItself) {
            return vec![ready];
        }
        let not_ready = Event::WorkerNotReady { worker, message: "or rather not".to_owned() };
        match self.rng.u32(0..3) {
            0 => vec![not_ready, ready],
            1 => vec![ready.clone(), not_ready],
            _ => vec![ready.clone(), ready],
        }
    }

    /// A process is stopped, for a while or until the healing.
    pub fn freezes(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.is_frozen = true;
        }
        if self.rng.bool() {
            let wait = ms(self.rng.u64(10..300));
            self.schedule(wait, Happening::Thaws(worker));
        }
    }

    /// A ready worker may die soon, with or without something to do.
    pub fn may_die_idle(&mut self, worker: WorkerId) {
        if self.odds.strike(&mut self.rng, Fault::DiesIdle) {
            let wait = self.delay(30);
            self.schedule(wait, Happening::Dies(worker, Exit::Signal(8)));
        }
    }

    /// A stopped process goes on with what it was about to do.
    pub fn thaws(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if !process.is_frozen {
            return;
        }
        process.is_frozen = false;
        let parked = std::mem::take(&mut process.parked);
        let must_end = process.is_terminated && process.heeds_terminate;
        if must_end {
            self.schedule(Duration::ZERO, Happening::Dies(worker, Exit::Signal(15)));
        }
        for happening in parked {
            self.schedule(Duration::ZERO, happening);
        }
        let arrives_at = self.now();
        if let Some(process) = self.processes.get_mut(&worker) {
            process.arrives_at = process.arrives_at.max(arrives_at);
        }
    }

    /// Something is heard in the name of a worker that is gone.
    pub fn late_message(&mut self) -> Result<(), Violation> {
        let count = self.trial.history.gone.len();
        if count == 0 {
            return Ok(());
        }
        let index = self.rng.usize(0..count);
        let Some(worker) = self.trial.history.gone.keys().nth(index).copied() else { return Ok(()) };
        let attempt = AttemptId(self.rng.u64(1..6));
        self.tally.count(Fault::LateMessage);
        let message = String::new();
        let event = match self.rng.u32(0..11) {
            0 => Event::AttemptStarted { worker, attempt },
            1..=3 => Event::AttemptFinished { worker, attempt, report: result(worker, attempt) },
            4 => Event::AttemptsRecalled { worker, attempt, count: 1 },
            5 => Event::WorkerReady { worker, functions: Vec::new(), capacity: 1, ahead: 1 },
            6 => Event::WorkerNotReady { worker, message },
            7 => Event::WorkerHungUp { worker },
            8 => Event::WorkerBroke { worker, reason: message },
            9 => Event::AttemptsPassedOver { worker, attempt, count: 1 },
            _ => Event::WorkerExited { worker, exit: Exit::Signal(9) },
        };
        self.tell(event)
    }
}
