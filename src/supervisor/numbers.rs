//! Which row of the table stands for a task's number.
//!
//! ```text
//!   old: 3, 17        recent: 1021 1022  –  1024 1025  –   –  1028
//! ```
//!
//! Numbers are given one after the other and most tasks end soon, so that those in use lie close together.
//! Tasks that outlive most of those that came after them are *old*.

use std::collections::{BTreeMap, VecDeque};

use super::tasks::TaskKey;

/// Numbers out of use that may always stay between recent ones; also the room that is kept when there are none.
const GAPS_MIN: usize = 64;

/// The rows of the tasks that there are, by number.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    old: BTreeMap<u64, TaskKey>,
    /// Rows of consecutive numbers; none where the task is gone, and never at the front.
    recent: VecDeque<Option<TaskKey>>,
    /// The number of the first recent one.
    first: u64,
    /// How many recent ones are gone.
    gaps: usize,
}

impl Numbers {
    /// The row of the number that follows the last one.
    pub(super) fn insert(&mut self, number: u64, key: TaskKey) {
        if self.recent.is_empty() {
            self.first = number;
        }
        assert_eq!(number, self.first + self.recent.len() as u64, "numbers are given one after the other");
        self.recent.push_back(Some(key));
    }

    pub(super) fn get(&self, number: u64) -> Option<TaskKey> {
        match self.place_of(number) {
            Some(place) => self.recent.get(place).copied().flatten(),
            None => self.old.get(&number).copied(),
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(place) = self.place_of(number) else {
            self.old.remove(&number);
            return;
        };
        if self.recent.get_mut(place).and_then(Option::take).is_some() {
            self.gaps += 1;
            self.trim();
            if self.gaps > self.recent.len() / 2 + GAPS_MIN {
                self.age();
            }
        }
    }

    /// The rows of the larger numbers, in the order of these.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = TaskKey> {
        let next = number.saturating_add(1);
        let place = next.saturating_sub(self.first).min(self.recent.len() as u64) as usize;
        let old = self.old.range(next..).map(|(_, key)| *key);
        old.chain(self.recent.range(place..).filter_map(|key| *key))
    }

    /// Where among the recent ones a number is, if it is not too small for that.
    fn place_of(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.first).map(|place| place as usize)
    }

    fn trim(&mut self) {
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.first += 1;
            self.gaps -= 1;
        }
        if self.recent.is_empty() {
            self.recent.shrink_to(GAPS_MIN);
        }
    }

    /// Has the older half of the recent ones be old.
    fn age(&mut self) {
        for _ in 0..self.recent.len() / 2 {
            match self.recent.pop_front().flatten() {
                Some(key) => _ = self.old.insert(self.first, key),
                None => self.gaps -= 1,
            }
            self.first += 1;
        }
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> TaskKey {
        TaskKey::of_row(number as usize)
    }

    /// Numbers up to `last`, with a plain map of the same.
    fn numbers_to(last: u64) -> (Numbers, BTreeMap<u64, TaskKey>) {
        let mut numbers = Numbers::default();
        (1..=last).for_each(|number| numbers.insert(number, key(number)));
        (numbers, (1..=last).map(|number| (number, key(number))).collect())
    }

    fn assert_same(numbers: &Numbers, model: &BTreeMap<u64, TaskKey>, last: u64) {
        for number in 0..last + 2 {
            assert_eq!(numbers.get(number), model.get(&number).copied(), "{number}");
        }
        for after in [0, 1, last / 2, last, u64::MAX] {
            let rest = model.range(after.saturating_add(1)..).map(|(_, key)| *key);
            assert_eq!(numbers.after(after).collect::<Vec<_>>(), rest.collect::<Vec<_>>(), "after {after}");
        }
    }

    #[test]
    fn numbers_taken_out_in_any_order_leave_the_others_in_theirs() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut numbers, mut model) = numbers_to(500);
        let mut order: Vec<u64> = (1..=500).collect();
        random.shuffle(&mut order);
        for (taken, number) in order.into_iter().enumerate() {
            numbers.remove(number);
            model.remove(&number);
            if taken % 50 == 0 {
                assert_same(&numbers, &model, 500);
            }
        }
        assert_same(&numbers, &model, 500);
        numbers.insert(501, key(501));
        assert_eq!(numbers.get(501), Some(key(501)));
    }

    #[test]
    fn number_that_outlives_all_others_does_not_hold_their_places() {
        let (mut numbers, _) = numbers_to(1);
        for number in 2..100_000 {
            numbers.insert(number, key(number));
            numbers.remove(number - u64::from(number % 1000 == 0));
            assert!(numbers.recent.len() <= 4 * GAPS_MIN, "{number}: {}", numbers.recent.len());
        }
        assert_eq!(numbers.get(1), Some(key(1)));
        assert_eq!(numbers.after(0).next(), Some(key(1)));
    }
}
