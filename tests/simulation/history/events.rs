//! Takes in what the supervisor is told, and what the world alone knows.

use poold::id::{AttemptId, ConnectionId, PoolName, RequestId, TaskId, WorkerId};
use poold::message::status::FunctionInfo;
use poold::supervisor::{Event, Policy};
use poold::task::{Exit, TaskSpec};
use poold::time::Time;

use super::{Client, End, Fact, History, Place, Request, Stage, State, Submission, Task, Worker};

impl History {
    /// Takes in what the supervisor is about to be told.
    pub fn take_event(&mut self, now: Time, event: &Event) {
        self.now = now;
        self.step += 1;
        match event {
            Event::ClientConnected { client, peer } => {
                self.clients.insert(*client, Client { peer: peer.clone(), blocked_at: None, parent: None });
            }
            Event::FunctionConnected { client, task } => self.function_connected(*client, *task),
            Event::ClientGone { client } => self.client_gone(*client),
            Event::ClientBlocked { client } => self.client_blocked_since(*client, Some(now)),
            Event::ClientUnblocked { client } => self.client_blocked_since(*client, None),
            Event::Submitted { client, request, spec, deadline, args } => {
                let (step, spec, args) = (self.step, TaskSpec::clone(spec), args.clone());
                let submission = Submission { step, at: now, spec, deadline: *deadline, args };
                self.ask(*client, *request, Request::Submit(Box::new(submission)));
            }
            Event::CancelRequested { client, request, task } => {
                self.ask(*client, *request, Request::Cancel(*task));
            }
            Event::ResultRequested { client, request, task, wait } => {
                self.ask(*client, *request, Request::Result { task: *task, wait: *wait });
            }
            Event::DrainRequested { client, request } => {
                self.ask(*client, *request, Request::Drain);
                self.drained_at.get_or_insert(now);
            }
            Event::ReleaseRequested { client, request, .. } => self.ask(*client, *request, Request::Release),
            Event::StopRequested => self.stopped_at.push(now),
            Event::PolicyChanged { policy } => self.policy_changed(policy),
            Event::WorkerSpawned { worker, pid } => self.of_worker(*worker, |worker| {
                if worker.stage == Stage::Asked {
                    worker.stage = Stage::Spawned(*pid);
                    worker.spawned_at = Some(now);
                }
            }),
            Event::SpawnFailed { worker, message: _ } => self.worker_is_gone(*worker),
            Event::WorkerReady { worker, functions, capacity, ahead } => {
                self.worker_is_ready(*worker, functions, (*capacity, *ahead));
            }
            Event::WorkerNotReady { worker, message: _ } => self.of_worker(*worker, |worker| {
                match worker.ready_at {
                    Some(_) => worker.lied_at.get_or_insert(now),
                    None => worker.not_ready_at.get_or_insert(now),
                };
            }),
            Event::AttemptStarted { worker, attempt } => {
                self.of_worker(*worker, |worker| worker.heard_at = now);
                self.attempt_started(*worker, *attempt);
            }
            Event::AttemptFinished { worker, attempt, report } => {
                self.of_worker(*worker, |worker| worker.heard_at = now);
                self.attempt_started(*worker, *attempt);
                if self.attempt_ended(*worker, *attempt, End::Reported(report.clone())) {
                    self.of_worker(*worker, |worker| worker.finished += 1);
                }
            }
            Event::AttemptsRecalled { worker, attempt, .. } => self.attempt_recalled(*worker, *attempt),
            Event::AttemptsPassedOver { worker, attempt, .. } => {
                self.of_worker(*worker, |worker| match worker.taken_back.remove(attempt) {
                    true => worker.heard_at = now,
                    false => _ = worker.lied_at.get_or_insert(now),
                })
            }
            Event::WorkerHungUp { worker } => self.of_worker(*worker, |worker| {
                worker.hung_up_at.get_or_insert(now);
            }),
            Event::WorkerBroke { worker, reason: _ } => self.of_worker(*worker, |worker| {
                worker.broke_at.get_or_insert(now);
            }),
            Event::WorkerExited { worker, exit } => self.worker_exited(*worker, *exit),
            // Those are taken in one by one.
            Event::SubmittedAll { .. } | Event::AttemptsFinished { .. } => {}
            Event::WorkerMeasured { .. } | Event::TimePassed => {}
        }
        self.note_delays();
    }

