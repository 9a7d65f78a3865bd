//! A quarter of a gibibyte there and back: against a bare memory file whose descriptor is passed on, and against
//! Python, which copies it through pipes.

use std::time::Instant;

use bytes::Bytes;
use poold::Executor;
use poold::task::{Encoding, Payload};

use crate::memory_floor::MemoryFloor;
use crate::peers::python::{Kind, Python};
use crate::pool::Daemon;
use crate::process::Memory;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const MEBIBYTE: usize = 1024 * 1024;
const FLOOR: &str = "floor, a memory file passed on";

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, mebibytes) = extent.pick((5, 256), (2, 64));
    let bytes = Bytes::from(vec![7; mebibytes * MEBIBYTE]);
    let mut floor = MemoryFloor::start()?;
    let daemon = Daemon::start(1)?;
    let executor = daemon.executor()?;
    let mut python = Python::start(Kind::Executor)?;
    let before = Memory::of(daemon.pid())?.resident;

    let mut table = Table::new(format!("{mebibytes} MiB there and back"), "ms");
    for _ in 0..turns {
        table.add(FLOOR, vec![floor.carry(&bytes)?]);
        match carry(&executor, &bytes) {
            Ok(millis) => table.add("poold", vec![millis]),
            Err(error) => eprintln!("poold is left out: {error}"),
        }
        if let Some(python) = &mut python {
            table.add(Kind::Executor.name(), vec![python.carry(bytes.len())?]);
        }
    }
    table.compare("poold", FLOOR, Statistic::Median, Bound::AtMost(1.25));
    table.compare(Kind::Executor.name(), "poold", Statistic::Median, Bound::AtLeast(6.0));
    if table.has("poold") {
        let grown = (Memory::of(daemon.pid())?.peak - before) / MEBIBYTE as f64;
        table.tell("most that the daemon has grown by meanwhile", grown, "MiB", Bound::AtMost(4.0));
    }
    report.add(table);
    Ok(())
}

/// Milliseconds that `bytes` take there and back. What comes back is what the function returned: its argument.
fn carry(executor: &Executor, bytes: &Bytes) -> Result<f64, Failure> {
    let before = Instant::now();
    let args = Payload::new(Encoding::Bytes, bytes.clone());
    let back = executor.submit_payload("echo", args)?.result(None)?;
    let millis = before.elapsed().as_secs_f64() * 1e3;
    drop(back);
    Ok(millis)
}
