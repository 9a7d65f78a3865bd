//! Which of many calls have ended: where those who wait for any of them are told.
//!
//! ```text
//!   call ends ──Watcher::tell──> │ numbers │ ──next──> who waits: takes all that there are at a time
//! ```

use std::mem;
use std::sync::{Arc, Condvar, Mutex};

use super::until::{Until, lock};

/// Where the ends of calls arrive, as the numbers that the caller gave the calls.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    board: Arc<Board>,
    /// Taken from the board and not given out, the last one first.
    taken: Vec<usize>,
}

/// What a call keeps of one who waits for it and others.
#[derive(Debug)]
pub(super) struct Watcher {
    number: usize,
    board: Arc<Board>,
}

/// What the calls and the one who waits share.
#[derive(Debug, Default)]
struct Board {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of their ends.
    numbers: Vec<usize>,
    /// Whether somebody waits for one.
    is_asleep: bool,
    /// Whether nobody will wait any more.
    is_abandoned: bool,
}

impl Arrivals {
    /// What tells here that the call of this `number` has ended.
    pub(super) fn watcher(&self, number: usize) -> Watcher {
        Watcher { number, board: Arc::clone(&self.board) }
    }

    /// The next call that ended, in the order of their ends; nothing if none does in time.
    pub(super) fn next(&mut self, until: Until) -> Option<usize> {
        if self.taken.is_empty() {
            let none_arrived = |state: &mut State| {
                state.is_asleep = state.numbers.is_empty();
                state.is_asleep
            };
            let mut state = until.wait_while(&self.board.arrived, lock(&self.board.state), none_arrived);
            mem::swap(&mut state.numbers, &mut self.taken);
            drop(state);
            self.taken.reverse();
        }
        self.taken.pop()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        lock(&self.board.state).is_abandoned = true;
    }
}

impl Watcher {
    /// Tells that the call has ended.
    pub(super) fn tell(self) {
        let mut state = lock(&self.board.state);
        state.numbers.push(self.number);
        let was_asleep = mem::take(&mut state.is_asleep);
        drop(state);
        if was_asleep {
            self.board.arrived.notify_one();
        }
    }

    /// Whether anybody still waits.
    pub(super) fn is_wanted(&self) -> bool {
        !lock(&self.board.state).is_abandoned
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn arrivals_come_in_the_order_in_which_they_were_told() {
        let mut arrivals = Arrivals::default();
        let now = || Until::after(Some(Duration::ZERO));
        for number in [2, 0, 1] {
            arrivals.watcher(number).tell();
        }
        assert_eq!(arrivals.next(now()), Some(2));
        arrivals.watcher(3).tell();
        let rest: Vec<usize> = std::iter::from_fn(|| arrivals.next(now())).collect();
        assert_eq!(rest, [0, 1, 3]);
    }

    #[test]
    fn arrival_wakes_who_waits_each_time() {
        let mut arrivals = Arrivals::default();
        let watchers: Vec<Watcher> = (0..1000).map(|number| arrivals.watcher(number)).collect();
        thread::scope(|scope| {
            scope.spawn(|| watchers.into_iter().for_each(Watcher::tell));
            for number in 0..1000 {
                assert_eq!(arrivals.next(Until::after(None)), Some(number));
            }
        });
    }

    #[test]
    fn watcher_is_wanted_until_nobody_waits() {
        let arrivals = Arrivals::default();
        let watcher = arrivals.watcher(0);
        assert!(watcher.is_wanted());
        drop(arrivals);
        assert!(!watcher.is_wanted());
    }
}
