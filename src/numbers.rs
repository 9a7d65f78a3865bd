//! What numbers stand for that are given one after the other, and most of which are soon out of use: those of tasks,
//! and of requests.
//!
//! ```text
//!   old: 3, 17        recent: 1021 1022  –  1024 1025  –   –  1028
//! ```
//!
//! So those in use lie close together. What outlives most of what came after it is *old*.

use std::collections::{BTreeMap, VecDeque};

/// Numbers out of use that may always stay between recent ones; also the room that is kept when there are none.
const GAPS_MIN: usize = 64;

/// Values by number.
#[derive(Debug)]
pub(crate) struct Numbers<T> {
    old: BTreeMap<u64, T>,
    /// Values of consecutive numbers; none where one is gone, and never at the front.
    recent: VecDeque<Option<T>>,
    /// The number of the first recent one.
    first: u64,
    /// How many recent ones are gone.
    gaps: usize,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers { old: BTreeMap::new(), recent: VecDeque::new(), first: 0, gaps: 0 }
    }
}

impl<T> Numbers<T> {
    /// The value of the number that follows the last one.
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        if self.recent.is_empty() {
            self.first = number;
        }
        assert_eq!(number, self.first + self.recent.len() as u64, "numbers are given one after the other");
        self.recent.push_back(Some(value));
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        match self.place_of(number) {
            Some(place) => self.recent.get(place)?.as_ref(),
            None => self.old.get(&number),
        }
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.place_of(number) {
            Some(place) => self.recent.get_mut(place)?.as_mut(),
            None => self.old.get_mut(&number),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        // None is gone at the front.
        self.recent.is_empty() && self.old.is_empty()
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let Some(place) = self.place_of(number) else { return self.old.remove(&number) };
        let removed = self.recent.get_mut(place).and_then(Option::take)?;
        self.gaps += 1;
        self.trim();
        if self.gaps > self.recent.len() / 2 + GAPS_MIN {
            self.age();
        }
        Some(removed)
    }

    /// The larger numbers in their order, with their values.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let next = number.saturating_add(1);
        let place = next.saturating_sub(self.first).min(self.recent.len() as u64) as usize;
        let old = self.old.range(next..).map(|(number, value)| (*number, value));
        let recent = (self.first + place as u64..).zip(self.recent.range(place..));
        old.chain(recent.filter_map(|(number, value)| Some((number, value.as_ref()?))))
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
                Some(value) => _ = self.old.insert(self.first, value),
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

    /// Numbers up to `last`, with a plain map of the same.
    fn numbers_to(last: u64) -> (Numbers<u64>, BTreeMap<u64, u64>) {
        let mut numbers = Numbers::default();
        (1..=last).for_each(|number| numbers.insert(number, number));
        (numbers, (1..=last).map(|number| (number, number)).collect())
    }

    fn assert_same(numbers: &Numbers<u64>, model: &BTreeMap<u64, u64>, last: u64) {
        for number in 0..last + 2 {
            assert_eq!(numbers.get(number), model.get(&number), "{number}");
        }
        for after in [0, 1, last / 2, last, u64::MAX] {
            let rest = model.range(after.saturating_add(1)..).map(|(number, value)| (*number, value));
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
        numbers.insert(501, 501);
        assert_eq!(numbers.get(501), Some(&501));
    }

    #[test]
    fn number_that_outlives_all_others_does_not_hold_their_places() {
        let (mut numbers, _) = numbers_to(1);
        for number in 2..100_000 {
            numbers.insert(number, number);
            numbers.remove(number - u64::from(number % 1000 == 0));
            assert!(numbers.recent.len() <= 4 * GAPS_MIN, "{number}: {}", numbers.recent.len());
        }
        assert_eq!(numbers.get(1), Some(&1));
        assert_eq!(numbers.after(0).next(), Some((1, &1)));
    }
}
