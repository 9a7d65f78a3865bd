//! Fake clients and the operator: they submit, cancel, ask, wait, stop reading and leave, as owners and
//! as strangers.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use poold::id::{ConnectionId, Epoch, FunctionName, PoolName, RequestId, TaskId, Uid};
use poold::limits::RETRIES_MAX;
use poold::supervisor::Event;
use poold::task::{Attachment, Deadline, Encoding, Payload, TaskSpec};

use crate::faults::Fault;
use crate::gather;
use crate::history::{self, History, State};
use crate::policies::{self, DAEMON_USER, ms};
use crate::trial::{EPOCH, Violation};
use crate::world::{Happening, World};

/// Those who submit.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    /// Every id that was given.
    ids: Vec<TaskId>,
    last_connection: u64,
    last_request: u64,
}

/// One who submits, over one connection at a time.
#[derive(Debug)]
struct Client {
    user: Uid,
    connection: Option<ConnectionId>,
    is_blocked: bool,
    /// Things that it will yet do.
    patience: u32,
    /// The ids that it was given.
    ids: Vec<TaskId>,
    /// Most milliseconds between two things that it does.
    pause_ms_max: u64,
}

impl Clients {
    /// A few users with a few connections.
    pub fn draw(rng: &mut Rng) -> Self {
        let users = [Uid(1000), Uid(1001), Uid(1002), Uid(0), DAEMON_USER];
        let users_in_use = rng.usize(1..=users.len());
        let clients = (0..rng.usize(1..6))
            .map(|_| Client {
                user: users[rng.usize(0..users_in_use)],
                connection: None,
                is_blocked: false,
                patience: rng.u32(3..40),
                ids: Vec::new(),
                pause_ms_max: rng.u64(2..60),
            })
            .collect();
        Clients { clients, ids: Vec::new(), last_connection: 0, last_request: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// A connection was given an id.
    pub fn learn(&mut self, connection: ConnectionId, task: TaskId) {
        self.ids.push(task);
        if let Some(client) = self.clients.iter_mut().find(|client| client.connection == Some(connection)) {
            client.ids.push(task);
        }
    }

    /// An id that no connection had before.
    pub fn next_connection(&mut self) -> ConnectionId {
        self.last_connection += 1;
        ConnectionId(self.last_connection)
    }

    /// A number that no request had before.
    pub fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }
}

impl World {
    /// A client does the next thing.
    pub fn client_acts(&mut self, index: usize) -> Result<(), Violation> {
        let client = &mut self.clients.clients[index];
        if client.patience == 0 {
            return Ok(());
        }
        client.patience -= 1;
        let pause_ms_max = client.pause_ms_max;
        let wait = self.delay(pause_ms_max);
        self.schedule(wait, Happening::ClientActs(index));
        let Some(connection) = self.clients.clients[index].connection else { return self.connects(index) };
        if self.clients.clients[index].is_blocked && self.rng.bool() {
            return self.blocks(index, connection, false);
        }
        if self.odds.strike(&mut self.rng, Fault::ClientDies) {
            return self.leaves(index, connection);
        }
        if self.strike(Fault::ClientBlocks) {
            return self.blocks(index, connection, true);
        }
        match self.rng.u32(0..20) {
            0..=12 => self.submits(connection),
            13..=15 => self.cancels(index, connection),
            16..=17 => self.asks(index, connection),
            _ => self.intrudes(connection),
        }
    }

    /// All clients read again, and do nothing more.
    pub fn clients_heal(&mut self) -> Result<(), Violation> {
        for index in 0..self.clients.count() {
            let client = &mut self.clients.clients[index];
            client.patience = 0;
            if let (true, Some(connection)) = (client.is_blocked, client.connection) {
                self.blocks(index, connection, false)?;
            }
        }
        Ok(())
    }

    /// A task for every function of every pool; whose they are, and how many.
    pub fn submit_probes(&mut self) -> Result<(ConnectionId, u64), Violation> {
        for function in self.trial.history.quarantined.clone() {
            self.operator_releases(function)?;
        }
        let client = self.clients.next_connection();
        self.tell(Event::ClientConnected { client, peer: Uid(0).into() })?;
        let policy = self.trial.history.policy.clone();
        let mut probes = 0;
        for pool in &policy.pools {
            for function in policies::functions() {
                let is_full = self.trial.history.live.len() as u64 >= policy.queue_tasks_max;
                if self.trial.history.pool_has(pool, &function) && !is_full {
                    let mut spec = TaskSpec::new(function);
                    spec.pool = Some(pool.name.clone());
                    spec.timeout = Some(Duration::from_secs(10));
                    let request = self.clients.next_request();
                    let args = Payload::default();
                    self.tell(Event::Submitted { client, request, spec: spec.into(), deadline: None, args })?;
                    probes += 1;
                }
            }
        }
        Ok((client, probes))
    }

