//! Children of the daemon that it did not start: what a dead worker's attempts left behind, wherever it had gone.
//!
//! A process that left its worker's group and session becomes the daemon's child when its parent ends
//! (PR_SET_CHILD_SUBREAPER) and no control group holds it. It is killed at the end of the worker that it comes
//! from; and whatever ends is reaped.
//!
//! All this happens on the one thread that starts processes, between two starts: so it knows every child that
//! is not a stray.

use std::collections::BTreeMap;
use std::io;

use crate::id::Pid;
use crate::os::children;

/// The children that are no strays.
#[derive(Debug)]
pub(super) struct Children(BTreeMap<Pid, Kind>);

/// Why a child is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was there before, or is the guard.
    Spared,
    /// A worker that ends by itself what its attempts leave behind.
    Worker,
    /// A worker of another program: what its attempts leave behind comes here while they run.
    OtherWorker,
}

impl Children {
    /// From here on, strays come to this process. Those it has are none.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn adopt() -> io::Result<Self> {
        children::adopt()?;
        let present = if children::exist() { children::list()? } else { Vec::new() };
        Ok(Children(present.into_iter().map(|child| (child, Kind::Spared)).collect()))
    }

    /// A child was started.
    pub(super) fn add(&mut self, child: Pid, kind: Kind) {
        self.0.insert(child, kind);
    }

    /// A worker is reaped: kills what it left behind. That cannot be told from what attempts in workers of other
    /// programs have left and may still need, so that as long as there are any, it stays.
    pub(super) fn end_of(&mut self, worker: Pid) {
        self.0.remove(&worker);
        // To the first process of a container come the children of others too.
        let are_mixed = std::process::id() == 1 || self.0.values().any(|kind| *kind == Kind::OtherWorker);
        if !are_mixed && children::exist() {
            for stray in self.strays() {
                log::warn!(
                    "process {} had left the group of its worker {}, and is killed",
                    stray.0,
                    worker.0
                );
                children::kill(stray);
            }
        }
    }

    /// Reaps the strays that have ended.
    pub(super) fn reap(&self) {
        // A list may miss one while another goes: the last one is made when nothing does.
        while self.strays().into_iter().filter(|stray| children::reap_if_ended(*stray)).count() > 0 {}
    }

    fn strays(&self) -> Vec<Pid> {
        let list = children::list().unwrap_or_else(|error| {
            log::error!("strays cannot be found: {error}");
            Vec::new()
        });
        list.into_iter().filter(|child| !self.0.contains_key(child)).collect()
    }
}
