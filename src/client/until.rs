//! Until when a caller waits, and the locks that it waits at.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Until when a caller waits; for ever if there is no such instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until(Option<Instant>);

impl Until {
    /// So long from now. What is beyond the clock is for ever.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        Until(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left; nothing if that is for ever.
    pub(super) fn remaining(self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Waits at `condition` while `goes_on` says so. Whether it still does is for the caller to see.
    pub(super) fn wait_while<'a, T>(
        self,
        condition: &Condvar,
        guard: MutexGuard<'a, T>,
        goes_on: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        match self.remaining() {
            None => condition.wait_while(guard, goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(remaining) => {
                let waited = condition.wait_timeout_while(guard, remaining, goes_on);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

/// Locks `mutex`. No code of a caller's runs under these locks, so none is ever poisoned half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