    /// Somebody who may asks to drain.
    pub fn operator_drains(&mut self) -> Result<(), Violation> {
        let client = self.clients.next_connection();
        let user = if self.rng.bool() { Uid(0) } else { DAEMON_USER };
        self.tell(Event::ClientConnected { client, peer: user.into() })?;
        let request = self.clients.next_request();
        self.tell(Event::DrainRequested { client, request })
    }

    /// Somebody who may lifts a quarantine.
    pub fn operator_releases(&mut self, function: FunctionName) -> Result<(), Violation> {
        self.tally.count(Fault::Release);
        let client = self.clients.next_connection();
        self.tell(Event::ClientConnected { client, peer: DAEMON_USER.into() })?;
        let request = self.clients.next_request();
        self.tell(Event::ReleaseRequested { client, request, function })
    }

    fn connects(&mut self, index: usize) -> Result<(), Violation> {
        let connection = self.clients.next_connection();
        let client = &mut self.clients.clients[index];
        client.connection = Some(connection);
        client.is_blocked = false;
        let user = client.user;
        self.tell(Event::ClientConnected { client: connection, peer: policies::credentials(user) })
    }

    fn leaves(&mut self, index: usize, connection: ConnectionId) -> Result<(), Violation> {
        if self.trial.history.live_tasks().any(|task| task.client == connection) {
            self.tally.count(Fault::ClientDies);
        }
        self.clients.clients[index].connection = None;
        self.tell(Event::ClientGone { client: connection })
    }

    fn blocks(&mut self, index: usize, client: ConnectionId, is_blocked: bool) -> Result<(), Violation> {
        self.clients.clients[index].is_blocked = is_blocked;
        self.tell(if is_blocked {
            Event::ClientBlocked { client }
        } else {
            Event::ClientUnblocked { client }
        })
    }

    /// Submits several tasks at once, mostly such as stay together.
    fn submits_all(&mut self, client: ConnectionId) -> Result<(), Violation> {
        let mut spec = self.draw_spec();
        if self.rng.u32(0..8) > 0 {
            spec = TaskSpec { deadline: None, delay: None, attachment: Attachment::Attached, ..spec };
        }
        let deadline = match spec.deadline {
            Some(Deadline::After(wait)) => Some(self.now() + wait),
            Some(Deadline::At(_)) | None => None,
        };
        let each: Vec<Payload> = (0..self.rng.u32(1..12)).map(|_| self.draw_args()).collect();
        let Some(args) = gather::payloads(each.iter().filter(|args| args.inline().is_some())) else {
            return Ok(());
        };
        self.tally.count(Fault::SubmitsAll);
        let request = self.clients.next_request();
        for _ in 1..args.count() {
            self.clients.next_request();
        }
        self.count_bounds(client, &spec);
        self.tell(Event::SubmittedAll { client, request, spec: spec.into(), deadline, args })
    }

    fn submits(&mut self, client: ConnectionId) -> Result<(), Violation> {
        if self.rng.u32(0..3) == 0 {
            return self.submits_all(client);
        }
        for _ in 0..self.rng.u32(1..5) {
            let request = self.clients.next_request();
            let (spec, args) = (self.draw_spec(), self.draw_args());
            let deadline = match spec.deadline {
                Some(Deadline::After(wait)) => Some(self.now() + wait),
                Some(Deadline::At(_)) | None => None,
            };
            self.count_bounds(client, &spec);
            self.tell(Event::Submitted { client, request, spec: spec.into(), deadline, args })?;
        }
        Ok(())
    }

    /// Counts what is in the way of a submission.
    fn count_bounds(&mut self, client: ConnectionId, spec: &TaskSpec) {
        let history = &self.trial.history;
        let Some(peer) = history.clients.get(&client).map(|client| &client.peer) else { return };
        let of_user = history.live_tasks().filter(|task| task.owner.user == peer.user).count() as u64;
        let bounds = [
            (Fault::QueueFull, history.live.len() as u64 >= history.policy.queue_tasks_max),
            (
                Fault::UserQueueFull,
                !history::is_privileged(peer.user) && of_user >= history.policy.user_tasks_max,
            ),
            (Fault::ForbiddenFunction, !history.may_run(peer, &spec.function)),
        ];
        for (fault, _) in bounds.into_iter().filter(|(_, is_met)| *is_met) {
            self.tally.count(fault);
        }
    }

