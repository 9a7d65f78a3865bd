//! Slots, and the workers in them.

use crate::id::{AttemptId, Generation, Pid, SlotId, WorkerId};
use crate::limits::ATTEMPTS_APART_MAX;
use crate::message::status::WorkerState;
use crate::time::Time;

use super::action::EndReason;
use super::ahead::Pace;
use super::held::{Held, HeldAttempts, Progress, TakenBack};
use super::pools::PoolId;
use super::recycling::Wear;

/// A place for a worker.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) pool: PoolId,
    /// Of the worker in it, or of the next one if it is down.
    pub(super) generation: Generation,
    pub(super) occupant: Occupant,
    pub(super) role: Role,
    /// How its pool has it listed among those that can be sent an attempt: see [`Worker::load`].
    pub(super) opening: Option<u32>,
    /// Whether it goes away with its worker.
    pub(super) retired: bool,
    /// Failures of its workers in a row.
    pub(super) failures: u32,
    pub(super) attempts: u64,
    pub(super) restarts: u64,
}

/// What a slot's worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It takes attempts.
    Service,
    /// It stands by.
    Reserve,
}

/// What is in a slot.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a slot has a worker nearly always")]
pub(super) enum Occupant {
    /// No process; a timer ends that, unless the daemon stops.
    Nobody,
    /// A process, or one that is being started.
    Worker(Worker),
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    /// The pool's revision when it was started.
    pub(super) revision: u64,
    /// The part of `max_attempts` and `max_lifetime` that it reaches, drawn by lot.
    pub(super) lasts: f64,
    /// Its process, once there is one.
    pub(super) pid: Option<Pid>,
    pub(super) stage: Stage,
    /// Why it is to be replaced, if it is.
    pub(super) wear: Option<Wear>,
    pub(super) held: HeldAttempts,
    pub(super) taken_back: TakenBack,
    pub(super) last_attempt: AttemptId,
    /// How many it may be sent ahead.
    pub(super) pace: Pace,
    /// Attempts it finished.
    pub(super) finished: u64,
    /// What it said when it could not become ready, or did that it must not.
    pub(super) complaint: Option<String>,
    /// Whether it can no longer be talked to.
    pub(super) is_broken: bool,
    /// Whether it has to go if it has not begun with what it is asked for.
    pub(super) is_suspect: bool,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not ready.
    Starting,
    /// It takes attempts.
    Ready { capacity: u32, since: Time },
    /// It takes no more and is to end; since when it had been ready, and whether it was told so by now.
    Ending { reason: EndReason, ready_since: Option<Time>, told: bool },
}

impl Slot {
    /// The address of the worker in it.
    pub(super) fn worker_id(&self) -> WorkerId {
        WorkerId { slot: self.id, generation: self.generation }
    }

    pub(super) fn worker(&self) -> Option<&Worker> {
        match &self.occupant {
            Occupant::Worker(worker) => Some(worker),
            Occupant::Nobody => None,
        }
    }

    pub(super) fn worker_mut(&mut self) -> Option<&mut Worker> {
        match &mut self.occupant {
            Occupant::Worker(worker) => Some(worker),
            Occupant::Nobody => None,
        }
    }

    /// What its worker is doing, in the words of the outside.
    pub(super) fn visible_state(&self) -> WorkerState {
        let Some(worker) = self.worker() else { return WorkerState::Down };
        match worker.stage {
            Stage::Starting => WorkerState::Starting,
            Stage::Ready { .. } if !worker.held.is_empty() => WorkerState::Busy,
            Stage::Ready { .. } => match self.role {
                Role::Service => WorkerState::Idle,
                Role::Reserve => WorkerState::Standby,
            },
            Stage::Ending { .. } => WorkerState::Stopping,
        }
    }
}

impl Worker {
    /// One that is being started.
    pub(super) fn starting(revision: u64, lasts: f64) -> Self {
        Worker {
            revision,
            lasts,
            pid: None,
            stage: Stage::Starting,
            wear: None,
            held: HeldAttempts::default(),
            taken_back: TakenBack::default(),
            last_attempt: AttemptId(0),
            pace: Pace::default(),
            finished: 0,
            complaint: None,
            is_broken: false,
            is_suspect: false,
        }
    }

    /// Since when it is ready.
    pub(super) fn ready_since(&self) -> Option<Time> {
        match self.stage {
            Stage::Ready { since, .. } => Some(since),
            Stage::Starting | Stage::Ending { .. } => None,
        }
    }

    /// How many attempts it may hold: none unless it is ready.
    pub(super) fn capacity(&self) -> u32 {
        match self.stage {
            Stage::Ready { capacity, .. } => capacity,
            Stage::Starting | Stage::Ending { .. } => 0,
        }
    }

    /// How much stands before a further attempt that it is sent: nothing while it has room for it at once, else
    /// the attempts that it holds; none if it can be sent none, or has yet to show that it goes on.
    pub(super) fn load(&self) -> Option<u32> {
        let (held, capacity) = (self.held.count(), self.capacity());
        match () {
            () if self.must_pass_over() => None,
            () if held < capacity => Some(0),
            () if capacity > 0 && self.pace.has_room(held) && self.is_in_step() => Some(held),
            () => None,
        }
    }

    /// How many attempts it can be sent at once, if it can be sent any and may do so many in its life.
    pub(super) fn room(&self, attempts_left: u64) -> u32 {
        if !self.pace.is_ahead() {
            return 1;
        }
        let in_step = u32::try_from(ATTEMPTS_APART_MAX.saturating_sub(self.spread())).unwrap_or(u32::MAX);
        let left = u32::try_from(attempts_left).unwrap_or(u32::MAX);
        self.pace.room(self.held.count()).min(in_step).min(left).max(1)
    }

    /// Whether the numbers of the attempts on their way do not lie too far apart.
    fn is_in_step(&self) -> bool {
        self.spread() < ATTEMPTS_APART_MAX
    }

    /// How far the numbers of the attempts on their way lie apart: those that were taken back are still among what
    /// it has to read.
    fn spread(&self) -> u64 {
        let held = self.held.first().map(|held| held.attempt);
        let first = held.into_iter().chain(self.taken_back.first()).min();
        self.last_attempt.0 - first.unwrap_or(self.last_attempt).0
    }

    /// Whether all that it has to do, as far as is known, is to pass over what was taken back.
    pub(super) fn must_pass_over(&self) -> bool {
        self.held.is_empty() && !self.taken_back.is_empty()
    }

    /// Whether attempts wait in it behind one that is known to run.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.pace.is_ahead() && self.has_begun() && self.held.iter().any(Held::is_sent)
    }

    /// Whether it is known to run an attempt, if it runs one at a time: in the order of sending.
    pub(super) fn has_begun(&self) -> bool {
        let first = self.held.first().map(|held| held.progress);
        matches!(first, Some(Progress::Started { .. } | Progress::Overdue))
    }
}
