//! The table of tasks that are not done, and of results that are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use slab::Slab;

use super::pools::PoolId;
use super::queue::{Place, Ticket};
use crate::id::{AttemptId, ConnectionId, Credentials, FunctionName, RequestId, TaskId, Uid, WorkerId};
use crate::message::status::{TaskCounts, TaskState};
use crate::task::{Attachment, Outcome, Payload};
use crate::time::Time;

/// A task's row in the table. Given to another task once this one is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskKey(pub(super) u32);

/// A client that waits for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    pub(super) client: ConnectionId,
    pub(super) request: RequestId,
}

/// An accepted task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) function: FunctionName,
    pub(super) args: Payload,
    pub(super) pool: PoolId,
    pub(super) priority: i16,
    pub(super) timeout: Option<Duration>,
    pub(super) owner: Credentials,
    /// Whose turn it takes; also who is told, if it is attached.
    pub(super) submitter: Watcher,
    pub(super) attachment: Attachment,
    /// The task that waits for this one, if it is attached to a function that runs.
    pub(super) parent: Option<TaskId>,
    /// Its function, once it speaks for itself.
    pub(super) speaker: Option<ConnectionId>,
    pub(super) report_start: bool,
    /// Clients that asked for the outcome, beside the submitter.
    pub(super) watchers: Vec<Watcher>,
    pub(super) accepted_at: Time,
    /// Retries that were used.
    pub(super) retries: u32,
    pub(super) retries_max: u32,
    /// Attempts that started.
    pub(super) attempts: u32,
    pub(super) state: State,
}

/// What a task is doing.
#[derive(Debug)]
pub(super) enum State {
    /// Its delay or backoff goes on; a timer ends it.
    Delayed,
    /// Its next attempt waits until the worker of the last one is reaped, and for the backoff.
    Reaping { worker: WorkerId, attempt: AttemptId, not_before: Time },
    /// It waits in its pool's queue.
    Pending { ticket: Ticket },
    /// A worker holds it; it keeps its ticket until it has started.
    Running { worker: WorkerId, attempt: AttemptId, ticket: Ticket },
    /// It ended, and its result is kept.
    Done { outcome: Box<Outcome> },
}

impl Task {
    /// Where it waits with that ticket.
    pub(super) fn place(&self, ticket: Ticket) -> Place {
        Place { priority: self.priority, user: self.owner.user, connection: self.submitter.client, ticket }
    }

    /// What it is doing, in the words of the outside.
    pub(super) fn visible_state(&self) -> TaskState {
        match &self.state {
            State::Delayed | State::Reaping { .. } => TaskState::Delayed,
            State::Pending { .. } => TaskState::Pending,
            State::Running { .. } => TaskState::Running,
            State::Done { outcome, .. } => TaskState::Done(outcome.kind()),
        }
    }
}

/// All tasks, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    rows: Slab<Task>,
    keys: BTreeMap<u64, TaskKey>,
    sums: Sums,
    last_number: u64,
}

/// What tasks add up to.
#[derive(Debug, Default)]
struct Sums {
    all: Sum,
    /// Of those who have any.
    by_user: BTreeMap<Uid, Sum>,
}

/// What some tasks add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    counts: TaskCounts,
    descriptors: Descriptors,
}

/// Descriptors of shared memory that tasks hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Of the arguments of those that are not done.
    pub(super) arguments: u64,
    /// Of kept results.
    pub(super) results: u64,
}

impl Tasks {
    /// The number of the next task.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes a task in.
    pub(super) fn insert(&mut self, task: Task) -> TaskKey {
        self.sums.count(&task, Counted::In);
        let number = task.id.number;
        let key = TaskKey(self.rows.insert(task) as u32);
        self.keys.insert(number, key);
        key
    }

    /// Gives a task another state and returns the one before.
    pub(super) fn set_state(&mut self, key: TaskKey, state: State) -> State {
        let task = &mut self.rows[key.0 as usize];
        self.sums.count(task, Counted::Out);
        if matches!(state, State::Done { .. }) {
            task.args = Payload::default();
        }
        let before = std::mem::replace(&mut task.state, state);
        self.sums.count(task, Counted::In);
        before
    }

    /// Forgets a task.
    pub(super) fn remove(&mut self, key: TaskKey) -> Task {
        let task = self.rows.remove(key.0 as usize);
        self.sums.count(&task, Counted::Out);
        if self.sum_of(task.owner.user) == Sum::default() {
            self.sums.by_user.remove(&task.owner.user);
        }
        self.keys.remove(&task.id.number);
        task
    }

    /// The row of a number.
    pub(super) fn key(&self, number: u64) -> Option<TaskKey> {
        self.keys.get(&number).copied()
    }

    /// The tasks with a larger number, in the order of their numbers.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = &Task> {
        self.keys.range(number.saturating_add(1)..).map(|(_, key)| self.get(*key))
    }

    /// The rows of all tasks that are not done.
    pub(super) fn unfinished(&self) -> Vec<TaskKey> {
        let unfinished = |key: &&TaskKey| !matches!(self.get(**key).state, State::Done { .. });
        self.keys.values().filter(unfinished).copied().collect()
    }

    pub(super) fn get(&self, key: TaskKey) -> &Task {
        &self.rows[key.0 as usize]
    }

    /// For changes to anything but the state.
    pub(super) fn get_mut(&mut self, key: TaskKey) -> &mut Task {
        &mut self.rows[key.0 as usize]
    }

    pub(super) fn counts(&self) -> TaskCounts {
        self.sums.all.counts
    }

    /// Descriptors of shared memory that all of them hold.
    pub(super) fn descriptors(&self) -> Descriptors {
        self.sums.all.descriptors
    }

    /// What the tasks of one user add up to.
    pub(super) fn counts_of(&self, user: Uid) -> TaskCounts {
        self.sum_of(user).counts
    }

    /// Descriptors of shared memory that the tasks of one user hold.
    pub(super) fn descriptors_of(&self, user: Uid) -> Descriptors {
        self.sum_of(user).descriptors
    }

    fn sum_of(&self, user: Uid) -> Sum {
        self.sums.by_user.get(&user).copied().unwrap_or_default()
    }

    /// The users who have tasks or kept results.
    pub(super) fn users(&self) -> Vec<Uid> {
        self.sums.by_user.keys().copied().collect()
    }
}

#[derive(Clone, Copy)]
enum Counted {
    In,
    Out,
}

impl Sums {
    fn count(&mut self, task: &Task, direction: Counted) {
        count(&mut self.all, task, direction);
        count(self.by_user.entry(task.owner.user).or_default(), task, direction);
    }
}

/// Adds a task to what some add up to, or takes it out.
fn count(Sum { counts, descriptors }: &mut Sum, task: &Task, direction: Counted) {
    let add = |sum: &mut u64, amount: u64| match direction {
        Counted::In => *sum += amount,
        Counted::Out => *sum -= amount,
    };
    let bytes = task.args.len();
    match &task.state {
        State::Delayed | State::Reaping { .. } => add(&mut counts.delayed, 1),
        State::Pending { .. } => add(&mut counts.pending, 1),
        State::Running { .. } => add(&mut counts.running, 1),
        State::Done { outcome, .. } => {
            add(&mut counts.kept, 1);
            add(&mut counts.result_bytes, outcome.payload_bytes());
            add(&mut descriptors.results, outcome.memory_descriptors());
            return;
        }
    }
    add(&mut counts.argument_bytes, bytes);
    add(&mut descriptors.arguments, task.args.memory_descriptors());
}
