//! Tells a story to the supervisor, step by step, with every checker listening.
//!
//! Orders that follow on an event (attempts, signals, replies, …) must all be expected before the next
//! event, and before the story ends; notices may be. Time passes only where the story says so, from one wake-up to the next.

use std::time::Duration;

use bytes::Bytes;
use poold::id::{
    AttemptId, ConnectionId, Credentials, Generation, Pid, RequestId, SlotId, TaskId, Uid, WorkerId,
};
use poold::message::client::{Refusal, Reply, ReplyBody};
use poold::message::status::FunctionInfo;
use poold::message::worker::Report;
use poold::supervisor::{Action, Event, Notice, Policy, PoolPolicy, Signal, Supervisor};
use poold::task::{Encoding, Exit, Outcome, Payload, TaskSpec};
use poold::time::Time;

use crate::history::Fact;
use crate::policies::{DAEMON_USER, function, pool};
use crate::trace::Trace;
use crate::trial::{Trial, Violation};

/// A user who owns most of what happens in stories.
pub const ALICE: Uid = Uid(1000);
/// Another user.
pub const BOB: Uid = Uid(1001);

/// A supervisor and what it has ordered and nobody expected yet.
pub struct Harness {
    trial: Trial,
    now: Time,
    orders: Vec<Action>,
    notices: Vec<Notice>,
    last_connection: u64,
    last_request: u64,
    last_pid: u32,
}

/// An attempt that a worker was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// To which worker.
    pub worker: WorkerId,
    /// Its number there.
    pub attempt: AttemptId,
}

/// The worker of a slot and generation.
pub fn worker(slot: u32, generation: u64) -> WorkerId {
    WorkerId { slot: SlotId(slot), generation: Generation(generation) }
}

/// A pool `cpu` of so many workers with defaults for all else.
pub fn cpu(workers: u32) -> Policy {
    Policy::new(vec![PoolPolicy::new(pool("cpu"), workers)], DAEMON_USER)
}

/// A task of the function `work`.
pub fn work() -> TaskSpec {
    TaskSpec::new(function("work"))
}

/// A report of a good end, with a text as its result.
pub fn ok(text: &'static str) -> Report {
    Report::Ok(Payload::new(Encoding::Bytes, Bytes::from_static(text.as_bytes())))
}

/// The outcome that follows from [`ok`].
pub fn is_ok(text: &'static str) -> Outcome {
    match ok(text) {
        Report::Ok(result) => Outcome::Ok(result),
        Report::Failed(failure) => Outcome::Failed(failure),
    }
}

