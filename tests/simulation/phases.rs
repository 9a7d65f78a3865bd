//! How a run goes: its faults, their healing, the demand that everything be well again, and at last a
//! drain or a stop of the daemon in the middle of work.

use poold::id::WorkerId;
use poold::supervisor::Event;
use poold::task::OutcomeKind;

use crate::faults::Fault;
use crate::policies::ms;
use crate::trial::Violation;
use crate::world::{Happening, World};

impl World {
    /// Puts on the agenda what clients, operators and the dead will do, and the end of it.
    pub fn plan_faults(&mut self) {
        for client in 0..self.clients.count() {
            let wait = self.delay(20);
            self.schedule(wait, Happening::ClientActs(client));
        }
        let faults_ms = self.rng.u64(150..900);
        self.schedule(ms(faults_ms), Happening::Heals);
        for (fault, happening, times) in [
            (Fault::Reload, Happening::Reloads, 6),
            (Fault::Drain, Happening::Drains, 2),
            (Fault::Release, Happening::Releases, 6),
            (Fault::Stop, Happening::Stops, 2),
        ] {
            for _ in 0..times {
                if self.odds.strike(&mut self.rng, fault) {
                    let wait = ms(self.rng.u64(0..faults_ms));
                    self.schedule(wait, happening.clone());
                }
            }
        }
        for _ in 0..self.rng.u32(0..8) {
            let wait = ms(self.rng.u64(0..faults_ms));
            self.schedule(wait, Happening::LateMessage);
        }
    }

    /// The daemon is told to end while tasks run, in one way or another.
    pub fn end(&mut self) -> Result<(), Violation> {
        let (client, _) = self.submit_probes()?;
        if self.rng.u32(0..4) == 0 {
            self.tally.count(Fault::DrainHeldUp);
            self.tell(Event::ClientBlocked { client })?;
        }
        let endings: &[Happening] = match self.rng.u32(0..5) {
            0 => &[Happening::Drains],
            1 => &[Happening::Stops],
            2 => &[Happening::Drains, Happening::Stops],
            3 => &[Happening::Stops, Happening::Stops],
            _ => &[Happening::Drains, Happening::Stops, Happening::Stops],
        };
        let mut wait = self.delay(50);
        for ending in endings {
            self.schedule(wait, ending.clone());
            wait += self.delay(100);
        }
        self.live()
    }

    /// The daemon is told to stop, or told so again.
    pub fn stops(&mut self) -> Result<(), Violation> {
        let is_first = self.trial.history.stopped_at.is_empty();
        self.tally.count(if is_first { Fault::Stop } else { Fault::StopAgain });
        self.tell(Event::StopRequested)
    }

    /// From here on everything behaves.
    pub fn heals(&mut self) -> Result<(), Violation> {
        self.odds.heal();
        self.healed_at = Some(self.now());
        self.trial.note(|| "              all faults are healed".to_owned());
        let processes: Vec<WorkerId> = self.processes.keys().copied().collect();
        for worker in processes {
            self.thaws(worker);
        }
        for (worker, attempt) in std::mem::take(&mut self.endless) {
            let wait = self.delay(100);
            self.schedule(wait, Happening::FunctionEnds(worker, attempt));
        }
        self.end_lifetimes()?;
        self.clients_heal()
    }

    /// Lets workers live for ever: else there would be no end to their coming and going.
    fn end_lifetimes(&mut self) -> Result<(), Violation> {
        let mut policy = self.trial.history.policy.clone();
        for pool in &mut policy.pools {
            pool.max_lifetime = None;
        }
        self.tell(Event::PolicyChanged { policy: Box::new(policy) })
    }

    /// Every accepted task has ended and every pool is at full strength.
    pub fn demand_health(&self) -> Result<(), Violation> {
        let history = &self.trial.history;
        if let Some(id) = history.live.first() {
            return Err(self.complaint(&format!("task {id} never ended: {:?}", history.tasks.get(id))));
        }
        if let Some(request) = history.requests.first_key_value() {
            return Err(self.complaint(&format!("a request was never answered: {request:?}")));
        }
        for pool in &history.policy.pools {
            let ready = history.workers.values().filter(|w| w.pool == pool.name && w.is_ready()).count();
            let wanted = (pool.workers + pool.standby) as usize;
            if ready != wanted {
                let complaint = format!("pool {} has {ready} workers of {wanted}", pool.name);
                return Err(self.complaint(&complaint));
            }
        }
        if self.trial.supervisor.pools().iter().any(|pool| pool.degraded) {
            return Err(self.complaint("a pool is well and still called degraded"));
        }
        Ok(())
    }

    /// Every pool still works: a task for each of its functions ends well.
    pub fn probe(&mut self) -> Result<(), Violation> {
        let ok_before = self.trial.history.outcomes.get(&OutcomeKind::Ok).copied().unwrap_or_default();
        let (_, probes) = self.submit_probes()?;
        self.live()?;
        let ok = self.trial.history.outcomes.get(&OutcomeKind::Ok).copied().unwrap_or_default();
        match ok == ok_before + probes {
            true => Ok(()),
            false => Err(self.complaint("a task on a healthy pool does not end well")),
        }
    }
}
