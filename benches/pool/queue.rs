//! What a long queue costs: tasks in a second with a thousand that wait and with a million, and the daemon's memory
//! for each.

use std::time::Instant;

use crate::backlog::Backlog;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const SHORT: usize = 1000;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, long, tasks) = extent.pick((3, 1_000_000, 100_000), (2, 50_000, 20_000));
    let (few, many) = (format!("{SHORT} waiting"), format!("{long} waiting"));
    let mut table = Table::new("no-op tasks by how many wait, two workers", "tasks/s");
    let mut bytes_per_task = Vec::new();
    for _ in 0..turns {
        table.add(&few, vec![turn(SHORT, tasks)?.0]);
        let (rate, bytes) = turn(long, tasks)?;
        table.add(&many, vec![rate]);
        bytes_per_task.push(bytes);
    }
    table.compare(&many, &few, Statistic::Median, Bound::AtLeast(0.85));
    let bytes = Statistic::Median.of(&bytes_per_task);
    table.tell("daemon, each queued task less its arguments", bytes, "bytes", Bound::AtMost(250.0));
    report.add(table);
    Ok(())
}

/// Tasks in a second while always `waiting` wait, and the daemon's memory for each beyond its arguments.
fn turn(waiting: usize, tasks: usize) -> Result<(f64, f64), Failure> {
    let (daemon, directory) = Backlog::daemon()?;
    let mut backlog = Backlog::fill(&daemon, directory, waiting)?;
    backlog.release()?;
    // The first come when the gate has been passed.
    (0..SHORT).try_for_each(|_| backlog.replace_first())?;
    let before = Instant::now();
    (0..tasks).try_for_each(|_| backlog.replace_first())?;
    let rate = tasks as f64 / before.elapsed().as_secs_f64();
    let bytes = backlog.bytes_per_task - backlog.argument_bytes;
    // With the daemon, all that waits is gone at once.
    drop(daemon);
    Ok((rate, bytes))
}