impl Harness {
    /// A supervisor that has just begun: its workers were asked for.
    pub fn new(policy: Policy) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        let mut harness = Harness {
            trial: Trial::new(now, policy, 1, Trace::last()),
            now,
            orders: Vec::new(),
            notices: Vec::new(),
            last_connection: 0,
            last_request: 0,
            last_pid: 100,
        };
        let first = harness.trial.begin();
        harness.sort(first);
        harness
    }

    /// A supervisor of a pool `cpu` with so many ready workers, which can run `work`.
    pub fn with_workers(workers: u32) -> Self {
        Harness::ready(cpu(workers))
    }

    /// A supervisor whose workers are all ready and can run `work`, one attempt at a time.
    pub fn ready(policy: Policy) -> Self {
        let mut harness = Harness::new(policy);
        harness.all_get_ready();
        harness
    }

    /// The workers that were asked for become ready.
    pub fn all_get_ready(&mut self) {
        while let Some(id) = self.find(|action| match action {
            Action::SpawnWorker { worker, .. } => Some(*worker),
            _ => None,
        }) {
            self.spawned(id);
            self.becomes_ready(id, &["work"]);
        }
    }

    /// The supervisor, to be asked.
    pub fn supervisor(&self) -> &Supervisor {
        &self.trial.supervisor
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Something happens.
    pub fn event(&mut self, event: Event) -> &mut Self {
        self.expect_no_more();
        self.notices.clear();
        let actions = self.trial.step(self.now, event);
        self.sort(actions);
        self
    }

    /// Time passes; the supervisor is woken whenever it wants to be, and orders pile up meanwhile.
    pub fn advance(&mut self, duration: Duration) -> &mut Self {
        self.expect_no_more();
        self.notices.clear();
        let until = self.now + duration;
        while let Some(wake) = self.trial.supervisor.poll_deadline().filter(|wake| *wake <= until) {
            self.now = wake.max(self.now);
            let actions = self.trial.step(self.now, Event::TimePassed);
            self.sort(actions);
        }
        self.now = until;
        self
    }

    /// Time passes, and the supervisor is woken only then.
    pub fn wakes_late(&mut self, duration: Duration) -> &mut Self {
        self.now = self.now + duration;
        self.event(Event::TimePassed)
    }

    /// A client connects.
    pub fn connect(&mut self, peer: impl Into<Credentials>) -> ConnectionId {
        self.last_connection += 1;
        let client = ConnectionId(self.last_connection);
        self.event(Event::ClientConnected { client, peer: peer.into() });
        client
    }

    /// A client submits; what follows is the story's to expect.
    pub fn submit_only(&mut self, client: ConnectionId, spec: TaskSpec) -> RequestId {
        self.submit_with(client, spec, "argument")
    }

    /// The same, with this argument.
    pub fn submit_with(&mut self, client: ConnectionId, spec: TaskSpec, argument: &str) -> RequestId {
        let request = self.next_request();
        let deadline = match spec.deadline {
            Some(poold::task::Deadline::After(wait)) => Some(self.now + wait),
            Some(poold::task::Deadline::At(_)) | None => None,
        };
        let args = Payload::from_args([argument]);
        self.event(Event::Submitted { client, request, spec: spec.into(), deadline, args });
        request
    }

    /// A client submits a task that is accepted.
    pub fn submit(&mut self, client: ConnectionId, spec: TaskSpec) -> TaskId {
        let request = self.submit_only(client, spec);
        self.expect_accepted(client, request)
    }

    /// A client submits a task that a worker is sent at once and starts.
    pub fn submit_running(&mut self, client: ConnectionId, spec: TaskSpec) -> (TaskId, Sent) {
        let task = self.submit(client, spec);
        let sent = self.expect_send(task);
        self.starts(sent);
        (task, sent)
    }

    /// A client asks to cancel; what follows is the story's to expect.
    pub fn cancel(&mut self, client: ConnectionId, task: TaskId) -> RequestId {
        let request = self.next_request();
        self.event(Event::CancelRequested { client, request, task });
        request
    }

    /// A client asks for an outcome; what follows is the story's to expect.
    pub fn ask(&mut self, client: ConnectionId, task: TaskId, wait: bool) -> RequestId {
        let request = self.next_request();
        self.event(Event::ResultRequested { client, request, task, wait });
        request
    }

    /// An operator asks to drain.
    pub fn drain(&mut self, client: ConnectionId) -> RequestId {
        let request = self.next_request();
        self.event(Event::DrainRequested { client, request });
        request
    }

    /// An operator releases a function; what follows is the story's to expect.
    pub fn release(&mut self, client: ConnectionId, name: &str) -> RequestId {
        let request = self.next_request();
        self.event(Event::ReleaseRequested { client, request, function: function(name) });
        request
    }

    /// A worker's process exists.
    pub fn spawned(&mut self, worker: WorkerId) -> &mut Self {
        self.last_pid += 1;
        self.event_beside_spawns(Event::WorkerSpawned { worker, pid: Pid(self.last_pid) })
    }

    /// A worker can run these functions, one attempt at a time.
    pub fn becomes_ready(&mut self, worker: WorkerId, functions: &[&str]) -> &mut Self {
        let functions = functions.iter().map(|name| FunctionInfo {
            name: function(name),
            signature: format!("{name}()"),
            summary: String::new(),
        });
        let functions = functions.collect();
        self.event_beside_spawns(Event::WorkerReady { worker, functions, capacity: 1, ahead: 1 })
    }

    /// A worker calls the function of an attempt and says so.
    pub fn starts(&mut self, sent: Sent) -> &mut Self {
        self.calls(sent);
        self.event(Event::AttemptStarted { worker: sent.worker, attempt: sent.attempt })
    }

    /// A worker calls the function of an attempt, and word of it is still on its way.
    pub fn calls(&mut self, sent: Sent) -> &mut Self {
        let fact = self.trial.fact(Fact::FunctionCalled(sent.worker, sent.attempt));
        self.must(fact);
        self
    }

    /// A worker reports a started attempt.
    pub fn finishes(&mut self, sent: Sent, report: Report) -> &mut Self {
        self.event(Event::AttemptFinished { worker: sent.worker, attempt: sent.attempt, report })
    }

    /// A worker's process is gone.
    pub fn exits(&mut self, worker: WorkerId, exit: Exit) -> &mut Self {
        let fact = self.trial.fact(Fact::ProcessEnded(worker));
        self.must(fact);
        self.event(Event::WorkerExited { worker, exit })
    }

    /// The submission is accepted.
    pub fn expect_accepted(&mut self, client: ConnectionId, request: RequestId) -> TaskId {
        match self.expect_reply(client, request) {
            ReplyBody::Accepted { task } => task,
            other => self.wrong(&format!("an acceptance; told was {other:?}")),
        }
    }

    /// The request is refused.
    pub fn expect_refused(&mut self, client: ConnectionId, request: RequestId) -> Refusal {
        match self.expect_reply(client, request) {
            ReplyBody::Refused(refusal) => refusal,
            other => self.wrong(&format!("a refusal; told was {other:?}")),
        }
    }

    /// A request is answered.
    pub fn expect_reply(&mut self, client: ConnectionId, request: RequestId) -> ReplyBody {
        let found = self.find(|action| match action {
            Action::Reply { client: told, reply: Reply { request: Some(answered), body } }
                if *told == client && *answered == request =>
            {
                Some(body.clone())
            }
            _ => None,
        });
        found.unwrap_or_else(|| self.wrong(&format!("an answer to {request:?} of {client:?}")))
    }

    /// A client is told how a task ended.
    pub fn expect_done(&mut self, client: ConnectionId, task: TaskId, outcome: Outcome) -> &mut Self {
        let expected = ReplyBody::Done { task, outcome };
        let found = self.find(|action| match action {
            Action::Reply { client: told, reply } => {
                (*told == client && reply.body == expected).then_some(())
            }
            _ => None,
        });
        found.unwrap_or_else(|| self.wrong(&format!("{client:?} to be told {expected:?}")));
        self
    }

    /// A worker is sent a task.
    pub fn expect_send(&mut self, expected: TaskId) -> Sent {
        let found = self.find(|action| match action {
            Action::SendAttempt { worker, attempt, task, .. } => {
                (*task == expected).then_some(Sent { worker: *worker, attempt: *attempt })
            }
            _ => None,
        });
        found.unwrap_or_else(|| self.wrong(&format!("task {expected} to be sent")))
    }

    /// A worker is asked for an attempt.
    pub fn expect_recall(&mut self, sent: Sent) -> &mut Self {
        self.expect(Action::RecallAttempts { worker: sent.worker, attempt: sent.attempt, count: 1 })
    }

    /// A worker may be looked at, as often as it is.
    pub fn expect_looks(&mut self, worker: WorkerId) -> &mut Self {
        self.orders.retain(|order| *order != Action::LookAt { worker });
        self
    }

    /// A process is signalled.
    pub fn expect_signal(&mut self, worker: WorkerId, signal: Signal) -> &mut Self {
        self.expect(Action::SignalWorker { worker, signal })
    }

    /// A worker is started in the pool `cpu`.
    pub fn expect_spawn(&mut self, worker: WorkerId) -> &mut Self {
        self.expect(Action::SpawnWorker { worker, pool: pool("cpu") })
    }

    /// An order is given.
    pub fn expect(&mut self, expected: Action) -> &mut Self {
        let found = self.find(|action| (*action == expected).then_some(()));
        found.unwrap_or_else(|| self.wrong(&format!("{expected:?}")));
        self
    }

    /// The operator was told.
    pub fn expect_notice(&mut self, expected: impl Fn(&Notice) -> bool) -> &mut Self {
        if !self.notices.iter().any(expected) {
            self.wrong::<()>(&format!("another notice than {:?}", self.notices));
        }
        self
    }

    /// Nothing is ordered but what was expected.
    pub fn expect_no_more(&mut self) -> &mut Self {
        if !self.orders.is_empty() {
            self.wrong::<()>("no further order");
        }
        self
    }

    /// Whether a worker was told to stop; takes that order.
    pub fn is_stopped(&mut self, worker: WorkerId) -> bool {
        let stop = Action::StopWorker { worker };
        self.find(|action| (*action == stop).then_some(())).is_some()
    }

    /// Workers that are killed may have been told to stop before, in the same breath.
    pub fn take_stops(&mut self) -> &mut Self {
        self.orders.retain(|action| !matches!(action, Action::StopWorker { .. }));
        self
    }

    /// An event that may come while starts of other workers are still to be answered.
    fn event_beside_spawns(&mut self, event: Event) -> &mut Self {
        let is_spawn = |action: &Action| matches!(action, Action::SpawnWorker { .. });
        let (spawns, rest) = std::mem::take(&mut self.orders).into_iter().partition(is_spawn);
        self.orders = rest;
        self.event(event);
        self.orders.splice(0..0, spawns);
        self
    }

    /// The first of so many numbers that no request had before.
    pub fn next_requests(&mut self, count: u64) -> RequestId {
        let first = RequestId(self.last_request + 1);
        self.last_request += count;
        first
    }

    fn next_request(&mut self) -> RequestId {
        self.next_requests(1)
    }

    /// Takes the first order that `pick` knows.
    fn find<T>(&mut self, pick: impl Fn(&Action) -> Option<T>) -> Option<T> {
        let (index, found) =
            self.orders.iter().enumerate().find_map(|(index, action)| Some((index, pick(action)?)))?;
        self.orders.remove(index);
        Some(found)
    }

    fn sort(&mut self, actions: Result<Vec<Action>, Violation>) {
        for action in self.must(actions) {
            match action {
                Action::Notice(notice) => self.notices.push(notice),
                order => self.orders.push(order),
            }
        }
    }

    fn must<T>(&self, result: Result<T, Violation>) -> T {
        result.unwrap_or_else(|violation| panic!("{}{violation}", self.trial.account()))
    }

    #[track_caller]
    fn wrong<T>(&self, expected: &str) -> T {
        panic!("{}expected {expected}\nleft over: {:#?}", self.trial.account(), self.orders)
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_no_more();
        }
    }
}
