//! The simulation: the production supervisor in a fake world that is drawn from a seed, judged after
//! every step by one checker for each clause of the contract.
//!
//! ```text
//!   world (clock, clients, processes) ──> trial (supervisor, history) ──> checkers
//!   scenarios (a story each)          ──>        the same            ──>  the same
//! ```
//!
//! `POOLD_SIMULATION_SEED=n cargo test --test simulation seeds -- --nocapture` replays one seed and tells
//! every step; `POOLD_SIMULATION_SEEDS=count` changes how many are run.

mod checkers;
mod clients;
mod faults;
mod files;
mod functions;
mod gather;
mod harness;
mod history;
mod misbehaviour;
mod phases;
#[path = "../../fuzz/src/supervisor/pieces.rs"]
mod pieces;
mod policies;
mod processes;
mod regressions;
mod runs;
mod scenarios;
mod taken_back;
mod trace;
mod trial;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use faults::Tally;
use trace::Trace;
use world::World;

/// Seeds that an ordinary run tries.
const SEEDS: u64 = 20_000;

/// With so many seeds every fault must have happened.
const SEEDS_FOR_EVERY_FAULT: u64 = 2_000;

/// Seeds that are run twice.
const SEEDS_TWICE: u64 = 20;

/// How to see a seed again.
const REPLAY: &str = "cargo test --test simulation seeds -- --nocapture";

/// The faults of a seed's run; or, in a few lines, how it went wrong.
fn try_seed(seed: u64, trace: Trace) -> Result<Tally, String> {
    let mut world = World::new(seed, trace);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let wrong = match result {
        Ok(Ok(())) => return Ok(world.tally),
        Ok(Err(violation)) => violation.to_string(),
        Err(_) => format!("step {}: the supervisor panicked", world.trial.history.step),
    };
    Err(format!("{}seed {seed}, {wrong}", world.trial.account()))
}

/// The faults of a seed's run. If it goes wrong, it goes wrong again, and this time the account is kept.
fn must_keep_the_contract(seed: u64) -> Tally {
    try_seed(seed, Trace::Off).unwrap_or_else(|_| {
        let account = try_seed(seed, Trace::last()).err();
        let account = account.unwrap_or_else(|| format!("seed {seed} goes wrong only sometimes"));
        panic!("{account}\nreplay: POOLD_SIMULATION_SEED={seed} {REPLAY}")
    })
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}` and should be a number")))
}

#[test]
fn seeds_keep_the_contract() {
    if let Some(seed) = variable("POOLD_SIMULATION_SEED") {
        let tally = try_seed(seed, Trace::Printed).unwrap_or_else(|account| panic!("{account}"));
        return println!("seed {seed} keeps the contract; faults injected:\n{tally}");
    }
    let count = variable("POOLD_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut tally = Tally::new();
    thread::scope(|scope| {
        let shares: Vec<_> = (0..cores)
            .map(|first| {
                scope.spawn(move || {
                    let mut tally = Tally::new();
                    for seed in (first..count).step_by(cores as usize) {
                        tally.add(&must_keep_the_contract(seed));
                    }
                    tally
                })
            })
            .collect();
        for share in shares {
            tally.add(&share.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    println!("{count} seeds keep the contract; faults injected:\n{tally}");
    let missing = tally.missing();
    assert!(count < SEEDS_FOR_EVERY_FAULT || missing.is_empty(), "never injected: {missing:?}");
}

#[test]
fn same_seed_gives_the_same_run() {
    let account = |seed| {
        let mut world = World::new(seed, Trace::last());
        let result = world.run().map_err(|violation| violation.to_string());
        (result, world.trial.history.step, world.trial.account())
    };
    for seed in 0..SEEDS_TWICE {
        assert_eq!(account(seed), account(seed), "seed {seed}");
    }
}
