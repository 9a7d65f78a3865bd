//! Section 5: updates that are lost between threads. Nothing here is undefined: each step is atomic, and only
//! what they make together is not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use crate::table::{self, Table};

const THREADS: u64 = 2;

/// Updates by each thread where they run freely: enough that they do so at one time.
const UPDATES: u64 = 20_000_000;

/// Updates by each thread where they wait for each other.
const MEETINGS: u64 = 1_000;

/// Updates by each thread where they are told to another.
const MESSAGES: u64 = 200_000;

pub(crate) fn show() {
    table::section(
        "5. A race",
        &format!(
            "What threads share, one can change between another's look and its step. {THREADS} threads add \
             one to a counter again and again; how many of the additions are in it at the end?"
        ),
    );
    let mut table = Table::new(&["", "updates", "kept", "lost"]);
    let mut row = |name: &str, each: u64, kept: u64| {
        let updates = THREADS * each;
        table.row(&[&name, &updates, &kept, &(updates - kept)]);
    };
    row("load, then store, as it comes", UPDATES, load_then_store());
    row("load, then store, at one time", MEETINGS, load_then_store_together());
    row("one indivisible addition", UPDATES, add_indivisibly());
    row("one owner, told by messages", MESSAGES, tell_the_owner());
    table.print();
    table::paragraph(
        "The supervisor is of the last kind: one thread owns every pool, worker and task, and takes events \
         one after another. Nobody else can step between its look and its step.",
    );
}

/// Has every thread call `update` so many times; what the counter then is.
fn count(each: u64, update: impl Fn(&AtomicU64) + Sync) -> u64 {
    let counter = AtomicU64::new(0);
    let all_are_there = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                all_are_there.wait();
                (0..each).for_each(|_| update(&counter));
            });
        }
    });
    counter.into_inner()
}

fn load_then_store() -> u64 {
    count(UPDATES, |counter| counter.store(counter.load(Relaxed) + 1, Relaxed))
}

/// The worst case, every time: all have looked before any steps.
fn load_then_store_together() -> u64 {
    let (all_have_loaded, all_have_stored) = (Barrier::new(THREADS as usize), Barrier::new(THREADS as usize));
    count(MEETINGS, |counter| {
        let seen = counter.load(Relaxed);
        all_have_loaded.wait();
        counter.store(seen + 1, Relaxed);
        all_have_stored.wait();
    })
}

fn add_indivisibly() -> u64 {
    count(UPDATES, |counter| {
        counter.fetch_add(1, Relaxed);
    })
}

/// The counter is a plain number, which one thread alone has.
fn tell_the_owner() -> u64 {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let tell = tell.clone();
            // The owner listens until the last of them has ended.
            scope.spawn(move || (0..MESSAGES).try_for_each(|_| tell.send(1)));
        }
        drop(tell);
        told.iter().sum()
    })
}
