//! What each kind of task may come to while anything may happen to its worker.

use std::time::Duration;

use fastrand::Rng;
use poold::{CallError, CallErrorKind};
use serde_json::Value;

/// Every task's own timeout: longer than anything but a hang takes.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout of a task that is to run into it.
pub const SHORT_TIMEOUT: Duration = Duration::from_millis(20);

/// A kind of task, with what its outcome depends on.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `is_prime` of a number.
    Prime(u64),
    /// `crash` by a segmentation fault.
    Segfault,
    /// `crash` by an exit with this status.
    Exit(u8),
    /// Arguments that the function does not take.
    BadArguments,
    /// `spin`, with a timeout.
    TimesOut,
    /// `spin`, cancelled after a moment.
    Cancelled,
}

/// Whether a number is prime, by the oldest way to tell.
pub fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

impl Kind {
    /// Mostly honest work.
    pub fn draw(rng: &mut Rng) -> Self {
        match rng.u32(0..100) {
            0..4 => Kind::Segfault,
            4..8 => Kind::Exit(rng.u8(..)),
            8..12 => Kind::BadArguments,
            12..14 => Kind::TimesOut,
            14..17 => Kind::Cancelled,
            _ => Kind::Prime(rng.u64(0..1_000_000)),
        }
    }

    /// The function and its one argument, if it has one.
    pub fn call(self) -> (&'static str, Vec<Value>) {
        match self {
            Kind::Prime(number) => ("is_prime", vec![number.into()]),
            Kind::Segfault => ("crash", vec!["segfault".into()]),
            Kind::Exit(status) => ("crash", vec![status.to_string().into()]),
            Kind::BadArguments => ("is_prime", vec!["a fish".into()]),
            Kind::TimesOut | Kind::Cancelled => ("spin", Vec::new()),
        }
    }

    /// How long its attempt may take.
    pub fn timeout(self) -> Duration {
        match self {
            Kind::TimesOut => SHORT_TIMEOUT,
            Kind::Prime(_) | Kind::Segfault | Kind::Exit(_) | Kind::BadArguments | Kind::Cancelled => TIMEOUT,
        }
    }

    /// Whether the task may end so. Its worker may have been killed (`signals`) or stopped (it timed out).
    pub fn allows(self, outcome: &Result<bool, CallError>, signals: &[i32]) -> bool {
        let error = match (self, outcome) {
            (Kind::Prime(number), Ok(answer)) => return *answer == is_prime(number),
            (_, Ok(_)) => return false,
            (_, Err(error)) => error,
        };
        let was_harmed = error.is_timeout() || error.signal().is_some_and(|signal| signals.contains(&signal));
        let is_its_own = match self {
            Kind::Prime(_) => false,
            Kind::Segfault => error.signal() == Some(11),
            Kind::Exit(status) => error.exit() == Some(poold::task::Exit::Code(status.into())),
            Kind::BadArguments => error.kind() == CallErrorKind::BadArguments,
            Kind::TimesOut => error.is_timeout(),
            Kind::Cancelled => error.is_cancelled(),
        };
        was_harmed || is_its_own
    }
}
