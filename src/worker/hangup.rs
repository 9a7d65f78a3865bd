//! The end of the daemon while a function runs.
//!
//! Between calls the worker finds the end of its socket by reading. A function may run for ever, though,
//! and reads nothing: for that time a thread watches the socket, and ends the whole process group when the
//! other end is closed.
//!
//! The same thread lets the daemon know early that the worker dies. The kernel ends the threads of a process one by one,
//! takes down its memory with the last of them, and only then closes what that had open. The daemon minds the end of
//! this thread, its sentinel. And if this one is the last, it holds nothing open: the socket has ended with the others.
//!
//! The two meet in one word: a call adds itself to it, the end of the socket marks it. Whoever comes second
//! finds the other, so that no function is called once the socket has ended.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::id::Pid;
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
    /// The thread that watches, once it does.
    watcher: Arc<OnceLock<Pid>>,
}

impl Hangup {
    /// Starts to watch `socket`.
    pub(super) fn watch(&self, socket: Arc<impl AsFd + Send + Sync + 'static>) -> io::Result<()> {
        let calls = Arc::clone(&self.calls);
        let watcher = Arc::clone(&self.watcher);
        thread::Builder::new().name("hangup".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            watcher.get_or_init(process::own_thread_id);
            // A function may block the signals of its thread; none shall arrive by way of this one.
            let blocked = signal::block_all();
            let ended = blocked.and_then(|()| descriptor::wait_for_hangup_alone(&*socket));
            // It is not this thread's to close: in its own table another may have that number.
            mem::forget(socket);
            // Nobody can be told of an error here: what cannot be watched is as good as ended.
            if ended.is_err() || calls.fetch_or(ENDED, Ordering::SeqCst) > 0 {
                let _ = process::kill_own_group();
            }
        })?;
        Ok(())
    }

    /// The thread that watches, which lives as long as the socket and this process do. To be asked once it was started.
    pub(super) fn watcher(&self) -> Pid {
        *self.watcher.wait()
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
