//! The calls of one map, which the connection's table knows as a whole: how far each has come, and what came of those
//! that have ended.
//!
//! ```text
//!   map ──submit──> stages ──> outbox
//!    ^                 ^
//!    │                 └── reader: accepted, started, ended ──┐
//!    └────────── arrivals, all that there are at a time <──────┘
//! ```
//!
//! A call of a series has a number and takes a byte here; neither a future nor a lock of its own. The number of its
//! request is that of the series in the upper bits and its own in the lower ones, so that a reply to many finds all of
//! them with one look. Nothing here submits again or puts in order: that is the map's.

use std::mem;
use std::sync::{Arc, Condvar, Mutex};

use super::call_error::{CallError, Cause};
use super::error::Error;
use super::exchange::{Link, Which};
use super::outbox::{Haste, Pushed};
use super::stages::{Arrival, Stage, Stages, What};
use super::template::Template;
use super::until::{Until, lock};
use crate::id::{RequestId, TaskId};
use crate::message::client::ReplyBody;
use crate::task::{CancelReason, Outcome, Payload, Started};

/// Bits of a request's number that are a call's within its series: at a million calls in a second, enough for months.
const CALL_BITS: u32 = 44;

/// The calls of a map.
#[derive(Debug)]
pub(super) struct Series {
    template: Arc<Template>,
    /// The number of its first request.
    base: u64,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State {
    /// Where calls are submitted, until that has ended.
    link: Option<Link>,
    is_shut_down: bool,
    /// Whether nobody takes what arrives.
    is_abandoned: bool,
    stages: Stages,
    wanted: Wanted,
}

/// What the map waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    /// The end of this call, or that the queue was full.
    Call(u64),
    Anything,
}

/// What became of a submission.
#[derive(Debug)]
pub(super) enum Submitted {
    Taken,
    /// There was no room in the outbox of this link.
    Full(Link),
    /// There is no link.
    Unlinked,
}

/// What follows from something the daemon has said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Somebody waits for it.
    pub(super) is_wanted: bool,
    /// The daemon is to be asked to end these.
    pub(super) unwanted: Vec<TaskId>,
    /// Nobody needs the series any more.
    pub(super) is_over: bool,
}

/// The place of a request's series among others, and the number of the call in it; nothing if it is in none.
pub(super) fn call_of(request: RequestId) -> Option<(usize, u64)> {
    let place = (request.0 >> CALL_BITS).checked_sub(1)?;
    Some((place as usize, request.0 & ((1 << CALL_BITS) - 1)))
}

impl Series {
    /// One of calls of `template` that has this `place` among others, and is submitted over `link`.
    pub(super) fn new(template: Arc<Template>, place: usize, link: Option<Link>) -> Self {
        let number = place as u64 + 1;
        assert!(number < 1 << (u64::BITS - CALL_BITS), "there are fewer maps at a time");
        let state = State {
            link,
            is_shut_down: false,
            is_abandoned: false,
            stages: Stages::default(),
            wanted: Wanted::Nothing,
        };
        Series { template, base: number << CALL_BITS, state: Mutex::new(state), arrived: Condvar::new() }
    }

    pub(super) fn place(&self) -> usize {
        (self.base >> CALL_BITS) as usize - 1
    }

    pub(super) fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Has calls be submitted over `link`.
    pub(super) fn link(&self, link: Option<Link>) {
        lock(&self.state).link = link;
    }

    /// Submits the call of this number, which is new or was refused for a full queue.
    ///
    /// # Errors
    /// That it was shut down, or that the arguments cannot be sent.
    pub(super) fn submit(&self, call: u64, args: &Payload) -> Result<Submitted, Cause> {
        assert!(call < 1 << CALL_BITS, "there are fewer calls");
        let mut state = lock(&self.state);
        if state.is_shut_down {
            return Err(Cause::ShutDown);
        }
        let Some(link) = &state.link else { return Ok(Submitted::Unlinked) };
        match link.push_submission(RequestId(self.base | call), &self.template, args, Haste::WithOthers)? {
            Pushed::Full => Ok(Submitted::Full(link.clone())),
            Pushed::Taken => {
                state.stages.submitted(call);
                Ok(Submitted::Taken)
            }
        }
    }

