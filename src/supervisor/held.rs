//! The attempts that a worker holds, and those that were taken back from it.
//!
//! What was sent as one run is one entry, until something tells its attempts apart.

use std::collections::{BTreeMap, VecDeque};

use super::tasks::TaskKey;
use crate::id::{AttemptId, TaskId};
use crate::time::Time;

/// An attempt that a worker holds; or a run of those that it was sent at once and of which no more is known, of
/// tasks with consecutive numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The first.
    pub(super) attempt: AttemptId,
    pub(super) count: u32,
    /// The task that the first is an attempt of.
    pub(super) id: TaskId,
    /// The row of those tasks, until the task has ended without this attempt.
    pub(super) task: Option<TaskKey>,
    pub(super) progress: Progress,
}

/// How far an attempt has come, by its worker's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was sent.
    Sent,
    /// It was sent and asked for back.
    Recalled,
    /// Its function was called.
    Started { at: Time },
    /// It ran out of time and may still run; its task waits to be retried until the worker is reaped.
    Overdue,
}

impl Held {
    /// Whether it is not known to have begun, and was not asked for.
    pub(super) fn is_sent(&self) -> bool {
        self.progress == Progress::Sent
    }

    /// Whether it goes on although its task has ended.
    fn is_stuck(&self) -> bool {
        match self.progress {
            Progress::Started { .. } => self.task.is_none(),
            Progress::Overdue => true,
            Progress::Sent | Progress::Recalled => false,
        }
    }

    /// Whether a task waits for it to end.
    pub(super) fn is_needed(&self) -> bool {
        self.task.is_some() && self.progress != Progress::Overdue
    }

    /// How many come before an attempt, if that is one of them.
    pub(super) fn place_of(&self, attempt: AttemptId) -> Option<u32> {
        let before = attempt.0.checked_sub(self.attempt.0)?;
        u32::try_from(before).ok().filter(|before| *before < self.count)
    }
}

/// The attempts that a worker was sent and has not reported, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct HeldAttempts {
    runs: VecDeque<Held>,
    /// How many attempts they all are.
    count: u32,
}

impl HeldAttempts {
    /// How many attempts there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Held> {
        self.runs.front()
    }

    /// The one that has so many before it.
    pub(super) fn nth(&self, mut before: u32) -> Option<AttemptId> {
        for held in &self.runs {
            match before.checked_sub(held.count) {
                Some(rest) => before = rest,
                None => return Some(held.attempt.plus(before.into())),
            }
        }
        None
    }

    /// Single attempts and runs of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.runs.iter()
    }

    /// What an attempt is, or is one of.
    pub(super) fn get(&self, attempt: AttemptId) -> Option<&Held> {
        self.runs.get(self.index_of(attempt)?)
    }

    /// As [`get`](Self::get).
    pub(super) fn get_mut(&mut self, attempt: AttemptId) -> Option<&mut Held> {
        let index = self.index_of(attempt)?;
        self.runs.get_mut(index)
    }

    fn index_of(&self, attempt: AttemptId) -> Option<usize> {
        self.runs.iter().position(|held| held.place_of(attempt).is_some())
    }

    /// Adds what was sent.
    pub(super) fn push(&mut self, held: Held) {
        self.count += held.count;
        self.runs.push_back(held);
    }

    /// Has a run, if it is there, be two: the first `count` of it have that row.
    pub(super) fn split(&mut self, attempt: AttemptId, count: u32, row: TaskKey) {
        let Some(index) = self.index_of(attempt) else { return };
        let Some(rest) = self.runs.get_mut(index) else { return };
        let first = Held { count, task: Some(row), ..*rest };
        rest.attempt = rest.attempt.plus(count.into());
        rest.id = rest.id.plus(count.into());
        rest.count -= count;
        self.runs.insert(index, first);
    }

    /// Strikes the first `count` of what begins with an attempt, mostly the first one.
    pub(super) fn forget(&mut self, attempt: AttemptId, count: u32) {
        let Some(index) = self.index_of(attempt) else { return };
        let Some(held) = self.runs.get_mut(index) else { return };
        self.count -= count;
        if held.count > count {
            held.attempt = held.attempt.plus(count.into());
            held.id = held.id.plus(count.into());
            held.count -= count;
        } else {
            self.runs.remove(index);
        }
    }

    /// How many of them go on although their tasks have ended.
    pub(super) fn stuck(&self) -> u32 {
        self.runs.iter().filter(|held| held.is_stuck()).count() as u32
    }
}

