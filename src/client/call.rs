//! One call: how far it has come, and who waits for its end. Knows no type of result and no socket.
//!
//! ```text
//!   pending ──Started──> running ──┐
//!      └──────────────────────────>├──> done     once, by whoever comes first: the daemon's word,
//!                                  ┘             a local cancel, the end of the connection
//! ```
//!
//! At its end everyone is told, in this order: those who block, those who `.await`, those who wait for one
//! of many, and, on a thread of their own, the callbacks.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Waker;

use super::arrivals::Watcher;
use super::call_error::{CallError, Cause};
use super::callbacks::{Callback, Callbacks};
use super::until::{Until, lock};
use crate::id::{FunctionName, RequestId, TaskId};
use crate::task::{CancelReason, Outcome, Payload, Started};

/// How a call ended.
pub(super) type End = Result<Payload, CallError>;

/// A call that was made.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: FunctionName,
    pub(super) request: RequestId,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    /// Once the daemon has accepted it.
    task: Option<TaskId>,
    stage: Stage,
    /// Those who wait for this one among others.
    watchers: Vec<Watcher>,
    wakers: Vec<Waker>,
    /// Callbacks that are still to be called; none once all were, and a further one is called at once.
    callbacks: Option<VecDeque<Callback>>,
}

#[derive(Debug)]
enum Stage {
    Pending,
    Running,
    Done(End),
}

impl Call {
    pub(super) fn new(function: FunctionName, request: RequestId) -> Self {
        let state = State {
            task: None,
            stage: Stage::Pending,
            watchers: Vec::new(),
            wakers: Vec::new(),
            callbacks: Some(VecDeque::new()),
        };
        Call { function, request, state: Mutex::new(state), ended: Condvar::new() }
    }

    pub(super) fn task(&self) -> Option<TaskId> {
        lock(&self.state).task
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(lock(&self.state).stage, Stage::Running)
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(lock(&self.state).stage, Stage::Pending)
    }

    pub(super) fn is_done(&self) -> bool {
        lock(&self.state).is_done()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(&lock(&self.state).stage, Stage::Done(Err(error)) if error.is_cancelled())
    }

    /// Takes in that the daemon accepted it.
    pub(super) fn accepted(&self, task: TaskId) {
        lock(&self.state).task = Some(task);
    }

    /// Takes in that an attempt of it has started.
    pub(super) fn started(&self) {
        let mut state = lock(&self.state);
        if let Stage::Pending = state.stage {
            state.stage = Stage::Running;
        }
    }

    /// Takes in the daemon's word on how it ended.
    pub(super) fn finish(self: &Arc<Self>, outcome: Outcome, callbacks: &Callbacks) {
        self.end(callbacks, |_| match outcome {
            Outcome::Ok(result) => Ok(result),
            other => Err(Cause::Outcome(other)),
        });
    }

    /// Takes in that the daemon did not take it.
    pub(super) fn refuse(self: &Arc<Self>, cause: Cause, callbacks: &Callbacks) {
        self.end(callbacks, |_| Err(cause));
    }

    /// Takes in that the daemon is gone.
    pub(super) fn lose(self: &Arc<Self>, callbacks: &Callbacks) {
        self.end(callbacks, |stage| {
            let started = match stage {
                Stage::Pending => Started::Unknown,
                Stage::Running | Stage::Done(_) => Started::Yes,
            };
            Err(Cause::Outcome(Outcome::Lost { started }))
        });
    }

    /// Ends it as cancelled. Says whether it had not ended before.
    pub(super) fn cancel(self: &Arc<Self>, callbacks: &Callbacks) -> bool {
        self.end(callbacks, |_| Err(Cause::Outcome(Outcome::Cancelled(CancelReason::Client))))
    }

    /// Ends it, if it has not ended before, and tells everyone.
    fn end(
        self: &Arc<Self>,
        callbacks: &Callbacks,
        end: impl FnOnce(&Stage) -> Result<Payload, Cause>,
    ) -> bool {
        let mut state = lock(&self.state);
        if state.is_done() {
            return false;
        }
        let end = end(&state.stage).map_err(|cause| CallError::new(&self.function, state.task, cause));
        state.stage = Stage::Done(end);
        let wakers = mem::take(&mut state.wakers);
        let watchers = mem::take(&mut state.watchers);
        if state.callbacks.as_ref().is_some_and(VecDeque::is_empty) {
            state.callbacks = None;
        }
        let has_callbacks = state.callbacks.is_some();
        drop(state);

        self.ended.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        watchers.into_iter().for_each(Watcher::tell);
        if has_callbacks {
            callbacks.call_those_of(Arc::clone(self));
        }
        true
    }

    /// How it ended, waiting for that; nothing if it does not end in time.
    pub(super) fn wait(&self, until: Until) -> Option<End> {
        let state = until.wait_while(&self.ended, lock(&self.state), |state| !state.is_done());
        state.end()
    }

    /// How it ended; else `waker` is woken when it does, in the place of the one that was put into
    /// `place` before.
    pub(super) fn poll(&self, waker: &Waker, place: &mut Option<usize>) -> Option<End> {
        let mut state = lock(&self.state);
        if !state.is_done() {
            match place.and_then(|place| state.wakers.get_mut(place)) {
                Some(before) => before.clone_from(waker),
                None => {
                    *place = Some(state.wakers.len());
                    state.wakers.push(waker.clone());
                }
            }
        }
        state.end()
    }

    /// Has `watcher` told when it ends, or now if it has.
    pub(super) fn watch(&self, watcher: Watcher) {
        let mut state = lock(&self.state);
        if state.is_done() {
            drop(state);
            watcher.tell();
        } else {
            state.watchers.retain(Watcher::is_wanted);
            state.watchers.push(watcher);
        }
    }

    /// Adds a callback behind those there are; gives it back if they all were called.
    pub(super) fn add_callback(&self, callback: Callback) -> Option<Callback> {
        match &mut lock(&self.state).callbacks {
            Some(callbacks) => {
                callbacks.push_back(callback);
                None
            }
            None => Some(callback),
        }
    }

    /// The next callback that is to be called. Once there is none, there never will be.
    pub(super) fn next_callback(&self) -> Option<Callback> {
        let mut state = lock(&self.state);
        let next = state.callbacks.as_mut().and_then(VecDeque::pop_front);
        if next.is_none() {
            state.callbacks = None;
        }
        next
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.end_ref().is_some()
    }

    fn end(&self) -> Option<End> {
        self.end_ref().cloned()
    }

    fn end_ref(&self) -> Option<&End> {
        match &self.stage {
            Stage::Done(end) => Some(end),
            Stage::Pending | Stage::Running => None,
        }
    }
}
