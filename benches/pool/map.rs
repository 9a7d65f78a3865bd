//! A function over a million small items, by two workers: against Python's `Pool.map`, which sends chunks and knows
//! one outcome for each.

use crate::peers::python::{Kind, Python};
use crate::pool::{self, Daemon};
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const CHUNK: usize = 2500;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, items) = extent.pick((5, 1_000_000), (3, 50_000));
    let daemon = Daemon::start(2)?;
    let executor = daemon.executor()?;
    let mut python = Python::start(Kind::Pool)?;

    let mut table = Table::new(format!("map of {items} small items, two workers"), "items/s");
    let (chunked, by_default) = (format!("Pool.map, chunks of {CHUNK}"), "Pool.map, chunks of an eighth");
    for _ in 0..turns {
        table.add("poold, map", vec![pool::map(&executor, items)?]);
        if let Some(python) = &mut python {
            table.add(&chunked, vec![python.map(items, CHUNK)?]);
            table.add(by_default, vec![python.map(items, 0)?]);
        }
    }
    table.compare("poold, map", &chunked, Statistic::Median, Bound::AtLeast(0.5));
    table.compare("poold, map", by_default, Statistic::Median, Bound::Free);
    report.add(table);
    Ok(())
}
