//! What anyone could have seen: the facts of a run, put together from the events that the supervisor
//! was told, the actions that it gave, and what the world alone knows (when functions really started,
//! when processes really ended).
//!
//! It judges nothing (that is for the checkers) and never asks the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use poold::id::{AttemptId, ConnectionId, FunctionName, Pid, PoolName, RequestId, TaskId, Uid, WorkerId};
use poold::message::client::ReplyBody;
use poold::message::status::Phase;
use poold::message::worker::Report;
use poold::supervisor::{Action, Event, Notice, Policy, PoolPolicy, Signal};
use poold::task::{Attachment, Exit, Outcome, OutcomeKind, Payload, TaskSpec};
use poold::time::Time;

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
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Who it is.
    pub user: Uid,
    /// Whether it has too many unread outcomes.
    pub blocked: bool,
}

/// A request without its answer.
#[derive(Clone, Debug)]
pub enum Request {
    /// A submission, neither accepted nor refused.
    Submit(Box<Submission>),
    /// A request to cancel.
    Cancel(TaskId),
    /// A request for an outcome.
    Result {
        /// Of which task.
        task: TaskId,
        /// Whether it waits.
        wait: bool,
    },
    /// A request to drain.
    Drain,
}

/// What was submitted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// How many events came before it.
    pub step: u64,
    /// When.
    pub at: Time,
    /// What and how.
    pub spec: TaskSpec,
    /// Its deadline.
    pub deadline: Option<Time>,
    /// Its arguments.
    pub args: Payload,
}

/// An accepted task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The connection it came over.
    pub client: ConnectionId,
    /// The request it came in.
    pub request: RequestId,
    /// Whose it is.
    pub user: Uid,
    /// What was submitted.
    pub submission: Submission,
    /// The pool it belongs to by the rules; none where a reload left that open.
    pub pool: Option<PoolName>,
    /// What it is doing.
    pub state: State,
    /// Its place in its connection's line.
    pub place: Place,
    /// Its attempts, in the order of sending.
    pub attempts: Vec<Attempt>,
    /// How often it was tried again.
    pub retried: u32,
    /// How often its function was called, by the world's word.
    pub calls: u32,
    /// Attempts that are known to have started.
    pub starts: u32,
    /// When it ended.
    pub done_at: Option<Time>,
}

/// Where a task stands in its connection's line: in an order of steps, as exactly as the contract says.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// It joined the line in this step or later.
    pub earliest: u64,
    /// It joined the line in this step or earlier.
    pub latest: u64,
}

/// What a task is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It waits for its delay or its backoff to pass, and for its former process to be gone.
    Delayed {
        /// The end of the delay.
        until: Time,
        /// The end of the delay, if the time before the acceptance does not count.
        until_at_latest: Time,
        /// The first step that came at or after that end.
        since_step: Option<u64>,
        /// The worker of the former attempt, which must be gone first.
        former: Option<WorkerId>,
    },
    /// It waits for a worker.
    Pending,
    /// A worker has its last attempt.
    Sent,
    /// Its worker died under it, and the supervisor has not said yet what follows.
    Judged(Exit),
    /// It ended.
    Done(Outcome),
}

/// An attempt that a worker was sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Which worker.
    pub worker: WorkerId,
    /// Its number there.
    pub id: AttemptId,
    /// When its start was told.
    pub started_at: Option<Time>,
    /// Whether its function was called, by the world's word.
    pub called: bool,
    /// The shortest and the longest time that it may run for, as policies changed.
    pub timeout: Option<(Duration, Duration)>,
    /// When the worker was asked to give it back.
    pub recall_at: Option<Time>,
    /// How it left the worker's hands.
    pub end: Option<End>,
}

/// How an attempt left its worker's hands.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The worker reported.
    Reported(Report),
    /// The worker gave it back.
    Recalled,
    /// The worker's process ended.
    Died(Exit),
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was asked for.
    Asked,
    /// It has a process.
    Spawned(Pid),
    /// It can take attempts.
    Ready(Pid),
}

