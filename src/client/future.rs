//! A call that may not have ended yet, and the result it will have.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::arrivals::Watcher;
use super::call::{Call, End};
use super::call_error::{CallError, Cause};
use super::callbacks::Callback;
use super::exchange::Exchange;
use super::until::Until;
use super::values::Decode;
use crate::id::{FunctionName, TaskId};

/// A call that was submitted: a handle to wait for its end, to ask how it is, and to cancel it.
///
/// Clones are handles of the same call and equal each other. Dropping one does not cancel the call.
/// Beside [`result`](Self::result), which blocks, it can be `.await`ed in whatever runtime: it needs none.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = poold::Executor::connect()?;
/// let future = executor.submit::<bool>("is_prime", 112272535095293_u64)?;
/// assert!(future.result(None)?);
/// # Ok(())
/// # }
/// ```
pub struct Future<T> {
    exchange: Arc<Exchange>,
    call: Arc<Call>,
    decode: Decode<T>,
    /// Where the call keeps the waker of this handle.
    waker: Option<usize>,
}

impl<T> Future<T> {
    pub(super) fn new(exchange: Arc<Exchange>, call: Arc<Call>, decode: Decode<T>) -> Self {
        Future { exchange, call, decode, waker: None }
    }

    /// Cancels the call, also one that runs: it is cancelled at once for everyone who waits for it, and the
    /// daemon ends it. Says whether the call is cancelled, now or since before; else it had ended otherwise.
    ///
    /// Of a call that the daemon has not accepted yet it hears a moment later, when it has: if a worker is free by
    /// then, the call has begun, and is ended as one that runs.
    pub fn cancel(&self) -> bool {
        self.exchange.cancel(&self.call)
    }

    /// Whether the call ended by being cancelled.
    pub fn cancelled(&self) -> bool {
        self.call.is_cancelled()
    }

    /// Whether a worker has begun with the call and it has not ended. Between the attempts of a call that
    /// is retried it counts as running.
    pub fn running(&self) -> bool {
        self.call.is_running()
    }

    /// Whether the call has ended, in whatever way.
    pub fn done(&self) -> bool {
        self.call.is_done()
    }

    /// The result, waiting for it at most so long; for ever with `None`. It can be asked for again.
    ///
    /// # Errors
    /// - [`NotDone`](super::CallErrorKind::NotDone): the wait ran out. The call goes on.
    /// - [`BadResult`](super::CallErrorKind::BadResult): the result is of another type.
    /// - else, as [`CallError::kind`] says, why the call has no result.
    pub fn result(&self, timeout: impl Into<Option<Duration>>) -> Result<T, CallError> {
        if let Some(end) = self.call.end() {
            return self.read(end);
        }
        match self.call.wait(Until::after(timeout.into())) {
            Some(end) => self.read(end),
            None => Err(self.not_done()),
        }
    }

    /// Why the call has no result, waiting as [`result`](Self::result) does; nothing if it has one.
    ///
    /// # Errors
    /// - [`NotDone`](super::CallErrorKind::NotDone): the wait ran out. The call goes on.
    /// - [`Cancelled`](super::CallErrorKind::Cancelled): the call was cancelled.
    pub fn exception(&self, timeout: impl Into<Option<Duration>>) -> Result<Option<CallError>, CallError> {
        match self.result(timeout) {
            Ok(_) => Ok(None),
            Err(error) if error.is_not_done() || error.is_cancelled() => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    /// The name of the function that is called.
    pub fn function(&self) -> &FunctionName {
        self.call.function()
    }

    /// The task that the call became, once the daemon has accepted it.
    pub fn task(&self) -> Option<TaskId> {
        self.call.task()
    }

    pub(super) fn not_done(&self) -> CallError {
        self.error(Cause::NotDone { unfinished: 1 })
    }

    /// Has `watcher` told when the call ends, or now if it has.
    pub(super) fn watch(&self, watcher: Watcher) {
        self.call.watch(watcher);
    }

    fn read(&self, end: &End) -> Result<T, CallError> {
        match end {
            Ok(result) => (self.decode)(result).map_err(|reason| self.error(Cause::BadResult(reason))),
            Err(error) => Err(error.clone()),
        }
    }

    fn error(&self, cause: Cause) -> CallError {
        CallError::new(self.call.function(), self.call.task(), cause)
    }
}

impl<T: 'static> Future<T> {
    /// Has `callback` called, with this future, when the call has ended; at once if it has.
    ///
    /// Callbacks are called once each, in the order in which they were added, by a thread of the executor
    /// that does nothing else: one that blocks holds up other callbacks only. One that is added after the
    /// others were called is called by the thread that adds it. A panic is logged and goes no further.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<T>) + Send + 'static) {
        let future = self.clone();
        let callback = Callback::new(move || callback(&future));
        if let Some(callback) = self.call.add_callback(callback) {
            callback.call();
        }
    }
}

impl<T> std::future::Future for Future<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = &mut *self;
        match future.call.poll(context.waker(), &mut future.waker) {
            Some(end) => Poll::Ready(future.read(end)),
            None => Poll::Pending,
        }
    }
}

impl<T> Clone for Future<T> {
    fn clone(&self) -> Self {
        Future::new(Arc::clone(&self.exchange), Arc::clone(&self.call), self.decode)
    }
}

impl<T> PartialEq for Future<T> {
    /// Whether both are handles of the same call.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.call, &other.call)
    }
}

impl<T> Eq for Future<T> {}

impl<T> Hash for Future<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.call).hash(state);
    }
}

impl<T> fmt::Debug for Future<T> {
    /// As Python's: the function, and how it is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.call.end() {
            Some(Ok(_)) => "ok".to_owned(),
            Some(Err(error)) => format!("{:?}", error.kind()),
            None if self.running() => "running".to_owned(),
            None => "pending".to_owned(),
        };
        write!(formatter, "Future({}: {stage})", self.call.function())
    }
}
