//! The books: what the supervisor was told and what it did, and that it may do so.

use std::collections::{BTreeMap, BTreeSet};

use poold::id::{AttemptId, ConnectionId, Epoch, RequestId, TaskId, WorkerId};
use poold::limits::ATTEMPTS_APART_MAX;
use poold::message::client::{Reply, ReplyBody};
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::Outcome;
use poold::time::Time;

use super::pieces;

/// The epoch of the supervisor's ids.
pub const EPOCH: Epoch = Epoch(7);

/// From here on are the numbers of what is submitted at once, none of which is detached.
pub const REQUESTS_OF_RUNS: u64 = 1000;

/// Every so many events, what is listed is compared too.
const LISTING_EVENTS: u64 = 16;

/// Whether what is submitted with that number is detached: so that an acceptance tells it.
pub fn is_detached(request: RequestId) -> bool {
    request.0 % 2 == 1 && request.0 < REQUESTS_OF_RUNS
}

/// All that matters of what happened.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Connections that are open, and whether the supervisor hears them: not those of functions for which no
    /// task waits.
    pub clients: BTreeMap<ConnectionId, bool>,
    /// The functions that speak for tasks.
    speakers: BTreeMap<TaskId, ConnectionId>,
    owed: BTreeMap<(ConnectionId, RequestId), Owed>,
    /// Tasks that are accepted and not done, and for which connection each would end.
    pub live: BTreeMap<TaskId, Option<ConnectionId>>,
    kept: BTreeSet<TaskId>,
    /// The number of the last task.
    pub last_number: u64,
    done: u64,
    /// Workers that were asked for and are not gone.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// Workers that are gone.
    pub gone: BTreeSet<WorkerId>,
    /// The tasks whose functions are reported to have returned, by this event.
    reported: BTreeSet<TaskId>,
    /// The attempts that are reported to have ended, by this event.
    ended: BTreeSet<(WorkerId, AttemptId)>,
    /// Tasks whose functions ran in the worker that ended by this event, until it is told what becomes of them.
    struck: BTreeSet<TaskId>,
    is_told_to_drain: bool,
    stops: u32,
    is_something_lost: bool,
    /// Whether the last action was given.
    pub has_exited: bool,
    events: u64,
}

/// What is still to be said to a connection under one number.
#[derive(Debug, Default)]
struct Owed {
    answers: u64,
    outcomes: BTreeSet<TaskId>,
}

/// A worker that is not gone.
#[derive(Debug, Default)]
pub struct Worker {
    /// Whether it has a process.
    pub is_spawned: bool,
    /// How many attempts it said first that it can hold.
    pub capacity: Option<u32>,
    /// Whether attempts are sent ahead to it.
    is_ahead: bool,
    /// Whether it said that it cannot become ready.
    pub has_given_up: bool,
    /// Whether nothing more is heard from it.
    pub is_deaf: bool,
    is_stopped: bool,
    is_signalled: bool,
    sent: u64,
    /// What it was sent and has not reported.
    pub held: BTreeMap<AttemptId, Held>,
    /// What was taken back from it without asking it, and that it has not passed over.
    pub taken_back: BTreeSet<AttemptId>,
}

/// An attempt that a worker holds.
#[derive(Debug)]
pub struct Held {
    /// The task it is an attempt of.
    pub task: TaskId,
    /// Whether it said that it started it.
    pub is_started: bool,
    is_recalled: bool,
    /// Whether its task is tried again, so that it counts for nothing any more.
    is_over: bool,
}

impl Worker {
    /// How many attempts from one on it can give back: it was asked for them and has not started them.
    pub fn can_give_back(&self, attempt: AttemptId) -> u32 {
        let is_meant = |held: &Held| held.is_recalled && !held.is_started;
        let next =
            (attempt.0..).take_while(|number| self.held.get(&AttemptId(*number)).is_some_and(is_meant));
        next.count() as u32
    }

    /// How many from one on it can pass over.
    pub fn can_pass_over(&self, attempt: AttemptId) -> u32 {
        let next = (attempt.0..).take_while(|number| self.taken_back.contains(&AttemptId(*number)));
        next.count() as u32
    }

    /// Whether it was told to end.
    pub fn is_told_to_end(&self) -> bool {
        self.is_stopped || self.is_signalled
    }
}

