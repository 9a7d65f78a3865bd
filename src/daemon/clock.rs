//! The one place where time is read: as the supervisor's number, from the monotonic clock.

use std::time::{Instant, SystemTime};

use crate::task::Deadline;
use crate::time::Time;

/// Counts from the daemon's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub(super) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The time since the origin.
    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }
}

/// `deadline`, which was given at `now`, as an instant; one that has passed is `now`. An instant of the wall clock
/// is compared with it here and never again: whatever that clock does later, the deadline stays where it is.
pub(super) fn deadline_at(now: Time, deadline: Deadline) -> Time {
    match deadline {
        Deadline::After(wait) => now + wait,
        Deadline::At(since_epoch) => {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            now + since_epoch.saturating_sub(wall)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Time = Time::from_nanos(5);

    #[test]
    fn relative_deadline_counts_from_now() {
        assert_eq!(deadline_at(NOW, Deadline::After(Duration::from_nanos(7))), Time::from_nanos(12));
    }

    /// What the wall clock does later moves no deadline: what is left by it counts once, from now.
    #[test]
    fn deadline_at_an_instant_counts_from_now_once_it_is_given() {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let left = Duration::from_secs(3600);
        let at = deadline_at(NOW, Deadline::At(wall + left));
        assert!(at <= NOW + left && at > NOW + left / 2, "{at:?}");
    }

    #[test]
    fn deadline_in_the_past_is_now() {
        assert_eq!(deadline_at(NOW, Deadline::At(Duration::from_secs(1))), NOW);
    }

    #[test]
    fn deadline_beyond_all_time_is_its_end() {
        assert_eq!(deadline_at(NOW, Deadline::At(Duration::MAX)), Time::from_nanos(u64::MAX));
    }
}
