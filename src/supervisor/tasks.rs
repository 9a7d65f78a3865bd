//! The table of tasks that are not done, and of results that are kept.

use std::num::NonZeroU32;
use std::time::Duration;

use slab::Slab;

use super::accounts::{AccountKey, Accounts, Part, Stage, Sum};
use super::chain::Links;
use super::pools::PoolId;
use super::queue::{Place, Ticket};
use crate::id::{AttemptId, ConnectionId, Credentials, FunctionName, RequestId, TaskId, Uid, WorkerId};
use crate::message::status::{TaskCounts, TaskState};
use crate::numbers::Numbers;
use crate::task::{Attachment, Outcome, Payload};
use crate::time::Time;

/// Rows for which the table keeps its memory when it is empty.
const ROWS_KEPT_MAX: usize = 16 * 1024;

/// A task's row in the table. Given to another task once this one is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskKey(NonZeroU32);

impl TaskKey {
    /// That of a row.
    pub(super) fn of_row(row: usize) -> Self {
        let number = u32::try_from(row + 1).ok().and_then(NonZeroU32::new);
        // The queue is bounded far below that, and so are the results that are kept.
        TaskKey(number.expect("there are fewer than 2^32 rows"))
    }

    /// Its row.
    pub(super) fn row(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A client that waits for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    pub(super) client: ConnectionId,
    pub(super) request: RequestId,
}

/// An accepted task. There may be a million of them: what few have is in [`Extras`].
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) function: FunctionName,
    pub(super) args: Payload,
    pub(super) pool: PoolId,
    pub(super) priority: i16,
    /// Whose it is.
    pub(super) user: Uid,
    pub(super) account: AccountKey,
    /// Whose turn it takes; also who is told, if it is attached.
    pub(super) submitter: Watcher,
    pub(super) attachment: Attachment,
    pub(super) report_start: bool,
    pub(super) accepted_at: Time,
    /// Attempts that started.
    pub(super) attempts: u32,
    pub(super) state: State,
    pub(super) extras: Option<Box<Extras>>,
}

/// What most tasks have not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extras {
    pub(super) timeout: Option<Duration>,
    /// Whether a timer waits for its deadline.
    pub(super) has_deadline: bool,
    /// Who submitted it, if it is detached: that may be gone when it runs.
    pub(super) owner: Option<Credentials>,
    /// The task that waits for this one, if it is attached to a function that runs.
    pub(super) parent: Option<TaskId>,
    /// Its function, once it speaks for itself.
    pub(super) speaker: Option<ConnectionId>,
    /// Clients that asked for the outcome, beside the submitter.
    pub(super) watchers: Vec<Watcher>,
    /// Retries that were used.
    pub(super) retries: u32,
    pub(super) retries_max: u32,
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
        Place { priority: self.priority, user: self.user, connection: self.submitter.client, ticket }
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.extras.as_ref()?.timeout
    }

    pub(super) fn parent(&self) -> Option<TaskId> {
        self.extras.as_ref()?.parent
    }

    pub(super) fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Its part in what tasks add up to.
    fn part(&self) -> Part {
        let part =
            |stage| Part { stage, bytes: self.args.len(), descriptors: self.args.memory_descriptors() };
        match &self.state {
            State::Delayed | State::Reaping { .. } => part(Stage::Delayed),
            State::Pending { .. } => part(Stage::Pending),
            State::Running { .. } => part(Stage::Running),
            State::Done { outcome } => Part {
                stage: Stage::Kept,
                bytes: outcome.payload_bytes(),
                descriptors: outcome.memory_descriptors(),
            },
        }
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
    numbers: Numbers<TaskKey>,
    accounts: Accounts,
    /// Of the lines that tasks wait in.
    pub(super) in_line: Links,
    /// Of the attached tasks of each client.
    pub(super) attached: Links,
    last_number: u64,
}

impl Tasks {
    /// The number of the next task.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The account of a user who is about to have a task.
    pub(super) fn open_account(&mut self, user: Uid) -> AccountKey {
        self.accounts.open(user)
    }

    /// Takes a task in.
    pub(super) fn insert(&mut self, task: Task) -> TaskKey {
        self.accounts.add(task.account, task.part());
        let number = task.id.number;
        let key = TaskKey::of_row(self.rows.insert(task));
        self.numbers.insert(number, key);
        key
    }

    /// Gives a task another state and returns the one before.
    pub(super) fn set_state(&mut self, key: TaskKey, state: State) -> State {
        let task = &mut self.rows[key.row()];
        let part = task.part();
        if matches!(state, State::Done { .. }) {
            task.args = Payload::default();
        }
        let before = std::mem::replace(&mut task.state, state);
        self.accounts.change(task.account, part, task.part());
        before
    }

    /// Forgets a task, which is in no chain.
    pub(super) fn remove(&mut self, key: TaskKey) -> Task {
        let task = self.rows.remove(key.row());
        self.accounts.remove(task.account, task.part());
        self.numbers.remove(task.id.number);
        if self.rows.is_empty() && self.rows.capacity() > ROWS_KEPT_MAX {
            self.rows = Slab::new();
            self.in_line.clear();
            self.attached.clear();
        }
        task
    }

    /// The row of a number.
    pub(super) fn key(&self, number: u64) -> Option<TaskKey> {
        self.numbers.get(number).copied()
    }

    /// The tasks with a larger number, in the order of their numbers.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = &Task> {
        self.numbers.after(number).map(|(_, key)| self.get(*key))
    }

    /// The rows of all tasks that are not done.
    pub(super) fn unfinished(&self) -> Vec<TaskKey> {
        let unfinished = |key: &TaskKey| !matches!(self.get(*key).state, State::Done { .. });
        self.numbers.after(0).map(|(_, key)| *key).filter(unfinished).collect()
    }

    pub(super) fn get(&self, key: TaskKey) -> &Task {
        &self.rows[key.row()]
    }

    /// For changes to anything but the state.
    pub(super) fn get_mut(&mut self, key: TaskKey) -> &mut Task {
        &mut self.rows[key.row()]
    }

    pub(super) fn counts(&self) -> TaskCounts {
        self.accounts.all().counts
    }

    /// The same, with the descriptors of shared memory that they hold.
    pub(super) fn sum(&self) -> Sum {
        self.accounts.all()
    }

    /// What the tasks of one user add up to.
    pub(super) fn sum_of(&self, user: Uid) -> Sum {
        self.accounts.of(user)
    }

    /// The users who have tasks or kept results.
    pub(super) fn users(&self) -> Vec<Uid> {
        self.accounts.users()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_takes_little_memory_while_it_waits() {
        let bytes = size_of::<Task>();
        assert!(bytes <= 184, "{bytes} bytes");
    }
}
