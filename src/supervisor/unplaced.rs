//! Submissions that wait until some pool says that it has their function.

use std::collections::{BTreeMap, BTreeSet};

use super::tasks::{Arguments, Watcher};
use crate::id::{ConnectionId, TaskId, Uid};
use crate::task::SharedSpec;
use crate::time::Time;

/// What a client submitted: a task, or a run.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) submitter: Watcher,
    pub(super) user: Uid,
    /// The task whose function submitted it.
    pub(super) parent: Option<TaskId>,
    pub(super) spec: SharedSpec,
    pub(super) deadline: Option<Time>,
    pub(super) args: Arguments,
}

/// Submissions that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    submissions: BTreeMap<u64, Submission>,
    /// The same by client: that one leaves must not cost what all others wait for.
    by_client: BTreeSet<(ConnectionId, u64)>,
    /// The same by user.
    by_user: BTreeMap<Uid, Demand>,
    last_number: u64,
    /// What they all are.
    demand: Demand,
}

/// What submissions take of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) tasks: u64,
    pub(super) bytes: u64,
    /// Of the memory that their arguments are in.
    pub(super) descriptors: u64,
}

impl Demand {
    /// What the tasks with these arguments take.
    pub(super) fn of(args: &Arguments) -> Self {
        Demand { tasks: args.count().into(), bytes: args.len(), descriptors: args.memory_descriptors() }
    }

    pub(super) fn plus(self, more: Demand) -> Self {
        Demand {
            tasks: self.tasks + more.tasks,
            bytes: self.bytes + more.bytes,
            descriptors: self.descriptors + more.descriptors,
        }
    }

    fn minus(self, less: Demand) -> Self {
        Demand {
            tasks: self.tasks - less.tasks,
            bytes: self.bytes - less.bytes,
            descriptors: self.descriptors - less.descriptors,
        }
    }
}

impl Unplaced {
    /// Gives a submission a number.
    pub(super) fn insert(&mut self, submission: Submission) -> u64 {
        self.last_number += 1;
        let demand = Demand::of(&submission.args);
        self.demand = self.demand.plus(demand);
        let of_user = self.demand_of(submission.user).plus(demand);
        self.by_user.insert(submission.user, of_user);
        self.by_client.insert((submission.submitter.client, self.last_number));
        self.submissions.insert(self.last_number, submission);
        self.last_number
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Submission> {
        let submission = self.submissions.remove(&number)?;
        let demand = Demand::of(&submission.args);
        self.demand = self.demand.minus(demand);
        let user = submission.user;
        let of_user = self.demand_of(user).minus(demand);
        match of_user.tasks {
            0 => _ = self.by_user.remove(&user),
            _ => _ = self.by_user.insert(user, of_user),
        }
        self.by_client.remove(&(submission.submitter.client, number));
        Some(submission)
    }

    /// What they all take.
    pub(super) fn demand(&self) -> Demand {
        self.demand
    }

    /// What those of a user take.
    pub(super) fn demand_of(&self, user: Uid) -> Demand {
        self.by_user.get(&user).copied().unwrap_or_default()
    }

    /// The numbers of a client's submissions.
    pub(super) fn of_client(&self, client: ConnectionId) -> Vec<u64> {
        self.by_client.range((client, 0)..=(client, u64::MAX)).map(|(_, number)| *number).collect()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Submission> {
        self.submissions.get(&number)
    }

    /// The numbers of all, in the order in which they came.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.submissions.keys().copied().collect()
    }
}