/// The attempts that were taken back from a worker, of which it is known without asking it, and that it has not
/// passed over.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// The first of each run, and how many it is.
    runs: BTreeMap<AttemptId, u32>,
}

impl TakenBack {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first of all.
    pub(super) fn first(&self) -> Option<AttemptId> {
        self.runs.keys().next().copied()
    }

    /// Adds so many, which are not among them.
    pub(super) fn insert(&mut self, attempt: AttemptId, count: u32) {
        self.runs.insert(attempt, count);
    }

    /// Strikes so many. Says whether all of them were there.
    pub(super) fn remove(&mut self, attempt: AttemptId, count: u32) -> bool {
        let end = attempt.plus(count.into());
        let mut next = attempt;
        while next < end {
            let run = self.runs.range(..=next).next_back().map(|(first, count)| (*first, *count));
            let Some((first, count)) = run.filter(|(first, count)| next < first.plus(u64::from(*count)))
            else {
                return false;
            };
            let end_of_run = first.plus(count.into());
            self.runs.remove(&first);
            let until = end.min(end_of_run);
            for (first, end) in [(first, next), (until, end_of_run)] {
                if first < end {
                    // No more than the run was.
                    self.runs.insert(first, (end.0 - first.0) as u32);
                }
            }
            next = until;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::Epoch;

    fn run(attempt: u64, count: u32) -> Held {
        let id = TaskId { epoch: Epoch(1), number: 100 + attempt };
        let task = Some(TaskKey::of_row(attempt as usize));
        Held { attempt: AttemptId(attempt), count, id, task, progress: Progress::Sent }
    }

    /// The first of each run, how many it is, the number of its first task, and the number in place of its row.
    fn told(held: &HeldAttempts) -> Vec<(u64, u32, u64, usize)> {
        let told = |held: &Held| (held.attempt.0, held.count, held.id.number, held.task.unwrap().row());
        held.iter().map(told).collect()
    }

    #[test]
    fn run_that_is_split_keeps_the_numbers_of_its_attempts_and_tasks() {
        let mut held = HeldAttempts::default();
        held.push(run(1, 4));
        held.push(run(5, 1));
        held.split(AttemptId(1), 3, TaskKey::of_row(9));
        assert_eq!(told(&held), [(1, 3, 101, 9), (4, 1, 104, 1), (5, 1, 105, 5)]);
        assert_eq!((held.count(), held.get(AttemptId(3)).unwrap().attempt), (5, AttemptId(1)));
        assert!(held.get(AttemptId(6)).is_none());
        assert_eq!(
            [0, 3, 4, 5].map(|before| held.nth(before).map(|attempt| attempt.0)),
            [Some(1), Some(4), Some(5), None]
        );
    }

    #[test]
    fn run_loses_its_first_attempts_and_then_is_gone() {
        let mut held = HeldAttempts::default();
        held.push(run(1, 4));
        held.forget(AttemptId(1), 3);
        assert_eq!((told(&held), held.count()), (vec![(4, 1, 104, 1)], 1));
        held.forget(AttemptId(4), 1);
        assert!(held.is_empty() && held.count() == 0);
    }

    #[test]
    fn attempts_that_were_taken_back_are_struck_in_any_pieces() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let mut taken_back = TakenBack::default();
            let mut model = BTreeSet::new();
            let mut next = 1;
            for _ in 0..5 {
                let count = random.u32(1..5);
                taken_back.insert(AttemptId(next), count);
                model.extend(next..next + u64::from(count));
                next += u64::from(count) + random.u64(0..2);
            }
            for _ in 0..20 {
                let (attempt, count) = (random.u64(1..next), random.u32(1..4));
                let struck = attempt..attempt + u64::from(count);
                if struck.clone().all(|attempt| model.contains(&attempt)) {
                    assert!(taken_back.remove(AttemptId(attempt), count));
                    model.retain(|attempt| !struck.contains(attempt));
                }
                assert_eq!(taken_back.first(), model.first().copied().map(AttemptId));
                assert_eq!(taken_back.is_empty(), model.is_empty());
            }
            assert!(!taken_back.remove(AttemptId(next), 1));
        }
    }
}
