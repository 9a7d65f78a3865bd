//! The one connection that all calls of an executor share, and the table of those that are not answered.
//!
//! ```text
//!   any thread ──submit──> table ──> Outbox ──> writer thread ──> daemon
//!                            │                                      │
//!   waiters, callbacks <── Call <────────── reader thread <─────────┘
//! ```
//!
//! The reader never waits for anything but the daemon: neither for room in the outbox nor for code of a
//! caller's, so what blocks one caller blocks no other. When the connection ends, so do all calls on it,
//! as lost; the next submission connects anew.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use super::call::Call;
use super::call_error::{CallError, Cause};
use super::callbacks::Callbacks;
use super::connection::{Connection, Receiver};
use super::error::Error;
use super::outbox::Outbox;
use super::until::{Until, lock};
use crate::id::RequestId;
use crate::message::client::{Refusal, ReplyBody, RequestBody};
use crate::task::{Payload, TaskSpec};

/// What the handles of an executor and its futures share.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    /// A connection has ended, and so have all calls on it.
    quiet: Condvar,
    pub(super) callbacks: Callbacks,
}

#[derive(Debug)]
struct State {
    link: Option<Link>,
    /// Where to connect anew.
    path: Option<PathBuf>,
    shut_down: bool,
    last_request: u64,
    awaited: HashMap<RequestId, Awaited>,
    /// Threads that read, or still tell that they cannot any more.
    readers: HashSet<ThreadId>,
}

/// A connection in use, by the thread that reads from it.
#[derive(Debug)]
struct Link {
    outbox: Arc<Outbox>,
    payload_bytes_max: u64,
}

/// A request that is not fully answered.
#[derive(Debug)]
enum Awaited {
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
            last_request: 0,
            awaited: HashMap::new(),
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

    /// Makes a call.
    ///
    /// # Errors
    /// Whatever is known without asking the daemon: that it was shut down, that the arguments are too
    /// large, that there is no daemon to connect to anew.
    pub(super) fn submit(self: &Arc<Self>, spec: TaskSpec, args: Payload) -> Result<Arc<Call>, CallError> {
        let function = spec.function.clone();
        let failed = |cause| CallError::new(&function, None, cause);
        // What is too large is not copied into shared memory first.
        lock(&self.state).check_size(&args).map_err(failed)?;
        let no_memory = |error| failed(Cause::BadArguments(Error::Memory(error).to_string()));
        let args = args.fit_to_send().map_err(no_memory)?;
        let mut state = lock(&self.state);
        let outbox = self.prepare(&mut state, &args).map_err(failed)?;
        let id = state.next_request();
        let call = Arc::new(Call::new(function, id));
        state.awaited.insert(id, Awaited::Call(Arc::clone(&call)));
        drop(state);
        outbox.push(id, RequestBody::Submit { spec, args });
        Ok(call)
    }

    /// Where a submission with `args` goes, connecting anew if that is needed.
    fn prepare(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        args: &Payload,
    ) -> Result<Arc<Outbox>, Cause> {
        if state.shut_down {
            return Err(Cause::ShutDown);
        }
        if state.link.is_none() {
            let connection = match &state.path {
                Some(path) => Connection::connect(path).map_err(Cause::Unreachable)?,
                None => return Err(Cause::Unreachable(Error::Gone)),
            };
            log::info!("connected to the daemon again");
            self.link(state, connection);
        }
        state.check_size(args)?;
        let Some(link) = &state.link else { return Err(Cause::Unreachable(Error::Gone)) };
        Ok(Arc::clone(&link.outbox))
    }

    /// Starts to write to and to read from `connection`.
    fn link(self: &Arc<Self>, state: &mut State, connection: Connection) {
        let (sender, receiver) = connection.split();
        let outbox = Arc::new(Outbox::default());
        let payload_bytes_max = sender.payload_bytes_max();
        state.link = Some(Link { outbox: Arc::clone(&outbox), payload_bytes_max });
        thread::spawn(move || outbox.write_to(sender));
        let exchange = Arc::clone(self);
        let reader = thread::spawn(move || exchange.read(receiver));
        state.readers.insert(reader.thread().id());
    }

    fn read(&self, mut receiver: Receiver) {
        let error = loop {
            let heard = receiver.receive().and_then(|(id, body)| self.hear(id, body));
            if let Err(error) = heard {
                break error;
            }
        };
        self.unlink(&error);
    }

