//! One call: how far it has come, and who waits for its end. Knows no type of result and no socket.
//!
//! ```text
//!   pending ──Started──> running ──┐
//!      └──────────────────────────>├──> done     once, by whoever comes first: the daemon's word,
//!                                  ┘             a local cancel, the end of the connection
//! ```
//!
//! An end never changes, so that it is looked at without a lock. Then everyone is told, in this order:
//! those who block, those who `.await`, those who wait for one of many, and, on a thread of their own, the
//! callbacks. Nobody waits for most calls when they end, and telling nobody costs nothing.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::task::Waker;

use super::arrivals::Watcher;
use super::call_error::{CallError, Cause};
use super::callbacks::{Callback, Callbacks};
use super::template::Template;
use super::until::{Until, lock};
use crate::id::{FunctionName, RequestId, TaskId};
use crate::message::client::Refusal;
use crate::task::{CancelReason, Outcome, Payload, Started};

/// How a call ended.
pub(super) type End = Result<Payload, CallError>;

/// A call that was made.
#[derive(Debug)]
pub(super) struct Call {
    template: Arc<Template>,
    pub(super) request: RequestId,
    /// Set under the lock of `state`.
    end: OnceLock<End>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    /// Once the daemon has accepted it.
    task: Option<TaskId>,
    /// Whether an attempt of it has started.
    has_started: bool,
    audience: Option<Box<Listeners>>,
}

/// Those who are to be told.
#[derive(Debug, Default)]
struct Listeners {
    /// Threads that block.
    blocked: usize,
    wakers: Vec<Waker>,
    /// Those who wait for this one among others.
    watchers: Vec<Watcher>,
    callbacks: VecDeque<Callback>,
}

/// Whether anybody is to be told that a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Nobody, or those who are were told already.
    None,
    /// Somebody, by [`Call::tell`].
    Waits,
}

impl Call {
    pub(super) fn new(template: Arc<Template>, request: RequestId) -> Self {
        let state = State { task: None, has_started: false, audience: None };
        Call { template, request, end: OnceLock::new(), state: Mutex::new(state), ended: Condvar::new() }
    }

    pub(super) fn function(&self) -> &FunctionName {
        self.template.function()
    }

    pub(super) fn task(&self) -> Option<TaskId> {
        lock(&self.state).task
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.state).has_started && !self.is_done()
    }

    pub(super) fn is_pending(&self) -> bool {
        !lock(&self.state).has_started && !self.is_done()
    }

    pub(super) fn is_done(&self) -> bool {
        self.end().is_some()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self.end(), Some(Err(error)) if error.is_cancelled())
    }

    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.get()
    }

    /// Takes in that the daemon accepted it.
    pub(super) fn accepted(&self, task: TaskId) {
        lock(&self.state).task = Some(task);
    }

    /// Takes in that an attempt of it has started.
    pub(super) fn started(&self) {
        lock(&self.state).has_started = true;
    }

    /// Takes in the daemon's word on how it ended as `task`.
    pub(super) fn finish(&self, task: TaskId, outcome: Outcome) -> Audience {
        let mut state = lock(&self.state);
        state.task = Some(task);
        match outcome {
            Outcome::Ok(result) => self.end_as(state, Ok(result)),
            other => self.end_for(state, Cause::Outcome(other)),
        }
    }

    /// Takes in that the daemon did not take it.
    pub(super) fn refuse(&self, refusal: Refusal) -> Audience {
        self.end_for(lock(&self.state), Cause::Refused(refusal))
    }

    /// Takes in that the daemon is gone.
    pub(super) fn lose(&self) -> Audience {
        let state = lock(&self.state);
        let started = if state.has_started { Started::Yes } else { Started::Unknown };
        self.end_for(state, Cause::Outcome(Outcome::Lost { started }))
    }

    /// Ends it as cancelled and tells everyone. Says whether it had not ended before.
    pub(super) fn cancel(self: &Arc<Self>, callbacks: &Callbacks) -> bool {
        let state = lock(&self.state);
        if self.is_done() {
            return false;
        }
        let cause = Cause::Outcome(Outcome::Cancelled(CancelReason::Client));
        if self.end_for(state, cause) == Audience::Waits {
            self.tell(callbacks);
        }
        true
    }

    fn end_for(&self, state: MutexGuard<'_, State>, cause: Cause) -> Audience {
        let error = CallError::new(self.function(), state.task, cause);
        self.end_as(state, Err(error))
    }

    /// Ends it, if it has not ended before.
    fn end_as(&self, state: MutexGuard<'_, State>, end: End) -> Audience {
        match self.end.set(end) {
            Ok(()) if state.audience.is_some() => Audience::Waits,
            Ok(()) | Err(_) => Audience::None,
        }
    }

    /// Tells everyone that it has ended.
    pub(super) fn tell(self: &Arc<Self>, callbacks: &Callbacks) {
        let mut state = lock(&self.state);
        let Some(mut listeners) = state.audience.take() else { return };
        let has_callbacks = !listeners.callbacks.is_empty();
        if has_callbacks {
            let callbacks = mem::take(&mut listeners.callbacks);
            state.audience = Some(Box::new(Listeners { callbacks, ..Listeners::default() }));
        }
        drop(state);

        if listeners.blocked > 0 {
            self.ended.notify_all();
        }
        listeners.wakers.into_iter().for_each(Waker::wake);
        listeners.watchers.into_iter().for_each(Watcher::tell);
        if has_callbacks {
            callbacks.call_those_of(Arc::clone(self));
        }
    }

    /// How it ended, waiting for that; nothing if it does not end in time.
    pub(super) fn wait(&self, until: Until) -> Option<&End> {
        if let Some(end) = self.end() {
            return Some(end);
        }
        let mut state = lock(&self.state);
        if !self.is_done() {
            state.listeners().blocked += 1;
            drop(until.wait_while(&self.ended, state, |_| !self.is_done()));
        }
        self.end()
    }

    /// How it ended; else `waker` is woken when it does, in the place of the one that was put into
    /// `place` before.
    pub(super) fn poll(&self, waker: &Waker, place: &mut Option<usize>) -> Option<&End> {
        let mut state = lock(&self.state);
        if !self.is_done() {
            let wakers = &mut state.listeners().wakers;
            match place.and_then(|place| wakers.get_mut(place)) {
                Some(before) => before.clone_from(waker),
                None => {
                    *place = Some(wakers.len());
                    wakers.push(waker.clone());
                }
            }
        }
        self.end()
    }

    /// Has `watcher` told when it ends, or now if it has.
    pub(super) fn watch(&self, watcher: Watcher) {
        let mut state = lock(&self.state);
        if self.is_done() {
            drop(state);
            watcher.tell();
        } else {
            let watchers = &mut state.listeners().watchers;
            watchers.retain(Watcher::is_wanted);
            watchers.push(watcher);
        }
    }

    /// Adds a callback behind those there are; gives it back if they all were called.
    pub(super) fn add_callback(&self, callback: Callback) -> Option<Callback> {
        let mut state = lock(&self.state);
        if self.is_done() && state.audience.is_none() {
            return Some(callback);
        }
        state.listeners().callbacks.push_back(callback);
        None
    }

    /// The next callback that is to be called. Once there is none, there never will be.
    pub(super) fn next_callback(&self) -> Option<Callback> {
        let mut state = lock(&self.state);
        let next = state.listeners().callbacks.pop_front();
        if next.is_none() {
            state.audience = None;
        }
        next
    }
}

impl State {
    fn listeners(&mut self) -> &mut Listeners {
        self.audience.get_or_insert_default()
    }
}
