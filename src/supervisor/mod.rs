//! The part that decides: events in, actions out.
//!
//! A pure state machine: no clock, no socket, no process, no thread, no environment, no order that
//! differs between two runs. Time is a number that the caller passes in; what is drawn at random is
//! drawn from a seed.
//!
//! ```text
//!                 Submitted                    SendAttempt              AttemptFinished
//!   (submission) ───────────> queue of a pool ─────────────> a worker ──────────────────> Reply
//!                                  ^   (attempts)                │
//!                                  │ not started                 │ WorkerExited
//!                                  └─────────────────────────────┤
//!                                  ^ backoff, if it is retried   │ started: crashed
//!                                  └─────────────────────────────┘   (workers, ending)
//! ```
//!
//! Calls go in this order: [`Supervisor::handle`] the events that are there, then [`Supervisor::poll_action`] until
//! there is none, then wait for the next event, at most until [`Supervisor::poll_deadline`]. What is sent to whom is
//! decided once all events of a turn are known.
//!
//! One file per subject: `submission` takes tasks in, `requests` answers clients, `attempts` sends tasks
//! to workers and hears of them, `ahead` says how many at a time, `runs` tells apart what was submitted at once, `workers` starts and ends processes, `restart` says how soon, `standby` has
//! others ready, `recycling` wears them out, `ending` gives every task its one outcome, `quarantine` keeps
//! functions that kill workers away, `phases` drains and stops, `reload` changes the policy, `summary` tells
//! how things are.

mod access;
mod accounts;
mod action;
mod ahead;
mod attempts;
mod chain;
mod clients;
mod ending;
mod event;
#[cfg(test)]
mod function_tests;
mod held;
#[cfg(test)]
mod notice_tests;
mod phases;
mod policy;
mod pools;
mod quarantine;
mod queue;
mod recycling;
mod reload;
mod requests;
mod restart;
mod runs;
mod slots;
mod standby;
mod submission;
mod summary;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod unplaced;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use access::{Access, Who};
pub use action::{Action, EndReason, Notice, Signal};
pub use event::Event;
pub use policy::{DescriptorPolicy, Policy, PoolPolicy, RestartPolicy, WhenDegraded};
pub use recycling::Wear;

use clients::Client;
use pools::{Pool, PoolId};
use quarantine::Killers;
use queue::Ticket;
use slots::Slot;
use tasks::{Tasks, Watcher};
use timers::{Timer, Timers};
use unplaced::Unplaced;

use crate::id::{ConnectionId, Epoch, SlotId, Uid, WorkerId};
use crate::limits::LOOK_EARLY_MAX;
use crate::message::status::Phase;
use crate::task::OutcomeKind;
use crate::time::Time;

/// The state machine.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    epoch: Epoch,
    /// The time of the event that is handled.
    now: Time,
    random: fastrand::Rng,
    phase: Phase,
    tasks: Tasks,
    last_ticket: Ticket,
    /// Results that are kept, the oldest first: when each was, and its task's number.
    kept: BTreeSet<(Time, u64)>,
    /// The same by user.
    kept_by_user: BTreeSet<(Uid, Time, u64)>,
    pools: Vec<Pool>,
    /// The pools that the policy names, in its order.
    pool_order: Vec<PoolId>,
    slots: BTreeMap<SlotId, Slot>,
    next_slot: SlotId,
    clients: BTreeMap<ConnectionId, Client>,
    /// Submissions that wait for a pool to say that it has the function.
    unplaced: Unplaced,
    killers: Killers,
    timers: Timers,
    /// When the workers that attempts are sent ahead to are looked at.
    looks: BTreeSet<(Time, WorkerId)>,
    drain_requests: Vec<Watcher>,
    /// Whether running tasks were killed to stop.
    forced: bool,
    /// Whether the last action was given.
    exited: bool,
    /// How many tasks ended how, by [`OutcomeKind`].
    outcomes: [u64; OutcomeKind::ALL.len()],
    refusals: u64,
    /// Whether notices are given of what becomes of single tasks.
    tells_of_tasks: bool,
    actions: VecDeque<Action>,
    /// Whether nothing has happened since it was last looked what follows from all.
    is_settled: bool,
}

impl Supervisor {
    /// A supervisor that keeps to `policy` and gives ids of `epoch`; `seed` draws its jitter. It wants
    /// its workers started at once: poll its first actions.
    pub fn new(now: Time, policy: Policy, epoch: Epoch, seed: u64) -> Self {
        let mut supervisor = Supervisor {
            policy: policy.clone(),
            epoch,
            now,
            random: fastrand::Rng::with_seed(seed),
            phase: Phase::Serving,
            tasks: Tasks::default(),
            last_ticket: Ticket(0),
            kept: BTreeSet::new(),
            kept_by_user: BTreeSet::new(),
            pools: Vec::new(),
            pool_order: Vec::new(),
            slots: BTreeMap::new(),
            next_slot: SlotId(0),
            clients: BTreeMap::new(),
            unplaced: Unplaced::default(),
            killers: Killers::default(),
            timers: Timers::default(),
            looks: BTreeSet::new(),
            drain_requests: Vec::new(),
            forced: false,
            exited: false,
            outcomes: [0; OutcomeKind::ALL.len()],
            refusals: 0,
            tells_of_tasks: true,
            actions: VecDeque::new(),
            is_settled: false,
        };
        supervisor.policy_changed(policy);
        supervisor
    }

    /// From here on no notice is given of what becomes of a single task: for when nobody would read it.
    pub fn omit_notices_of_tasks(&mut self) {
        self.tells_of_tasks = false;
    }

