//! What a worker was sent and has not started: attempts one by one, and runs of attempts at one function.
//!
//! A run is kept as it came, for whoever can go through it as a whole. Whoever wants attempts one by one has it taken
//! apart when it comes first; a recall finds the attempts that stand by themselves, since none is recalled from a
//! worker that is sent runs.

use std::collections::VecDeque;

use crate::id::{AttemptId, FunctionName, TaskId};
use crate::task::{Payload, Payloads};

/// An attempt.
pub(super) struct Attempt {
    pub(super) attempt: AttemptId,
    pub(super) task: TaskId,
    pub(super) function: FunctionName,
    pub(super) args: Payload,
}

/// Attempts at one function, whose numbers, and those of their tasks, count on.
pub(super) struct Run {
    /// The first.
    pub(super) attempt: AttemptId,
    /// The task of the first.
    pub(super) task: TaskId,
    pub(super) function: FunctionName,
    /// The arguments of each.
    pub(super) args: Payloads,
}

impl Run {
    /// Each by itself.
    fn attempts(&self) -> impl Iterator<Item = Attempt> {
        (0..).zip(self.args.each()).map(|(number, args)| Attempt {
            attempt: self.attempt.plus(number),
            task: self.task.plus(number),
            function: self.function.clone(),
            args,
        })
    }
}

/// What comes next.
pub(super) enum Next {
    Attempt(Attempt),
    Run(Run),
}

/// All that waits, in the order in which it came.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<Next>,
    /// How many attempts that is.
    attempts: usize,
}

impl Waiting {
    /// How many attempts wait.
    pub(super) fn len(&self) -> usize {
        self.attempts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts == 0
    }

    pub(super) fn push_attempt(&mut self, attempt: Attempt) {
        self.attempts += 1;
        self.queue.push_back(Next::Attempt(attempt));
    }

    pub(super) fn push_run(&mut self, run: Run) {
        self.attempts += run.args.count() as usize;
        self.queue.push_back(Next::Run(run));
    }

    /// What came first, as it came.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let next = self.queue.pop_front()?;
        self.attempts -= match &next {
            Next::Attempt(_) => 1,
            Next::Run(run) => run.args.count() as usize,
        };
        Some(next)
    }

    /// The attempt that came first.
    pub(super) fn pop_attempt(&mut self) -> Option<Attempt> {
        match self.pop()? {
            Next::Attempt(attempt) => Some(attempt),
            Next::Run(run) => {
                self.attempts += run.args.count() as usize;
                let later = std::mem::take(&mut self.queue);
                self.queue.extend(run.attempts().map(Next::Attempt));
                self.queue.extend(later);
                self.pop_attempt()
            }
        }
    }

    /// Takes an attempt out, wherever it stands. Says whether it was there.
    pub(super) fn take_back(&mut self, attempt: AttemptId) -> bool {
        let is_it = |next: &Next| matches!(next, Next::Attempt(waiting) if waiting.attempt == attempt);
        let taken = self.queue.iter().position(is_it).and_then(|index| self.queue.remove(index));
        self.attempts -= usize::from(taken.is_some());
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::task::{Encoding, PayloadsMut};

    fn task(number: u64) -> TaskId {
        TaskId { epoch: Epoch(1), number }
    }

    fn attempt(number: u64) -> Attempt {
        let args = Payload::new(Encoding::Json, number.to_string());
        Attempt { attempt: AttemptId(number), task: task(number), function: "f".parse().unwrap(), args }
    }

    fn run(first: u64, count: u64) -> Run {
        let mut args = PayloadsMut::default();
        (first..first + count).for_each(|number| args.push(Encoding::Json, number.to_string().as_bytes()));
        let (function, args) = ("f".parse().unwrap(), args.take());
        Run { attempt: AttemptId(first), task: task(first), function, args }
    }

    fn waiting() -> Waiting {
        let mut waiting = Waiting::default();
        waiting.push_attempt(attempt(1));
        waiting.push_run(run(2, 3));
        waiting.push_attempt(attempt(5));
        waiting
    }

    #[test]
    fn runs_are_taken_apart_in_their_place() {
        let mut waiting = waiting();
        for number in 1..=5 {
            assert_eq!(waiting.len() as u64, 6 - number);
            let next = waiting.pop_attempt().unwrap();
            let args = Payload::new(Encoding::Json, number.to_string());
            assert_eq!((next.attempt, next.task, next.args), (AttemptId(number), task(number), args));
        }
        assert!(waiting.is_empty() && waiting.pop_attempt().is_none());
    }

    #[test]
    fn runs_are_kept_whole_for_who_takes_them_so() {
        let mut waiting = waiting();
        let lengths: Vec<usize> = std::iter::from_fn(|| waiting.pop().map(|_| waiting.len())).collect();
        assert_eq!(lengths, [4, 1, 0]);
    }

    #[test]
    fn attempt_that_is_taken_back_is_not_there_any_more() {
        let mut waiting = waiting();
        assert!(waiting.take_back(AttemptId(5)) && !waiting.take_back(AttemptId(5)));
        assert!(!waiting.take_back(AttemptId(9)));
        assert_eq!(waiting.len(), 4);
        // The first of the run stands by itself once the run was taken apart.
        waiting.pop_attempt();
        waiting.pop_attempt();
        assert!(waiting.take_back(AttemptId(4)));
        assert_eq!(waiting.pop_attempt().map(|next| next.attempt), Some(AttemptId(3)));
        assert!(waiting.is_empty());
    }
}
