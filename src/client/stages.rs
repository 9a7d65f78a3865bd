//! How far the calls of a map have come, and what came of those that have ended. Knows no lock and no socket.
//!
//! ```text
//!   pending ──Started──> running ──> over       and what came of it arrives
//!      └── cancelled here ──┴──> unwanted ──> over       and nothing arrives
//! ```

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use super::call::End;
use super::call_error::CallError;
use super::error::Error;
use crate::id::TaskId;
use crate::task::Payloads;

/// The calls that a map has in hand.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// Of the calls from the number `first` on.
    stages: VecDeque<Stage>,
    first: u64,
    /// How many of them are not [`Stage::Over`].
    awaited: usize,
    /// Which tasks they are, most of them in the order of the calls.
    tasks: VecDeque<Tasks>,
    /// What the map has not taken.
    arrivals: Vec<Arrival>,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The daemon says nothing more of it; or it was never submitted.
    Over,
    /// Submitted.
    Pending,
    /// An attempt of it has started.
    Running,
    /// It has ended here, as cancelled, and not at the daemon; which is asked to end it, once it has accepted it.
    Unwanted,
}

/// Calls one after the other that were accepted as tasks one after the other.
#[derive(Clone, Copy, Debug)]
struct Tasks {
    call: u64,
    task: TaskId,
    count: u64,
}

/// What has become of calls, from that number on.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) call: u64,
    pub(super) what: What,
}

/// What has become of one or more calls.
#[derive(Debug)]
pub(super) enum What {
    /// So many have results, as tasks from that one on.
    Results { task: TaskId, results: Payloads },
    /// One has ended.
    End { task: Option<TaskId>, end: End },
    /// The daemon's queue was full: it is to be submitted again.
    Full,
}

impl Stages {
    /// The call of this number was submitted.
    pub(super) fn submitted(&mut self, call: u64) {
        if self.stages.is_empty() {
            self.first = call;
        }
        let place = (call - self.first) as usize;
        if place >= self.stages.len() {
            self.stages.resize(place + 1, Stage::Over);
        }
        self.stages[place] = Stage::Pending;
        self.awaited += 1;
    }

    /// Nobody asks for calls before this one any more. Those that are not over stay.
    pub(super) fn forget_before(&mut self, first: u64) {
        let unneeded = (first.saturating_sub(self.first) as usize).min(self.stages.len());
        let gone = self.stages.range(..unneeded).position(|stage| *stage != Stage::Over).unwrap_or(unneeded);
        self.stages.drain(..gone);
        self.first += gone as u64;
        while self.tasks.front().is_some_and(|tasks| tasks.call + tasks.count <= self.first) {
            self.tasks.pop_front();
        }
    }

    /// The places of calls in hand.
    fn places(&self, call: u64, count: u64) -> Result<Range<usize>, Error> {
        let place = call.checked_sub(self.first).ok_or(Error::UnexpectedReply)?;
        let end = place.checked_add(count).filter(|end| *end <= self.stages.len() as u64);
        Ok(place as usize..end.ok_or(Error::UnexpectedReply)? as usize)
    }

    /// Takes in that calls were accepted, this one and those behind it; adds the tasks to `unwanted` that are.
    pub(super) fn accept(
        &mut self,
        call: u64,
        task: TaskId,
        count: u32,
        unwanted: &mut Vec<TaskId>,
    ) -> Result<(), Error> {
        let tasks = Tasks { call, task, count: count.into() };
        let places = self.places(tasks.call, tasks.count)?;
        for (number, stage) in (0..).zip(self.stages.range(places)) {
            match stage {
                Stage::Over => return Err(Error::UnexpectedReply),
                Stage::Pending | Stage::Running => {}
                Stage::Unwanted => unwanted.push(tasks.task.plus(number)),
            }
        }
        match self.tasks.back_mut() {
            Some(last) if last.is_followed_by(&tasks) => last.count += tasks.count,
            Some(_) | None => self.tasks.push_back(tasks),
        }
        Ok(())
    }

    /// Takes in that an attempt of a call has started.
    pub(super) fn start(&mut self, call: u64) -> Result<(), Error> {
        let place = self.places(call, 1)?.start;
        match &mut self.stages[place] {
            Stage::Over => return Err(Error::UnexpectedReply),
            stage @ (Stage::Pending | Stage::Running) => *stage = Stage::Running,
            Stage::Unwanted => {}
        }
        Ok(())
    }

    /// Takes in the end of a call.
    pub(super) fn finish(&mut self, call: u64, what: What) -> Result<(), Error> {
        let place = self.places(call, 1)?.start;
        match mem::replace(&mut self.stages[place], Stage::Over) {
            Stage::Over => return Err(Error::UnexpectedReply),
            Stage::Pending | Stage::Running => self.arrivals.push(Arrival { call, what }),
            Stage::Unwanted => {}
        }
        self.awaited -= 1;
        Ok(())
    }

