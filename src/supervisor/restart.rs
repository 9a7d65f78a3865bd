//! How soon a worker that failed is followed by the next, and when a pool counts as degraded.
//!
//! A worker *fails* when it cannot be started, dies before it is ready, or dies soon after without
//! having finished an attempt. One that dies under an attempt does not fail: the attempt does.

use std::collections::VecDeque;
use std::time::Duration;

use super::policy::RestartPolicy;
use crate::time::Time;

/// The failures of a pool's workers within the last period.
#[derive(Debug, Default)]
pub(super) struct Failures {
    recent: VecDeque<Time>,
    degraded: bool,
}

impl Failures {
    /// Counts a failure; says whether it made the pool degraded.
    pub(super) fn record(&mut self, now: Time, policy: &RestartPolicy) -> bool {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.since(*at) > policy.period) {
            self.recent.pop_front();
        }
        let too_many = self.recent.len() > policy.intensity as usize;
        while self.recent.len() > policy.intensity as usize {
            self.recent.pop_front();
        }
        let became = too_many && !self.degraded;
        self.degraded |= too_many;
        became
    }

    /// A degraded pool is well, and its failures are forgotten; says whether it was one. Those of another
    /// still count for the period, so that one whose workers fail every other time is degraded too.
    pub(super) fn heal(&mut self) -> bool {
        if self.degraded {
            self.recent.clear();
        }
        std::mem::take(&mut self.degraded)
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.degraded
    }
}

/// The wait after the `failures`-th failure in a row (from 1): doubling, capped, and shortened by up to
/// a half at random, so that what failed together does not start together.
pub(super) fn backoff(policy: &RestartPolicy, failures: u32, random: &mut fastrand::Rng) -> Duration {
    let doublings = failures.saturating_sub(1);
    let wait = policy.backoff_min.saturating_mul(2u32.saturating_pow(doublings));
    jittered(wait.min(policy.backoff_max), random)
}

/// Between a half and the whole of `wait`.
pub(super) fn jittered(wait: Duration, random: &mut fastrand::Rng) -> Duration {
    wait.mul_f64(0.5 + random.f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_cap_within_its_jitter() {
        let policy = RestartPolicy::default();
        let mut random = fastrand::Rng::with_seed(1);
        for failures in 1..=200 {
            let whole = (50u128 << (failures - 1).min(20)).min(30_000) as u64;
            let wait = backoff(&policy, failures, &mut random);
            assert!(wait <= Duration::from_millis(whole), "{failures}: {wait:?}");
            assert!(wait >= Duration::from_millis(whole) / 2, "{failures}: {wait:?}");
        }
    }

    #[test]
    fn failures_beyond_the_intensity_degrade_once_until_healed() {
        let policy = RestartPolicy::default();
        let mut failures = Failures::default();
        let second = |n: u64| Time::from_nanos(n * 1_000_000_000);
        for n in 0..5 {
            assert!(!failures.record(second(n), &policy));
        }
        assert!(failures.record(second(5), &policy), "the sixth within five seconds");
        assert!(!failures.record(second(5), &policy), "said once");
        assert!(failures.are_too_many());
        assert!(failures.heal());
        assert!(!failures.record(second(6), &policy));
        assert!(!failures.are_too_many());
    }

    #[test]
    fn failures_with_successes_between_them_degrade_all_the_same() {
        let policy = RestartPolicy::default();
        let mut failures = Failures::default();
        let became = (0..6).map(|n| {
            assert!(!failures.heal(), "it is not degraded");
            failures.record(Time::from_nanos(n), &policy)
        });
        assert_eq!(became.collect::<Vec<_>>(), [false, false, false, false, false, true]);
    }

    #[test]
    fn failures_spread_beyond_the_period_do_not_degrade() {
        let policy = RestartPolicy::default();
        let mut failures = Failures::default();
        for n in 0..100 {
            assert!(!failures.record(Time::from_nanos(n * 1_100_000_000), &policy));
        }
    }
}
