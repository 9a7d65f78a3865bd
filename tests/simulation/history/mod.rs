//! What anyone could have seen: the facts of a run, put together from the events that the supervisor
//! was told, the actions that it gave, and what the world alone knows (when functions were really
//! called, when processes really ended).
//!
//! It judges nothing (that is for the checkers) and never asks the supervisor. Here are the facts and
//! the questions to them; `events` and `actions` take the facts in.

mod actions;
mod events;
mod tasks;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use poold::id::{
    AttemptId, ConnectionId, Credentials, FunctionName, PoolName, RequestId, TaskId, Uid, WorkerId,
};
use poold::message::status::Phase;
use poold::supervisor::{Policy, PoolPolicy, Who};
use poold::task::{OutcomeKind, TaskSpec};
use poold::time::Time;

use crate::policies::DAEMON_USER;

pub use tasks::{Attempt, End, Place, Request, State, Submission, Task};
pub use workers::{Stage, Worker};

/// The facts of a run so far.
#[derive(Debug)]
pub struct History {
    /// When the last event happened.
    pub now: Time,
    /// How many events there were.
    pub step: u64,
    /// The policy in force.
    pub policy: Policy,
    /// Pools that a reload took away, as they were.
    pub former_pools: BTreeMap<PoolName, PoolPolicy>,
    /// What the workers of each pool have announced.
    pub announced: BTreeMap<PoolName, BTreeSet<FunctionName>>,
    /// Connections that are open.
    pub clients: BTreeMap<ConnectionId, Client>,
    /// Requests of open connections that were not answered yet.
    pub requests: BTreeMap<(ConnectionId, RequestId), Request>,
    /// Every task that was accepted.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Those that are not done.
    pub live: BTreeSet<TaskId>,
    /// Those that are done, detached and kept.
    pub kept: BTreeSet<TaskId>,
    /// Workers that were asked for and are not gone.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// Workers that are gone, with the time of it.
    pub gone: BTreeMap<WorkerId, Time>,
    /// How tasks ended.
    pub outcomes: BTreeMap<OutcomeKind, u64>,
    /// Functions that are told of as quarantined.
    pub quarantined: BTreeSet<FunctionName>,
    /// Pools that are told of as degraded.
    pub degraded: BTreeSet<PoolName>,
    /// Requests that were refused.
    pub refusals: u64,
    /// When a drain was asked for.
    pub drained_at: Option<Time>,
    /// When the daemon was told to stop, each time.
    pub stopped_at: Vec<Time>,
    /// Set by the last action: whether the exit was forced.
    pub exit: Option<bool>,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who it is.
    pub peer: Credentials,
    /// Whether it has too many unread outcomes.
    pub blocked: bool,
    /// The task whose function it is.
    pub parent: Option<TaskId>,
}

/// What the world alone knows.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// A worker calls the function of an attempt.
    FunctionCalled(WorkerId, AttemptId),
    /// The process of a worker ends.
    ProcessEnded(WorkerId),
}

/// Whether a user may do everything and is bound by no limit of one user.
pub fn is_privileged(user: Uid) -> bool {
    user == Uid(0) || user == DAEMON_USER
}

impl History {
    /// The facts at the start.
    pub fn new(now: Time, policy: Policy) -> Self {
        History {
            now,
            step: 0,
            policy,
            former_pools: BTreeMap::new(),
            announced: BTreeMap::new(),
            clients: BTreeMap::new(),
            requests: BTreeMap::new(),
            tasks: BTreeMap::new(),
            live: BTreeSet::new(),
            kept: BTreeSet::new(),
            workers: BTreeMap::new(),
            gone: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            degraded: BTreeSet::new(),
            refusals: 0,
            drained_at: None,
            stopped_at: Vec::new(),
            exit: None,
        }
    }