    /// Puts what has arrived into `arrivals`, which is empty; the map has nothing more to do with calls before
    /// `first`. Waits, if something is `wanted` of which nothing is there, until it is; says whether it came in time.
    pub(super) fn take(&self, first: u64, wanted: Wanted, until: Until, arrivals: &mut Vec<Arrival>) -> bool {
        let mut state = lock(&self.state);
        state.stages.forget_before(first);
        if state.stages.arrivals().is_empty() && wanted != Wanted::Nothing {
            state.wanted = wanted;
            if let Some(link) = &state.link {
                link.hurry();
            }
            state = until.wait_while(&self.arrived, state, |state| state.wanted != Wanted::Nothing);
            state.wanted = Wanted::Nothing;
        }
        mem::swap(state.stages.arrivals(), arrivals);
        !arrivals.is_empty()
    }

    /// Wakes the map.
    pub(super) fn tell(&self) {
        self.arrived.notify_one();
    }

    /// Takes in what the daemon says of the call of this number, or of it and others behind it.
    ///
    /// # Errors
    /// [`Error::UnexpectedReply`]
    pub(super) fn hear(&self, call: u64, body: ReplyBody) -> Result<Heard, Error> {
        let mut state = lock(&self.state);
        let State { stages, .. } = &mut *state;
        let before = stages.arrivals().len();
        let mut unwanted = Vec::new();
        match body {
            ReplyBody::Accepted { task } => stages.accept(call, task, 1, &mut unwanted)?,
            ReplyBody::AllAccepted { first, count } => stages.accept(call, first, count, &mut unwanted)?,
            ReplyBody::Started { .. } => stages.start(call)?,
            ReplyBody::Done { task, outcome } => {
                let end = match outcome {
                    Outcome::Ok(result) => Ok(result),
                    other => Err(self.error(Some(task), Cause::Outcome(other))),
                };
                stages.finish(call, What::End { task: Some(task), end })?;
            }
            ReplyBody::AllDone { first, results } => stages.finish_all(call, first, results)?,
            ReplyBody::Refused(refusal) if refusal.is_queue_full() => stages.finish(call, What::Full)?,
            ReplyBody::Refused(refusal) => {
                let end = Err(self.error(None, Cause::Refused(refusal)));
                stages.finish(call, What::End { task: None, end })?;
            }
            _ => return Err(Error::UnexpectedReply),
        }
        if state.is_abandoned {
            state.stages.arrivals().clear();
        }
        let is_over = state.is_abandoned && state.stages.awaited() == 0;
        Ok(Heard { is_wanted: state.is_told_since(before), unwanted, is_over })
    }

    /// The connection has ended: so have all calls that were not over. Says whether somebody waits for that.
    pub(super) fn lose(&self) -> bool {
        let mut state = lock(&self.state);
        state.link = None;
        let before = state.stages.arrivals().len();
        state.stages.lose(|task, stage| {
            let started = if stage == Stage::Running { Started::Yes } else { Started::Unknown };
            self.error(task, Cause::Outcome(Outcome::Lost { started }))
        });
        state.is_told_since(before)
    }

    /// Takes nothing more.
    pub(super) fn shut_down(&self) {
        lock(&self.state).is_shut_down = true;
    }

    /// Ends calls as cancelled. Gives the tasks that the daemon is to be asked to end, and says whether somebody waits
    /// for that.
    pub(super) fn cancel(&self, which: Which) -> (Vec<TaskId>, bool) {
        let mut state = lock(&self.state);
        let before = state.stages.arrivals().len();
        let is_meant = |stage| which == Which::All || stage == Stage::Pending;
        let cancelled = |task, _| self.error(task, Cause::Outcome(Outcome::Cancelled(CancelReason::Client)));
        let tasks = state.stages.cancel(is_meant, cancelled);
        (tasks, state.is_told_since(before))
    }

    /// Has nobody take what arrives any more.
    pub(super) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.is_abandoned = true;
        *state.stages.arrivals() = Vec::new();
    }

    /// Whether nobody takes what arrives any more.
    pub(super) fn is_abandoned(&self) -> bool {
        lock(&self.state).is_abandoned
    }

    /// How many calls are not fully answered.
    pub(super) fn awaited(&self) -> usize {
        lock(&self.state).stages.awaited()
    }

    fn error(&self, task: Option<TaskId>, cause: Cause) -> CallError {
        CallError::new(self.template.function(), task, cause)
    }
}

impl State {
    /// Whether the map waits for what has arrived behind so many others. It is told of that once.
    fn is_told_since(&mut self, before: usize) -> bool {
        let wanted = self.wanted;
        let mut arrived = self.stages.arrivals().iter().skip(before);
        let is_told = match wanted {
            Wanted::Nothing => false,
            Wanted::Call(call) => arrived.any(|arrival| arrival.concerns(call)),
            Wanted::Anything => arrived.next().is_some(),
        };
        if is_told {
            self.wanted = Wanted::Nothing;
        }
        is_told
    }
}
