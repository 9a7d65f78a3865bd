//! Waiting for several futures: for all, for the first, or for each as it ends.

use std::collections::HashSet;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::call_error::{CallError, Cause};
use super::future::Future;
use super::until::Until;

/// What [`wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// Until any of them has ended or was cancelled.
    FirstCompleted,
    /// Until any of them has ended without a result; one that was cancelled does not count. If none does,
    /// until all have ended.
    FirstException,
    /// Until all of them have ended or were cancelled.
    AllCompleted,
}

/// What [`wait`] returns: the futures it was given, each once and in their order.
#[derive(Clone, Debug)]
pub struct Waited<T> {
    /// Those that have ended.
    pub done: Vec<Future<T>>,
    /// Those that have not.
    pub not_done: Vec<Future<T>>,
}

/// Waits until what `return_when` says has come, at most `timeout`; for ever with `None`.
///
/// The futures may be of different executors. None of them is cancelled.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use poold::ReturnWhen::FirstCompleted;
///
/// let executor = poold::Executor::connect()?;
/// let futures = [executor.submit::<()>("sleep", 10)?, executor.submit("sleep", 1)?];
/// let waited = poold::wait(futures, None, FirstCompleted);
/// println!("{} done, {} not", waited.done.len(), waited.not_done.len());
/// # Ok(())
/// # }
/// ```
pub fn wait<T>(
    futures: impl IntoIterator<Item = Future<T>>,
    timeout: impl Into<Option<Duration>>,
    return_when: ReturnWhen,
) -> Waited<T> {
    let until = Until::after(timeout.into());
    let futures = distinct(futures);
    let mut arrivals = watch(&futures);
    for _ in &futures {
        let Some(number) = arrivals.next(until) else { break };
        let is_reached = match return_when {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => matches!(futures[number].exception(Duration::ZERO), Ok(Some(_))),
            ReturnWhen::AllCompleted => false,
        };
        if is_reached {
            break;
        }
    }
    let (done, not_done) = futures.into_iter().partition(Future::done);
    Waited { done, not_done }
}

/// The futures as they end, those first that have; each once. `timeout` is measured from this call; for
/// ever with `None`.
///
/// When it runs out, the last item is an error of the kind [`NotDone`](super::CallErrorKind::NotDone). The
/// futures may be of different executors. None of them is cancelled.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = poold::Executor::connect()?;
/// let futures = [executor.submit::<()>("sleep", 2)?, executor.submit("sleep", 1)?];
/// for future in poold::as_completed(futures, None) {
///     future?.result(None)?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn as_completed<T>(
    futures: impl IntoIterator<Item = Future<T>>,
    timeout: impl Into<Option<Duration>>,
) -> AsCompleted<T> {
    let until = Until::after(timeout.into());
    let futures = distinct(futures);
    let arrivals = watch(&futures);
    AsCompleted { left: futures.len(), futures: futures.into_iter().map(Some).collect(), arrivals, until }
}

/// Futures as they end: what [`as_completed`] returns.
#[derive(Debug)]
pub struct AsCompleted<T> {
    /// Those that have not been given out yet.
    futures: Vec<Option<Future<T>>>,
    /// How many these are; none once the time has run out.
    left: usize,
    arrivals: Arrivals,
    until: Until,
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Result<Future<T>, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        let unfinished = self.left;
        if unfinished == 0 {
            return None;
        }
        match self.arrivals.next(self.until) {
            Some(number) => {
                self.left -= 1;
                self.futures[number].take().map(Ok)
            }
            None => {
                self.left = 0;
                Some(Err(CallError::of_no_call(Cause::NotDone { unfinished })))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // It may be cut short by the time.
        (self.left.min(1), Some(self.left))
    }
}

/// Has the end of each future arrive by its index.
fn watch<T>(futures: &[Future<T>]) -> Arrivals {
    let arrivals = Arrivals::default();
    for (index, future) in futures.iter().enumerate() {
        future.watch(arrivals.watcher(index));
    }
    arrivals
}

/// Each future once, where it comes first.
#[expect(
    clippy::mutable_key_type,
    reason = "futures are equal as handles of one call, which no change alters"
)]
fn distinct<T>(futures: impl IntoIterator<Item = Future<T>>) -> Vec<Future<T>> {
    let mut seen = HashSet::new();
    futures.into_iter().filter(|future| seen.insert(future.clone())).collect()
}