    /// Takes an event in. Afterwards poll actions until there is none.
    ///
    /// `now` does not go back: an earlier time than the last one's counts as that. Events after
    /// [`Action::Exit`] are ignored.
    pub fn handle(&mut self, now: Time, event: Event) {
        if self.exited {
            return;
        }
        self.now = self.now.max(now);
        match event {
            Event::ClientConnected { client, peer } => self.client_connected(client, peer),
            Event::FunctionConnected { client, task } => self.function_connected(client, task),
            Event::ClientGone { client } => self.client_gone(client),
            Event::ClientBlocked { client } => self.client_blocked(client),
            Event::ClientUnblocked { client } => self.client_unblocked(client),
            Event::Submitted { client, request, spec, deadline, args } => {
                self.submitted(Watcher { client, request }, spec, deadline, args);
            }
            Event::SubmittedAll { client, request, spec, deadline, args } => {
                self.submitted_all(Watcher { client, request }, spec, deadline, args);
            }
            Event::CancelRequested { client, request, task } => {
                self.cancel_requested(Watcher { client, request }, task);
            }
            Event::ResultRequested { client, request, task, wait } => {
                self.result_requested(Watcher { client, request }, task, wait);
            }
            Event::DrainRequested { client, request } => self.drain_requested(Watcher { client, request }),
            Event::ReleaseRequested { client, request, function } => {
                self.release_requested(Watcher { client, request }, function);
            }
            Event::StopRequested => self.stop_requested(),
            Event::PolicyChanged { policy } => self.policy_changed(*policy),
            Event::WorkerSpawned { worker, pid } => self.worker_spawned(worker, pid),
            Event::SpawnFailed { worker, message } => self.spawn_failed(worker, message),
            Event::WorkerReady { worker, functions, capacity, ahead } => {
                self.worker_ready(worker, functions, capacity, ahead);
            }
            Event::WorkerNotReady { worker, message } => self.worker_not_ready(worker, message),
            Event::AttemptStarted { worker, attempt } => self.attempt_started(worker, attempt),
            Event::AttemptFinished { worker, attempt, report } => {
                self.attempt_finished(worker, attempt, report);
            }
            Event::AttemptsFinished { worker, attempt, results } => {
                self.attempts_finished(worker, attempt, results);
            }
            Event::AttemptsRecalled { worker, attempt, count } => {
                self.attempts_recalled(worker, attempt, count);
            }
            Event::AttemptsPassedOver { worker, attempt, count } => {
                self.attempts_passed_over(worker, attempt, count);
            }
            Event::WorkerMeasured { worker, rss_bytes } => self.worker_measured(worker, rss_bytes),
            Event::WorkerHungUp { worker } => self.worker_hung_up(worker),
            Event::WorkerBroke { worker, reason } => self.worker_broke(worker, reason),
            Event::WorkerExited { worker, exit } => self.worker_exited(worker, exit),
            Event::TimePassed => self.time_passed(),
        }
        self.is_settled = false;
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && !std::mem::replace(&mut self.is_settled, true) {
            self.release_retired_pools();
            self.dispatch();
            self.advance_phase();
        }
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Event::TimePassed`] if nothing happens before.
    pub fn poll_deadline(&self) -> Option<Time> {
        let look = self.looks.first().map(|(at, _)| *at);
        self.timers.first().into_iter().chain(look).min().filter(|_| !self.exited)
    }

    /// Whether to call [`handle`](Self::handle) with [`Event::TimePassed`] now, for whoever is awake anyway: a part of
    /// what is due may be done a little early, so that it is not woken for that.
    pub fn is_due(&self, now: Time) -> bool {
        let look = self.looks.first().is_some_and(|(at, _)| *at <= now + LOOK_EARLY_MAX);
        !self.exited && (look || self.timers.first().is_some_and(|at| at <= now))
    }

    fn time_passed(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Placement(number) => self.placement_over(number),
                Timer::TaskDelay(task) => self.enqueue(task),
                Timer::TaskDeadline(task) => self.deadline_passed(task),
                Timer::AttemptStart(worker, attempt) => self.attempt_not_started(worker, attempt),
                Timer::AttemptTimeout(worker, attempt) => self.attempt_timed_out(worker, attempt),
                Timer::WorkerStart(worker) => self.end_worker(worker.slot, EndReason::NotReadyInTime),
                Timer::WorkerSettled(worker) => self.worker_settled(worker.slot),
                Timer::WorkerLifetime(worker) => self.lifetime_over(worker),
                Timer::WorkerGrace(worker) => self.grace_over(worker),
                Timer::SlotRestart(slot) => self.restart(slot),
                Timer::ClientReads(client) => self.blocked_too_long(client),
                Timer::ResultExpiry => self.expire_results(),
                Timer::DrainTimeout => self.force_stop(),
            }
        }
        self.look_around();
    }

    fn note(&mut self, notice: Notice) {
        self.actions.push_back(Action::Notice(notice));
    }

    /// As [`note`](Self::note), of a task: made only if it is given.
    fn note_of_task(&mut self, notice: impl FnOnce(&Tasks) -> Notice) {
        if self.tells_of_tasks {
            self.note(notice(&self.tasks));
        }
    }

    fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.0]
    }

    fn pool_mut(&mut self, id: PoolId) -> &mut Pool {
        &mut self.pools[id.0]
    }

    /// The slot of a worker, as long as that worker is in it.
    fn slot_of(&mut self, worker: WorkerId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(&worker.slot)?;
        (slot.generation == worker.generation && slot.worker().is_some()).then_some(slot)
    }
}
