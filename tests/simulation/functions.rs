//! Fake functions that submit tasks of their own over their worker's socket, and return when all that
//! they wait for has ended; and the part of the daemon that makes each of them a client.
//!
//! ```text
//!   function ──asks──> worker's socket ──> FunctionConnected once, then Submitted
//!   function <──Answer── worker's socket <── Reply to that client
//! ```

use std::collections::{BTreeMap, BTreeSet};

use poold::id::{AttemptId, ConnectionId, PoolName, RequestId, TaskId, WorkerId};
use poold::message::client::{Reply, ReplyBody};
use poold::supervisor::Event;
use poold::task::{Deadline, TaskSpec};

use crate::faults::Fault;
use crate::policies::{self, POOLS};
use crate::trial::Violation;
use crate::world::{Happening, World};

/// Functions that ask, and those that the daemon knows as clients.
#[derive(Debug, Default)]
pub struct Functions {
    /// What each function that asks still waits for; those that need no answer are not there.
    waiting: BTreeMap<(WorkerId, AttemptId), BTreeSet<RequestId>>,
    speakers: BTreeMap<(WorkerId, AttemptId), ConnectionId>,
}

impl Functions {
    /// Where what is said to a client goes, if it is a function.
    pub fn place_of(&self, client: ConnectionId) -> Option<(WorkerId, AttemptId)> {
        self.speakers.iter().find(|(_, speaker)| **speaker == client).map(|(place, _)| *place)
    }

    /// Forgets the functions that are over with `event`.
    fn end_by(&mut self, event: &Event) -> Vec<ConnectionId> {
        let is_over = |place: &(WorkerId, AttemptId)| match event {
            Event::AttemptFinished { worker, attempt, .. } => *place == (*worker, *attempt),
            Event::AttemptsFinished { worker, attempt, results } => {
                let end = attempt.plus(results.count().into());
                place.0 == *worker && (*attempt..end).contains(&place.1)
            }
            Event::WorkerExited { worker, .. } => place.0 == *worker,
            _ => false,
        };
        self.waiting.retain(|place, _| !is_over(place));
        let (over, left) = std::mem::take(&mut self.speakers).into_iter().partition(|(at, _)| is_over(at));
        self.speakers = left;
        BTreeMap::into_values(over).collect()
    }
}

impl World {
    /// The supervisor is told what a worker did: first that the functions are gone that are over with it.
    pub fn told_of_worker(&mut self, event: Event) -> Result<(), Violation> {
        for client in self.functions.end_by(&event) {
            self.tell(Event::ClientGone { client })?;
        }
        self.tell(event)
    }

    /// Whether a function that has begun will submit.
    pub fn may_submit(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let submits = self.odds.strike(&mut self.rng, Fault::FunctionSubmits);
        if submits {
            let wait = self.delay(20);
            self.schedule(wait, Happening::FunctionSubmits(worker, attempt));
        }
        submits
    }

    /// A function submits, once or twice, and waits.
    pub fn function_submits(&mut self, worker: WorkerId, attempt: AttemptId) -> Result<(), Violation> {
        let happening = Happening::FunctionSubmits(worker, attempt);
        if !self.awake(worker, happening).is_some_and(|process| process.runs(attempt)) {
            return Ok(());
        }
        for _ in 0..self.rng.u32(1..3) {
            let request = self.clients.next_request();
            let spec = self.draw_child(worker);
            self.functions.waiting.entry((worker, attempt)).or_default().insert(request);
            self.write_to_daemon(worker, Happening::Asked(worker, attempt, request, Box::new(spec)));
        }
        Ok(())
    }

    /// What a function submits is read.
    pub fn asked(
        &mut self,
        worker: WorkerId,
        attempt: AttemptId,
        request: RequestId,
        spec: TaskSpec,
    ) -> Result<(), Violation> {
        // That it runs is known before it is heard.
        self.looks_at(worker)?;
        let Some((task, _)) = self.trial.history.attempt(worker, attempt) else { return Ok(()) };
        let task = task.id;
        let client = match self.functions.speakers.get(&(worker, attempt)) {
            Some(client) => *client,
            None => {
                let client = self.clients.next_connection();
                self.functions.speakers.insert((worker, attempt), client);
                self.tell(Event::FunctionConnected { client, task })?;
                client
            }
        };
        self.tally.count(match self.trial.history.clients.contains_key(&client) {
            true => Fault::FunctionSubmits,
            false => Fault::FunctionSpeaksTooLate,
        });
        let deadline = match spec.deadline {
            Some(Deadline::After(wait)) => Some(self.now() + wait),
            Some(Deadline::At(_)) | None => None,
        };
        let args = self.draw_args();
        self.tell(Event::Submitted { client, request, spec: spec.into(), deadline, args })
    }

    /// A function is answered; with the last answer that it waits for, it returns.
    pub fn answered(&mut self, worker: WorkerId, attempt: AttemptId, reply: Reply) {
        let place = (worker, attempt);
        let (Some(waiting), Some(request)) = (self.functions.waiting.get_mut(&place), reply.request) else {
            return;
        };
        if let ReplyBody::Accepted { task } = reply.body
            && self.trial.history.tasks.get(&task).is_some_and(|task| !task.is_detached())
        {
            return;
        }
        waiting.remove(&request);
        if waiting.is_empty() {
            let wait = self.delay(5);
            self.schedule(wait, Happening::FunctionEnds(worker, attempt));
        }
    }

    /// Whether a task's function waits for what it has submitted.
    pub fn is_waited_in(&self, task: TaskId) -> bool {
        self.trial.history.live_tasks().any(|child| child.parent == Some(task))
    }

    /// Whether a function that a worker runs does.
    pub fn is_waited_in_worker(&self, worker: WorkerId) -> bool {
        let holds = self.trial.history.workers.get(&worker).map(|worker| worker.holds.as_slice());
        holds.unwrap_or_default().iter().any(|(_, task)| self.is_waited_in(*task))
    }

    /// A task that a function submits, mostly one that its pool can run.
    fn draw_child(&mut self, worker: WorkerId) -> TaskSpec {
        let mut spec = self.draw_spec();
        spec.pool = self.draw_pool_of_child(worker);
        let history = &self.trial.history;
        let pool = spec.pool.as_ref().and_then(|name| history.pool(name));
        let known = pool.and_then(|pool| {
            policies::functions().into_iter().find(|function| history.pool_has(pool, function))
        });
        if let Some(function) = known.filter(|_| self.rng.u32(0..8) > 0) {
            spec.function = function;
        }
        spec
    }

    /// A pool that comes later than the function's own, so that functions of tasks that do not know of each
    /// other never wait for each other; or else its own, where nothing can be waited for.
    fn draw_pool_of_child(&mut self, worker: WorkerId) -> Option<PoolName> {
        let rank = |pool: &PoolName| POOLS.iter().position(|name| pool.as_str() == *name);
        let history = &self.trial.history;
        let own = history.workers.get(&worker)?.pool.clone();
        let pools = history.policy.pools.iter().map(|pool| &pool.name);
        let later: Vec<PoolName> = pools.filter(|pool| rank(pool) > rank(&own)).cloned().collect();
        if later.is_empty() || self.rng.u32(0..6) == 0 {
            return Some(own);
        }
        Some(later[self.rng.usize(0..later.len())].clone())
    }
}