/// A worker that is not gone.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its pool.
    pub pool: PoolName,
    /// The revision of its pool when it was asked for.
    pub revision: u64,
    /// When it was asked for.
    pub asked_at: Time,
    /// How long it may go on after it was told to end.
    pub grace: Duration,
    /// How long it may take to become ready.
    pub start_timeout: Duration,
    /// How far it has come.
    pub stage: Stage,
    /// When it had a process.
    pub spawned_at: Option<Time>,
    /// When it became ready.
    pub ready_at: Option<Time>,
    /// When it said that it cannot become ready.
    pub not_ready_at: Option<Time>,
    /// When it broke the protocol.
    pub broke_at: Option<Time>,
    /// When its socket ended.
    pub hung_up_at: Option<Time>,
    /// When it first spoke of an attempt that it does not have.
    pub lied_at: Option<Time>,
    /// When it was told to stop.
    pub stop_at: Option<Time>,
    /// When it was sent TERM.
    pub terminate_at: Option<Time>,
    /// When it was sent KILL.
    pub kill_at: Option<Time>,
    /// What it announced.
    pub functions: BTreeSet<FunctionName>,
    /// How many attempts it can hold.
    pub capacity: u32,
    /// Whether its pool was made smaller: it may be one of those that go.
    pub may_leave: bool,
    /// Since when it has run what nobody waits for; it need not be given more.
    pub spoiled_at: Option<Time>,
    /// How many it was sent.
    pub sent: u64,
    /// How many it finished.
    pub finished: u64,
    /// Those it holds.
    pub holds: Vec<(AttemptId, TaskId)>,
}