impl Ledger {
    /// Before the supervisor is told.
    pub fn event(&mut self, event: &Event) {
        self.events += 1;
        self.reported.clear();
        self.ended.clear();
        self.struck.clear();
        pieces::of_event(event).iter().for_each(|event| self.single_event(event));
    }

    fn single_event(&mut self, event: &Event) {
        match event {
            Event::ClientConnected { client, .. } => _ = self.clients.insert(*client, true),
            Event::FunctionConnected { client, task } => {
                let is_wanted = self.live.contains_key(task) && self.runs(*task);
                self.clients.insert(*client, is_wanted);
                if is_wanted {
                    self.speakers.insert(*task, *client);
                }
            }
            Event::ClientGone { client } => {
                self.clients.remove(client);
                self.speakers.retain(|_, speaker| speaker != client);
                self.owed.retain(|(owner, _), _| owner != client);
            }
            Event::Submitted { client, request, .. }
            | Event::CancelRequested { client, request, .. }
            | Event::ResultRequested { client, request, .. }
            | Event::ReleaseRequested { client, request, .. } => self.ask(*client, *request),
            Event::DrainRequested { client, request } => {
                self.is_told_to_drain = true;
                self.ask(*client, *request);
            }
            Event::StopRequested => self.stops += 1,
            Event::WorkerSpawned { worker, .. } => self.of(*worker, |worker| worker.is_spawned = true),
            Event::WorkerReady { worker, capacity, ahead, .. } => self.of(*worker, |worker| {
                if worker.capacity.is_none() {
                    worker.capacity = Some(*ahead);
                    worker.is_ahead = ahead > capacity;
                }
            }),
            Event::WorkerNotReady { worker, .. } => self.of(*worker, |worker| worker.has_given_up = true),
            Event::AttemptStarted { worker, attempt } => self.of(*worker, |worker| {
                worker.held.entry(*attempt).and_modify(|held| held.is_started = true);
            }),
            Event::AttemptFinished { worker, attempt, .. } => {
                let held = self.workers.get_mut(worker).and_then(|worker| worker.held.remove(attempt));
                self.ended.insert((*worker, *attempt));
                self.reported.extend(held.filter(|held| !held.is_over).map(|held| held.task));
            }
            Event::AttemptsRecalled { worker, attempt, .. } => self.of(*worker, |worker| {
                let is_given_back = |held: &Held| held.is_recalled && !held.is_started;
                if worker.held.get(attempt).is_some_and(is_given_back) {
                    worker.held.remove(attempt);
                    if worker.is_ahead {
                        worker.taken_back.insert(*attempt);
                    }
                }
            }),
            Event::AttemptsPassedOver { worker, attempt, .. } => self.of(*worker, |worker| {
                worker.taken_back.remove(attempt);
            }),
            Event::WorkerHungUp { worker } | Event::WorkerBroke { worker, .. } => {
                self.of(*worker, |worker| worker.is_deaf = true);
            }
            Event::SpawnFailed { worker, .. } | Event::WorkerExited { worker, .. } => {
                if let Some(Worker { held, .. }) = self.workers.remove(worker) {
                    self.gone.insert(*worker);
                    let runs = |held: &&Held| held.is_started && !held.is_over;
                    let struck = held.values().filter(runs).map(|held| held.task);
                    self.struck = struck.filter(|task| self.live.contains_key(task)).collect();
                }
            }
            // Those are taken in one by one.
            Event::SubmittedAll { .. } | Event::AttemptsFinished { .. } => {}
            Event::ClientBlocked { .. }
            | Event::ClientUnblocked { .. }
            | Event::PolicyChanged { .. }
            | Event::WorkerMeasured { .. }
            | Event::TimePassed => {}
        }
    }

    /// What the supervisor orders.
    pub fn action(&mut self, action: &Action) {
        assert!(!self.has_exited, "after the exit comes {action:?}");
        pieces::of_action(action.clone()).iter().for_each(|action| self.single_action(action));
    }

