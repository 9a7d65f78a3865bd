//! Clients: who they are and which tasks are theirs to hear of.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Weak;

use super::tasks::TaskKey;
use crate::id::{TaskId, Uid};

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) user: Uid,
    /// The task that it is a function of.
    pub(super) parent: Option<TaskId>,
    /// Its attached tasks that are not done.
    pub(super) attached: BTreeSet<TaskKey>,
    /// Tasks whose outcome it waits for by a request of its own.
    pub(super) watched: BTreeSet<TaskKey>,
    /// The open files that came with its tasks; gone once no task holds them.
    pub(super) files: Vec<Weak<Vec<OwnedFd>>>,
    /// Whether it leaves too many outcomes unread.
    pub(super) blocked: bool,
}

impl Client {
    pub(super) fn new(user: Uid, parent: Option<TaskId>) -> Self {
        let (attached, watched, files) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Client { user, parent, attached, watched, files, blocked: false }
    }
}
