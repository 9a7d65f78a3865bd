//! What a task costs: the pool beside the machine's own floor and beside the pools one could pick instead, in one
//! run, in turns. `cargo bench --bench pool -- [--quick] [--json] [SUBJECT]…`
//!
//! Each subject is a file of its own, and a row or two of `docs/PERFORMANCE.md`. What counts are ratios within the
//! run: the machine's own speed cancels out. The floor is a relay of three processes over Unix sockets, which is
//! what any pool behind a daemon must pay: four hops for a round trip.

mod backlog;
mod big_payload;
mod command_line;
mod commands;
mod floor;
mod idle_clients;
mod map;
mod memory_floor;
mod peers;
mod placement;
mod pool;
mod primes;
mod process;
mod queue;
mod report;
mod role;
mod round_trip;
mod start_up;
mod statistics;
mod throughput;
mod urgent;

use std::error::Error;
use std::process::ExitCode;

use report::Report;
use role::Role;

type Failure = Box<dyn Error + Send + Sync>;

/// How much of everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Full,
    /// A tenth: enough to see that all of it works.
    Quick,
}

impl Extent {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Extent::Full => full,
            Extent::Quick => quick,
        }
    }
}

type Measure = fn(Extent, &mut Report) -> Result<(), Failure>;

/// What can be measured, in the order of the tables.
const SUBJECTS: [(&str, Measure); 11] = [
    ("round-trip", round_trip::measure),
    ("throughput", throughput::measure),
    ("map", map::measure),
    ("primes", primes::measure),
    ("poolctl", command_line::measure),
    ("start-up", start_up::measure),
    ("commands", commands::measure),
    ("big-payload", big_payload::measure),
    ("queue", queue::measure),
    ("idle-clients", idle_clients::measure),
    ("urgent", urgent::measure),
];

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<(), Failure> {
    if let Some(role) = arguments.first().and_then(|word| Role::named(word)) {
        // However it ends, it is because the other side is gone.
        let _ = role.play();
        return Ok(());
    }
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|given| *given == flag);
    // Cargo adds `--bench`.
    if let Some(unknown) =
        flags.iter().find(|flag| !["--quick", "--json", "--bench"].contains(&flag.as_str()))
    {
        return Err(format!("there is no flag {unknown}; there are --quick and --json").into());
    }
    if let Some(unknown) = names.iter().find(|name| SUBJECTS.iter().all(|(subject, _)| subject != *name)) {
        let subjects = SUBJECTS.map(|(subject, _)| subject).join(", ");
        return Err(format!("there is no subject {unknown}; there are {subjects}").into());
    }
    let extent = if has("--quick") { Extent::Quick } else { Extent::Full };
    let mut report = Report::new(has("--json"));
    for (subject, measure) in SUBJECTS {
        if names.is_empty() || names.iter().any(|name| *name == subject) {
            measure(extent, &mut report).map_err(|error| format!("{subject}: {error}"))?;
        }
    }
    report.finish();
    Ok(())
}
