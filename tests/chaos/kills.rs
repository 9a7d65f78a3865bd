//! Short tasks without end while ready workers are killed: each task has one outcome, and what did not crash is
//! right.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use poold::Executor;
use poold::client::Connection;
use poold::task::OutcomeKind;
use rustix::process::Signal;

use crate::faults::signal_workers;
use crate::footprint::Footprint;
use crate::model::is_prime;
use crate::{is_at_strength, start, status, variable, wait_until};

const CLIENTS: u64 = 4;
const TASKS: u64 = 40_000;
const PAUSE: Duration = Duration::from_millis(5);

/// A worker that is killed as soon as it is ready has failed, for all that can be known: where such kills are the
/// rule, the longest backoff must be short.
const CONFIG: &str = "[restart]\nbackoff_max = \"200ms\"\n[pool.cpu]\nworkers = 2\nstandby = 1\n";

/// What a daemon may have grown by when all is over: what its allocator keeps.
const GROWTH_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Outcomes that clients saw.
#[derive(Default)]
struct Seen {
    right: AtomicU64,
    crashed: AtomicU64,
}

/// Maps `is_prime` over numbers of its own.
fn work(socket: &Path, client: u64, tasks: u64, seen: &Seen) {
    let executor = Executor::connect_to(socket).unwrap();
    let numbers = (0..tasks).map(move |index| index * CLIENTS + client);
    let results = executor.map::<bool, _>("is_prime", numbers.clone()).unwrap();
    let mut count = 0;
    for (number, result) in numbers.zip(results) {
        count += 1;
        match result {
            Ok(answer) => {
                assert_eq!(answer, is_prime(number), "is {number} a prime number?");
                seen.right.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert_eq!(error.signal(), Some(Signal::KILL.as_raw()), "{number}: {error}");
                seen.crashed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    assert_eq!(count, tasks, "every task has an outcome");
}

#[test]
fn tasks_end_once_and_right_while_ready_workers_are_killed() {
    let tasks = variable("POOLD_CHAOS_TASKS", TASKS) / CLIENTS;
    let daemon = start(CONFIG);
    let mut connection = Connection::connect(&daemon.socket).unwrap();
    wait_until(&mut connection, "all workers are there", |now| now.pools[0].standby == 1);
    let socket = daemon.socket.as_path();
    let before = Footprint::of(daemon.pid());

    let (seen, stop) = (Seen::default(), AtomicBool::new(false));
    let began = Instant::now();
    let kills = thread::scope(|scope| {
        let killer = scope.spawn(|| signal_workers(socket, 1, &[Signal::KILL], PAUSE, &stop));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let seen = &seen;
                    move || work(socket, client, tasks, seen)
                })
            })
            .collect();
        let clients: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        stop.store(true, Ordering::SeqCst);
        let kills = killer.join().unwrap();
        assert!(clients.iter().all(Result::is_ok), "a client was not answered as it should");
        kills
    });
    let (took, stopped) = (began.elapsed(), Instant::now());
    wait_until(&mut connection, "the pool is at strength", |now| {
        is_at_strength(now) && now.pools[0].standby == 1 && now.connections == 1
    });
    let recovered = stopped.elapsed();

    let now = status(&mut connection);
    let (right, crashed) = (seen.right.into_inner(), seen.crashed.into_inner());
    assert_eq!(right + crashed, tasks * CLIENTS);
    assert_eq!(now.outcomes[&OutcomeKind::Ok], right);
    assert_eq!(now.outcomes[&OutcomeKind::Crashed], crashed);
    assert_eq!(now.outcomes.values().sum::<u64>(), tasks * CLIENTS, "no task ended otherwise: {now:?}");
    assert!(kills > 0 && crashed <= kills, "{crashed} tasks crashed by {kills} kills");

    wait_until(&mut connection, "all that workers left is gone", |_| {
        Footprint::of(daemon.pid()).has_nothing_left_since(&before)
    });
    let after = Footprint::of(daemon.pid());
    println!(
        "{} tasks in {took:.1?}: {right} right, {crashed} crashed by {kills} kills; at strength again after \
         {recovered:.1?}; before {before:?}, after {after:?}",
        tasks * CLIENTS
    );
    assert!(after.resident_bytes <= before.resident_bytes + GROWTH_BYTES_MAX, "{before:?}, {after:?}");
}