/// What the world alone knows.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    /// A worker calls the function of an attempt.
    FunctionCalled(WorkerId, AttemptId),
    /// The process of a worker ends.
    ProcessEnded(WorkerId),
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
            .is_some_and(|client| client.user == task.user || self.policy.may_administer(client.user))
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
            Request::Cancel(_) | Request::Result { .. } | Request::Drain => None,
        })
    }

    /// Takes in what the supervisor is about to be told.
    pub fn take_event(&mut self, now: Time, event: &Event) {
        self.now = now;
        self.step += 1;
        match event {
            Event::ClientConnected { client, user } => {
                self.clients.insert(*client, Client { user: *user, blocked: false });
            }
            Event::FunctionConnected { .. } => {}
            Event::ClientGone { client } => {
                self.clients.remove(client);
                self.requests.retain(|(owner, _), _| owner != client);
            }
            Event::ClientBlocked { client } => self.block(*client, true),
            Event::ClientUnblocked { client } => self.block(*client, false),
            Event::Submitted { client, request, spec, deadline, args } => {
                let submission = Submission {
                    step: self.step,
                    at: now,
                    spec: spec.clone(),
                    deadline: *deadline,
                    args: args.clone(),
                };
                self.requests.insert((*client, *request), Request::Submit(Box::new(submission)));
            }
            Event::CancelRequested { client, request, task } => {
                self.requests.insert((*client, *request), Request::Cancel(*task));
            }
            Event::ResultRequested { client, request, task, wait } => {
                self.requests.insert((*client, *request), Request::Result { task: *task, wait: *wait });
            }
            Event::DrainRequested { client, request } => {
                self.requests.insert((*client, *request), Request::Drain);
                self.drained_at.get_or_insert(now);
            }
            Event::StopRequested => self.stopped_at.push(now),
            Event::PolicyChanged { policy } => self.take_policy(policy),
            Event::WorkerSpawned { worker, pid } => {
                if let Some(worker) = self.workers.get_mut(worker)
                    && worker.stage == Stage::Asked
                {
                    worker.stage = Stage::Spawned(*pid);
                    worker.spawned_at = Some(now);
                }
            }
            Event::SpawnFailed { worker, message: _ } => {
                self.workers.remove(worker);
                self.gone.insert(*worker, now);
            }
            Event::WorkerReady { worker, functions, capacity } => {
                if let Some(worker) = self.workers.get_mut(worker)
                    && let Stage::Spawned(pid) = worker.stage
                    && !worker.is_ending()
                {
                    worker.stage = Stage::Ready(pid);
                    worker.ready_at = Some(now);
                    worker.capacity = *capacity;
                    worker.functions = functions.iter().map(|function| function.name.clone()).collect();
                    if self.policy.pools.iter().any(|pool| pool.name == worker.pool) {
                        let announced = self.announced.entry(worker.pool.clone()).or_default();
                        announced.extend(worker.functions.iter().cloned());
                    }
                }
            }
            Event::WorkerNotReady { worker, message: _ } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.not_ready_at.get_or_insert(now);
                }
            }
            Event::AttemptStarted { worker, attempt } => {
                self.note_lie(*worker, *attempt);
                self.take_start(*worker, *attempt);
            }
            Event::AttemptFinished { worker, attempt, report } => {
                self.note_lie(*worker, *attempt);
                self.take_start(*worker, *attempt);
                if self.take_back(*worker, *attempt, End::Reported(report.clone()))
                    && let Some(worker) = self.workers.get_mut(worker)
                {
                    worker.finished += 1;
                }
            }
            Event::AttemptRecalled { worker, attempt } => {
                self.note_lie(*worker, *attempt);
                let unstarted =
                    self.attempt(*worker, *attempt).is_some_and(|(_, attempt)| attempt.started_at.is_none());
                if unstarted {
                    self.take_back(*worker, *attempt, End::Recalled);
                }
            }
            Event::WorkerHungUp { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.hung_up_at.get_or_insert(now);
                }
            }
            Event::WorkerBroke { worker, reason: _ } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.broke_at.get_or_insert(now);
                }
            }
            Event::WorkerExited { worker, exit } => {
                let holds = self.workers.get(worker).map(|worker| worker.holds.clone());
                for (attempt, _) in holds.unwrap_or_default() {
                    self.take_back(*worker, attempt, End::Died(*exit));
                }
                if self.workers.remove(worker).is_some() {
                    self.gone.insert(*worker, now);
                }
            }
            Event::TimePassed => {}
        }
        self.note_delays();
    }

    /// Takes in what the supervisor ordered.
    pub fn take_action(&mut self, action: &Action) {
        match action {
            Action::SpawnWorker { worker, pool } => {
                if let Some(pool) = self.pool_ever(pool) {
                    let asked = Worker::asked(pool, self.now);
                    self.workers.insert(*worker, asked);
                }
            }
            Action::SendAttempt { worker, attempt, task, .. } => self.take_sending(*worker, *attempt, *task),
            Action::RecallAttempt { worker, attempt } => {
                let now = self.now;
                if let Some(attempt) = self.attempt_mut(*worker, *attempt) {
                    attempt.recall_at = Some(now);
                }
            }
            Action::StopWorker { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.stop_at.get_or_insert(self.now);
                }
            }
            Action::SignalWorker { worker, signal } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    match signal {
                        Signal::Terminate => worker.terminate_at.get_or_insert(self.now),
                        Signal::Kill => worker.kill_at.get_or_insert(self.now),
                    };
                }
            }
            Action::Reply { client, reply } => {
                if let Some(request) = reply.request {
                    self.take_reply(*client, request, &reply.body);
                }
            }
            Action::Notice(notice) => self.take_notice(notice),
            Action::Exit { forced } => self.exit = Some(*forced),
        }
    }

    /// Takes in what the world alone knows.
    pub fn take_fact(&mut self, fact: Fact) {
        match fact {
            Fact::FunctionCalled(worker, attempt) => {
                if let Some((task, _)) = self.attempt(worker, attempt) {
                    let id = task.id;
                    if let Some(attempt) = self.attempt_mut(worker, attempt) {
                        attempt.called = true;
                    }
                    if let Some(task) = self.tasks.get_mut(&id) {
                        task.calls += 1;
                    }
                }
            }
            Fact::ProcessEnded(_) => {}
        }
    }

    /// Takes in that a step is over: what was due in it has happened.
    pub fn end_step(&mut self, event: &Event) {
        self.note_spoiled();
        if !matches!(event, Event::TimePassed) {
            return;
        }
        let due: Vec<TaskId> =
            self.live_tasks().filter(|task| self.delay_is_over(task)).map(|task| task.id).collect();
        for id in due {
            self.join_line(id);
        }
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

    fn block(&mut self, client: ConnectionId, blocked: bool) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.blocked = blocked;
        }
    }

    fn take_policy(&mut self, policy: &Policy) {
        for pool in std::mem::replace(&mut self.policy, policy.clone()).pools {
            self.former_pools.insert(pool.name.clone(), pool);
        }
        for pool in &policy.pools {
            let live = self.workers.values().filter(|worker| worker.pool == pool.name).count();
            if live > pool.workers as usize {
                let ours = self.workers.values_mut().filter(|worker| worker.pool == pool.name);
                ours.for_each(|worker| worker.may_leave = true);
            }
        }
        let homeless: Vec<TaskId> = self
            .live_tasks()
            .filter(|task| match task.pool.as_ref().map(|name| self.pool(name)) {
                Some(Some(pool)) => !self.pool_has(pool, &task.submission.spec.function),
                Some(None) => true,
                None => false,
            })
            .map(|task| task.id)
            .collect();
        for id in homeless {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.pool = None;
            }
        }
    }

    /// Writes down that a worker speaks of an attempt that it does not have.
    fn note_lie(&mut self, worker: WorkerId, attempt: AttemptId) {
        let now = self.now;
        if self.attempt(worker, attempt).is_none()
            && let Some(worker) = self.workers.get_mut(&worker)
        {
            worker.lied_at.get_or_insert(now);
        }
    }

    fn take_sending(&mut self, worker: WorkerId, attempt: AttemptId, id: TaskId) {
        let Some(receiver) = self.workers.get_mut(&worker) else { return };
        receiver.sent += 1;
        receiver.spoiled_at = None;
        receiver.holds.push((attempt, id));
        let pool = self.workers[&worker].pool.clone();
        let pool_timeout = self.pool_ever(&pool).and_then(|pool| pool.timeout);
        self.join_line(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let timeout = task.submission.spec.timeout.or(pool_timeout);
        task.state = State::Sent;
        task.attempts.push(Attempt {
            worker,
            id: attempt,
            started_at: None,
            called: false,
            timeout: timeout.map(|timeout| (timeout, timeout)),
            recall_at: None,
            end: None,
        });
    }

    fn take_start(&mut self, worker: WorkerId, id: AttemptId) {
        let now = self.now;
        let pool_timeout = self
            .workers
            .get(&worker)
            .and_then(|worker| self.pool_ever(&worker.pool))
            .and_then(|pool| pool.timeout);
        let Some((task, attempt)) = self.attempt(worker, id) else { return };
        if attempt.started_at.is_some() {
            return;
        }
        let timeout_now = task.submission.spec.timeout.or(pool_timeout);
        let task_id = task.id;
        let counts = !task.is_done() && task.holder() == Some((worker, id));
        if let Some(attempt) = self.attempt_mut(worker, id) {
            attempt.started_at = Some(now);
            attempt.timeout = match (attempt.timeout, timeout_now) {
                (Some((least, most)), Some(timeout)) => Some((least.min(timeout), most.max(timeout))),
                (Some((least, _)), None) => Some((least, Duration::MAX)),
                (None, Some(timeout)) => Some((timeout, Duration::MAX)),
                (None, None) => None,
            };
        }
        if counts && let Some(task) = self.tasks.get_mut(&task_id) {
            task.starts += 1;
        }
    }

    /// Takes an attempt out of its worker's hands; whether it was there.
    fn take_back(&mut self, worker: WorkerId, id: AttemptId, end: End) -> bool {
        let Some((task, attempt)) = self.attempt(worker, id) else { return false };
        let (task_id, started) = (task.id, attempt.started_at.is_some());
        let is_current = task.state == State::Sent && task.holder() == Some((worker, id));
        if let Some(attempt) = self.attempt_mut(worker, id) {
            attempt.end = Some(end.clone());
        }
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.holds.retain(|(held, _)| *held != id);
        }
        if is_current && let Some(task) = self.tasks.get_mut(&task_id) {
            match end {
                End::Recalled => task.state = State::Pending,
                End::Died(_) if !started => task.state = State::Pending,
                End::Died(exit) => task.state = State::Judged(exit),
                End::Reported(_) => {}
            }
        }
        true
    }

    fn take_reply(&mut self, client: ConnectionId, request: RequestId, body: &ReplyBody) {
        match body {
            ReplyBody::Accepted { task } => {
                if let Some(Request::Submit(submission)) = self.requests.remove(&(client, request)) {
                    self.accept(client, request, *task, *submission);
                }
            }
            ReplyBody::Done { task, outcome } => {
                self.requests.remove(&(client, request));
                self.finish(*task, outcome);
            }
            ReplyBody::Refused(_) => {
                self.requests.remove(&(client, request));
                self.refusals += 1;
            }
            ReplyBody::NotDone { .. } | ReplyBody::CancelAnswered { .. } | ReplyBody::Drained => {
                self.requests.remove(&(client, request));
            }
            ReplyBody::Started { .. } => {}
            ReplyBody::Welcome(_)
            | ReplyBody::Status(_)
            | ReplyBody::Workers { .. }
            | ReplyBody::Tasks { .. }
            | ReplyBody::Functions { .. }
            | ReplyBody::Reloaded { .. } => {}
        }
    }

    fn accept(&mut self, client: ConnectionId, request: RequestId, id: TaskId, submission: Submission) {
        let user = self.clients.get(&client).map_or(Uid(u32::MAX), |client| client.user);
        let pool = self.pool_for(&submission.spec).map(|pool| pool.name.clone());
        let state = match submission.spec.delay.map(|delay| submission.at + delay) {
            Some(until) if until > submission.at => {
                let until_at_latest = self.now + until.since(submission.at);
                State::Delayed { until, until_at_latest, since_step: None, former: None }
            }
            Some(_) | None => State::Pending,
        };
        let place = Place { earliest: submission.step, latest: self.step };
        self.live.insert(id);
        self.tasks.insert(
            id,
            Task {
                id,
                client,
                request,
                user,
                submission,
                pool,
                state,
                place,
                attempts: Vec::new(),
                retried: 0,
                calls: 0,
                starts: 0,
                done_at: None,
            },
        );
        self.note_delays();
    }

    fn take_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::TaskDone { task, outcome } => self.finish(*task, outcome),
            Notice::TaskRetried { task, wait, .. } => {
                let until = self.now + *wait;
                if let Some(task) = self.tasks.get_mut(task) {
                    task.retried += 1;
                    let former = task.attempts.last().map(|attempt| attempt.worker);
                    task.state = State::Delayed { until, until_at_latest: until, since_step: None, former };
                }
                self.note_delays();
            }
            Notice::ResultExpired { task } => {
                self.kept.remove(task);
            }
            Notice::WorkerReady { .. }
            | Notice::WorkerExited { .. }
            | Notice::WorkerFailed { .. }
            | Notice::WorkerBroke { .. }
            | Notice::WorkerSignalled { .. }
            | Notice::RestartDelayed { .. }
            | Notice::PoolDegraded { .. }
            | Notice::PoolRecovered { .. }
            | Notice::Refused { .. }
            | Notice::TaskAccepted { .. }
            | Notice::TaskStarted { .. }
            | Notice::LateResultDropped { .. }
            | Notice::PhaseChanged(_) => {}
        }
    }

    fn finish(&mut self, id: TaskId, outcome: &Outcome) {
        if self.live.remove(&id)
            && let Some(task) = self.tasks.get_mut(&id)
        {
            task.state = State::Done(outcome.clone());
            task.done_at = Some(self.now);
            *self.outcomes.entry(outcome.kind()).or_default() += 1;
            if task.is_detached() {
                self.kept.insert(id);
            }
        }
    }

    /// Writes down the first step at which a delay was over.
    fn note_delays(&mut self) {
        let (now, step) = (self.now, self.step);
        for id in &self.live {
            if let Some(Task { state: State::Delayed { until, since_step, .. }, .. }) = self.tasks.get_mut(id)
                && since_step.is_none()
                && *until <= now
            {
                *since_step = Some(step);
            }
        }
    }

    /// Writes down which workers run what nobody waits for.
    fn note_spoiled(&mut self) {
        let runs_in_vain = |id: &WorkerId, worker: &Worker| {
            worker.spoiled_at.is_none()
                && worker.holds.iter().any(|(attempt, _)| {
                    let started =
                        self.attempt(*id, *attempt).is_some_and(|(_, held)| held.started_at.is_some());
                    started && !self.is_wanted(*id, *attempt)
                })
        };
        let spoiled: Vec<WorkerId> =
            self.workers.iter().filter(|(id, worker)| runs_in_vain(id, worker)).map(|(id, _)| *id).collect();
        for id in spoiled {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.spoiled_at = Some(self.now);
            }
        }
    }

    /// A delayed task joins its line, if it has not yet.
    fn join_line(&mut self, id: TaskId) {
        let step = self.step;
        if let Some(task) = self.tasks.get_mut(&id)
            && let State::Delayed { since_step, .. } = task.state
        {
            task.place = Place { earliest: since_step.unwrap_or(step), latest: step };
            task.state = State::Pending;
        }
    }

    fn attempt_mut(&mut self, worker: WorkerId, attempt: AttemptId) -> Option<&mut Attempt> {
        let (_, task) = *self.workers.get(&worker)?.holds.iter().find(|(id, _)| *id == attempt)?;
        let attempts = &mut self.tasks.get_mut(&task)?.attempts;
        attempts.iter_mut().find(|sent| sent.worker == worker && sent.id == attempt)
    }
}

