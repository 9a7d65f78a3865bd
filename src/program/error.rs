//! Why a program cannot have a supervisor of its own.

use std::io;
use std::process::ExitStatus;

use crate::client;
use crate::id::{BadName, PoolName};

/// What to do where the guard call is missing.
pub(super) const MISSING_INIT: &str = "call `poold::init(…)` first in `main`";

/// Why a program cannot have a supervisor of its own. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// A pool, or one of its functions, has no proper name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// A number is out of its range.
    #[error("pool `{pool}` takes {min} to {max} {what}")]
    OutOfRange {
        /// Which pool.
        pool: PoolName,
        /// Of what.
        what: &'static str,
        /// The fewest there may be.
        min: u32,
        /// The most there may be.
        max: u32,
    },
    /// Two pools have the same name.
    #[error("there are two pools `{0}`; give each a name of its own")]
    PoolTwice(PoolName),
    /// There is no pool.
    #[error("there is no pool; give at least one")]
    NoPool,
    /// The system did not start the process.
    #[error("cannot start a private supervisor: {0}; try again when the system has room")]
    NotStarted(#[source] io::Error),
    /// The process that was started did not become a supervisor. Most likely `main` does not begin with
    /// [`init`](crate::init), so that it was the program itself that ran once more.
    #[error(
        "the private supervisor that this program started ended before it was ready ({status}); {MISSING_INIT}"
    )]
    Ended {
        /// How it ended.
        status: ExitStatus,
    },
    /// It was started, and could not be talked to.
    #[error(transparent)]
    Unreachable(#[from] client::Error),
}
