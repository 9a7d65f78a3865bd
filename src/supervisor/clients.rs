//! Clients: who they are and which tasks are theirs to hear of.

use std::collections::BTreeSet;

use super::chain::Chain;
use super::tasks::TaskKey;
use crate::descriptor::Watch;
use crate::id::{Credentials, TaskId};
use crate::limits::WATCHES_PER_CLIENT_MAX;
use crate::message::client::Refusal;

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Credentials,
    /// The task that it is a function of.
    pub(super) parent: Option<TaskId>,
    /// Its attached tasks that are not done.
    pub(super) attached: Chain,
    /// Tasks whose outcome it waits for by requests of their own.
    pub(super) watched: BTreeSet<TaskKey>,
    /// How many such requests there are, those that wait for the end of a drain included.
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
            attached: Chain::default(),
            watched: BTreeSet::new(),
            watches: 0,
            files: Vec::new(),
            blocked: false,
        }
    }

    /// One more request of it waits, if it may.
    pub(super) fn count_wait(&mut self) -> Result<(), Refusal> {
        if self.watches >= WATCHES_PER_CLIENT_MAX {
            return Err(Refusal::TooManyWaits { waits_max: WATCHES_PER_CLIENT_MAX as u32 });
        }
        self.watches += 1;
        Ok(())
    }
}