impl Task {
    /// Whether it ended.
    pub fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Done(outcome) => Some(outcome),
            State::Delayed { .. } | State::Pending | State::Sent | State::Judged(_) => None,
        }
    }

    /// Whether it goes on when its connection ends.
    pub fn is_detached(&self) -> bool {
        self.submission.spec.attachment == Attachment::Detached
    }

    /// The last attempt, and where it was sent.
    pub fn holder(&self) -> Option<(WorkerId, AttemptId)> {
        self.attempts.last().map(|attempt| (attempt.worker, attempt.id))
    }

    /// Bytes of its arguments.
    pub fn argument_bytes(&self) -> u64 {
        self.submission.args.bytes.len() as u64
    }
}

impl Attempt {
    /// Whether its function is running or may yet run, as far as the supervisor can know.
    pub fn is_out(&self) -> bool {
        self.end.is_none()
    }
}

impl Worker {
    fn asked(pool: &PoolPolicy, now: Time) -> Self {
        Worker {
            asked_at: now,
            pool: pool.name.clone(),
            revision: pool.revision,
            grace: pool.grace,
            start_timeout: pool.start_timeout,
            stage: Stage::Asked,
            spawned_at: None,
            ready_at: None,
            not_ready_at: None,
            broke_at: None,
            hung_up_at: None,
            lied_at: None,
            stop_at: None,
            terminate_at: None,
            kill_at: None,
            functions: BTreeSet::new(),
            capacity: 0,
            may_leave: false,
            spoiled_at: None,
            sent: 0,
            finished: 0,
            holds: Vec::new(),
        }
    }

    /// Whether it was told to end, or is expected to.
    pub fn is_ending(&self) -> bool {
        self.stop_at.is_some()
            || self.terminate_at.is_some()
            || self.kill_at.is_some()
            || self.broke_at.is_some()
            || self.hung_up_at.is_some()
            || self.not_ready_at.is_some()
    }

    /// Whether it can take attempts.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_)) && !self.is_ending()
    }

    /// Its process.
    pub fn pid(&self) -> Option<Pid> {
        match self.stage {
            Stage::Asked => None,
            Stage::Spawned(pid) | Stage::Ready(pid) => Some(pid),
        }
    }
}
