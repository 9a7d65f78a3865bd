//! What separates processes from threads, shown on a running pool: who is hurt by a crash, who sees whose
//! memory, what either weighs, what a message costs, and what can go wrong between threads alone.
//!
//! `docs/PROCESSES_AND_THREADS.md` is the article to this program. Each section is a file of its own: its
//! functions for the workers, then what the program does with them. Here they are only put together.
//!
//! ```console
//! $ cargo run --release --example isolation
//! ```

mod communication;
mod crash;
mod locks;
mod meeting;
mod memory;
mod peer;
mod races;
mod table;
mod weight;

use std::error::Error;
use std::time::Duration;

use poold::worker::Registry;
use poold::{CallError, Executor, Function, PoolOptions};

/// Calls that run at a time, in either pool.
const CALLS: u32 = 8;

/// What no call takes, save one that never ends: so that this program does.
const PATIENCE: Duration = Duration::from_secs(30);

/// The least that a call can be.
const ADD: Function<(u64, u64), u64> = Function::new("add");

/// A function, so that a call of it costs what a call does.
#[inline(never)]
fn add((one, other): (u64, u64)) -> u64 {
    one.wrapping_add(other)
}

/// Two pools for the same functions: `processes` has a process for each call, `threads` a thread of one.
struct Pools {
    processes: Executor,
    threads: Executor,
}

impl Pools {
    fn start() -> Result<Self, Box<dyn Error>> {
        let processes = PoolOptions::new("processes").workers(CALLS);
        let threads = PoolOptions::new("threads").workers(1).threads(CALLS);
        let executor = Executor::private([processes, threads])?.with_timeout(PATIENCE);
        Ok(Pools { processes: executor.with_pool("processes")?, threads: executor.with_pool("threads")? })
    }

    /// Both, with what the tables call them.
    fn both(&self) -> [(&'static str, &Executor); 2] {
        [("pool of processes", &self.processes), ("pool of threads", &self.threads)]
    }
}

fn functions() -> Registry {
    let registry = Registry::new().add(ADD, &["ONE", "OTHER"], "The sum of two numbers.", add);
    [crash::register, memory::register, communication::register, peer::register, locks::register]
        .into_iter()
        .fold(registry, |registry, register| register(registry))
}

/// Whether a pool goes on, whatever has happened in it.
fn next_call(pool: &Executor) -> Result<&'static str, CallError> {
    let sum = pool.call(ADD, (1, 2))?.result(None)?;
    Ok(if sum == 3 { "ok" } else { "wrong" })
}

fn main() -> Result<(), Box<dyn Error>> {
    poold::init(functions);

    let pools = Pools::start()?;
    crash::show(&pools)?;
    memory::show(&pools)?;
    weight::show()?;
    communication::show(&pools)?;
    races::show();
    locks::show(&pools)
}
