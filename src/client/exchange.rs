//! The one connection that all calls of an executor share, and the table of those that are not answered.
//!
//! ```text
//!   any thread ──submit──> table, Outbox ──> writer thread ──> daemon
//!                            │                                   │
//!   waiters, callbacks <── Call <───────── reader thread <───────┘
//! ```
//!
//! The reader never waits for anything but the daemon: neither for room in the outbox nor for code of a
//! caller's, so what blocks one caller blocks no other. When the connection ends, so do all calls on it,
//! as lost; the next submission connects anew.

use std::collections::HashSet;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};

use slab::Slab;

use super::call::Call;
use super::call_error::{CallError, Cause};
use super::callbacks::Callbacks;
use super::connection::Connection;
use super::error::Error;
use super::outbox::{Haste, Outbox, Pushed};
use super::series::{self, Series};
use super::template::Template;
use super::until::{Until, lock};
use crate::id::{RequestId, TaskId};
use crate::message::client::{Refusal, RequestBody};
use crate::numbers::Numbers;
use crate::task::Payload;
use crate::wire::WireError;

/// What the handles of an executor and its futures share.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) state: Mutex<State>,
    /// A connection has ended, and so have all calls on it.
    pub(super) quiet: Condvar,
    pub(super) callbacks: Callbacks,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) link: Option<Link>,
    /// Where to connect anew.
    path: Option<PathBuf>,
    pub(super) shut_down: bool,
    /// Requests that are not fully answered.
    pub(super) awaited: Numbers<Awaited>,
    /// The number of the next one.
    next: u64,
    /// The maps there are, whose calls are not among those.
    pub(super) series: Slab<Arc<Series>>,
    /// Threads that read, or still tell that they cannot any more.
    pub(super) readers: HashSet<ThreadId>,
}

/// A connection in use, by the thread that reads from it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    outbox: Arc<Outbox>,
    payload_bytes_max: u64,
}

/// A request that is not fully answered.
#[derive(Debug)]
pub(super) enum Awaited {
    /// A submission.
    Call(Arc<Call>),
    /// The end of a task that the daemon was asked to cancel.
    End,
    /// The answer to a request to cancel.
    CancelAnswer,
}

/// Calls that are to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those that no worker has begun with.
    Pending,
}

impl Exchange {
    /// All over `connection`, and once that has ended, over others to the same path if it had one.
    pub(super) fn over(connection: Connection) -> Arc<Self> {
        let state = State {
            link: None,
            path: connection.path().map(PathBuf::from),
            shut_down: false,
            awaited: Numbers::default(),
            next: 1,
            series: Slab::new(),
            readers: HashSet::new(),
        };
        let exchange = Arc::new(Exchange {
            state: Mutex::new(state),
            quiet: Condvar::new(),
            callbacks: Callbacks::default(),
        });
        exchange.link(&mut lock(&exchange.state), connection);
        exchange
    }

    /// Makes a call, waiting while there is no room for it in the outbox.
    ///
    /// # Errors
    /// Whatever is known without asking the daemon: that it was shut down, that the arguments are too
    /// large, that there is no daemon to connect to anew.
    pub(super) fn submit(
        self: &Arc<Self>,
        template: &Arc<Template>,
        args: &Payload,
    ) -> Result<Arc<Call>, CallError> {
        let no_call = |cause| CallError::new(template.function(), None, cause);
        let shared = self.shared_if_large(args).map_err(no_call)?;
        let args = shared.as_ref().unwrap_or(args);
        loop {
            let mut state = lock(&self.state);
            let submitted = self.connect_if_needed(&mut state).and_then(|()| state.submit(template, args));
            match submitted.map_err(no_call)? {
                Submitted::Call(call) => return Ok(call),
                Submitted::Full(outbox) => {
                    drop(state);
                    outbox.wait_for_room();
                }
            }
        }
    }

    /// Begins a series of calls of `template`.
    pub(super) fn begin_series(&self, template: Arc<Template>) -> Arc<Series> {
        let mut state = lock(&self.state);
        let series = Arc::new(Series::new(template, state.series.vacant_key(), state.link.clone()));
        if state.shut_down {
            series.shut_down();
        }
        state.series.insert(Arc::clone(&series));
        series
    }

