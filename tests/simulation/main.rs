//! The simulation: the production supervisor in a fake world that is drawn from a seed, judged after
//! every step by one checker for each clause of the contract.
//!
//! ```text
//!   world (clock, clients, processes) ──> trial (supervisor, history) ──> checkers
//!   scenarios (a story each)          ──>        the same            ──>  the same
//! ```
//!
//! `POOLD_SIMULATION_SEED=n cargo test --test simulation` replays one seed,
//! `POOLD_SIMULATION_SEEDS=count` changes how many are run.

mod checkers;
mod clients;
mod faults;
mod harness;
mod history;
mod policies;
mod processes;
mod regressions;
mod scenarios;
mod trial;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::Tally;
use world::World;

/// Seeds that an ordinary run tries.
const SEEDS: u64 = 10_000;

/// With so many seeds every fault must have happened.
const SEEDS_FOR_EVERY_FAULT: u64 = 2_000;

/// The faults of a seed's run, or what went wrong in a few lines.
fn try_seed(seed: u64, traced: bool) -> Result<Tally, String> {
    let mut world = World::new(seed, traced);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let wrong = match result {
        Ok(Ok(())) => return Ok(world.tally),
        Ok(Err(violation)) => violation.to_string(),
        Err(_) => format!("step {}: the supervisor panicked", world.trial.history.step),
    };
    Err(format!("{}\nseed {seed}, {wrong}", world.trial.trace().join("\n")))
}

fn variable(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text} and should be a number")))
}

#[test]
fn seeds_keep_the_contract() {
    let (first, count) = match variable("POOLD_SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (0, variable("POOLD_SIMULATION_SEEDS").unwrap_or(SEEDS)),
    };
    let mut tally = Tally::new();
    for seed in first..first + count {
        match try_seed(seed, false) {
            Ok(faults) => tally.add(&faults),
            Err(_) => {
                let account = try_seed(seed, true).expect_err("a seed fails each time or never");
                panic!(
                    "{account}\nreplay: POOLD_SIMULATION_SEED={seed} cargo test --test simulation seeds_keep"
                );
            }
        }
    }
    println!("{count} seeds; faults injected:\n{tally}");
    let missing = tally.missing();
    assert!(count < SEEDS_FOR_EVERY_FAULT || missing.is_empty(), "never injected: {missing:?}");
}
