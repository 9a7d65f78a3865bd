//! Work that only computes: the six numbers of Python's documentation of `ProcessPoolExecutor`, and a thousand of
//! them, against the same division done here, shared over the processors as well as can be.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};
use std::time::Instant;

use crate::pool::Daemon;
use crate::report::{Report, Table};
use crate::statistics::{Bound, Statistic};
use crate::{Extent, Failure};

const NUMBERS: [u64; 6] =
    [112272535095293, 112582705942171, 112272535095293, 115280095190773, 115797848077099, 1099726899285419];

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let processors = available_parallelism()?.get();
    let daemon = Daemon::start(u32::try_from(processors)?)?;
    six(extent, &daemon, processors, report)?;
    thousand(extent, &daemon, processors, report)
}

fn six(extent: Extent, daemon: &Daemon, processors: usize, report: &mut Report) -> Result<(), Failure> {
    let executor = daemon.executor()?;
    let mut table = Table::new(format!("the six numbers of the article, {processors} workers"), "ms");
    for _ in 0..extent.pick(20, 5) {
        let each = NUMBERS.map(native_millis);
        table.add("native, serial", vec![each.iter().sum()]);
        table.add("native, best shared", vec![best_shared(&each, processors)]);
        table.add("poold, map", vec![pool_millis(&executor, &NUMBERS)?]);
    }
    table.compare("poold, map", "native, best shared", Statistic::Median, Bound::AtMost(1.15));
    report.add(table);
    Ok(())
}

fn thousand(extent: Extent, daemon: &Daemon, processors: usize, report: &mut Report) -> Result<(), Failure> {
    let (turns, count) = extent.pick((3, 1000), (2, 50));
    let executor = daemon.executor()?;
    let numbers: Vec<u64> = NUMBERS.into_iter().cycle().take(count).collect();
    let mut table = Table::new(format!("{count} of them, {processors} workers"), "ms");
    for _ in 0..turns {
        let serial: f64 = numbers.iter().copied().map(native_millis).sum();
        table.add("native, serial", vec![serial]);
        table.add("native, serial ÷ processors", vec![serial / processors as f64]);
        table.add("native, a thread each", vec![threads_millis(&numbers, processors)]);
        table.add("poold, map", vec![pool_millis(&executor, &numbers)?]);
    }
    table.compare("native, serial ÷ processors", "poold, map", Statistic::Median, Bound::AtLeast(0.97));
    // What the machine itself loses when all of its processors compute.
    table.compare("native, serial ÷ processors", "native, a thread each", Statistic::Median, Bound::Free);
    table.compare("native, a thread each", "poold, map", Statistic::Median, Bound::Free);
    report.add(table);
    Ok(())
}

fn pool_millis(executor: &poold::Executor, numbers: &[u64]) -> Result<f64, Failure> {
    let before = Instant::now();
    for result in executor.map::<bool, _>("is_prime_trial", numbers)? {
        black_box(result?);
    }
    Ok(before.elapsed().as_secs_f64() * 1e3)
}

/// All of them by as many threads, each of which takes the next number when it is done with one.
fn threads_millis(numbers: &[u64], threads: usize) -> f64 {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            native_millis(number);
        }
    };
    let before = Instant::now();
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    before.elapsed().as_secs_f64() * 1e3
}

fn native_millis(number: u64) -> f64 {
    let before = Instant::now();
    black_box(is_prime_by_trial(black_box(number)));
    before.elapsed().as_secs_f64() * 1e3
}

/// What the function `is_prime_trial` does.
fn is_prime_by_trial(number: u64) -> bool {
    if number < 2 || (number != 2 && number.is_multiple_of(2)) {
        return false;
    }
    let root = number.isqrt();
    let mut divisor = 3;
    while divisor <= root {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    true
}

/// The time after which the last of so many processors is done, if the parts are shared as well as can be.
fn best_shared(parts: &[f64], processors: usize) -> f64 {
    fn place(rest: &[f64], loads: &mut [f64], best: &mut f64) {
        let Some((part, rest)) = rest.split_first() else {
            *best = best.min(loads.iter().copied().fold(0.0, f64::max));
            return;
        };
        for index in 0..loads.len() {
            loads[index] += part;
            place(rest, loads, best);
            loads[index] -= part;
        }
    }
    let mut best = parts.iter().sum();
    place(parts, &mut vec![0.0; processors.min(parts.len())], &mut best);
    best
}
