//! Clients: who they are and which tasks are theirs to hear of.

use std::collections::BTreeSet;

use super::tasks::TaskKey;
use crate::descriptor::Watch;
use crate::id::{Credentials, TaskId};

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Credentials,
    /// The task that it is a function of.
    pub(super) parent: Option<TaskId>,
    /// Its attached tasks that are not done.
    pub(super) attached: BTreeSet<TaskKey>,
    /// Tasks whose outcome it waits for by requests of their own.
    pub(super) watched: BTreeSet<TaskKey>,
    /// How many such requests there are.
    pub(super) watches: usize,
    /// The open files that came with its tasks; gone once no task holds them.
    pub(super) files: Vec<Watch>,
    /// Whether it leaves too many outcomes unread.
    pub(super) blocked: bool,
}

impl Client {
    pub(super) fn new(peer: Credentials, parent: Option<TaskId>) -> Self {
        Client {
            peer,
            parent,
            attached: BTreeSet::new(),
            watched: BTreeSet::new(),
            watches: 0,
            files: Vec::new(),
            blocked: false,
        }
    }
}
