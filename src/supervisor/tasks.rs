//! The table of tasks that are not done, and of results that are kept.
//!
//! A row stands for one task, or for a *run* of tasks: they were submitted at once, are alike but for their arguments,
//! have consecutive numbers, and nothing has told them apart. What is to happen to one of them makes it a row of its
//! own first ([`Supervisor::single_out`](super::Supervisor::single_out)).

use std::num::NonZeroU32;
use std::time::Duration;

use slab::Slab;

use super::accounts::{AccountKey, Accounts, Part, Stage, Sum};
use super::chain::Links;
use super::pools::PoolId;
use super::queue::{Place, Ticket};
use crate::descriptor::Descriptors;
use crate::id::{AttemptId, ConnectionId, Credentials, FunctionName, RequestId, TaskId, Uid, WorkerId};
use crate::message::status::{TaskCounts, TaskState};
use crate::numbers::Numbers;
use crate::task::{Attachment, Outcome, Payload, Payloads};
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

/// The arguments of a task, or of each of a run.
#[derive(Clone, Debug)]
pub(super) enum Arguments {
    One(Payload),
    /// Of two at the least.
    Many(Box<Payloads>),
}

impl Arguments {
    /// Of how many tasks they are.
    pub(super) fn count(&self) -> u32 {
        match self {
            Arguments::One(_) => 1,
            Arguments::Many(payloads) => payloads.count(),
        }
    }

    /// How many bytes there are, wherever they are.
    pub(super) fn len(&self) -> u64 {
        match self {
            Arguments::One(payload) => payload.len(),
            Arguments::Many(payloads) => payloads.len(),
        }
    }

    /// Bytes of the largest.
    pub(super) fn largest(&self) -> u64 {
        match self {
            Arguments::One(payload) => payload.len(),
            Arguments::Many(payloads) => payloads.largest(),
        }
    }

    /// Descriptors that their shared memory takes.
    pub(super) fn memory_descriptors(&self) -> u64 {
        match self {
            Arguments::One(payload) => payload.memory_descriptors(),
            Arguments::Many(_) => 0,
        }
    }

    /// The open files that go with them.
    pub(super) fn files(&self) -> Option<&Descriptors> {
        match self {
            Arguments::One(payload) => (payload.descriptors.count() > 0).then_some(&payload.descriptors),
            Arguments::Many(_) => None,
        }
    }

    /// Cuts off those of the first `count` tasks, of which there are more.
    fn split_to(&mut self, count: u32) -> Self {
        let Arguments::Many(payloads) = self else { unreachable!("one task is not cut") };
        let first = payloads.split_to(count);
        if payloads.count() == 1 {
            *self = Arguments::from(std::mem::take(&mut **payloads));
        }
        first.into()
    }
}

impl From<Payloads> for Arguments {
    fn from(payloads: Payloads) -> Self {
        match payloads.count() {
            0 | 1 => Arguments::One(payloads.each().next().unwrap_or_default()),
            _ => Arguments::Many(Box::new(payloads)),
        }
    }
}

