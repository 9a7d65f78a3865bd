//! Draining and stopping.
//!
//! ```text
//!   serving ──drain──> draining ──────────────── all done ──────────────┐
//!      │                  │ stop                                        v
//!      └──────stop────────┴──> shutting down ─── all done ──────────> stopped ── workers gone ──> exit
//!                                   └── stop again, drain timeout: ───^
//!                                       running tasks are lost
//! ```
//!
//! A client that does not read holds its own tasks back, and must not hold the end back with them: while the
//! daemon drains, it has the drain timeout to read; then those of its tasks that wait are cancelled.

use super::action::{EndReason, Signal};
use super::held::Progress;
use super::slots::{Occupant, Stage};
use super::tasks::{State, TaskKey, Watcher};
use super::timers::Timer;
use super::{Action, Notice, Supervisor};
use crate::id::{AttemptId, ConnectionId, SlotId, WorkerId};
use crate::message::client::ReplyBody;
use crate::message::status::Phase;
use crate::task::{CancelReason, Outcome, Started};

impl Supervisor {
    pub(super) fn drain_requested(&mut self, requester: Watcher) {
        if self.phase == Phase::Stopped {
            return self.reply(requester, ReplyBody::Drained);
        }
        let Some(client) = self.clients.get_mut(&requester.client) else { return };
        if let Err(refusal) = client.count_wait() {
            return self.refuse(requester, refusal);
        }
        self.drain_requests.push(requester);
        if self.phase == Phase::Serving {
            self.enter(Phase::Draining);
            self.refuse_unplaced();
            self.hurry_blocked_clients();
        }
    }

    fn hurry_blocked_clients(&mut self) {
        let blocked = self.clients.iter().filter(|(_, client)| client.blocked).map(|(id, _)| *id);
        for client in blocked.collect::<Vec<ConnectionId>>() {
            self.hurry_blocked(client);
        }
    }

    /// A client that does not read must, within the drain timeout, if the daemon drains.
    pub(super) fn hurry_blocked(&mut self, client: ConnectionId) {
        if self.phase == Phase::Draining {
            self.timers.arm(Timer::ClientReads(client), self.now + self.policy.drain_timeout);
        }
    }

    /// A client has not read in time: what waits for it to read is cancelled.
    pub(super) fn blocked_too_long(&mut self, client: ConnectionId) {
        let Some(waiting) = self.clients.get(&client) else { return };
        for row in waiting.attached.tasks(&self.tasks.attached) {
            self.cancel_waiting(row);
        }
        // For those that run and may have to be tried again.
        self.hurry_blocked(client);
    }

    pub(super) fn stop_requested(&mut self) {
        match self.phase {
            Phase::Serving | Phase::Draining => self.shut_down(),
            Phase::ShuttingDown | Phase::Stopped => self.force_stop(),
        }
    }

    /// Cancels what does not run, and gives what does the drain timeout.
    fn shut_down(&mut self) {
        self.enter(Phase::ShuttingDown);
        self.refuse_unplaced();
        for row in self.tasks.unfinished() {
            self.cancel_waiting(row);
        }
        // What is given back is cancelled; what has begun goes on.
        for id in self.occupied_slots() {
            self.take_back_sent(id, |_, _| true);
        }
        self.remove_empty_slots();
        self.timers.arm(Timer::DrainTimeout, self.now + self.policy.drain_timeout);
    }

    /// Cancels what no worker holds.
    fn cancel_waiting(&mut self, row: TaskKey) {
        if !matches!(self.tasks.get(row).state, State::Running { .. }) {
            for task in self.take_apart(row) {
                self.cancel(task, CancelReason::Shutdown);
            }
        }
    }

    /// Kills what still runs: those tasks are lost.
    pub(super) fn force_stop(&mut self) {
        // What functions have submitted, which has larger numbers, is lost like them, and not cancelled by
        // their ends.
        let rows = self.tasks.unfinished();
        let tasks: Vec<TaskKey> = rows.into_iter().flat_map(|row| self.take_apart(row)).collect();
        for task in tasks.into_iter().rev() {
            let State::Running { worker, attempt, .. } = self.tasks.get(task).state else {
                unreachable!("only running tasks are left once the daemon shuts down");
            };
            self.forced = true;
            let started = self.has_started(worker, attempt);
            self.disown(worker, attempt);
            self.conclude(task, Outcome::Lost { started });
        }
        self.stop();
        for id in self.occupied_slots() {
            self.kill(id);
        }
    }

    pub(super) fn has_started(&self, worker: WorkerId, attempt: AttemptId) -> Started {
        let worker = self.slots.get(&worker.slot).and_then(|slot| slot.worker());
        match worker.and_then(|worker| worker.held.get(attempt)).map(|held| held.progress) {
            Some(Progress::Started { .. } | Progress::Overdue) => Started::Yes,
            Some(Progress::Sent | Progress::Recalled) | None => Started::Unknown,
        }
    }

    fn disown(&mut self, worker_id: WorkerId, attempt: AttemptId) {
        self.timers.disarm(Timer::AttemptStart(worker_id, attempt));
        self.timers.disarm(Timer::AttemptTimeout(worker_id, attempt));
        if let Some(held) = self.held_mut(worker_id, attempt) {
            held.task = None;
        }
    }

    /// Goes on to the next phase once nothing of this one is left.
    pub(super) fn advance_phase(&mut self) {
        let counts = self.tasks.counts();
        let all_done = counts.delayed + counts.pending + counts.running == 0;
        match self.phase {
            Phase::Draining | Phase::ShuttingDown if all_done => self.stop(),
            Phase::Serving | Phase::Draining | Phase::ShuttingDown | Phase::Stopped => {}
        }
        if self.phase == Phase::Stopped && self.slots.is_empty() && !self.exited {
            self.exited = true;
            self.actions.push_back(Action::Exit { forced: self.forced });
        }
    }

    /// All work is over: the workers go.
    fn stop(&mut self) {
        if self.phase == Phase::Stopped {
            return;
        }
        self.enter(Phase::Stopped);
        self.timers.disarm(Timer::DrainTimeout);
        for requester in std::mem::take(&mut self.drain_requests) {
            self.reply(requester, ReplyBody::Drained);
        }
        self.remove_empty_slots();
        for id in self.occupied_slots() {
            self.end_worker(id, EndReason::Shutdown);
        }
    }

    fn kill(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let worker_id = slot.worker_id();
        let Some(worker) = slot.worker_mut() else { return };
        if let (Stage::Ending { told, .. }, Some(_)) = (&mut worker.stage, worker.pid) {
            *told = true;
            self.signal(worker_id, Signal::Kill, EndReason::Shutdown);
        }
    }

    fn occupied_slots(&self) -> Vec<SlotId> {
        self.slots.values().filter(|slot| slot.worker().is_some()).map(|slot| slot.id).collect()
    }

    fn remove_empty_slots(&mut self) {
        let empty = self.slots.values().filter(|slot| matches!(slot.occupant, Occupant::Nobody));
        let empty: Vec<SlotId> = empty.map(|slot| slot.id).collect();
        for id in empty {
            self.remove_slot(id);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.note(Notice::PhaseChanged(phase));
    }
}