    /// Makes the call of that number in a series, as [`submit`](Self::submit) does.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(super) fn submit_in(
        self: &Arc<Self>,
        series: &Series,
        call: u64,
        args: &Payload,
    ) -> Result<(), CallError> {
        let no_call = |cause| CallError::new(series.template().function(), None, cause);
        let shared = self.shared_if_large(args).map_err(no_call)?;
        let args = shared.as_ref().unwrap_or(args);
        loop {
            match series.submit(call, args).map_err(no_call)? {
                series::Submitted::Taken => return Ok(()),
                series::Submitted::Full(link) => link.outbox.wait_for_room(),
                series::Submitted::Unlinked => {
                    let mut state = lock(&self.state);
                    self.connect_if_needed(&mut state).map_err(no_call)?;
                    series.link(state.link.clone());
                }
            }
        }
    }

    /// Ends a series: cancels its calls that have not ended.
    pub(super) fn end_series(&self, series: &Series) {
        let mut state = lock(&self.state);
        let (tasks, _) = series.cancel(Which::All);
        series.abandon();
        state.ask_for_ends(tasks);
        state.forget_if_over(series);
    }

    /// A copy of `args` in shared memory, if they are too large for a frame.
    fn shared_if_large(&self, args: &Payload) -> Result<Option<Payload>, Cause> {
        if args.is_fit_to_send() {
            return Ok(None);
        }
        // What is too large is not copied first.
        lock(&self.state).link.as_ref().map_or(Ok(()), |link| link.check_size(args))?;
        let no_memory = |error| Cause::BadArguments(Error::Memory(error).to_string());
        args.to_shared().map(Some).map_err(no_memory)
    }

    fn connect_if_needed(self: &Arc<Self>, state: &mut State) -> Result<(), Cause> {
        if state.shut_down {
            return Err(Cause::ShutDown);
        }
        if state.link.is_none() {
            let path = state.path.as_ref().ok_or(Cause::Unreachable(Error::Gone))?;
            let connection = Connection::connect(path).map_err(Cause::Unreachable)?;
            log::info!("connected to the daemon again");
            self.link(state, connection);
        }
        Ok(())
    }

    /// Starts to write to and to read from `connection`.
    fn link(self: &Arc<Self>, state: &mut State, connection: Connection) {
        let (sender, receiver) = connection.split();
        let outbox = Arc::new(Outbox::for_sender(&sender));
        let payload_bytes_max = sender.payload_bytes_max();
        state.link = Some(Link { outbox: Arc::clone(&outbox), payload_bytes_max });
        thread::spawn(move || outbox.write_to(sender));
        let exchange = Arc::clone(self);
        let reader = thread::spawn(move || exchange.read(receiver));
        state.readers.insert(reader.thread().id());
    }

    /// Ends `call` as cancelled and asks the daemon to end its task. Says whether it is cancelled, now or
    /// since before.
    pub(super) fn cancel(&self, call: &Arc<Call>) -> bool {
        if !call.cancel(&self.callbacks) {
            return call.is_cancelled();
        }
        lock(&self.state).ask_to_cancel(call);
        true
    }

    /// Cancels calls.
    pub(super) fn cancel_all(&self, which: Which) {
        let mut state = lock(&self.state);
        let is_meant = |call: &&Arc<Call>| which == Which::All || call.is_pending();
        let calls = state.awaited.after(0).filter_map(|(_, awaited)| awaited.call());
        let calls: Vec<Arc<Call>> = calls.filter(is_meant).cloned().collect();
        let all_series: Vec<Arc<Series>> =
            state.series.iter().map(|(_, series)| Arc::clone(series)).collect();
        for series in all_series {
            let (tasks, is_wanted) = series.cancel(which);
            state.ask_for_ends(tasks);
            if is_wanted {
                series.tell();
            }
        }
        drop(state);
        for call in calls {
            self.cancel(&call);
        }
    }

    /// Takes nothing new.
    pub(super) fn shut_down(&self) {
        let mut state = lock(&self.state);
        state.shut_down = true;
        state.series.iter().for_each(|(_, series)| series.shut_down());
        state.close_if_over();
    }

    /// Whether it takes nothing new.
    pub(super) fn is_shut_down(&self) -> bool {
        lock(&self.state).shut_down
    }

    /// Waits, after it was shut down, until every call has ended, every callback was called and the
    /// connection is closed. A callback, or a waker, would wait for itself and does not.
    pub(super) fn wait(&self) {
        let state = lock(&self.state);
        if self.callbacks.is_current_thread() || state.readers.contains(&thread::current().id()) {
            return;
        }
        let is_read = |state: &mut State| !state.readers.is_empty();
        drop(Until::after(None).wait_while(&self.quiet, state, is_read));
        self.callbacks.wait();
    }
}

