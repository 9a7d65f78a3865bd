//! What an attempt started and left behind: it ends with the attempt, also where it took pains to get away.
//!
//! A process that leaves its group and its session still has a parent, and when that ends, this worker is the
//! one that adopts it (PR_SET_CHILD_SUBREAPER). So when no attempt runs, whatever children the worker has are left
//! over, but for those that the program itself had started before the first attempt.

use std::collections::BTreeSet;
use std::io;

use super::complain;
use crate::id::Pid;
use crate::os::{children, process};

/// How often the children are killed and their children adopted before the worker ends itself, since then they
/// come faster than they go.
const ROUNDS_MAX: usize = 100;

/// What this worker's attempts leave behind.
#[derive(Debug)]
pub(super) struct Strays {
    /// Children that are none of an attempt.
    spared: BTreeSet<Pid>,
}

impl Strays {
    /// From here on, what an attempt leaves behind is this worker's.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn adopt() -> io::Result<Self> {
        children::adopt()?;
        Ok(Strays { spared: BTreeSet::new() })
    }

    /// What there is now is no attempt's, and stays.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn spare_present(&mut self) -> io::Result<()> {
        if children::exist() {
            self.spared.extend(children::list()?);
        }
        Ok(())
    }

    /// Kills and reaps all that is left over. No attempt may run. If more comes all the time, this worker and its
    /// group end too: it is the last attempt's doing, and the daemon finds the rest.
    pub(super) fn end(&self) {
        if !self.end_in_time() {
            complain(
                &"what an attempt left behind forks faster than it can be killed; the worker ends with it",
            );
            // Failing, it would be because nothing is left of the group.
            let _ = process::kill_own_group();
        }
    }

    fn end_in_time(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            if !children::exist() {
                return true;
            }
            let left = children::list().unwrap_or_default();
            let left: Vec<Pid> = left.into_iter().filter(|child| !self.spared.contains(child)).collect();
            if left.is_empty() {
                return true;
            }
            // All are killed before any is waited for, so that none starts others meanwhile.
            left.iter().copied().for_each(children::kill);
            left.into_iter().for_each(children::reap);
        }
        false
    }
}
