//! One call at a time: against the floor in each placement of the processes, and against every peer.

use crate::floor::Floor;
use crate::placement::{Placement, Processors};
use crate::pool::Daemon;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure, peers};

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    for placement in Placement::all()? {
        against_floor(extent, placement, report)?;
    }
    against_peers(extent, report)
}

/// One worker, one echo; both placed alike, unless nothing pins them. Both are started anew now and then: the scheduler may
/// leave them for long where it has put them first, and what is one's luck then is no bound of the other's.
fn against_floor(extent: Extent, placement: Placement, report: &mut Report) -> Result<(), Failure> {
    let (starts, turns, trips) = extent.pick((8, 4, 500), (2, 3, 200));
    let processors = Processors::own()?;
    let mut table = Table::new(format!("round trip of a no-op task, {}", placement.in_words()), "µs");
    for _ in 0..starts {
        let mut floor = Floor::start(1)?;
        let daemon = Daemon::start(1)?;
        let mut pool = daemon.connect()?;
        placement.apply(&processors, floor.pid())?;
        placement.apply(&processors, daemon.pid())?;
        for _ in 0..turns {
            table.add("floor", floor.round_trips(trips)?);
            table.add("poold", pool.round_trips(trips)?);
        }
        processors.release()?;
    }
    let bounds = match placement {
        Placement::Unpinned => [Bound::Free, Bound::Free],
        Placement::One | Placement::BetweenApart | Placement::ClientApart | Placement::BehindApart => {
            [Bound::AtMost(1.3), Bound::AtMost(2.0)]
        }
    };
    for (statistic, bound) in [Statistic::Median, Statistic::P99].into_iter().zip(bounds) {
        table.compare("poold", "floor", statistic, bound);
    }
    report.add(table);
    Ok(())
}

/// Two workers each, wherever the scheduler puts them.
fn against_peers(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (starts, turns, trips) = extent.pick((4, 5, 300), (1, 5, 100));
    let mut table = Table::new("round trip of a no-op task, two workers, against peers", "µs");
    let mut names = Vec::new();
    for _ in 0..starts {
        let daemon = Daemon::start(2)?;
        let mut pool = daemon.connect()?;
        let mut peers = peers::all()?;
        for _ in 0..turns {
            table.add("poold", pool.round_trips(trips)?);
            for peer in &mut peers {
                table.add(peer.name(), peer.round_trips(trips)?);
            }
        }
        names = peers.iter().map(|peer| peer.name()).collect();
    }
    for name in names {
        table.compare("poold", name, Statistic::Median, Bound::AtMost(0.5));
    }
    report.add(table);
    Ok(())
}
