//! Whether a process comes from one of the daemon's own: a worker, or what a worker has started, however it was
//! done.
//!
//! A process whose parent ends becomes the child of the nearest one above that asked for such children
//! (PR_SET_CHILD_SUBREAPER), and the daemon has: so whoever comes from it has it among its parents, always.

use crate::id::Pid;

/// How often the chain of parents is followed before a peer whose parents end all the time counts as a descendant:
/// nobody else has a reason to.
const WALKS_MAX: usize = 16;

/// Parents in the longest chain that is followed.
const PARENTS_MAX: usize = 4096;

/// Whether `process` descends from `ancestor` and is another one, as far as `parent_of` knows: it gives the parent of a
/// process, and none if it cannot be seen. Where those of others are hidden (`ProtectProc=` of systemd.exec(5)),
/// `is_of_another_user` says of one that cannot be seen whether it is there, and not of the user of `ancestor`.
pub(super) fn descends(
    process: Pid,
    ancestor: Pid,
    parent_of: impl Fn(Pid) -> Option<Pid>,
    is_of_another_user: impl Fn(Pid) -> bool,
) -> bool {
    let mut unseen_before = None;
    for _ in 0..WALKS_MAX {
        match walk(process, ancestor, &parent_of) {
            Walk::Met => return process != ancestor,
            Walk::Top => return false,
            // What comes from the daemon is of its own user. Of that user, those are hidden that nobody may look into:
            // workers are.
            Walk::Unseen(parent) if unseen_before == Some(parent) => return !is_of_another_user(parent),
            // It has ended meanwhile, and what it left has another parent now.
            Walk::Unseen(parent) => unseen_before = Some(parent),
        }
    }
    true
}

enum Walk {
    /// The ancestor is there.
    Met,
    /// It is not.
    Top,
    /// This one cannot be seen.
    Unseen(Pid),
}

fn walk(process: Pid, ancestor: Pid, parent_of: impl Fn(Pid) -> Option<Pid>) -> Walk {
    let mut current = process;
    for _ in 0..PARENTS_MAX {
        match current {
            // What has no parent here has one outside.
            Pid(0) => return Walk::Top,
            current if current == ancestor => return Walk::Met,
            Pid(1) => return Walk::Top,
            _ => {}
        }
        match parent_of(current) {
            Some(parent) => current = parent,
            None => return Walk::Unseen(current),
        }
    }
    Walk::Unseen(current)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const DAEMON: Pid = Pid(100);
    const PEER: Pid = Pid(500);

    /// All that are there are of the daemon's user.
    fn nobody(_: Pid) -> bool {
        false
    }

    /// A table of parents.
    fn parents(table: &'static [(u32, u32)]) -> impl Fn(Pid) -> Option<Pid> {
        |process| table.iter().find(|(child, _)| *child == process.0).map(|(_, parent)| Pid(*parent))
    }

    #[test]
    fn whoever_has_the_daemon_among_its_parents_descends_from_it() {
        assert!(descends(PEER, DAEMON, parents(&[(500, 400), (400, 100), (100, 1)]), nobody));
        assert!(descends(PEER, Pid(1), parents(&[(500, 1)]), nobody));
    }

    #[test]
    fn whoever_comes_from_elsewhere_does_not() {
        assert!(!descends(PEER, DAEMON, parents(&[(500, 400), (400, 1)]), nobody));
        assert!(!descends(PEER, DAEMON, parents(&[(500, 0)]), nobody));
        assert!(!descends(Pid(0), DAEMON, parents(&[]), nobody));
        assert!(!descends(DAEMON, DAEMON, parents(&[]), nobody));
    }

    #[test]
    fn hidden_peer_or_parent_of_another_user_comes_from_elsewhere() {
        assert!(!descends(PEER, DAEMON, parents(&[(500, 400)]), |process| process == Pid(400)));
        assert!(!descends(PEER, DAEMON, parents(&[]), |process| process == PEER));
    }

    #[test]
    fn hidden_parent_of_the_same_user_counts_as_a_worker() {
        assert!(descends(PEER, DAEMON, parents(&[(500, 400)]), nobody));
    }

    #[test]
    fn peer_that_is_gone_counts_as_a_descendant() {
        assert!(descends(PEER, DAEMON, parents(&[]), nobody));
    }

    #[test]
    fn parent_that_ends_meanwhile_is_followed_by_the_next_one() {
        // The first time, the parent is asked for when it has ended; then the daemon is the parent.
        let asked = Cell::new(0);
        let parent_of = |process| {
            asked.set(asked.get() + 1);
            match (process, asked.get()) {
                (PEER, 1) => Some(Pid(400)),
                (PEER, _) => Some(DAEMON),
                (_, _) => None,
            }
        };
        assert!(descends(PEER, DAEMON, parent_of, nobody));
    }

    #[test]
    fn peer_whose_parents_end_all_the_time_counts_as_a_descendant() {
        let next = Cell::new(1000);
        let parent_of = |process| {
            next.set(next.get() + 1);
            (process == PEER).then_some(Pid(next.get()))
        };
        assert!(descends(PEER, DAEMON, parent_of, nobody));
    }
}
