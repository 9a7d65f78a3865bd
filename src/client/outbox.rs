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
//!
//! What a map submits mostly comes with more. The writer lets that gather for a moment, until it is a whole run or
//! somebody waits for it: woken with each, it would run in turns with the map, and write a few at a time.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::connection::Sender;
use super::requests::Requests;
use super::template::Template;
use super::until::{Until, lock};
use crate::id::RequestId;
use crate::limits::{GATHERING_MAX, OUTBOX_BYTES_HIGH};
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
    /// Whether all of them can wait for more; if there are none, whether the last ones could.
    gathers: bool,
    closed: bool,
    writer: Writer,
    /// Whether callers wait for room.
    are_callers_asleep: bool,
}

/// What the thread that writes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// It writes, or is about to.
    Awake,
    /// It lets requests gather.
    Drowsy,
    /// It waits for something to be there.
    Asleep,
}

/// When a submission leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// As soon as the writer can.
    Now,
    /// [A little](GATHERING_MAX) later, with others that follow; sooner if that is [cut short](Outbox::hurry).
    WithOthers,
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
        Self::with(sender.no_requests())
    }

    fn with(requests: Requests) -> Self {
        let state = State {
            requests,
            gathers: false,
            closed: false,
            writer: Writer::Awake,
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
        haste: Haste,
    ) -> Result<Pushed, WireError> {
        let mut state = lock(&self.state);
        if state.is_full() {
            return Ok(Pushed::Full);
        }
        if !state.closed {
            state.gathers = haste == Haste::WithOthers && (state.gathers || state.requests.is_empty());
            state.requests.push_submission(id, template, args)?;
            if state.writer == Writer::Asleep || !state.is_gathering() {
                self.wake_writer(state);
            }
        }
        Ok(Pushed::Taken)
    }

    /// Has what there is leave now.
    pub(super) fn hurry(&self) {
        let mut state = lock(&self.state);
        state.gathers = false;
        if !state.requests.is_empty() {
            self.wake_writer(state);
        }
    }

    /// Adds a request, whether there is room or not: for a small one, by whoever must not wait. Does
    /// nothing once it is closed.
    pub(super) fn push_now(&self, id: RequestId, body: RequestBody) -> Result<(), WireError> {
        let mut state = lock(&self.state);
        if !state.closed {
            state.gathers = false;
            state.requests.push(id, body)?;
            self.wake_writer(state);
        }
        Ok(())
    }

    fn wake_writer(&self, mut state: MutexGuard<'_, State>) {
        let before = mem::replace(&mut state.writer, Writer::Awake);
        drop(state);
        if before != Writer::Awake {
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
        let mut state = lock(&self.state);
        if state.is_gathering() {
            state = self.rest(state, Writer::Drowsy, Some(GATHERING_MAX));
        }
        if state.requests.is_empty() {
            state = self.rest(state, Writer::Asleep, None);
        }
        mem::swap(&mut state.requests, none);
        let were_callers_asleep = mem::take(&mut state.are_callers_asleep);
        drop(state);
        if were_callers_asleep {
            self.emptied.notify_all();
        }
        !none.is_empty()
    }

    /// Lets the writer rest until it is woken, the time is over, or this is closed.
    fn rest<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        writer: Writer,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.writer = writer;
        let rests = |state: &mut State| state.writer == writer && !state.closed;
        let mut state = Until::after(timeout).wait_while(&self.filled, state, rests);
        state.writer = Writer::Awake;
        state
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
    /// Whether to wait for more would be of use.
    fn is_gathering(&self) -> bool {
        self.gathers && !self.requests.are_more_than_a_run()
    }

    fn is_full(&self) -> bool {
        self.requests.bytes() > OUTBOX_BYTES_HIGH && !self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TASKS_AT_ONCE_MAX;
    use crate::task::{Encoding, TaskSpec};

    fn outbox() -> (Outbox, Arc<Template>) {
        let spec = TaskSpec::new("echo".parse().unwrap());
        (Outbox::with(Requests::encoded()), Arc::new(Template::new(spec).unwrap()))
    }

    fn push(outbox: &Outbox, template: &Arc<Template>, ids: impl IntoIterator<Item = u64>, haste: Haste) {
        for id in ids {
            let args = Payload::new(Encoding::Json, &b"[1]"[..]);
            assert_eq!(outbox.push_submission(RequestId(id), template, &args, haste).unwrap(), Pushed::Taken);
        }
    }

    fn is_gathering(outbox: &Outbox) -> bool {
        lock(&outbox.state).is_gathering()
    }

    #[test]
    fn submission_that_waits_for_others_leaves_if_none_come() {
        let (outbox, template) = outbox();
        push(&outbox, &template, [1], Haste::WithOthers);
        assert!(is_gathering(&outbox));
        assert!(outbox.take(&mut Requests::encoded()));
    }

    #[test]
    fn nothing_waits_for_others_beside_what_does_not() {
        let (outbox, template) = outbox();
        push(&outbox, &template, [1], Haste::WithOthers);
        push(&outbox, &template, [2], Haste::Now);
        assert!(!is_gathering(&outbox));
        push(&outbox, &template, [3], Haste::WithOthers);
        assert!(!is_gathering(&outbox));
        assert!(outbox.take(&mut Requests::encoded()));
        push(&outbox, &template, [4], Haste::WithOthers);
        assert!(is_gathering(&outbox));
        outbox.push_now(RequestId(5), RequestBody::Status).unwrap();
        assert!(!is_gathering(&outbox));
    }

    #[test]
    fn whole_run_waits_for_nothing() {
        let (outbox, template) = outbox();
        let ids = 0..u64::from(TASKS_AT_ONCE_MAX);
        push(&outbox, &template, ids.clone(), Haste::WithOthers);
        assert!(is_gathering(&outbox));
        push(&outbox, &template, [ids.end], Haste::WithOthers);
        assert!(!is_gathering(&outbox));
    }

    #[test]
    fn what_is_waited_for_leaves_now() {
        let (outbox, template) = outbox();
        push(&outbox, &template, [1, 2], Haste::WithOthers);
        outbox.hurry();
        assert!(!is_gathering(&outbox));
        assert!(outbox.take(&mut Requests::encoded()));
    }
}
