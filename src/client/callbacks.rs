//! The thread that calls callbacks, so that one that blocks holds up other callbacks and nothing else.
//!
//! It is started with the first call that ends with callbacks, and ends with the executor.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};

use super::call::Call;
use super::until::{Until, lock};

/// What is called when a call has ended.
pub(super) struct Callback(Box<dyn FnOnce() + Send>);

impl Callback {
    pub(super) fn new(callback: impl FnOnce() + Send + 'static) -> Self {
        Callback(Box::new(callback))
    }

    /// Calls it. Its panic is logged and goes no further.
    pub(super) fn call(self) {
        // What it may leave half done is its own: it is dropped.
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(self.0)) {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            log::error!("a callback panicked: {}", text.unwrap_or("with what is no text"));
        }
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Callback")
    }
}

/// Calls that ended with callbacks, on their way to the thread.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    thread: Mutex<Option<Thread>>,
    due: Arc<Due>,
}

#[derive(Debug)]
struct Thread {
    id: ThreadId,
    calls: Sender<Arc<Call>>,
}

/// How many calls have callbacks that are still to be called.
#[derive(Debug, Default)]
struct Due {
    count: Mutex<usize>,
    none: Condvar,
}

impl Callbacks {
    /// Has the callbacks of a call that ended called.
    pub(super) fn call_those_of(&self, call: Arc<Call>) {
        *lock(&self.due.count) += 1;
        let mut thread = lock(&self.thread);
        let thread = thread.get_or_insert_with(|| Thread::start(Arc::clone(&self.due)));
        // The thread ends only after this end of the channel is gone.
        let _ = thread.calls.send(call);
    }

    /// Whether this is the thread that calls them.
    pub(super) fn is_current_thread(&self) -> bool {
        lock(&self.thread).as_ref().is_some_and(|thread| thread.id == thread::current().id())
    }

    /// Waits until all that are due were called.
    pub(super) fn wait(&self) {
        drop(Until::after(None).wait_while(&self.due.none, lock(&self.due.count), |count| *count > 0));
    }
}

impl Thread {
    fn start(due: Arc<Due>) -> Self {
        let (calls, ended) = mpsc::channel();
        let handle = thread::spawn(move || call_callbacks(&ended, &due));
        Thread { id: handle.thread().id(), calls }
    }
}

fn call_callbacks(ended: &Receiver<Arc<Call>>, due: &Due) {
    for call in ended {
        while let Some(callback) = call.next_callback() {
            callback.call();
        }
        *lock(&due.count) -= 1;
        due.none.notify_all();
    }
}