/// What became of a submission.
enum Submitted {
    Call(Arc<Call>),
    /// There was no room in this outbox.
    Full(Arc<Outbox>),
}

impl State {
    /// Makes a call over the link that there is.
    fn submit(&mut self, template: &Arc<Template>, args: &Payload) -> Result<Submitted, Cause> {
        let Some(link) = &self.link else { return Err(Cause::Unreachable(Error::Gone)) };
        let id = RequestId(self.next);
        match link.push_submission(id, template, args, Haste::Now)? {
            Pushed::Full => Ok(Submitted::Full(Arc::clone(&link.outbox))),
            Pushed::Taken => {
                let call = Arc::new(Call::new(Arc::clone(template), id));
                self.await_answer(Awaited::Call(Arc::clone(&call)));
                Ok(Submitted::Call(call))
            }
        }
    }

    /// Awaits the answer to the next request.
    fn await_answer(&mut self, awaited: Awaited) {
        self.awaited.insert(self.next, awaited);
        self.next += 1;
    }

    /// Asks the daemon to end the task of a call that has ended here. If it was not accepted yet, it is
    /// asked once it is.
    pub(super) fn ask_to_cancel(&mut self, call: &Arc<Call>) {
        let Some(awaited) = self.awaited.get_mut(call.request.0) else { return };
        if !awaited.call().is_some_and(|awaited| Arc::ptr_eq(awaited, call)) {
            return;
        }
        let (Some(task), true) = (call.task(), self.link.is_some()) else { return };
        *awaited = Awaited::End;
        self.ask_for_ends([task]);
    }

    /// Asks the daemon to end tasks.
    pub(super) fn ask_for_ends(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        for task in tasks {
            let Some(link) = &self.link else { return };
            match link.outbox.push_now(RequestId(self.next), RequestBody::Cancel { task }) {
                Ok(()) => self.await_answer(Awaited::CancelAnswer),
                Err(error) => log::warn!("cannot ask for the end of task {task}: {error}"),
            }
        }
    }

    /// The series with a call of that number, and the number of the call in it.
    pub(super) fn series_of(&self, request: RequestId) -> Option<(Arc<Series>, u64)> {
        let (place, call) = series::call_of(request)?;
        Some((Arc::clone(self.series.get(place)?), call))
    }

    /// Forgets a series that nobody needs any more.
    pub(super) fn forget_if_over(&mut self, series: &Series) {
        let is_this = |known: &Arc<Series>| ptr::eq(&**known, series);
        if series.awaited() == 0 && self.series.get(series.place()).is_some_and(is_this) {
            self.series.remove(series.place());
        }
    }

    /// Has the connection closed once all is written, if nothing more will be.
    pub(super) fn close_if_over(&self) {
        if self.shut_down && self.is_over() {
            self.close();
        }
    }

    /// Whether the daemon has nothing more to say.
    pub(super) fn is_over(&self) -> bool {
        self.awaited.is_empty() && self.series_awaited() == 0
    }

    /// Calls of maps that are not fully answered.
    pub(super) fn series_awaited(&self) -> usize {
        self.series.iter().map(|(_, series)| series.awaited()).sum()
    }

    /// Has the connection closed once all is written.
    pub(super) fn close(&self) {
        if let Some(link) = &self.link {
            link.outbox.close();
        }
    }
}

impl Link {
    /// Adds the request for a call, if there is room and the daemon takes so large arguments.
    pub(super) fn push_submission(
        &self,
        id: RequestId,
        template: &Arc<Template>,
        args: &Payload,
        haste: Haste,
    ) -> Result<Pushed, Cause> {
        self.check_size(args)?;
        let unsendable = |error: WireError| Cause::BadArguments(error.to_string());
        self.outbox.push_submission(id, template, args, haste).map_err(unsendable)
    }

    /// Has the requests that wait for others leave now.
    pub(super) fn hurry(&self) {
        self.outbox.hurry();
    }

    fn check_size(&self, args: &Payload) -> Result<(), Cause> {
        match (args.len(), self.payload_bytes_max) {
            (bytes, bytes_max) if bytes > bytes_max => {
                Err(Cause::Refused(Refusal::PayloadTooLarge { bytes, bytes_max }))
            }
            (_, _) => Ok(()),
        }
    }
}

impl Awaited {
    pub(super) fn call(&self) -> Option<&Arc<Call>> {
        match self {
            Awaited::Call(call) => Some(call),
            Awaited::End | Awaited::CancelAnswer => None,
        }
    }
}
