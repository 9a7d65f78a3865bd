//! As many calls as there may be, each with an outcome of its own, by two workers: against the floor with as many
//! on their way, and against every peer.

use crate::floor::Floor;
use crate::peers::gearman::Manner;
use crate::placement::children_of;
use crate::pool::{self, Daemon};
use crate::process::processor_nanos;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure, peers};

/// Tasks of the first, short turn, which is not counted: it shows how many fill a whole one.
const TRIAL_TASKS: usize = 2000;
const TASKS_MAX: usize = 1_000_000;

const FLOOR: &str = "floor, batched";
const SUBMIT: &str = "poold, submit";
const MAP: &str = "poold, map";

/// Does `work` on as many tasks as take so many seconds.
struct Paced<'a> {
    who: &'static str,
    work: Box<dyn FnMut(usize) -> Result<f64, Failure> + 'a>,
    tasks: usize,
    /// The processes whose share is told, by what they are.
    parts: Vec<(&'static str, Vec<u32>)>,
}

impl<'a> Paced<'a> {
    fn new(
        who: &'static str,
        seconds: f64,
        mut work: impl FnMut(usize) -> Result<f64, Failure> + 'a,
    ) -> Result<Self, Failure> {
        let tasks_per_second = work(TRIAL_TASKS)?;
        let tasks = ((tasks_per_second * seconds) as usize).clamp(TRIAL_TASKS, TASKS_MAX);
        Ok(Paced { who, work: Box::new(work), tasks, parts: Vec::new() })
    }

    fn with_parts(self, parts: Vec<(&'static str, Vec<u32>)>) -> Self {
        Paced { parts, ..self }
    }

    /// Has its turn: its rate, and the nanoseconds of processor time of a task in each of its parts.
    fn turn(&mut self, rates: &mut Table, shares: &mut Table) -> Result<(), Failure> {
        let before = self.parts_nanos()?;
        rates.add(self.who, vec![(self.work)(self.tasks)?]);
        let after = self.parts_nanos()?;
        for ((part, _), (before, after)) in self.parts.iter().zip(before.into_iter().zip(after)) {
            shares.add(&format!("{}: {part}", self.who), vec![(after - before) as f64 / self.tasks as f64]);
        }
        Ok(())
    }

    fn parts_nanos(&self) -> Result<Vec<u64>, Failure> {
        let nanos = |(_, processes): &(_, Vec<u32>)| processes.iter().copied().map(processor_nanos).sum();
        self.parts.iter().map(nanos).collect()
    }
}

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let mut rates = Table::new("no-op tasks, each with its own outcome, two workers", "tasks/s");
    let mut shares = Table::new("processor time of such a task", "ns");
    // Anew now and then: the scheduler may leave processes for long where it has put them first.
    let mut peers = Vec::new();
    for _ in 0..extent.pick(4, 1) {
        peers = turns(extent, &mut rates, &mut shares)?;
    }
    rates.compare(SUBMIT, FLOOR, Statistic::Median, Bound::AtLeast(0.35));
    rates.compare(MAP, FLOOR, Statistic::Median, Bound::Free);
    for peer in peers {
        let bound = if peer == Manner::AsItsLibrary.name() { Bound::AtLeast(30.0) } else { Bound::Free };
        rates.compare(SUBMIT, peer, Statistic::Median, bound);
    }
    rates.tell("poold, submit, median", rates.median_of(SUBMIT), "tasks/s", Bound::AtLeast(1e6));
    report.add(rates);
    report.add(shares);
    Ok(())
}

/// Some turns of all contenders; the names of the peers among them.
fn turns(extent: Extent, rates: &mut Table, shares: &mut Table) -> Result<Vec<&'static str>, Failure> {
    let (turns, seconds) = extent.pick((3, 0.3), (3, 0.1));
    let mut floor = Floor::start(2)?;
    let daemon = Daemon::start(2)?;
    let executor = daemon.executor()?;
    let mut peers = peers::all()?;
    let names = peers.iter().map(|peer| peer.name()).collect();

    let client = ("client", vec![std::process::id()]);
    let echoes = ("both echoes", children_of(floor.pid())?);
    let workers = ("both workers", daemon.connect()?.worker_pids()?);
    let of_floor = vec![client.clone(), ("relay", vec![floor.pid()]), echoes];
    let of_pool = vec![client, ("daemon", vec![daemon.pid()]), workers];
    let mut contenders = vec![
        Paced::new(FLOOR, seconds, |tasks| floor.stream(tasks))?.with_parts(of_floor),
        Paced::new(SUBMIT, seconds, |tasks| pool::submit(&executor, tasks))?.with_parts(of_pool.clone()),
        Paced::new(MAP, seconds, |tasks| pool::map(&executor, tasks))?.with_parts(of_pool),
    ];
    for peer in &mut peers {
        contenders.push(Paced::new(peer.name(), seconds, |tasks| peer.throughput(tasks))?);
    }
    for _ in 0..turns {
        contenders.iter_mut().try_for_each(|contender| contender.turn(rates, shares))?;
    }
    drop(contenders);
    Ok(names)
}
