//! The line of a function that runs: how it reaches the daemon as a client, over its worker's socket.
//!
//! ```text
//!   worker: around each call, its thread has `Lines` ──┐
//!                                                      v
//!   client: `Place::here()` ──> a function, and a `Line` of its own in place of a socket
//! ```
//!
//! The worker runtime provides lines and the client library uses them; neither knows of the other. A
//! process that is a worker never connects to the daemon's socket by itself: the daemon would not know
//! which task waits there.

use std::cell::RefCell;
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

/// The function that runs on a thread.
#[derive(Clone)]
struct Caller {
    lines: Arc<dyn Lines>,
    attempt: AttemptId,
    task: TaskId,
}

/// Whether this process is a worker.
static IS_WORKER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CALLER: RefCell<Option<Caller>> = const { RefCell::new(None) };
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
        // A thread that is ending may have given its variables up: it runs no function.
        let caller = CALLER.try_with(|caller| caller.borrow().clone()).ok().flatten();
        match caller {
            Some(Caller { lines, attempt, task }) => lines.open(attempt, task).map(Place::Function),
            None if IS_WORKER.load(Ordering::Relaxed) => Ok(Place::BesideFunctions),
            None => Ok(Place::Program),
        }
    }
}

/// Says, once and for all, that this process is a worker.
pub(crate) fn this_process_is_a_worker() {
    IS_WORKER.store(true, Ordering::Relaxed);
}

/// Calls `function` with `lines` on this thread, as that attempt at that task.
pub(crate) fn with_lines<T>(
    lines: Arc<dyn Lines>,
    attempt: AttemptId,
    task: TaskId,
    function: impl FnOnce() -> T,
) -> T {
    /// Takes them away also when `function` panics.
    struct Restore(Option<Caller>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CALLER.set(self.0.take());
        }
    }
    let _restore = Restore(CALLER.replace(Some(Caller { lines, attempt, task })));
    function()
}