    fn single_action(&mut self, action: &Action) {
        match action {
            // Those are taken in one by one.
            Action::SendAttempts { .. } => {}
            Action::SpawnWorker { worker, .. } => self.spawn(*worker),
            Action::SendAttempt { worker, attempt, task, .. } => self.send(*worker, *attempt, *task),
            // Of several attempts that ended at once, the worker was not sent one that came before this.
            Action::RecallAttempts { worker, attempt, .. } if self.ended.contains(&(*worker, *attempt)) => {}
            Action::RecallAttempts { worker, attempt, .. } => self.of_known(*worker, |worker| {
                let held = worker.held.get_mut(attempt).expect("what is recalled was sent");
                assert!(!held.is_started && !held.is_recalled, "recalled twice, or after its start");
                held.is_recalled = true;
            }),
            Action::LookAt { worker } => self.of_known(*worker, |_| {}),
            Action::StopWorker { worker } => self.of_known(*worker, |worker| {
                assert!(worker.is_spawned && !worker.is_stopped, "stopped twice, or before it is there");
                worker.is_stopped = true;
            }),
            Action::SignalWorker { worker, .. } => self.of_known(*worker, |worker| {
                assert!(worker.is_spawned, "signalled before it is there");
                worker.is_signalled = true;
            }),
            Action::Reply { client, reply } => self.reply(*client, reply),
            Action::Notice(notice) => self.notice(notice),
            Action::Exit { forced } => {
                assert!(self.is_told_to_drain || self.stops > 0, "nobody told it to end");
                assert!(self.workers.is_empty() && self.live.is_empty(), "something is left");
                assert_eq!(*forced, self.is_something_lost);
                self.has_exited = true;
            }
        }
    }

    /// After the supervisor was told and all was done.
    pub fn settle(&self, supervisor: &Supervisor, now: Time) {
        let counts = supervisor.task_counts();
        assert_eq!(counts.delayed + counts.pending + counts.running, self.live.len() as u64);
        assert_eq!(counts.kept, self.kept.len() as u64);
        assert!(self.struck.is_empty(), "a worker died under {:?}, of which nothing is told", self.struck);
        let is_left_behind = |owner: &Option<ConnectionId>| owner.is_some_and(|id| !self.is_heard(id));
        assert!(!self.live.values().any(is_left_behind), "a task outlives the connection it belongs to");
        if self.events.is_multiple_of(LISTING_EVENTS) {
            self.check_listings(supervisor, now);
        }
    }

    /// Whether every request was answered.
    pub fn is_all_answered(&self) -> bool {
        self.owed.values().all(|owed| owed.answers == 0 && owed.outcomes.is_empty())
    }

    fn check_listings(&self, supervisor: &Supervisor, now: Time) {
        let (tasks, more) = supervisor.tasks(now, 0, usize::MAX);
        assert!(!more && tasks.is_sorted_by_key(|row| row.id));
        assert!(tasks.iter().map(|row| row.id).eq(self.listed()));
        let (rows, _) = supervisor.workers(now, 0, usize::MAX);
        let listed =
            |id: &WorkerId| rows.iter().any(|row| row.slot == id.slot && row.generation == id.generation);
        assert!(self.workers.keys().all(listed), "a worker is not listed");
        let (functions, _) = supervisor.functions(0, usize::MAX);
        assert!(functions.iter().all(|row| !row.pools.is_empty()));
        let busy: u32 = supervisor.pools().iter().map(|pool| pool.busy).sum();
        assert!(busy as usize <= self.workers.len());
        assert_eq!(supervisor.outcomes().values().sum::<u64>(), self.done);
    }

    fn listed(&self) -> impl Iterator<Item = TaskId> {
        let all: BTreeSet<TaskId> = self.live.keys().chain(&self.kept).copied().collect();
        all.into_iter()
    }

    fn ask(&mut self, client: ConnectionId, request: RequestId) {
        if self.is_heard(client) {
            self.owed.entry((client, request)).or_default().answers += 1;
        }
    }

    fn is_heard(&self, client: ConnectionId) -> bool {
        self.clients.get(&client) == Some(&true)
    }

    /// Whether a worker has started an attempt of a task that counts.
    fn runs(&self, task: TaskId) -> bool {
        let mut held = self.workers.values().flat_map(|worker| worker.held.values());
        held.any(|held| held.task == task && held.is_started && !held.is_over)
    }

    /// No task waits for a function any more.
    fn silence(&mut self, task: TaskId) {
        if let Some(speaker) = self.speakers.remove(&task) {
            self.owed.retain(|(owner, _), _| *owner != speaker);
            self.clients.entry(speaker).and_modify(|is_heard| *is_heard = false);
        }
    }

