//! Section 2: who sees whose memory.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use poold::worker::Registry;
use poold::{Executor, Function};

use crate::meeting::{self, Meeting};
use crate::table::{self, Table};
use crate::{CALLS, Pools};

/// The one variable of this section: it is in the program once, and in each process once.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Counts itself, and stays at the meeting of that name; the process that it ran in, and its count.
const COUNT: Function<String, (u32, u64)> = Function::new("count");

pub(crate) fn register(registry: Registry) -> Registry {
    registry.add(COUNT, &["MEETING"], "Counts itself.", |name: String| {
        count(&name).map_err(|error| error.to_string())
    })
}

fn count(meeting: &str) -> io::Result<(u32, u64)> {
    let counted = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
    meeting::stay(meeting)?;
    Ok((std::process::id(), counted))
}

pub(crate) fn show(pools: &Pools) -> Result<(), Box<dyn Error>> {
    table::section(
        "2. Memory",
        &format!(
            "Threads share the memory of their process; each process has memory of its own. {CALLS} calls \
             that run at one time add one to the same static variable; what does each find there?"
        ),
    );
    let mut table = Table::new(&["", "processes", "each call finds", "the program finds"]);
    let meeting = Meeting::open()?;
    for (name, pool) in pools.both() {
        let (mut processes, mut counts): (Vec<_>, Vec<_>) =
            count_at_once(pool, &meeting)?.into_iter().unzip();
        processes.sort_unstable();
        processes.dedup();
        counts.sort_unstable();
        let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
        let ours = COUNTER.load(Ordering::Relaxed);
        table.row(&[&name, &processes.len(), &counts.join(" "), &ours]);
    }
    table.print();
    Ok(())
}

/// Lets as many calls count as can run at one time.
fn count_at_once(pool: &Executor, meeting: &Meeting) -> Result<Vec<(u32, u64)>, Box<dyn Error>> {
    let futures = (0..CALLS).map(|_| pool.call(COUNT, Meeting::name())).collect::<Result<Vec<_>, _>>()?;
    drop(meeting.gather(CALLS)?);
    Ok(futures.into_iter().map(|future| future.result(None)).collect::<Result<_, _>>()?)
}
