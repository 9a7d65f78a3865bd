//! The attempts that a worker was sent and has not answered, as the daemon remembers them: what it needs to read the
//! worker's page.
//!
//! What was sent at once is one entry, until one of its attempts is found to have begun.

use std::collections::VecDeque;

use crate::id::{AttemptId, TaskId};

/// An attempt that was sent, or several with consecutive numbers, of tasks with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    attempt: AttemptId,
    count: u32,
    task: TaskId,
    /// Whether it, which is one then, is known from the page to have begun.
    has_begun: bool,
}

impl Run {
    fn place_of(&self, attempt: AttemptId) -> Option<u32> {
        let before = attempt.0.checked_sub(self.attempt.0)?;
        u32::try_from(before).ok().filter(|before| *before < self.count)
    }

    /// What is left without the first `count`.
    fn after(self, count: u32) -> Run {
        let further = u64::from(count);
        Run {
            attempt: self.attempt.plus(further),
            count: self.count - count,
            task: self.task.plus(further),
            ..self
        }
    }
}

/// Attempts in the order of sending.
#[derive(Debug, Default)]
pub(super) struct SentAttempts(VecDeque<Run>);

impl SentAttempts {
    /// Adds attempts that were sent.
    pub(super) fn push(&mut self, attempt: AttemptId, task: TaskId, count: u32) {
        self.0.push_back(Run { attempt, count, task, has_begun: false });
    }

    /// The task of an attempt that is there.
    pub(super) fn task_of(&self, attempt: AttemptId) -> Option<TaskId> {
        self.0.iter().find_map(|run| Some(run.task.plus(run.place_of(attempt)?.into())))
    }

    /// Strikes attempts, so many, mostly the first ones; those that are not there are none of them.
    pub(super) fn forget(&mut self, attempt: AttemptId, count: u32) {
        let end = attempt.plus(count.into());
        let mut next = attempt;
        while next < end {
            let found = self.0.iter().enumerate().find_map(|(index, run)| Some((index, run.place_of(next)?)));
            let Some((index, before)) = found else {
                next = next.plus(1);
                continue;
            };
            let run = self.0[index];
            // No more than the run has.
            let struck = (run.count - before).min((end.0 - next.0) as u32);
            let rest = run.after(before + struck);
            match (before, rest.count) {
                (0, 0) => _ = self.0.remove(index),
                (0, _) => self.0[index] = rest,
                (_, 0) => self.0[index].count = before,
                (_, _) => {
                    self.0[index].count = before;
                    self.0.insert(index + 1, rest);
                }
            }
            next = next.plus(struck.into());
        }
    }

    /// Notes that an attempt has begun. Says whether it is there and that is new.
    pub(super) fn note_begun(&mut self, attempt: AttemptId) -> bool {
        let found = self.0.iter().position(|run| run.place_of(attempt).is_some());
        let Some(index) = found.filter(|index| !self.0[*index].has_begun) else { return false };
        let run = self.0[index];
        let before = run.place_of(attempt).unwrap_or_default();
        let (alone, rest) = (Run { count: 1, has_begun: true, ..run.after(before) }, run.after(before + 1));
        let pieces = [Run { count: before, ..run }, alone, rest];
        self.0.remove(index);
        for piece in pieces.into_iter().rev().filter(|piece| piece.count > 0) {
            self.0.insert(index, piece);
        }
        true
    }

    /// Those that have begun, by what `has_begun` says of each: they begin in the order of sending.
    pub(super) fn begun(&self, has_begun: impl Fn(AttemptId) -> bool) -> impl Iterator<Item = AttemptId> {
        let each =
            self.0.iter().flat_map(|run| (0..u64::from(run.count)).map(|place| run.attempt.plus(place)));
        each.take_while(move |attempt| has_begun(*attempt))
    }

    /// The tasks of those that have begun, by what `has_begun` says of each, in the order of sending.
    pub(super) fn tasks_begun(&self, has_begun: impl Fn(AttemptId) -> bool) -> impl Iterator<Item = TaskId> {
        let each = self.0.iter().flat_map(|run| (0..u64::from(run.count)).map(move |place| (run, place)));
        each.filter(move |(run, place)| has_begun(run.attempt.plus(*place)))
            .map(|(run, place)| run.task.plus(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn task(number: u64) -> TaskId {
        TaskId { epoch: Epoch(1), number }
    }

    /// Attempts 1 to 5 and 6, of the tasks 101 to 105 and 206.
    fn sent() -> SentAttempts {
        let mut sent = SentAttempts::default();
        sent.push(AttemptId(1), task(101), 5);
        sent.push(AttemptId(6), task(206), 1);
        sent
    }

    /// The attempts that are there and the numbers of their tasks.
    fn all(sent: &SentAttempts) -> Vec<(u64, u64)> {
        let tasks = (0..10).map(|attempt| (attempt, sent.task_of(AttemptId(attempt))));
        tasks.filter_map(|(attempt, task)| Some((attempt, task?.number))).collect()
    }

    #[test]
    fn attempts_that_are_struck_from_anywhere_leave_the_others() {
        for (first, count) in (0..8).flat_map(|first| (1..8).map(move |count| (first, count))) {
            let mut sent = sent();
            let mut left = all(&sent);
            sent.forget(AttemptId(first), count);
            left.retain(|(attempt, _)| !(first..first + u64::from(count)).contains(attempt));
            assert_eq!(all(&sent), left);
        }
    }

    #[test]
    fn attempts_that_begin_in_order_are_found_and_each_is_new_once() {
        let mut sent = sent();
        let begun: Vec<AttemptId> = sent.begun(|attempt| attempt.0 <= 2).collect();
        assert_eq!(begun, [AttemptId(1), AttemptId(2)]);
        assert!(begun.iter().all(|attempt| sent.note_begun(*attempt)));
        assert!(!begun.iter().any(|attempt| sent.note_begun(*attempt)));
        assert_eq!(sent.begun(|_| true).count(), 6);
        assert_eq!(all(&sent), [(1, 101), (2, 102), (3, 103), (4, 104), (5, 105), (6, 206)]);
    }

    #[test]
    fn attempt_that_begins_out_of_order_is_noted_once() {
        let mut sent = sent();
        assert!(sent.note_begun(AttemptId(3)));
        assert!(!sent.note_begun(AttemptId(3)));
        assert!(!sent.note_begun(AttemptId(9)));
        let begun: Vec<u64> = sent.tasks_begun(|attempt| attempt.0 == 3).map(|task| task.number).collect();
        assert_eq!(begun, [103]);
        assert_eq!(all(&sent).len(), 6);
    }
}
