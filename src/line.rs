//! The line of a function that runs: how it reaches the daemon as a client, over its worker's socket.
//!
//! ```text
//!   worker: the thread that calls functions has `Lines` ──┐
//!                                                         v
//!   client: `Place::here()` ──> a function, and a `Line` of its own in place of a socket
//! ```
//!
//! The worker runtime provides lines and the client library uses them; neither knows of the other. A
//! process that is a worker never connects to the daemon's socket by itself: the daemon would not know
//! which task waits there.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::id::{AttemptId, TaskId};
use crate::message::client::{Reply, Request};
use crate::wire::WireError;

/// Why nothing can be said or heard any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The function that it belonged to has returned.
    #[error("the function that asked has returned")]
    Over,
    /// What was to be said cannot be sent.
    #[error(transparent)]
    Unsendable(#[from] WireError),
    /// The worker's socket broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A conversation with the daemon, as one client among those that its function may be. The numbers of
/// its requests are its own.
pub(crate) trait Line: Debug + Send + Sync {
    /// The task that the function runs for.
    fn task(&self) -> TaskId;

    /// Sends a request.
    ///
    /// # Errors
    /// [`LineError`]
    fn say(&self, request: Request) -> Result<(), LineError>;

    /// Waits for the next reply. For one caller at a time.
    ///
    /// # Errors
    /// [`LineError::Over`]
    fn hear(&self) -> Result<Reply, LineError>;

    /// Ends the conversation for whoever hears, after what has come already.
    fn close(&self);
}

/// Where the functions of a worker get their lines.
pub(crate) trait Lines {
    /// A new line, for the function that runs as that attempt at that task.
    ///
    /// # Errors
    /// [`LineError`]
    fn open(self: Arc<Self>, attempt: AttemptId, task: TaskId) -> Result<Arc<dyn Line>, LineError>;
}

/// Whether this process is a worker.
static IS_WORKER: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Where the functions that this thread calls get their lines.
    static LINES: RefCell<Option<Arc<dyn Lines>>> = const { RefCell::new(None) };

    /// What the function that it calls just now runs as.
    static CALLED_AS: Cell<Option<(AttemptId, TaskId)>> = const { Cell::new(None) };
}

/// What the code that asks is part of.
#[derive(Debug)]
pub(crate) enum Place {
    /// An ordinary program.
    Program,
    /// A function that runs, with a line for it.
    Function(Arc<dyn Line>),
    /// A worker, on a thread that runs no function.
    BesideFunctions,
}

impl Place {
    /// What the caller is part of.
    ///
    /// # Errors
    /// [`LineError`], in a function whose line cannot be opened.
    pub(crate) fn here() -> Result<Self, LineError> {
        // A thread that is ending may have given its variables up: it calls no function.
        let lines = LINES.try_with(|lines| lines.borrow().clone()).ok().flatten();
        match CALLED_AS.get().zip(lines) {
            Some(((attempt, task), lines)) => lines.open(attempt, task).map(Place::Function),
            None if IS_WORKER.load(Ordering::Relaxed) => Ok(Place::BesideFunctions),
            None => Ok(Place::Program),
        }
    }
}

/// Says, once and for all, that this process is a worker.
pub(crate) fn this_process_is_a_worker() {
    IS_WORKER.store(true, Ordering::Relaxed);
}

/// Does what calls functions on this thread, which get their lines by `lines`.
pub(crate) fn with_lines<T>(lines: Arc<dyn Lines>, calls: impl FnOnce() -> T) -> T {
    /// Takes them away also when something panics.
    struct Restore(Option<Arc<dyn Lines>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LINES.set(self.0.take());
        }
    }
    let _restore = Restore(LINES.replace(Some(lines)));
    calls()
}

/// Calls `function`, as that attempt at that task.
pub(crate) fn called_as<T>(attempt: AttemptId, task: TaskId, function: impl FnOnce() -> T) -> T {
    /// Also when `function` panics.
    struct Restore(Option<(AttemptId, TaskId)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CALLED_AS.set(self.0);
        }
    }
    let _restore = Restore(CALLED_AS.replace(Some((attempt, task))));
    function()
}
