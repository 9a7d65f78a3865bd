//! What it takes to be there: the time until a daemon is ready, the memory of its processes, the size of the
//! programs, and how often they wake up with nothing to do.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::pool::Daemon;
use crate::process::{Memory, size, waits};
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const WORKERS: u32 = 4;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, runs) = extent.pick((20, 5), (5, 3));
    let mut table = Table::new(format!("`poold` with {WORKERS} workers until all are ready"), "µs");
    let (bare, poold) = ("poold --version, first word", "poold, all workers ready");
    for _ in 0..turns {
        table.add(bare, samples(runs, first_word)?);
        table.add(poold, samples(runs, readiness)?);
    }
    table.compare(poold, bare, Statistic::Median, Bound::AtMost(4.0));
    report.add(table);

    let daemon = Daemon::start(WORKERS)?;
    let mut caller = daemon.connect()?;
    caller.round_trips(1000)?;
    let worker = caller.worker_pids()?.first().copied().ok_or("there is no worker")?;
    report.add(footprint(extent, daemon.pid(), worker)?);
    Ok(())
}

/// What each of so many runs gives.
fn samples(runs: usize, run: fn() -> Result<f64, Failure>) -> Result<Vec<f64>, Failure> {
    (0..runs).map(|_| run()).collect()
}

/// Microseconds from the start of the program to the first of what it says.
fn first_word() -> Result<f64, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped());
    // As the daemon's.
    command.env_remove("LD_LIBRARY_PATH");
    let before = Instant::now();
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().ok_or("no standard output")?;
    output.read_exact(&mut [0])?;
    let micros = before.elapsed().as_secs_f64() * 1e6;
    child.wait()?;
    Ok(micros)
}

/// Microseconds from the start of a daemon to its word that the last worker is ready.
fn readiness() -> Result<f64, Failure> {
    let before = Instant::now();
    let daemon = Daemon::start(WORKERS)?;
    let micros = before.elapsed().as_secs_f64() * 1e6;
    drop(daemon);
    Ok(micros)
}

fn footprint(extent: Extent, daemon: u32, worker: u32) -> Result<Table, Failure> {
    let mut table = Table::new(format!("a daemon of {WORKERS} workers, after a thousand tasks"), "");
    let (of_daemon, of_worker) = (Memory::of(daemon)?, Memory::of(worker)?);
    table.tell("daemon, resident", of_daemon.resident / MEBIBYTE, "MiB", Bound::AtMost(6.0));
    table.tell("daemon, private", of_daemon.private / MEBIBYTE, "MiB", Bound::Free);
    table.tell("worker, resident", of_worker.resident / MEBIBYTE, "MiB", Bound::Free);
    table.tell("worker, private", of_worker.private / MEBIBYTE, "MiB", Bound::AtMost(3.0));

    let seconds = extent.pick(10, 2);
    let before = [waits(daemon)?, waits(worker)?];
    thread::sleep(Duration::from_secs(seconds));
    let after = [waits(daemon)?, waits(worker)?];
    table.tell("daemon, idle", (after[0] - before[0]) as f64, "wake-ups", Bound::Free);
    table.tell(
        format!("worker, idle for {seconds} s"),
        (after[1] - before[1]) as f64,
        "wake-ups",
        Bound::Free,
    );

    table.tell("program poold", size(env!("CARGO_BIN_EXE_poold"))? / MEBIBYTE, "MiB", Bound::Free);
    table.tell("program poolctl", size(env!("CARGO_BIN_EXE_poolctl"))? / MEBIBYTE, "MiB", Bound::Free);
    Ok(table)
}
