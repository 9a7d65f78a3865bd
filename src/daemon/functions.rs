//! Functions that ask: each one that runs may be a client of its own, over its worker's socket.
//!
//! ```text
//!   worker ──Ask──> (first one: a client is connected) ──> request ──> supervisor
//!   worker <──Answer── reply to that client <─────────────────────────────┘
//!   attempt finished, worker gone ──> that client is gone, and what it had submitted attached ends
//! ```
//!
//! A function submits, cancels and looks at tasks, as its own task's user. It waits only for what it
//! submitted attached: of those the supervisor knows who waits for whom, and refuses what could never end.

use std::collections::{BTreeMap, HashMap};

use super::{Daemon, LOG_TARGET};
use crate::id::{AttemptId, ConnectionId, RequestId, TaskId, WorkerId};
use crate::message::client::{Refusal, Reply, ReplyBody, Request, RequestBody};
use crate::message::worker::{Report, ToWorker};
use crate::supervisor::Event;

/// Every function that has asked for something and still runs.
#[derive(Debug, Default)]
pub(super) struct Functions {
    by_attempt: BTreeMap<(WorkerId, AttemptId), ConnectionId>,
    by_client: HashMap<ConnectionId, Speaker>,
    /// Requests that were refused here, and not by the supervisor.
    refusals: u64,
}

/// A function, in its daemon's words.
#[derive(Clone, Copy, Debug)]
struct Speaker {
    worker: WorkerId,
    attempt: AttemptId,
    /// Whether the supervisor was told that its worker leaves too much unread.
    blocked: bool,
}

/// A request of a function.
#[derive(Debug)]
pub(super) struct Ask {
    /// The worker that runs it.
    pub(super) worker: WorkerId,
    /// The attempt that it runs as.
    pub(super) attempt: AttemptId,
    /// The task that it is an attempt of.
    pub(super) task: TaskId,
    /// What it asks.
    pub(super) request: Request,
}

impl Functions {
    /// How often something was refused here, and not by the supervisor.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Where what is said to `client` goes, if it is a function.
    pub(super) fn place_of(&self, client: ConnectionId) -> Option<(WorkerId, AttemptId)> {
        self.by_client.get(&client).map(|speaker| (speaker.worker, speaker.attempt))
    }

    fn add(&mut self, client: ConnectionId, worker: WorkerId, attempt: AttemptId) {
        self.by_attempt.insert((worker, attempt), client);
        self.by_client.insert(client, Speaker { worker, attempt, blocked: false });
    }

    fn of_worker(&self, worker: WorkerId) -> Vec<ConnectionId> {
        self.of_attempts(worker, AttemptId(0), AttemptId(u64::MAX))
    }

    /// Those of the attempts from the first to the last.
    fn of_attempts(&self, worker: WorkerId, first: AttemptId, last: AttemptId) -> Vec<ConnectionId> {
        self.by_attempt.range((worker, first)..=(worker, last)).map(|(_, client)| *client).collect()
    }

    /// Forgets the functions that are over with `event`.
    fn end_by(&mut self, event: &Event) -> Vec<ConnectionId> {
        let over = match event {
            Event::AttemptFinished { worker, attempt, .. } => self.of_attempts(*worker, *attempt, *attempt),
            Event::AttemptsFinished { worker, attempt, results } => {
                // A worker may name any number.
                let last = attempt.0.saturating_add(results.count().saturating_sub(1).into());
                self.of_attempts(*worker, *attempt, AttemptId(last))
            }
            Event::WorkerExited { worker, .. } => self.of_worker(*worker),
            _ => Vec::new(),
        };
        for client in &over {
            if let Some(Speaker { worker, attempt, .. }) = self.by_client.remove(client) {
                self.by_attempt.remove(&(worker, attempt));
            }
        }
        over
    }

    /// A worker leaves so much unread: gives what the supervisor is to be told of its functions.
    fn note_unread(&mut self, worker: WorkerId, unread_bytes: usize, unread_bytes_max: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for client in self.of_worker(worker) {
            let Some(speaker) = self.by_client.get_mut(&client) else { continue };
            let event = match speaker.blocked {
                false if unread_bytes > unread_bytes_max => Event::ClientBlocked { client },
                true if unread_bytes <= unread_bytes_max / 2 => Event::ClientUnblocked { client },
                false | true => continue,
            };
            speaker.blocked = !speaker.blocked;
            events.push(event);
        }
        events
    }
}

