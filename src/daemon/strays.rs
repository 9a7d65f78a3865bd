//! Children of the daemon that it did not start: what a dead worker's attempts left behind, wherever it had gone.
//!
//! A process that left its worker's group and session becomes the child of another when its parent ends
//! (PR_SET_CHILD_SUBREAPER): its worker's, which ends it with the attempt; or, when the worker itself is
//! dead, the daemon, which ends it then. Whatever ends is reaped.
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
    /// It was there before, or is the guard or the template.
    Spared,
    /// A worker that ends by itself what its attempts leave behind.
    Worker,
    /// A worker of another program: what its attempts leave behind comes here while they run.
    OtherWorker,
}

impl Children {
    /// From here on, strays come to this process. The children that it has by now are none.
    ///
    /// # Errors
    /// What the system gives; there are some, and `/proc` is not there.
    pub(super) fn adopt() -> io::Result<Self> {
        children::adopt()?;
        Ok(Children(children::present()?.into_iter().map(|child| (child, Kind::Spared)).collect()))
    }

    /// A child was started.
    pub(super) fn add(&mut self, child: Pid, kind: Kind) {
        self.0.insert(child, kind);
    }

    /// What was there before another child took its place is reaped; either may be none.
    pub(super) fn replace(&mut self, former: Option<Pid>, now: Option<Pid>) {
        former.into_iter().for_each(|former| self.remove(former));
        now.into_iter().for_each(|now| self.add(now, Kind::Spared));
    }

    /// A worker is reaped.
    pub(super) fn remove(&mut self, worker: Pid) {
        self.0.remove(&worker);
    }

    /// Reaps the strays that have ended, and kills the others. To be called whenever a child has ended: what a
    /// stray leaves behind is one too.
    pub(super) fn sweep(&self) {
        // Unit tests share one process, whose children are those of all of them.
        if cfg!(test) {
            return;
        }
        // A list may miss one while another goes: the last one is made when nothing does.
        while children::exist() && self.sweep_once() > 0 {}
    }

    /// Kills all strays, also where some may be needed: while there is no worker yet, one can be what was started for
    /// this daemon and not heard of.
    pub(super) fn kill_all(&self) {
        // As above.
        if cfg!(test) {
            return;
        }
        self.strays().into_iter().for_each(children::kill);
    }

    /// Says how many are reaped.
    fn sweep_once(&self) -> usize {
        let (ended, alive): (Vec<Pid>, Vec<Pid>) =
            self.strays().into_iter().partition(|stray| children::reap_if_ended(*stray));
        if !self.are_mixed() {
            for stray in alive {
                log::warn!("process {} had got away from a worker that is gone, and is killed", stray.0);
                children::kill(stray);
            }
        }
        ended.len()
    }

    /// Whether strays come here that are not of dead workers: those of attempts that run in workers of other
    /// programs and may still need them, and, to the first process of a container, anybody's.
    fn are_mixed(&self) -> bool {
        std::process::id() == 1 || self.0.values().any(|kind| *kind == Kind::OtherWorker)
    }

    fn strays(&self) -> Vec<Pid> {
        let list = children::list().unwrap_or_else(|error| {
            log::error!("strays cannot be found: {error}");
            Vec::new()
        });
        list.into_iter().filter(|child| !self.0.contains_key(child)).collect()
    }
}
