//! Section 6: threads that wait for each other for ever, and what ends them.

use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use poold::worker::Registry;
use poold::{CallError, Executor, Function};

use crate::table::{self, Table};
use crate::{ADD, CALLS, PATIENCE, Pools, next_call};

/// How long two threads that never end are waited for.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Two threads that want the other's lock.
const DEADLOCK: Function<(), ()> = Function::new("deadlock");
/// Calls `add` in the pool that it runs in itself, and waits; what it is told.
const ASK_OWN_POOL: Function<(), String> = Function::new("ask_own_pool");

pub(crate) fn register(registry: Registry) -> Registry {
    registry.add(DEADLOCK, &[], "Never returns.", |()| lock_both([[0, 1], [1, 0]])).add(
        ASK_OWN_POOL,
        &[],
        "Waits for its own pool.",
        |()| ask_own_pool().map_err(|error| error.to_string()),
    )
}

/// Two threads take two locks each, in these orders.
fn lock_both(orders: [[usize; 2]; 2]) {
    let locks = [Mutex::new(()), Mutex::new(())];
    let has_first = Barrier::new(2);
    // Those who want the same lock first cannot both have it.
    let is_opposite = orders[0][0] != orders[1][0];
    thread::scope(|scope| {
        for [first, second] in orders {
            let (locks, has_first) = (&locks, &has_first);
            scope.spawn(move || {
                let _first = lock(&locks[first]);
                if is_opposite {
                    has_first.wait();
                }
                let _second = lock(&locks[second]);
            });
        }
    });
}

/// Nothing is kept under these locks that a panic could have left half done.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask_own_pool() -> Result<String, Box<dyn Error>> {
    let answer = Executor::connect()?.call(ADD, (1, 2))?.result(None);
    Ok(answer.map_or_else(|error| error.to_string(), |sum| format!("the sum is {sum}")))
}

pub(crate) fn show(pools: &Pools) -> Result<(), Box<dyn Error>> {
    table::section(
        "6. A deadlock",
        &format!(
            "Two threads that take the same two locks in opposite order can wait for each other for ever, \
             and no thread can be ended from outside. A process can. After {} ms:",
            TIMEOUT.as_millis()
        ),
    );
    let mut table = Table::new(&["", "outcome", "afterwards"]);
    table.row(&[
        &"same order, in this program",
        &watch([[0, 1], [0, 1]], PATIENCE),
        &"its threads have ended",
    ]);
    table.row(&[
        &"opposite order, in this program",
        &watch([[0, 1], [1, 0]], TIMEOUT),
        &"its threads stay until it ends",
    ]);
    for (name, pool) in pools.both() {
        let outcome = format!("{} of {CALLS} timed out", timed_out(&pool.with_timeout(TIMEOUT))?);
        let next = format!("the next call: {}", next_call(pool)?);
        table.row(&[&format!("opposite order, in a {name}"), &outcome, &next]);
    }
    table.print();
    table::paragraph(
        "The supervisor has no lock to wait for, and never waits for a worker. What functions do to each \
         other is left: one that waits for a call to the pool that it occupies itself. That is refused:",
    );
    table::paragraph(&pools.processes.call(ASK_OWN_POOL, ())?.result(None)?);
    Ok(())
}

/// Has it done by threads of this program, which are left behind if they have not ended by then.
fn watch(orders: [[usize; 2]; 2], timeout: Duration) -> &'static str {
    let (ended, watch) = mpsc::channel();
    thread::spawn(move || {
        lock_both(orders);
        // Nobody listens any more if it took too long.
        let _ = ended.send(());
    });
    match watch.recv_timeout(timeout) {
        Ok(()) => "done",
        Err(RecvTimeoutError::Timeout) => "waiting",
        Err(RecvTimeoutError::Disconnected) => "panicked",
    }
}

/// Has it done in every place that a pool has; how many calls then had no more time.
fn timed_out(pool: &Executor) -> Result<usize, CallError> {
    let futures = (0..CALLS).map(|_| pool.call(DEADLOCK, ())).collect::<Result<Vec<_>, _>>()?;
    let results = futures.into_iter().map(|future| future.result(None));
    Ok(results.filter(|result| result.as_ref().is_err_and(CallError::is_timeout)).count())
}
