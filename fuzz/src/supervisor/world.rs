//! The supervisor among those who talk to it, as far as the daemon lets them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use poold::id::{AttemptId, ConnectionId, Pid, RequestId, Uid, WorkerId};
use poold::message::status::FunctionInfo;
use poold::message::worker::Report;
use poold::supervisor::{Event, Policy, Supervisor};
use poold::task::{Exit, Payload};
use poold::time::Time;

use super::ledger::{EPOCH, Ledger};
use super::policies::{all_functions, calm};

/// No daemon runs that long: what is due later never comes.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Rounds after which those who behave must have come to an end.
const ROUNDS_MAX: usize = 10_000;

/// The supervisor and all that it is told of.
pub struct World {
    supervisor: Supervisor,
    /// What it was told and did.
    pub ledger: Ledger,
    /// The time.
    pub now: Time,
    /// Functions that speak for themselves, as the daemon knows them.
    pub functions: BTreeMap<(WorkerId, AttemptId), ConnectionId>,
    /// Connections that do not read.
    pub blocked: BTreeSet<ConnectionId>,
    last_connection: u64,
    last_pid: u32,
}

impl World {
    /// A supervisor that has just begun.
    pub fn new(policy: Policy, seed: u8) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        let mut world = World {
            supervisor: Supervisor::new(now, policy, EPOCH, seed.into()),
            ledger: Ledger::default(),
            now,
            functions: BTreeMap::new(),
            blocked: BTreeSet::new(),
            last_connection: 0,
            last_pid: 1,
        };
        world.carry_out();
        world
    }

    /// Tells the supervisor, and sees to it that what it does is in order.
    pub fn tell(&mut self, event: Event) {
        let is_from_the_dead = worker_of(&event).is_some_and(|worker| self.ledger.gone.contains(&worker));
        let time_passes = matches!(event, Event::TimePassed);
        self.ledger.event(&event);
        self.supervisor.handle(self.now, event);
        let actions = self.carry_out();
        assert!(actions == 0 || !is_from_the_dead, "word from a dead worker is heeded");
        if time_passes {
            let next = self.supervisor.poll_deadline();
            assert!(next.is_none_or(|next| next > self.now), "time has passed and is still waited for");
        }
    }

    /// What a worker does, as the daemon tells it: first that its functions are gone that are over with it.
    pub fn tell_of_worker(&mut self, event: Event) {
        let over: Vec<(WorkerId, AttemptId)> = match &event {
            Event::AttemptFinished { worker, attempt, .. } => vec![(*worker, *attempt)],
            Event::AttemptsFinished { worker, attempt, results } => {
                (0..results.count()).map(|place| (*worker, attempt.plus(place.into()))).collect()
            }
            Event::WorkerExited { worker, .. } => {
                self.functions.keys().filter(|(id, _)| id == worker).copied().collect()
            }
            _ => Vec::new(),
        };
        for function in over {
            if let Some(client) = self.functions.remove(&function) {
                self.leave(client);
            }
        }
        self.tell(event);
    }

    /// A client connects.
    pub fn connect(&mut self, user: Uid) -> ConnectionId {
        let client = self.next_connection();
        self.tell(Event::ClientConnected { client, peer: user.into() });
        client
    }

    /// A connection ends.
    pub fn leave(&mut self, client: ConnectionId) {
        self.blocked.remove(&client);
        self.tell(Event::ClientGone { client });
    }

    /// An id that no connection had.
    pub fn next_connection(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId(self.last_connection)
    }

    /// The process of a worker is there.
    pub fn spawned(&mut self, worker: WorkerId) {
        self.last_pid += 1;
        self.tell(Event::WorkerSpawned { worker, pid: Pid(self.last_pid) });
    }

    /// It is what the supervisor waits for, if that ever comes. Says whether it did.
    pub fn wake(&mut self) -> bool {
        let due = self.supervisor.poll_deadline().filter(|at| at.since(self.now) < FAR);
        if let Some(at) = due {
            self.now = self.now.max(at);
            self.tell(Event::TimePassed);
        }
        due.is_some()
    }

    /// From here on everybody behaves: all that was accepted ends, and so does the daemon when it is told to.
    pub fn end(&mut self, way: usize) {
        if !self.ledger.has_exited {
            self.come_to_an_end(way);
        }
        assert!(self.ledger.is_all_answered(), "a request was never answered: {:?}", self.ledger);
        assert_eq!(self.supervisor.poll_deadline(), None);
        self.tell(Event::StopRequested);
    }

    fn come_to_an_end(&mut self, way: usize) {
        for client in std::mem::take(&mut self.blocked) {
            self.tell(Event::ClientUnblocked { client });
        }
        self.tell(Event::PolicyChanged { policy: Box::new(calm()) });
        self.behave_until(|ledger| ledger.live.is_empty());
        if self.ledger.has_exited {
            return;
        }
        let operator = self.connect(Uid(0));
        if way < 3 {
            self.tell(Event::DrainRequested { client: operator, request: RequestId(0) });
        }
        for _ in 0..way {
            self.tell(Event::StopRequested);
        }
        self.behave_until(|ledger| ledger.has_exited);
    }

    fn behave_until(&mut self, is_over: impl Fn(&Ledger) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if self.ledger.has_exited || is_over(&self.ledger) {
                return;
            }
            let workers: Vec<WorkerId> = self.ledger.workers.keys().copied().collect();
            let did = workers.into_iter().map(|worker| self.behaves(worker)).filter(|did| *did).count();
            assert!(did > 0 || self.wake(), "there is no way on: {:?}", self.ledger);
        }
        panic!("it goes round in circles: {:?}", self.ledger);
    }

    /// A worker does what is next for it; says whether there was anything.
    fn behaves(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.ledger.workers.get(&id) else { return false };
        let held = worker.held.iter().next().map(|(attempt, held)| (*attempt, held.is_started));
        if !worker.is_spawned {
            self.spawned(id);
        } else if worker.is_told_to_end() || worker.is_deaf || worker.has_given_up {
            self.tell_of_worker(Event::WorkerExited { worker: id, exit: Exit::Code(0) });
        } else if worker.capacity.is_none() {
            let info = |name| FunctionInfo { name, signature: String::new(), summary: String::new() };
            let functions = all_functions().into_iter().map(info).collect();
            self.tell(Event::WorkerReady { worker: id, functions, capacity: 1, ahead: 1 });
        } else if let Some((attempt, is_started)) = held {
            if !is_started {
                self.tell(Event::AttemptStarted { worker: id, attempt });
            }
            let report = Report::Ok(Payload::default());
            self.tell_of_worker(Event::AttemptFinished { worker: id, attempt, report });
        } else if let Some(attempt) = worker.taken_back.first().copied() {
            self.tell(Event::AttemptsPassedOver { worker: id, attempt, count: 1 });
        } else {
            return false;
        }
        true
    }

    /// Does what the supervisor orders; gives how much that was.
    fn carry_out(&mut self) -> usize {
        let mut count = 0;
        while let Some(action) = self.supervisor.poll_action() {
            self.ledger.action(&action);
            count += 1;
        }
        if !self.ledger.has_exited {
            self.ledger.settle(&self.supervisor, self.now);
        }
        count
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