    /// Takes in that calls have results, this one and those behind it.
    pub(super) fn finish_all(&mut self, call: u64, task: TaskId, results: Payloads) -> Result<(), Error> {
        let places = self.places(call, results.count().into())?;
        let is_wanted = |stage: &Stage| matches!(stage, Stage::Pending | Stage::Running);
        if !self.stages.range(places.clone()).all(is_wanted) {
            // Some were cancelled meanwhile.
            return (0..).zip(results.each()).try_for_each(|(number, result)| {
                let task = Some(task.plus(number));
                self.finish(call + number, What::End { task, end: Ok(result) })
            });
        }
        self.awaited -= places.len();
        self.stages.range_mut(places).for_each(|stage| *stage = Stage::Over);
        self.arrivals.push(Arrival { call, what: What::Results { task, results } });
        Ok(())
    }

    /// The daemon says nothing more: ends all calls that are wanted with an error.
    pub(super) fn lose(&mut self, error: impl Fn(Option<TaskId>, Stage) -> CallError) {
        self.end_all(|_| true, error);
        // Their numbers stay: some may be submitted again, in any order.
        self.stages.iter_mut().for_each(|stage| *stage = Stage::Over);
        self.tasks.clear();
        self.awaited = 0;
    }

    /// Ends those calls that are wanted and meant with an error. Gives the tasks that the daemon is to be asked to end;
    /// the others it has not accepted.
    pub(super) fn cancel(
        &mut self,
        is_meant: impl Fn(Stage) -> bool,
        error: impl Fn(Option<TaskId>, Stage) -> CallError,
    ) -> Vec<TaskId> {
        let before = self.arrivals.len();
        self.end_all(is_meant, error);
        let ended = &self.arrivals[before..];
        let task = |arrival: &Arrival| match &arrival.what {
            What::End { task, .. } => *task,
            What::Results { .. } | What::Full => None,
        };
        ended.iter().filter_map(task).collect()
    }

    /// Ends those calls that are wanted and meant with an error. The daemon's word on them is not wanted any more.
    fn end_all(
        &mut self,
        is_meant: impl Fn(Stage) -> bool,
        error: impl Fn(Option<TaskId>, Stage) -> CallError,
    ) {
        for place in 0..self.stages.len() {
            let stage = self.stages[place];
            if matches!(stage, Stage::Pending | Stage::Running) && is_meant(stage) {
                let call = self.first + place as u64;
                let task = self.task_of(call);
                let end = Err(error(task, stage));
                self.arrivals.push(Arrival { call, what: What::End { task, end } });
                self.stages[place] = Stage::Unwanted;
            }
        }
    }

    /// The task that a call became, once it was accepted.
    fn task_of(&self, call: u64) -> Option<TaskId> {
        let holds = |tasks: &&Tasks| (tasks.call..tasks.call + tasks.count).contains(&call);
        // One that was refused for a full queue was accepted later than those behind it.
        let tasks = self.tasks.iter().rev().find(holds)?;
        Some(tasks.task.plus(call - tasks.call))
    }

    /// How many calls the daemon has not said all of.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// What the map has not taken, in the order in which it came.
    pub(super) fn arrivals(&mut self) -> &mut Vec<Arrival> {
        &mut self.arrivals
    }
}

impl Tasks {
    fn is_followed_by(&self, next: &Tasks) -> bool {
        self.call + self.count == next.call && self.task.plus(self.count) == next.task
    }
}

impl Arrival {
    /// Whether somebody who waits for the end of this call is to know of it.
    pub(super) fn concerns(&self, call: u64) -> bool {
        match &self.what {
            What::Results { results, .. } => {
                (self.call..self.call + u64::from(results.count())).contains(&call)
            }
            What::End { .. } => self.call == call,
            What::Full => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::call_error::Cause;

    fn lost(_: Option<TaskId>, _: Stage) -> CallError {
        CallError::of_no_call(Cause::Unreachable(Error::Gone))
    }

    #[test]
    fn calls_that_were_refused_are_submitted_again_in_any_order_after_the_connection_was_lost() {
        let mut stages = Stages::default();
        (4..8).for_each(|call| stages.submitted(call));
        (5..8).for_each(|call| stages.finish(call, What::Full).expect("it was submitted"));
        stages.lose(lost);
        assert_eq!(stages.awaited(), 0);
        [6, 7, 5].into_iter().for_each(|call| stages.submitted(call));
        assert_eq!(stages.awaited(), 3);
        (5..8).for_each(|call| stages.start(call).expect("it was submitted"));
        assert!(stages.start(4).is_err(), "it was lost");
    }
}