    /// Takes in a reply.
    fn hear(&self, id: RequestId, body: ReplyBody) -> Result<(), Error> {
        let mut state = lock(&self.state);
        match (state.awaited.get(&id), body) {
            (Some(Awaited::Call(call)), ReplyBody::Accepted { task }) => {
                call.accepted(task);
                if call.is_done() {
                    state.ask_to_cancel(id);
                }
                return Ok(());
            }
            (Some(Awaited::Call(call)), ReplyBody::Started { .. }) => {
                call.started();
                return Ok(());
            }
            (Some(Awaited::End), ReplyBody::Started { .. }) => return Ok(()),
            (Some(Awaited::Call(call)), ReplyBody::Done { outcome, .. }) => {
                let call = Arc::clone(call);
                drop(state);
                call.finish(outcome, &self.callbacks);
            }
            (Some(Awaited::Call(call)), ReplyBody::Refused(refusal)) => {
                let call = Arc::clone(call);
                drop(state);
                call.refuse(Cause::Refused(refusal), &self.callbacks);
            }
            (Some(Awaited::End), ReplyBody::Done { .. }) => drop(state),
            // That the task is not there any more means that its end was on its way.
            (Some(Awaited::CancelAnswer), ReplyBody::CancelAnswered { .. } | ReplyBody::Refused(_)) => {
                drop(state);
            }
            (_, _) => return Err(Error::UnexpectedReply),
        }
        self.answered(id);
        Ok(())
    }

    /// Strikes a request from those that are awaited, after all that its answer brought about.
    fn answered(&self, id: RequestId) {
        let mut state = lock(&self.state);
        state.awaited.remove(&id);
        if state.awaited.is_empty() && state.shut_down {
            state.close();
        }
    }

    /// The connection has ended: so have all calls on it.
    fn unlink(&self, error: &Error) {
        let mut state = lock(&self.state);
        state.close();
        state.link = None;
        let awaited = mem::take(&mut state.awaited);
        let is_expected = state.shut_down && awaited.is_empty();
        drop(state);

        if !is_expected {
            log::warn!("the connection ended with {} requests unanswered: {error}", awaited.len());
        }
        for call in awaited.values().filter_map(Awaited::call) {
            call.lose(&self.callbacks);
        }
        lock(&self.state).readers.remove(&thread::current().id());
        self.quiet.notify_all();
    }

    /// Ends `call` as cancelled and asks the daemon to end its task. Says whether it is cancelled, now or
    /// since before.
    pub(super) fn cancel(&self, call: &Arc<Call>) -> bool {
        if !call.cancel(&self.callbacks) {
            return call.is_cancelled();
        }
        lock(&self.state).ask_to_cancel(call.request);
        true
    }

    /// Cancels every call that `is_meant`.
    pub(super) fn cancel_where(&self, is_meant: impl Fn(&Call) -> bool) {
        let calls: Vec<Arc<Call>> = lock(&self.state).awaited.values().filter_map(Awaited::call).collect();
        for call in calls.iter().filter(|call| is_meant(call)) {
            self.cancel(call);
        }
    }

    /// Takes nothing new.
    pub(super) fn shut_down(&self) {
        let mut state = lock(&self.state);
        state.shut_down = true;
        if state.awaited.is_empty() {
            state.close();
        }
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

impl State {
    /// Whether the daemon, if there is one, takes so large arguments.
    fn check_size(&self, args: &Payload) -> Result<(), Cause> {
        match (args.len(), self.link.as_ref().map(|link| link.payload_bytes_max)) {
            (bytes, Some(bytes_max)) if bytes > bytes_max => {
                Err(Cause::Refused(Refusal::PayloadTooLarge { bytes, bytes_max }))
            }
            (_, Some(_) | None) => Ok(()),
        }
    }

    fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// Asks the daemon to end the task of a call that has ended here. If it was not accepted yet, it is
    /// asked once it is.
    fn ask_to_cancel(&mut self, submission: RequestId) {
        let Some(Awaited::Call(call)) = self.awaited.get(&submission) else { return };
        let Some(task) = call.task() else { return };
        let id = self.next_request();
        let Some(link) = &self.link else { return };
        link.outbox.push_now(id, RequestBody::Cancel { task });
        self.awaited.insert(submission, Awaited::End);
        self.awaited.insert(id, Awaited::CancelAnswer);
    }

    /// Has the connection closed once all is written.
    fn close(&self) {
        if let Some(link) = &self.link {
            link.outbox.close();
        }
    }
}

impl Awaited {
    fn call(&self) -> Option<Arc<Call>> {
        match self {
            Awaited::Call(call) => Some(Arc::clone(call)),
            Awaited::End | Awaited::CancelAnswer => None,
        }
    }
}
