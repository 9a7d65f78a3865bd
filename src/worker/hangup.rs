//! The end of the daemon while a function runs.
//!
//! Between calls the worker finds the end of its socket by reading. A function may run for ever, though,
//! and reads nothing: for that time a thread watches the socket, and ends the whole process group when the
//! other end is closed.
//!
//! The two meet in one word: a call adds itself to it, the end of the socket marks it. Whoever comes second
//! finds the other, so that no function is called once the socket has ended.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::os::{descriptor, process, signal};

/// Bytes of stack for the watching thread, which only waits.
const STACK_BYTES: usize = 64 * 1024;

/// Marks in [`Hangup::calls`] that the socket has ended.
const ENDED: u32 = 1 << 31;

/// Whether the end of the socket must kill this process, for lack of anyone who reads it.
#[derive(Default)]
pub(super) struct Hangup {
    /// Calls that go on, and [`ENDED`].
    calls: Arc<AtomicU32>,
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
            if ended.is_err() || calls.fetch_or(ENDED, Ordering::SeqCst) > 0 {
                let _ = process::kill_own_group();
            }
        })?;
        Ok(())
    }

    /// From here on, until as many calls have ended as began, the end of the socket kills this process. Says
    /// whether that has not ended by now: then nothing may be called.
    pub(super) fn call_begins(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) & ENDED == 0
    }

    /// A call is over; with the last one, the end of the socket is found by reading.
    pub(super) fn call_ended(&self) {
        self.calls.fetch_sub(1, Ordering::SeqCst);
    }
}