    fn of(&mut self, id: WorkerId, note: impl FnOnce(&mut Worker)) {
        if let Some(worker) = self.workers.get_mut(&id) {
            note(worker);
        }
    }

    fn of_known(&mut self, id: WorkerId, note: impl FnOnce(&mut Worker)) {
        note(self.workers.get_mut(&id).unwrap_or_else(|| panic!("worker {id} is not there")));
    }

    fn spawn(&mut self, id: WorkerId) {
        assert_eq!(self.stops, 0, "worker {id} is started while the daemon stops");
        assert!(!self.gone.contains(&id), "worker {id} is started again");
        assert!(self.workers.keys().all(|other| other.slot != id.slot), "worker {id} has a twin");
        self.workers.insert(id, Worker::default());
    }

    fn send(&mut self, id: WorkerId, attempt: AttemptId, task: TaskId) {
        assert_eq!(self.stops, 0, "task {task} is sent while the daemon stops");
        assert!(self.live.contains_key(&task), "task {task} is done and sent");
        let holds = |worker: &Worker| worker.held.values().any(|held| held.task == task);
        assert!(!self.workers.values().any(holds), "task {task} is sent twice");
        self.of_known(id, |worker| {
            let has_room = worker.held.len() < worker.capacity.unwrap_or_default() as usize;
            assert!(has_room && !worker.is_deaf && !worker.is_told_to_end(), "it can take none: {worker:?}");
            if let Some(first) = worker.taken_back.first() {
                assert!(attempt.0 - first.0 <= ATTEMPTS_APART_MAX, "more is sent than it reads: {worker:?}");
                assert!(!worker.held.is_empty(), "it is sent more before it goes on: {worker:?}");
            }
            worker.sent += 1;
            assert_eq!(attempt, AttemptId(worker.sent));
            worker.held.insert(attempt, Held { task, is_started: false, is_recalled: false, is_over: false });
        });
    }

    fn reply(&mut self, client: ConnectionId, reply: &Reply) {
        let is_known = *self.clients.get(&client).expect("whoever is spoken to is there");
        let request = reply.request.expect("nobody is told what was not asked for");
        let owed = self.owed.entry((client, request)).or_default();
        match &reply.body {
            ReplyBody::Accepted { task } => {
                assert_eq!(
                    (task.epoch, task.number),
                    (EPOCH, self.last_number + 1),
                    "ids are given in order"
                );
                self.last_number = task.number;
                let is_detached = is_detached(request);
                self.live.insert(*task, (!is_detached).then_some(client));
                if !is_detached {
                    owed.outcomes.insert(*task);
                }
                owed.answers -= 1;
            }
            ReplyBody::Started { task } => {
                assert!(owed.outcomes.contains(task), "{task} was not asked about")
            }
            ReplyBody::Done { task, .. } if owed.outcomes.remove(task) => {}
            _ if is_known => owed.answers -= 1,
            _ => {}
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::TaskDone { task, outcome } => {
                let owner = self.live.remove(task).unwrap_or_else(|| panic!("task {task} ends twice"));
                if owner.is_none() {
                    self.kept.insert(*task);
                }
                self.done += 1;
                self.judge(*task, outcome);
                self.is_something_lost |= matches!(outcome, Outcome::Lost { .. });
                self.silence(*task);
            }
            Notice::TaskRetried { task, outcome, .. } => {
                self.judge(*task, outcome);
                let held = self.workers.values_mut().flat_map(|worker| worker.held.values_mut());
                held.filter(|held| held.task == *task).for_each(|held| held.is_over = true);
                self.silence(*task);
            }
            Notice::ResultExpired { task } => assert!(self.kept.remove(task), "{task} was not kept"),
            _ => {}
        }
    }

    /// Whether an attempt can have come to that.
    fn judge(&mut self, task: TaskId, outcome: &Outcome) {
        let was_struck = self.struck.remove(&task);
        match outcome {
            Outcome::Ok(_) | Outcome::Failed(_) => assert!(self.reported.contains(&task), "nobody said so"),
            Outcome::Crashed(_) => {
                assert!(was_struck, "task {task} is blamed for a death that was not its own")
            }
            Outcome::TimedOut(_) | Outcome::Cancelled(_) | Outcome::Lost { .. } => {}
        }
    }
}
