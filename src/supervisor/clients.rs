//! Clients: who they are and which tasks are theirs to hear of.

use std::collections::BTreeSet;

use super::tasks::TaskKey;
use crate::id::Uid;

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) user: Uid,
    /// Its attached tasks that are not done.
    pub(super) attached: BTreeSet<TaskKey>,
    /// Tasks whose outcome it waits for by a request of its own.
    pub(super) watched: BTreeSet<TaskKey>,
    /// How many requests of its own those are: it may wait for a task several times.
    pub(super) waits: usize,
    /// Whether it leaves too many outcomes unread.
    pub(super) blocked: bool,
}

impl Client {
    pub(super) fn new(user: Uid) -> Self {
        Client { user, attached: BTreeSet::new(), watched: BTreeSet::new(), waits: 0, blocked: false }
    }
}
