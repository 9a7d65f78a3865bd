//! Which process may run on which processor: on two of them, waking the other one costs more than the work itself.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Failure;

/// How a client, the process between, and those behind it share the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// All on one.
    One,
    /// The process between on one, its client and those behind it on another.
    BetweenApart,
    /// The client on one, the others on another.
    ClientApart,
    /// Those behind on one, the others on another.
    BehindApart,
    /// Wherever the scheduler puts them: it need not put two alike.
    Unpinned,
}

impl Placement {
    /// What there are processors for.
    pub fn all() -> Result<Vec<Placement>, Failure> {
        let apart = [Placement::BetweenApart, Placement::ClientApart, Placement::BehindApart];
        let apart = if own_processors()?.len() > 1 { &apart[..] } else { &[] };
        Ok([&[Placement::Unpinned, Placement::One], apart].concat())
    }

    pub fn in_words(self) -> &'static str {
        match self {
            Placement::One => "all on one CPU",
            Placement::BetweenApart => "client and worker on one CPU, daemon or relay on another",
            Placement::ClientApart => "daemon or relay and worker on one CPU, client on another",
            Placement::BehindApart => "client and daemon or relay on one CPU, worker on another",
            Placement::Unpinned => "unpinned",
        }
    }

    /// Puts this thread, `middle` and the children of `middle` in their places.
    ///
    /// The place is for all that this thread starts from then on, too: `middle` is started before.
    pub fn apply(self, processors: &Processors, middle: u32) -> Result<(), Failure> {
        let Processors { all, one, other } = processors;
        let (client, between, behind) = match self {
            Placement::One => (one, one, one),
            Placement::BetweenApart => (one, other, one),
            Placement::ClientApart => (one, other, other),
            Placement::BehindApart => (one, one, other),
            Placement::Unpinned => (all, all, all),
        };
        sched_setaffinity(None, client)?;
        place(middle, between)?;
        children_of(middle)?.into_iter().try_for_each(|child| place(child, behind))
    }
}

/// The processors that this program was given.
#[derive(Clone, Debug)]
pub struct Processors {
    all: CpuSet,
    one: CpuSet,
    other: CpuSet,
}

impl Processors {
    pub fn own() -> Result<Self, Failure> {
        let own = own_processors()?;
        let (first, last) = own.first().zip(own.last()).ok_or("this program may run on no processor")?;
        Ok(Processors { all: set_of(&own), one: set_of(&[*first]), other: set_of(&[*last]) })
    }

    /// Lets this thread run on all of them again.
    pub fn release(&self) -> Result<(), Failure> {
        Ok(sched_setaffinity(None, &self.all)?)
    }
}

fn own_processors() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

fn set_of(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    set
}

/// Puts every thread of a process in its place.
fn place(process: u32, set: &CpuSet) -> Result<(), Failure> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(thread), set)?;
    }
    Ok(())
}

/// The processes that a process has started and that have not ended.
pub fn children_of(process: u32) -> Result<Vec<u32>, Failure> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(all.filter(|child| parent_of(*child) == Some(process)).collect())
}

/// The fourth field of proc_pid_stat(5); nothing of a process that has ended.
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
