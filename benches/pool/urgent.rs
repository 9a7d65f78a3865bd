//! A call of a high priority while a million others wait and two workers do them, against one of an empty pool.

use poold::client::Connection;
use poold::id::FunctionName;
use poold::task::TaskSpec;

use crate::backlog::{Backlog, counts};
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, waiting, trips) = extent.pick((3, 1_000_000, 300), (2, 300_000, 100));
    let spec = TaskSpec { priority: 100, ..TaskSpec::new(FunctionName::new("echo")?) };
    let (empty, full) = ("in an empty pool".to_owned(), format!("while {waiting} others wait"));
    let mut table = Table::new("an urgent no-op task, two workers", "µs");
    for _ in 0..turns {
        let (daemon, directory) = Backlog::daemon()?;
        let mut caller = daemon.connect()?;
        table.add(&empty, caller.calls(&spec, trips)?);
        let mut backlog = Backlog::fill(&daemon, directory, waiting)?;
        backlog.release()?;
        // The first come when the gate has been passed.
        (0..1000).try_for_each(|_| backlog.replace_first())?;
        table.add(&full, caller.calls(&spec, trips)?);
        let left = counts(&mut Connection::connect(&daemon.socket())?)?.pending;
        if left < waiting as u64 / 2 {
            return Err(format!("only {left} of {waiting} tasks still wait at the end").into());
        }
        // With the daemon, all that waits is gone at once.
        drop(daemon);
    }
    table.compare(&full, &empty, Statistic::Median, Bound::AtMost(2.0));
    report.add(table);
    Ok(())
}