    /// What the supervisor's phase must be.
    pub fn phases(&self) -> &'static [Phase] {
        if self.exit.is_some() {
            &[Phase::Stopped]
        } else if !self.stopped_at.is_empty() {
            &[Phase::ShuttingDown, Phase::Stopped]
        } else if self.drained_at.is_some() {
            &[Phase::Draining, Phase::Stopped]
        } else {
            &[Phase::Serving]
        }
    }

    /// Whether new tasks are taken.
    pub fn is_serving(&self) -> bool {
        self.drained_at.is_none() && self.stopped_at.is_empty()
    }

    /// The policy of a pool in force.
    pub fn pool(&self, name: &PoolName) -> Option<&PoolPolicy> {
        self.policy.pools.iter().find(|pool| pool.name == *name)
    }

    /// The policy of a pool in force, or else the last that it had.
    pub fn pool_ever(&self, name: &PoolName) -> Option<&PoolPolicy> {
        self.pool(name).or_else(|| self.former_pools.get(name))
    }

    /// Whether a worker holds an attempt, and its task waits for it.
    pub fn is_wanted(&self, worker: WorkerId, attempt: AttemptId) -> bool {
        self.attempt(worker, attempt)
            .is_some_and(|(task, _)| task.state == State::Sent && task.holder() == Some((worker, attempt)))
    }

    /// Whether a pool is known to have a function.
    pub fn pool_has(&self, pool: &PoolPolicy, function: &FunctionName) -> bool {
        self.announced.get(&pool.name).is_some_and(|functions| functions.contains(function))
            && pool.functions.as_ref().is_none_or(|functions| functions.contains(function))
    }

    /// The pool that a submission belongs to by the rules, if one is known to have its function.
    pub fn pool_for(&self, spec: &TaskSpec) -> Option<&PoolPolicy> {
        self.policy
            .pools
            .iter()
            .filter(|pool| spec.pool.as_ref().is_none_or(|name| *name == pool.name))
            .find(|pool| self.pool_has(pool, &spec.function))
    }

    /// Whether a pool that has had no ready worker yet may turn out to have the function.
    pub fn may_yet_be_known(&self, spec: &TaskSpec) -> bool {
        self.policy.pools.iter().any(|pool| {
            spec.pool.as_ref().is_none_or(|name| *name == pool.name)
                && !self.announced.contains_key(&pool.name)
        })
    }

    /// Whether a connection may see and cancel a task.
    pub fn may_touch(&self, client: ConnectionId, task: &Task) -> bool {
        self.clients
            .get(&client)
            .is_some_and(|client| client.peer.user == task.owner.user || is_privileged(client.peer.user))
    }

    /// Whether someone may run a function.
    pub fn may_run(&self, peer: &Credentials, function: &FunctionName) -> bool {
        let who = self.policy.access.run.get(function).unwrap_or(&self.policy.access.run_others);
        let is_named = match who {
            Who::Everyone => true,
            Who::Listed { users, groups } => {
                users.contains(&peer.user) || peer.groups.iter().any(|group| groups.contains(group))
            }
        };
        is_named || is_privileged(peer.user)
    }

    /// The tasks that wait for what a connection submits attached, the nearest first.
    pub fn ancestors(&self, client: ConnectionId) -> impl Iterator<Item = &Task> {
        let task = |id: TaskId| self.tasks.get(&id);
        let parent = self.clients.get(&client).and_then(|client| client.parent).and_then(task);
        std::iter::successors(parent, move |task_below| task_below.parent.and_then(task))
    }

    /// The attempt that a worker holds, and its task.
    pub fn attempt(&self, worker: WorkerId, attempt: AttemptId) -> Option<(&Task, &Attempt)> {
        let (_, task) = self.workers.get(&worker)?.holds.iter().find(|(id, _)| *id == attempt)?;
        let task = self.tasks.get(task)?;
        let attempt = task.attempts.iter().find(|sent| sent.worker == worker && sent.id == attempt)?;
        Some((task, attempt))
    }

    /// Tasks that are accepted and not done.
    pub fn live_tasks(&self) -> impl Iterator<Item = &Task> {
        self.live.iter().filter_map(|id| self.tasks.get(id))
    }

    /// Submissions that are neither accepted nor refused.
    pub fn held_submissions(&self) -> impl Iterator<Item = &Submission> {
        self.requests.values().filter_map(|request| match request {
            Request::Submit(submission) => Some(submission.as_ref()),
            Request::Cancel(_) | Request::Result { .. } | Request::Drain | Request::Release => None,
        })
    }

    /// Whether nothing but the supervisor keeps a delayed task out of its line.
    pub fn delay_is_over(&self, task: &Task) -> bool {
        match &task.state {
            State::Delayed { until_at_latest, former, .. } => {
                *until_at_latest <= self.now && former.is_none_or(|worker| self.gone.contains_key(&worker))
            }
            State::Pending | State::Sent | State::Judged(_) | State::Done(_) => false,
        }
    }

    fn attempt_mut(&mut self, worker: WorkerId, attempt: AttemptId) -> Option<&mut Attempt> {
        let (_, task) = *self.workers.get(&worker)?.holds.iter().find(|(id, _)| *id == attempt)?;
        let attempts = &mut self.tasks.get_mut(&task)?.attempts;
        attempts.iter_mut().find(|sent| sent.worker == worker && sent.id == attempt)
    }
}
