//! What a task costs: the pool beside the machine's own floor and beside the pools one could pick instead, in
//! one run, in turns. `cargo bench --bench pool [-- --json] [-- --quick]`
//!
//! Each figure is a ratio of medians within the run: the machine's own speed cancels out. The floor is a relay of
//! three processes over Unix sockets, which is what any pool behind a daemon must pay: four hops for a round trip.

mod floor;
mod peers;
mod pool;
mod report;
mod statistics;

use std::error::Error;

use report::Report;

/// How much of everything is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Turns that each contender has.
    rounds: usize,
    /// Round trips in one turn.
    trips: usize,
    /// Tasks in one turn of a measurement of throughput.
    tasks: usize,
}

const FULL: Extent = Extent { rounds: 30, trips: 300, tasks: 200_000 };
const QUICK: Extent = Extent { rounds: 5, trips: 100, tasks: 20_000 };

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|word| floor::Role::named(word)) {
        return Ok(role.play()?);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let extent = if has("--quick") { QUICK } else { FULL };
    let mut report = Report::default();
    round_trips(extent, &mut report)?;
    throughput(extent, &mut report)?;
    report.print(has("--json"))?;
    Ok(())
}

/// One call at a time.
fn round_trips(extent: Extent, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut floor = floor::Floor::start(1)?;
    let daemon = pool::Daemon::start(1)?;
    let mut pool = daemon.connect()?;
    let mut peers = peers::all()?;
    for _ in 0..extent.rounds {
        report.add("round trip", "floor", "µs", floor.round_trips(extent.trips)?);
        report.add("round trip", "poold", "µs", pool.round_trips(extent.trips)?);
        for peer in &mut peers {
            let micros = peer.round_trips(extent.trips / 3)?;
            report.add("round trip", peer.name, "µs", micros);
        }
    }
    Ok(())
}

/// As many calls as there may be, each with its own result.
fn throughput(extent: Extent, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut floor = floor::Floor::start(2)?;
    let daemon = pool::Daemon::start(2)?;
    let executor = daemon.executor()?;
    let mut peers = peers::all()?;
    for _ in 0..extent.rounds.div_ceil(5) {
        report.add("throughput", "floor, batched", "tasks/s", vec![floor.stream(extent.tasks)?]);
        report.add("throughput", "poold, submit", "tasks/s", vec![pool::submit(&executor, extent.tasks)?]);
        report.add("throughput", "poold, map", "tasks/s", vec![pool::map(&executor, extent.tasks)?]);
        for peer in &mut peers {
            let rate = peer.throughput(extent.tasks / 20)?;
            report.add("throughput", peer.name, "tasks/s", vec![rate]);
        }
    }
    Ok(())
}
