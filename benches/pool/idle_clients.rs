//! Ten thousand clients that say nothing: the daemon's memory for each, and what they cost one that makes calls.

use poold::client::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::placement::{Placement, Processors};
use crate::pool::Daemon;
use crate::process::Memory;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

/// Descriptors that are kept for all else.
const RESERVE: u64 = 200;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (turns, trips, wanted) = extent.pick((20, 500, 10_000), (5, 200, 1000));
    let clients = wanted.min(descriptors()?.saturating_sub(RESERVE));
    let (lonely, crowded) = (Daemon::start(1)?, Daemon::start(1)?);
    let (mut alone, mut among) = (lonely.connect()?, crowded.connect()?);
    let before = Memory::of(crowded.pid())?.resident;
    let connect = |_| Connection::connect(&crowded.socket());
    let idle = (0..clients).map(connect).collect::<Result<Vec<_>, _>>()?;
    let bytes = (Memory::of(crowded.pid())?.resident - before) / clients as f64;

    let among_them = format!("among {clients} idle clients");
    // Pinned, so that the scheduler makes no difference between the two.
    let processors = Processors::own()?;
    Placement::One.apply(&processors, lonely.pid())?;
    Placement::One.apply(&processors, crowded.pid())?;
    let mut table = Table::new("round trip of a no-op task, one worker, all on one CPU", "µs");
    for _ in 0..turns {
        table.add("alone", alone.round_trips(trips)?);
        table.add(&among_them, among.round_trips(trips)?);
    }
    processors.release()?;
    drop(idle);
    table.compare(&among_them, "alone", Statistic::Median, Bound::AtMost(1.1));
    table.tell("daemon, for each idle client", bytes, "bytes", Bound::AtMost(8192.0));
    report.add(table);
    Ok(())
}

/// How many descriptors this program may have, once it has asked for as many as it may.
fn descriptors() -> Result<u64, Failure> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
