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
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};

use super::arrivals::Watcher;
use super::call::Call;
use super::call_error::{CallError, Cause};
use super::callbacks::Callbacks;
use super::connection::Connection;
use super::error::Error;
use super::outbox::{Outbox, Pushed};
use super::template::Template;
use super::until::{Until, lock};
use crate::id::RequestId;
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
    /// Threads that read, or still tell that they cannot any more.
    pub(super) readers: HashSet<ThreadId>,
}

/// A connection in use, by the thread that reads from it.
#[derive(Debug)]
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

impl Exchange {
    /// All over `connection`, and once that has ended, over others to the same path if it had one.
    pub(super) fn over(connection: Connection) -> Arc<Self> {
        let state = State {
            link: None,
            path: connection.path().map(PathBuf::from),
            shut_down: false,
            awaited: Numbers::default(),
            next: 1,
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

    /// Makes a call, waiting while there is no room for it in the outbox. `if_full` is told if there is none in
    /// the daemon's queue.
    ///
    /// # Errors
    /// Whatever is known without asking the daemon: that it was shut down, that the arguments are too
    /// large, that there is no daemon to connect to anew.
    pub(super) fn submit(
        self: &Arc<Self>,
        template: &Arc<Template>,
        args: &Payload,
        mut if_full: Option<Watcher>,
    ) -> Result<Arc<Call>, CallError> {
        let no_call = |cause| CallError::new(template.function(), None, cause);
        let shared = match args.is_fit_to_send() {
            true => None,
            false => {
                // What is too large is not copied first.
                lock(&self.state).check_size(args).map_err(no_call)?;
                let no_memory = |error| no_call(Cause::BadArguments(Error::Memory(error).to_string()));
                Some(args.to_shared().map_err(no_memory)?)
            }
        };
        let args = shared.as_ref().unwrap_or(args);
        loop {
            let mut state = lock(&self.state);
            let submitted =
                self.connect_if_needed(&mut state).and_then(|()| state.submit(template, args, &mut if_full));
            match submitted.map_err(no_call)? {
                Submitted::Call(call) => return Ok(call),
                Submitted::Full(outbox) => {
                    drop(state);
                    outbox.wait_for_room();
                }
            }
        }
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

    /// Cancels every call that `is_meant`.
    pub(super) fn cancel_where(&self, is_meant: impl Fn(&Call) -> bool) {
        let calls: Vec<Arc<Call>> =
            lock(&self.state).awaited.after(0).filter_map(|(_, awaited)| awaited.call()).cloned().collect();
        for call in calls.iter().filter(|call| is_meant(call)) {
            self.cancel(call);
        }
    }

    /// Takes nothing new.
    pub(super) fn shut_down(&self) {
        let mut state = lock(&self.state);
        state.shut_down = true;
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
    fn submit(
        &mut self,
        template: &Arc<Template>,
        args: &Payload,
        if_full: &mut Option<Watcher>,
    ) -> Result<Submitted, Cause> {
        self.check_size(args)?;
        let Some(link) = &self.link else { return Err(Cause::Unreachable(Error::Gone)) };
        let id = RequestId(self.next);
        let unsendable = |error: WireError| Cause::BadArguments(error.to_string());
        match link.outbox.push_submission(id, template, args).map_err(unsendable)? {
            Pushed::Full => Ok(Submitted::Full(Arc::clone(&link.outbox))),
            Pushed::Taken => {
                let call = Arc::new(Call::new(Arc::clone(template), id, if_full.take()));
                self.await_answer(Awaited::Call(Arc::clone(&call)));
                Ok(Submitted::Call(call))
            }
        }
    }

    /// Whether the daemon, if there is one, takes so large arguments.
    fn check_size(&self, args: &Payload) -> Result<(), Cause> {
        match (args.len(), self.link.as_ref().map(|link| link.payload_bytes_max)) {
            (bytes, Some(bytes_max)) if bytes > bytes_max => {
                Err(Cause::Refused(Refusal::PayloadTooLarge { bytes, bytes_max }))
            }
            (_, Some(_) | None) => Ok(()),
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
        let (Some(task), Some(link)) = (call.task(), &self.link) else { return };
        let id = RequestId(self.next);
        if let Err(error) = link.outbox.push_now(id, RequestBody::Cancel { task }) {
            log::warn!("cannot ask for the end of task {task}: {error}");
            return;
        }
        *awaited = Awaited::End;
        self.await_answer(Awaited::CancelAnswer);
    }

    /// Has the connection closed once all is written, if nothing more will be.
    pub(super) fn close_if_over(&self) {
        if self.shut_down && self.awaited.is_empty() {
            self.close();
        }
    }

    /// Has the connection closed once all is written.
    pub(super) fn close(&self) {
        if let Some(link) = &self.link {
            link.outbox.close();
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
