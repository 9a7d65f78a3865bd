//! What waits to be written to the daemon: filled by any thread, emptied by the one that writes.
//!
//! ```text
//!   callers ──push──> │ requests │ ──take──> writer thread ──> Sender ──> socket
//!   reader  ──push_now┘
//! ```
//!
//! Callers wait while there is much; the reader never does, for the daemon stops reading from whoever
//! does not read. All that came while the writer wrote leaves with its next write.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex};

use super::connection::Sender;
use super::until::{Until, lock};
use crate::id::RequestId;
use crate::limits::OUTBOX_BYTES_HIGH;
use crate::message::client::RequestBody;

/// Bytes that a request counts for beside its arguments.
const REQUEST_BYTES: usize = 128;

/// A request and the number it goes by.
type Numbered = (RequestId, RequestBody);

/// Requests on their way to the writer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something is there, or nothing more will be.
    filled: Condvar,
    /// There is room, or nothing more is taken.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Numbered>,
    bytes: usize,
    closed: bool,
}

impl Outbox {
    /// Adds a request, waiting while there is no room. Does nothing once it is closed.
    pub(super) fn push(&self, id: RequestId, body: RequestBody) {
        let is_full = |state: &mut State| state.bytes > OUTBOX_BYTES_HIGH && !state.closed;
        let state = Until::after(None).wait_while(&self.emptied, lock(&self.state), is_full);
        self.add(state, id, body);
    }

    /// Adds a request, whether there is room or not: for a small one, by whoever must not wait.
    pub(super) fn push_now(&self, id: RequestId, body: RequestBody) {
        self.add(lock(&self.state), id, body);
    }

    fn add(&self, mut state: std::sync::MutexGuard<'_, State>, id: RequestId, body: RequestBody) {
        if state.closed {
            return;
        }
        state.bytes += bytes_of(&body);
        state.requests.push_back((id, body));
        drop(state);
        self.filled.notify_one();
    }

    /// Takes nothing more. What was taken is still written.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_one();
        self.emptied.notify_all();
    }

    /// All that is there, waiting until there is something; nothing once it is closed and empty.
    fn take(&self) -> Option<VecDeque<Numbered>> {
        let is_idle = |state: &mut State| state.requests.is_empty() && !state.closed;
        let mut state = Until::after(None).wait_while(&self.filled, lock(&self.state), is_idle);
        let requests = mem::take(&mut state.requests);
        state.bytes = 0;
        drop(state);
        self.emptied.notify_all();
        (!requests.is_empty()).then_some(requests)
    }

    /// Writes all that comes, until it is closed or writing fails; then closes the connection, which ends
    /// whoever reads from it.
    pub(super) fn write_to(&self, mut sender: Sender) {
        while let Some(requests) = self.take() {
            let pushed = requests.into_iter().try_for_each(|(id, body)| sender.push(id, body));
            if let Err(error) = pushed.and_then(|()| sender.flush()) {
                log::warn!("cannot write to the daemon: {error}");
                break;
            }
        }
        self.close();
        sender.close();
    }
}

fn bytes_of(body: &RequestBody) -> usize {
    match body {
        RequestBody::Submit { args, .. } => REQUEST_BYTES + usize::try_from(args.len()).unwrap_or(usize::MAX),
        RequestBody::Cancel { .. }
        | RequestBody::Result { .. }
        | RequestBody::Status
        | RequestBody::Workers { .. }
        | RequestBody::Tasks { .. }
        | RequestBody::Functions { .. }
        | RequestBody::Reload
        | RequestBody::Drain
        | RequestBody::Release { .. } => REQUEST_BYTES,
    }
}
