//! Section 1: who is hurt by a crash.

use std::error::Error;
use std::hint::black_box;
use std::io;
use std::thread;

use poold::worker::Registry;
use poold::{CallError, Executor, Function};

use crate::meeting::{self, Meeting};
use crate::table::{self, Table};
use crate::{CALLS, Pools, next_call};

/// Stays at the meeting of that name.
const HOLD: Function<String, ()> = Function::new("hold");
/// Goes down until its stack ends.
const DESCEND: Function<(), u64> = Function::new("descend");

pub(crate) fn register(registry: Registry) -> Registry {
    registry
        .add(HOLD, &["MEETING"], "Stays at a meeting.", |name: String| meeting::stay(&name).map_err(text))
        .add(DESCEND, &[], "Overflows its stack.", |()| descend().map_err(text))
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// Runs into the page below its stack: a segmentation fault that needs no `unsafe`. Rust's runtime says what
/// it was, and aborts.
fn descend() -> io::Result<u64> {
    const STACK_BYTES: usize = 64 * 1024;
    let descent = thread::Builder::new().stack_size(STACK_BYTES).spawn(|| deeper(0))?;
    descent.join().map_err(|_| io::Error::other("it panicked"))
}

fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    match frame[0] {
        u64::MAX => 0,
        _ => deeper(depth + 1).wrapping_add(frame[1]),
    }
}

pub(crate) fn show(pools: &Pools) -> Result<(), Box<dyn Error>> {
    let beside = CALLS - 1;
    table::section(
        "1. A crash",
        &format!(
            "A process that crashes takes down itself; a thread that crashes takes down its process, and so all \
             that runs in it. {CALLS} calls run at a time, and one of them overflows its stack: what becomes of \
             the {beside} others?"
        ),
    );
    let mut table =
        Table::new(&["", "the call itself", "others returned", "others crashed", "the next call"]);
    let meeting = Meeting::open()?;
    for (name, pool) in pools.both() {
        let Crash { itself, others } = crash_beside(pool, &meeting, beside)?;
        let returned = others.iter().filter(|other| other.is_ok()).count();
        let crashed = others.iter().filter(|other| other.as_ref().is_err_and(CallError::is_crash)).count();
        table.row(&[&name, &told(&itself), &returned, &crashed, &next_call(pool)?]);
    }
    table.print();
    Ok(())
}

/// What became of a call that crashes, and of those beside it.
struct Crash {
    itself: Result<u64, CallError>,
    others: Vec<Result<(), CallError>>,
}

/// Lets one call crash while so many others run.
fn crash_beside(pool: &Executor, meeting: &Meeting, others: u32) -> Result<Crash, Box<dyn Error>> {
    let futures = (0..others).map(|_| pool.call(HOLD, Meeting::name())).collect::<Result<Vec<_>, _>>()?;
    let held = meeting.gather(others)?;
    let itself = pool.call(DESCEND, ())?.result(None);
    drop(held);
    Ok(Crash { itself, others: futures.into_iter().map(|future| future.result(None)).collect() })
}

/// How a call ended, in a word or two.
fn told(ending: &Result<u64, CallError>) -> String {
    match ending {
        Err(error) => error.exit().map_or_else(|| error.to_string(), |exit| exit.to_string()),
        Ok(_) => "returned".to_owned(),
    }
}