    /// Any task.
    pub fn draw_spec(&mut self) -> TaskSpec {
        let function = self.draw_function();
        let rng = &mut self.rng;
        let mut spec = TaskSpec::new(function);
        spec.priority = [0, 0, 0, 0, 5, -5, i16::MAX, i16::MIN][rng.usize(0..8)];
        if rng.u32(0..3) == 0 {
            spec.pool = draw_pool(rng, &self.trial.history);
        }
        if rng.u32(0..4) == 0 {
            spec.timeout = Some(ms(rng.u64(0..150)));
        }
        if rng.u32(0..4) == 0 {
            let micros = if rng.u32(0..20) == 0 { 0 } else { rng.u64(100..250_000) };
            spec.deadline = Some(Deadline::After(Duration::from_micros(micros)));
        }
        if rng.u32(0..3) == 0 {
            spec.retries = rng.u32(1..4);
        } else if rng.u32(0..100) == 0 {
            spec.retries = RETRIES_MAX + 1;
        }
        if rng.u32(0..5) == 0 {
            spec.delay = Some(ms(rng.u64(0..120)));
        }
        if rng.u32(0..3) == 0 {
            spec.attachment = Attachment::Detached;
        }
        spec
    }

    fn draw_function(&mut self) -> FunctionName {
        if self.strike(Fault::UnknownFunction) {
            return policies::function("nobody-has-it");
        }
        let functions = policies::functions();
        functions[self.rng.usize(0..functions.len())].clone()
    }

    /// Any arguments, a third of them in shared memory.
    pub fn draw_args(&mut self) -> Payload {
        let bytes = if self.rng.u32(0..60) == 0 { 5000 } else { self.rng.usize(0..100) };
        if bytes.is_multiple_of(3) {
            return policies::shared(bytes as u64);
        }
        Payload::new(Encoding::Json, Bytes::from(vec![self.rng.u8(..); bytes]))
    }

    fn cancels(&mut self, index: usize, client: ConnectionId) -> Result<(), Violation> {
        let Some(task) = self.draw_own(index) else { return Ok(()) };
        if let Some(fault) = cancel_kind(&self.trial.history, task) {
            self.tally.count(fault);
        }
        if self.is_waited_in(task) {
            self.tally.count(Fault::CancelWaiting);
        }
        if self.result_is_on_its_way(task) {
            self.tally.count(Fault::CancelCrossesResult);
        }
        let request = self.clients.next_request();
        self.tell(Event::CancelRequested { client, request, task })
    }

    fn asks(&mut self, index: usize, client: ConnectionId) -> Result<(), Violation> {
        let Some(task) = self.draw_own(index) else { return Ok(()) };
        let request = self.clients.next_request();
        let wait = self.rng.bool();
        self.tell(Event::ResultRequested { client, request, task, wait })
    }

    /// A client asks for what may not be its own, or not be there.
    fn intrudes(&mut self, client: ConnectionId) -> Result<(), Violation> {
        let request = self.clients.next_request();
        let task = match self.rng.u32(0..10) {
            0 => TaskId { epoch: EPOCH, number: 1_000_000 },
            1 => TaskId { epoch: Epoch(1), number: 1 },
            _ if self.clients.ids.is_empty() => return Ok(()),
            _ => self.clients.ids[self.rng.usize(0..self.clients.ids.len())],
        };
        let history = &self.trial.history;
        if history.tasks.get(&task).is_some_and(|task| !history.may_touch(client, task)) {
            self.tally.count(Fault::StrangerAsks);
        }
        let wait = self.rng.bool();
        match self.rng.u32(0..8) {
            0..=2 => self.tell(Event::CancelRequested { client, request, task }),
            _ => self.tell(Event::ResultRequested { client, request, task, wait }),
        }
    }

    /// One of a client's tasks, more often a late one.
    fn draw_own(&mut self, index: usize) -> Option<TaskId> {
        let ids = &self.clients.clients[index].ids;
        let back = self.rng.usize(0..ids.len().max(1)).min(self.rng.usize(0..ids.len().max(1)));
        ids.iter().rev().nth(back).copied()
    }
}

fn draw_pool(rng: &mut Rng, history: &History) -> Option<PoolName> {
    if rng.u32(0..12) == 0 {
        return Some(policies::pool("nowhere"));
    }
    let pools = &history.policy.pools;
    Some(pools[rng.usize(0..pools.len())].name.clone())
}

fn cancel_kind(history: &History, task: TaskId) -> Option<Fault> {
    let task = history.tasks.get(&task)?;
    match &task.state {
        State::Delayed { .. } => Some(Fault::CancelDelayed),
        State::Pending => Some(Fault::CancelPending),
        State::Sent if task.attempts.last()?.started_at.is_none() => Some(Fault::CancelUnstarted),
        State::Sent => Some(Fault::CancelRunning),
        State::Judged(_) | State::Done(_) => None,
    }
}
