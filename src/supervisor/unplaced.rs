//! Submissions that wait until some pool says that it has their function.

use std::collections::{BTreeMap, BTreeSet};

use super::tasks::Watcher;
use crate::id::{ConnectionId, TaskId, Uid};
use crate::task::{Payload, TaskSpec};
use crate::time::Time;

/// What a client submitted.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) submitter: Watcher,
    pub(super) user: Uid,
    /// The task whose function submitted it.
    pub(super) parent: Option<TaskId>,
    pub(super) spec: TaskSpec,
    pub(super) deadline: Option<Time>,
    pub(super) args: Payload,
}

/// Submissions that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    submissions: BTreeMap<u64, Submission>,
    /// The same by client: that one leaves must not cost what all others wait for.
    by_client: BTreeSet<(ConnectionId, u64)>,
    /// How many tasks and bytes of arguments they are, by user.
    by_user: BTreeMap<Uid, Demand>,
    last_number: u64,
    bytes: u64,
}

/// What submissions take of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) tasks: u64,
    pub(super) bytes: u64,
}

impl Unplaced {
    /// Gives a submission a number.
    pub(super) fn insert(&mut self, submission: Submission) -> u64 {
        self.last_number += 1;
        let bytes = submission.args.bytes.len() as u64;
        self.bytes += bytes;
        let demand = self.demand_of(submission.user);
        let demand = Demand { tasks: demand.tasks + 1, bytes: demand.bytes + bytes };
        self.by_user.insert(submission.user, demand);
        self.by_client.insert((submission.submitter.client, self.last_number));
        self.submissions.insert(self.last_number, submission);
        self.last_number
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Submission> {
        let submission = self.submissions.remove(&number)?;
        let bytes = submission.args.bytes.len() as u64;
        self.bytes -= bytes;
        let user = submission.user;
        let demand = self.demand_of(user);
        match demand.tasks {
            1 => _ = self.by_user.remove(&user),
            _ => {
                _ = self.by_user.insert(user, Demand { tasks: demand.tasks - 1, bytes: demand.bytes - bytes })
            }
        }
        self.by_client.remove(&(submission.submitter.client, number));
        Some(submission)
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

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.submissions.len() as u64
    }

    /// Bytes of their arguments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