impl Daemon<'_> {
    /// Does what a function asks for, as far as functions may ask.
    pub(super) fn take_ask(&mut self, ask: Ask) {
        let Ask { worker, attempt, task, request } = ask;
        let known = self.functions.by_attempt.get(&(worker, attempt)).copied();
        let client = known.unwrap_or_else(|| {
            let client = self.clients.next_id();
            self.functions.add(client, worker, attempt);
            self.step(Event::FunctionConnected { client, task });
            client
        });
        match &request.body {
            RequestBody::Submit { .. }
            | RequestBody::SubmitAll { .. }
            | RequestBody::Cancel { .. }
            | RequestBody::Result { wait: false, .. } => self.take_request(client, request),
            RequestBody::Result { wait: true, .. } => {
                let rule = "a function waits only for tasks that it submitted attached; ask without waiting";
                self.refuse_function(worker, attempt, request.id, rule);
            }
            RequestBody::Status
            | RequestBody::Workers { .. }
            | RequestBody::Tasks { .. }
            | RequestBody::Functions { .. }
            | RequestBody::Reload
            | RequestBody::Drain
            | RequestBody::Release { .. } => {
                let rule = "a function may submit tasks, cancel them and ask for their results; leave the rest to clients";
                self.refuse_function(worker, attempt, request.id, rule);
            }
        }
    }

    fn refuse_function(&mut self, worker: WorkerId, attempt: AttemptId, request: RequestId, rule: &str) {
        let refusal = Refusal::NotAllowed(rule.to_owned());
        self.functions.refusals += 1;
        log::warn!(target: LOG_TARGET, "refused a function in worker {worker}: {refusal}");
        let reply = Reply { request: Some(request), body: ReplyBody::Refused(refusal) };
        self.answer_function(worker, attempt, reply);
    }

    /// Answers a function, or tells it that the answer is too large.
    pub(super) fn answer_function(&mut self, worker: WorkerId, attempt: AttemptId, reply: Reply) {
        let request = reply.request;
        if let Err(error) = self.tell_worker(worker, &ToWorker::Answer { attempt, reply: Box::new(reply) }) {
            let refusal = Refusal::BadOption(format!("the answer does not fit into a frame: {error}"));
            let reply = Box::new(Reply { request, body: ReplyBody::Refused(refusal) });
            self.tell_worker_surely(worker, &ToWorker::Answer { attempt, reply });
        }
    }

    /// Tells the supervisor what a worker did: first that the functions are gone that are over with it.
    pub(super) fn step_of_worker(&mut self, event: Event) {
        for client in self.functions.end_by(&event) {
            self.step(Event::ClientGone { client });
        }
        if let Event::AttemptFinished { report: Report::Ok(result), .. } = &event {
            self.closer.take_over(result);
        }
        self.step(event);
    }

    /// Holds the tasks of a worker's functions back while it leaves too much unread.
    pub(super) fn heed_unread(&mut self, worker: WorkerId, unread_bytes: usize) {
        let events = self.functions.note_unread(worker, unread_bytes, self.config.limits.unread_bytes);
        for event in events {
            self.step(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, SlotId};
    use crate::task::{Encoding, Exit, Payload, PayloadsMut};

    const WORKER: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(0) };
    const SUCCESSOR: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(1) };

    /// Two functions of one worker, and one of its successor.
    fn functions() -> Functions {
        let mut functions = Functions::default();
        functions.add(ConnectionId(1), WORKER, AttemptId(1));
        functions.add(ConnectionId(2), WORKER, AttemptId(2));
        functions.add(ConnectionId(3), SUCCESSOR, AttemptId(1));
        functions
    }

    #[test]
    fn function_is_gone_with_its_attempt() {
        let mut functions = functions();
        let report = Report::Ok(Payload::default());
        let finished = Event::AttemptFinished { worker: WORKER, attempt: AttemptId(1), report };
        assert_eq!(functions.end_by(&finished), [ConnectionId(1)]);
        assert_eq!(functions.end_by(&finished), []);
        assert_eq!(functions.place_of(ConnectionId(1)), None);
        assert_eq!(functions.place_of(ConnectionId(2)), Some((WORKER, AttemptId(2))));
    }

    #[test]
    fn attempt_of_any_number_may_be_named_and_ends_no_other_function() {
        let mut functions = functions();
        for attempt in [AttemptId(0), AttemptId(3), AttemptId(u64::MAX)] {
            let report = Report::Ok(Payload::default());
            assert_eq!(functions.end_by(&Event::AttemptFinished { worker: WORKER, attempt, report }), []);
            let mut results = PayloadsMut::default();
            (0..3).for_each(|_| results.push(Encoding::Json, b"1"));
            let finished = Event::AttemptsFinished { worker: WORKER, attempt, results: results.take() };
            let ended =
                if attempt == AttemptId(0) { vec![ConnectionId(1), ConnectionId(2)] } else { Vec::new() };
            assert_eq!(functions.end_by(&finished), ended);
        }
    }

    #[test]
    fn functions_are_gone_with_their_worker_and_not_with_another() {
        let mut functions = functions();
        let exited = Event::WorkerExited { worker: WORKER, exit: Exit::Signal(9) };
        assert_eq!(functions.end_by(&exited), [ConnectionId(1), ConnectionId(2)]);
        assert_eq!(functions.place_of(ConnectionId(3)), Some((SUCCESSOR, AttemptId(1))));
    }

    #[test]
    fn functions_of_a_worker_that_leaves_too_much_unread_are_held_back_until_it_reads() {
        let mut functions = functions();
        let mut note = |unread_bytes| functions.note_unread(WORKER, unread_bytes, 100);
        assert!(matches!(note(101)[..], [Event::ClientBlocked { .. }, Event::ClientBlocked { .. }]));
        assert!(note(102).is_empty());
        assert!(note(51).is_empty());
        assert!(matches!(note(50)[..], [Event::ClientUnblocked { .. }, Event::ClientUnblocked { .. }]));
    }
}