/// An accepted task, or a run of them: then numbers, tickets and so on are those of the first, and the others' count
/// on from there. There may be a million: what few have is in [`Extras`].
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) function: FunctionName,
    pub(super) args: Arguments,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// The ticket that it waits with, or is held by a worker with; one that is neither has none.
    pub(super) fn ticket(&self) -> Ticket {
        match self.state {
            State::Pending { ticket } | State::Running { ticket, .. } => ticket,
            State::Delayed | State::Reaping { .. } | State::Done { .. } => Ticket(0),
        }
    }

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

    /// Of how many tasks it is the row.
    pub(super) fn count(&self) -> u32 {
        self.args.count()
    }

    /// Cuts off the first `count` tasks, of which there are more.
    fn split_to(&mut self, count: u32) -> Task {
        let further = u64::from(count);
        let (first, rest) = match self.state {
            State::Pending { ticket } => {
                let rest = Ticket(ticket.0 + further);
                (State::Pending { ticket }, State::Pending { ticket: rest })
            }
            State::Running { worker, attempt, ticket } => {
                let (next, rest) = (attempt.plus(further), Ticket(ticket.0 + further));
                let first = State::Running { worker, attempt, ticket };
                (first, State::Running { worker, attempt: next, ticket: rest })
            }
            State::Delayed | State::Reaping { .. } | State::Done { .. } => {
                unreachable!("a run waits in a queue or is held by a worker")
            }
        };
        self.state = rest;
        let first = Task {
            function: self.function.clone(),
            args: self.args.split_to(count),
            state: first,
            extras: self.extras.clone(),
            ..*self
        };
        self.id = self.id.plus(further);
        self.submitter.request = self.submitter.request.plus(further);
        first
    }

    /// Its part in what tasks add up to.
    fn part(&self) -> Part {
        let part = |stage| Part {
            stage,
            tasks: self.count().into(),
            bytes: self.args.len(),
            descriptors: self.args.memory_descriptors(),
        };
        match &self.state {
            State::Delayed | State::Reaping { .. } => part(Stage::Delayed),
            State::Pending { .. } => part(Stage::Pending),
            State::Running { .. } => part(Stage::Running),
            State::Done { outcome } => Part {
                stage: Stage::Kept,
                tasks: 1,
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
    /// The first of the numbers of the next tasks, so many.
    pub(super) fn next_number(&mut self, count: u32) -> u64 {
        let first = self.last_number + 1;
        self.last_number += u64::from(count);
        first
    }

    /// The account of a user who is about to have a task.
    pub(super) fn open_account(&mut self, user: Uid) -> AccountKey {
        self.accounts.open(user)
    }

    /// Takes a task in.
    pub(super) fn insert(&mut self, task: Task) -> TaskKey {
        self.accounts.add(task.account, task.part());
        let (number, count) = (task.id.number, u64::from(task.count()));
        let key = TaskKey::of_row(self.rows.insert(task));
        (number..number + count).for_each(|number| self.numbers.insert(number, key));
        key
    }

    /// Gives the first `count` tasks of a row one of their own, which is in no chain.
    pub(super) fn split(&mut self, key: TaskKey, count: u32) -> TaskKey {
        let first = self.rows[key.row()].split_to(count);
        let number = first.id.number;
        let first = TaskKey::of_row(self.rows.insert(first));
        for number in number..number + u64::from(count) {
            if let Some(row) = self.numbers.get_mut(number) {
                *row = first;
            }
        }
        first
    }

    /// Forgets the first `count` tasks of a row, of which there are more.
    pub(super) fn remove_first(&mut self, key: TaskKey, count: u32) {
        let first = self.rows[key.row()].split_to(count);
        self.accounts.remove(first.account, first.part());
        (0..u64::from(count)).for_each(|place| _ = self.numbers.remove(first.id.number + place));
    }

    /// Gives a task another state and returns the one before.
    pub(super) fn set_state(&mut self, key: TaskKey, state: State) -> State {
        let task = &mut self.rows[key.row()];
        let part = task.part();
        if matches!(state, State::Done { .. }) {
            task.args = Arguments::One(Payload::default());
        }
        let before = std::mem::replace(&mut task.state, state);
        self.accounts.change(task.account, part, task.part());
        before
    }

    /// Forgets a row, which is in no chain.
    pub(super) fn remove(&mut self, key: TaskKey) -> Task {
        let task = self.rows.remove(key.row());
        self.accounts.remove(task.account, task.part());
        (0..u64::from(task.count())).for_each(|place| _ = self.numbers.remove(task.id.number + place));
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

    /// The larger numbers of tasks in their order, each with the row of its task.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Task)> {
        self.numbers.after(number).map(|(number, key)| (number, self.get(*key)))
    }

    /// The rows of all tasks that are not done, in the order of their numbers.
    pub(super) fn unfinished(&self) -> Vec<TaskKey> {
        let unfinished = |key: &TaskKey| !matches!(self.get(*key).state, State::Done { .. });
        let mut rows: Vec<TaskKey> = self.numbers.after(0).map(|(_, key)| *key).filter(unfinished).collect();
        rows.dedup();
        rows
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
