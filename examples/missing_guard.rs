//! What happens when a program forgets to call `poold::init` first in `main`: it ends with exit status 1
//! and says what to add, instead of starting itself again for ever.

use std::process::ExitCode;

use poold::{Executor, PoolOptions};

fn main() -> ExitCode {
    match Executor::private([PoolOptions::new("cpu")]) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("missing_guard: {error}");
            ExitCode::FAILURE
        }
    }
}