    /// Takes in what the world alone knows.
    pub fn take_fact(&mut self, fact: Fact) {
        match fact {
            Fact::FunctionCalled(worker, attempt) => {
                let Some(id) = self.attempt(worker, attempt).map(|(task, _)| task.id) else { return };
                if let Some(attempt) = self.attempt_mut(worker, attempt) {
                    attempt.called = true;
                }
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.calls += 1;
                }
            }
            Fact::ProcessEnded(_) => {}
        }
    }

    /// Takes in that a step is over: what was due in it has happened.
    pub fn end_step(&mut self, event: &Event) {
        self.note_spoiled();
        if matches!(event, Event::TimePassed) {
            let due = self.live_tasks().filter(|task| self.delay_is_over(task)).map(|task| task.id);
            for id in due.collect::<Vec<TaskId>>() {
                self.join_line(id);
            }
        }
    }

    /// Writes down the first step at which a delay was over.
    pub(super) fn note_delays(&mut self) {
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

    /// A delayed task joins its line, if it has not yet.
    pub(super) fn join_line(&mut self, id: TaskId) {
        let step = self.step;
        if let Some(task) = self.tasks.get_mut(&id)
            && let State::Delayed { since_step, .. } = task.state
        {
            task.place = Place { earliest: since_step.unwrap_or(step), latest: step };
            task.state = State::Pending;
        }
    }

    /// A function is heard as long as its task waits for it.
    fn function_connected(&mut self, client: ConnectionId, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let runs = task.attempts.last().is_some_and(|attempt| attempt.started_at.is_some());
        if task.state == State::Sent && runs {
            self.clients
                .insert(client, Client { peer: task.owner.clone(), blocked_at: None, parent: Some(id) });
        }
    }

    /// The function of a task is waited for no more, though it may still run.
    pub(super) fn function_is_over(&mut self, id: TaskId) {
        let functions = self.clients.iter().filter(|(_, client)| client.parent == Some(id));
        for client in functions.map(|(client, _)| *client).collect::<Vec<ConnectionId>>() {
            self.client_gone(client);
        }
    }

    fn client_gone(&mut self, client: ConnectionId) {
        self.clients.remove(&client);
        self.requests.retain(|(owner, _), _| *owner != client);
    }

    fn client_blocked_since(&mut self, client: ConnectionId, blocked_at: Option<Time>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.blocked_at = blocked_at;
        }
    }

    fn ask(&mut self, client: ConnectionId, request: RequestId, asked: Request) {
        if self.clients.contains_key(&client) {
            self.requests.insert((client, request), asked);
        }
    }

    fn of_worker(&mut self, worker: WorkerId, note: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            note(worker);
        }
    }

    fn policy_changed(&mut self, policy: &Policy) {
        for pool in std::mem::replace(&mut self.policy, policy.clone()).pools {
            self.former_pools.insert(pool.name.clone(), pool);
        }
        let is_kept = |name: &PoolName| policy.pools.iter().any(|pool| pool.name == *name);
        for worker in self.workers.values_mut().filter(|worker| !is_kept(&worker.pool)) {
            worker.may_leave = true;
        }
        for pool in &policy.pools {
            let ours = self.workers.values_mut().filter(|worker| worker.pool == pool.name);
            let ours: Vec<&mut Worker> = ours.collect();
            if ours.len() > (pool.workers + pool.standby) as usize {
                ours.into_iter().for_each(|worker| worker.may_leave = true);
            }
        }
        let is_homeless = |task: &&Task| match task.pool.as_ref().map(|name| self.pool(name)) {
            Some(Some(pool)) => !self.pool_has(pool, &task.submission.spec.function),
            Some(None) => true,
            None => false,
        };
        let homeless: Vec<TaskId> = self.live_tasks().filter(is_homeless).map(|task| task.id).collect();
        for id in homeless {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.pool = None;
            }
        }
    }

    fn worker_is_ready(&mut self, id: WorkerId, functions: &[FunctionInfo], (capacity, ahead): (u32, u32)) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.not_ready_at.take().is_some() || worker.ready_at.is_some() {
            worker.lied_at.get_or_insert(now);
        }
        if worker.is_ending() {
            return;
        }
        let Stage::Spawned(pid) = worker.stage else { return };
        worker.stage = Stage::Ready(pid);
        worker.ready_at = Some(now);
        worker.capacity = capacity;
        worker.ahead = ahead;
        worker.functions = functions.iter().map(|function| function.name.clone()).collect();
        let announced = self.announced.entry(worker.pool.clone()).or_default();
        announced.extend(worker.functions.iter().cloned());
    }

    fn worker_exited(&mut self, id: WorkerId, exit: Exit) {
        let holds = self.workers.get(&id).map(|worker| worker.holds.clone());
        for (attempt, _) in holds.unwrap_or_default() {
            self.attempt_ended(id, attempt, End::Died(exit));
        }
        self.worker_is_gone(id);
    }

    fn worker_is_gone(&mut self, id: WorkerId) {
        if self.workers.remove(&id).is_some() {
            self.gone.insert(id, self.now);
        }
    }

    fn attempt_started(&mut self, worker: WorkerId, id: AttemptId) {
        self.note_lie(worker, id);
        let now = self.now;
        let pool = self.workers.get(&worker).and_then(|worker| self.pool_ever(&worker.pool));
        let pool_timeout = pool.and_then(|pool| pool.timeout);
        let Some((task, attempt)) = self.attempt(worker, id) else { return };
        if attempt.started_at.is_some() {
            return;
        }
        let timeout = task.submission.spec.timeout.or(pool_timeout);
        let (task_id, is_wanted) = (task.id, self.is_wanted(worker, id));
        if let Some(attempt) = self.attempt_mut(worker, id) {
            attempt.started_at = Some(now);
            attempt.timeout = timeout;
        }
        if let Some(task) = self.tasks.get_mut(&task_id).filter(|_| is_wanted) {
            task.starts += 1;
        }
    }

    fn attempt_recalled(&mut self, worker: WorkerId, id: AttemptId) {
        self.note_lie(worker, id);
        if self.attempt(worker, id).is_some_and(|(_, attempt)| attempt.started_at.is_none()) {
            self.attempt_ended(worker, id, End::Recalled);
            self.of_worker(worker, |worker| {
                if worker.ahead > worker.capacity {
                    worker.taken_back.insert(id);
                }
            });
        }
    }

    /// Takes an attempt out of its worker's hands; whether it was there.
    fn attempt_ended(&mut self, worker: WorkerId, id: AttemptId, end: End) -> bool {
        let Some((task, attempt)) = self.attempt(worker, id) else { return false };
        let (task_id, started, is_wanted) =
            (task.id, attempt.started_at.is_some(), self.is_wanted(worker, id));
        if let Some(task) = self.tasks.get_mut(&task_id).filter(|_| is_wanted) {
            match end {
                End::Died(exit) if started => task.state = State::Judged(exit),
                End::Recalled | End::Died(_) => task.state = State::Pending,
                End::Reported(_) => {}
            }
        }
        if let Some(attempt) = self.attempt_mut(worker, id) {
            attempt.end = Some(end);
        }
        self.of_worker(worker, |worker| worker.holds.retain(|(held, _)| *held != id));
        true
    }

    /// Writes down that a worker speaks of an attempt that it does not have.
    fn note_lie(&mut self, worker: WorkerId, attempt: AttemptId) {
        let now = self.now;
        if self.attempt(worker, attempt).is_none() {
            self.of_worker(worker, |worker| {
                worker.lied_at.get_or_insert(now);
            });
        }
    }

    /// Writes down which workers run what nobody waits for.
    fn note_spoiled(&mut self) {
        let runs_in_vain = |id: WorkerId, attempt: AttemptId| {
            let started = self.attempt(id, attempt).is_some_and(|(_, held)| held.started_at.is_some());
            started && !self.is_wanted(id, attempt)
        };
        let is_spoiled = |(id, worker): &(&WorkerId, &Worker)| {
            worker.spoiled_at.is_none() && worker.holds.iter().any(|(held, _)| runs_in_vain(**id, *held))
        };
        let spoiled: Vec<WorkerId> = self.workers.iter().filter(is_spoiled).map(|(id, _)| *id).collect();
        let now = self.now;
        for id in spoiled {
            self.of_worker(id, |worker| worker.spoiled_at = Some(now));
        }
    }
}
