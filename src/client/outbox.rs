//! What waits to be written to the daemon: filled by any thread, emptied by the one that writes.
//!
//! ```text
//!   callers ──push──> │ requests │ ──take──> writer thread ──> Sender ──> socket
//!   reader  ──push_now┘
//! ```
//!
//! Callers wait while there is much; the reader never does, for the daemon stops reading from whoever
//! does not read. All that came while the writer wrote leaves with its next write. Nobody is woken who
//! does not sleep, so that a call costs no system call while the writer has work.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::connection::Sender;
use super::requests::Requests;
use super::template::Template;
use super::until::{Until, lock};
use crate::id::RequestId;
use crate::limits::OUTBOX_BYTES_HIGH;
use crate::message::client::RequestBody;
use crate::task::Payload;
use crate::wire::WireError;

/// Requests on their way to the writer.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is there, or nothing more will be.
    filled: Condvar,
    /// There is room, or nothing more is taken.
    emptied: Condvar,
}

#[derive(Debug)]
struct State {
    requests: Requests,
    closed: bool,
    /// Whether the writer waits for something to be there.
    is_writer_asleep: bool,
    /// Whether callers wait for room.
    are_callers_asleep: bool,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It leaves, unless the connection ends before.
    Taken,
    /// There was no room for it.
    Full,
}

impl Outbox {
    /// One for `sender`, empty.
    pub(super) fn for_sender(sender: &Sender) -> Self {
        let state = State {
            requests: sender.no_requests(),
            closed: false,
            is_writer_asleep: false,
            are_callers_asleep: false,
        };
        Outbox { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Adds the request for a call, if there is room. Does nothing once it is closed.
    ///
    /// # Errors
    /// [`WireError`] when it cannot be sent.
    pub(super) fn push_submission(
        &self,
        id: RequestId,
        template: &Arc<Template>,
        args: &Payload,
    ) -> Result<Pushed, WireError> {
        let mut state = lock(&self.state);
        if state.is_full() {
            return Ok(Pushed::Full);
        }
        if !state.closed {
            state.requests.push_submission(id, template, args)?;
            self.wake_writer(state);
        }
        Ok(Pushed::Taken)
    }

    /// Adds a request, whether there is room or not: for a small one, by whoever must not wait. Does
    /// nothing once it is closed.
    pub(super) fn push_now(&self, id: RequestId, body: RequestBody) -> Result<(), WireError> {
        let mut state = lock(&self.state);
        if !state.closed {
            state.requests.push(id, body)?;
            self.wake_writer(state);
        }
        Ok(())
    }

    fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        let was_asleep = mem::take(&mut state.is_writer_asleep);
        drop(state);
        if was_asleep {
            self.filled.notify_one();
        }
    }

    /// Waits until there is room, or nothing more is taken.
    pub(super) fn wait_for_room(&self) {
        let is_full = |state: &mut State| {
            state.are_callers_asleep |= state.is_full();
            state.is_full()
        };
        drop(Until::after(None).wait_while(&self.emptied, lock(&self.state), is_full));
    }

    /// Takes nothing more. What was taken is still written.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_one();
        self.emptied.notify_all();
    }

    /// Exchanges `none` for all that is there, waiting until there is something. Says whether there was,
    /// before it was closed and empty.
    fn take(&self, none: &mut Requests) -> bool {
        let is_idle = |state: &mut State| {
            state.is_writer_asleep = state.requests.is_empty() && !state.closed;
            state.is_writer_asleep
        };
        let mut state = Until::after(None).wait_while(&self.filled, lock(&self.state), is_idle);
        mem::swap(&mut state.requests, none);
        let were_callers_asleep = mem::take(&mut state.are_callers_asleep);
        drop(state);
        if were_callers_asleep {
            self.emptied.notify_all();
        }
        !none.is_empty()
    }

    /// Writes all that comes, until it is closed or writing fails; then closes the connection, which ends
    /// whoever reads from it.
    pub(super) fn write_to(&self, mut sender: Sender) {
        let mut requests = sender.no_requests();
        while self.take(&mut requests) {
            if let Err(error) = sender.send_all(&mut requests) {
                log::warn!("cannot write to the daemon: {error}");
                break;
            }
        }
        self.close();
        sender.close();
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.requests.bytes() > OUTBOX_BYTES_HIGH && !self.closed
    }
}
