//! The end of the daemon while a function runs.
//!
//! Between calls the worker finds the end of its socket by reading. A function may run for ever, though,
//! and reads nothing: for that time a thread watches the socket, and ends the whole process group when the
//! other end is closed.
//!
//! The order that makes this hold: a call is announced before its `Started` is written. Whoever closes the
//! socket after that write finds the call announced; if it was closed before, the write itself fails, and
//! no function is called.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::os::{descriptor, process, signal};

/// Bytes of stack for the watching thread, which only waits.
const STACK_BYTES: usize = 64 * 1024;

/// Whether the end of the socket must kill this process, for lack of anyone who reads it.
#[derive(Default)]
pub(super) struct Hangup {
    /// Calls that go on.
    calls: Arc<AtomicUsize>,
}

impl Hangup {
    /// Starts to watch `socket`.
    pub(super) fn watch(&self, socket: Arc<impl AsFd + Send + Sync + 'static>) -> io::Result<()> {
        let calls = Arc::clone(&self.calls);
        thread::Builder::new().name("hangup".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            // A function may block the signals of its thread; none shall arrive by way of this one.
            let blocked = signal::block_all();
            let ended = blocked.and_then(|()| descriptor::wait_for_hangup(&*socket));
            // Nobody can be told of an error here: what cannot be watched is as good as ended.
            if ended.is_err() || calls.load(Ordering::SeqCst) > 0 {
                let _ = process::kill_own_group();
            }
        })?;
        Ok(())
    }

    /// From here on, until as many calls have ended as began, the end of the socket kills this process.
    pub(super) fn call_begins(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// A call is over; with the last one, the end of the socket is found by reading.
    pub(super) fn call_ended(&self) {
        self.calls.fetch_sub(1, Ordering::SeqCst);
    }
}
