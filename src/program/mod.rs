//! A program with functions of its own: it calls them, and the same executable runs them.
//!
//! ```text
//!   program ──starts──> its own executable, as its private supervisor ──starts──> the same, as workers
//!      └────────────── an inherited socket ──────────────┘
//! ```
//!
//! One call, [`init`], at the top of `main` tells them apart, and the guard that ends with the supervisor what it
//! started. Without a private supervisor it is the other way round: a pool of a daemon's names the program as its
//! `command`.

mod error;
mod pools;
mod private;
mod supervisor;

pub use error::PrivateError;
pub use pools::PoolOptions;

use crate::daemon::{self, Fork, ForkedTemplate};
use crate::worker::{self, Registry};

/// Makes a program the home of its own functions: to be called first in `main`.
///
/// In the program itself it returns at once. In a process that was started as a worker, as the private
/// supervisor of the program ([`Executor::private`](crate::Executor::private)) or as its guard it does that work,
/// and does not return: what follows in `main` is for the program alone, as in Python what follows
/// `if __name__ == "__main__":`.
///
/// Call it before anything opens a file or starts a thread: in those processes it closes what was
/// inherited and changes the environment. `functions` is called in a worker alone. The program must
/// unwind on a panic (Cargo's default), or a panic kills the worker.
///
/// ```no_run
/// use poold::worker::Registry;
/// use poold::{Executor, Function, PoolOptions};
///
/// const AREA: Function<(f64, f64), f64> = Function::new("area");
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     poold::init(|| {
///         Registry::new().add(AREA, &["WIDTH", "HEIGHT"], "The area of a rectangle.", |(width, height)| width * height)
///     });
///     let executor = Executor::private([PoolOptions::new("cpu")])?;
///     println!("{}", executor.call(AREA, (3.0, 4.0))?.result(None)?);
///     Ok(())
/// }
/// ```
pub fn init(functions: impl FnOnce() -> Registry) {
    daemon::run_if_started_as_template();
    supervisor::run_if_started_as_one();
    daemon::run_if_started_as_guard();
    worker::run_if_started_as_worker(functions);
}

/// Forks the process that the workers of this daemon will be copies of: to be called in `main` after [`init`], and
/// before the configuration is read, or anything else that workers are not to know. Returns in the daemon alone;
/// `functions` is called in a worker.
///
/// Call it before anything opens a file or starts a thread: copies close what this process has opened, also a file that
/// `functions` captured, and while there is another thread none is forked. In copies no handler of pthread_atfork(3) is
/// run, and what this process has written and not flushed may be written once more.
///
/// Without, or where there can be none, that process is executed when the daemon has started.
pub fn fork_template(functions: impl FnOnce() -> Registry) -> Option<ForkedTemplate> {
    match daemon::fork_template() {
        Fork::Original(template) => template,
        Fork::Copy => {
            daemon::run_if_started_as_guard();
            worker::run_if_started_as_worker(functions);
            unreachable!("a copy was told neither that it is the guard nor that it is a worker")
        }
    }
}
