//! Everything at once: tasks of every kind, workers killed, stopped and crashed, clients that vanish, reloads.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use poold::client::Connection;
use poold::message::client::RequestBody;
use poold::{CallError, Executor, Future};
use rustix::process::Signal;

use crate::faults::signal_workers;
use crate::footprint::Footprint;
use crate::model::{Kind, TIMEOUT};
use crate::{is_at_strength, start, variable, wait_until};

const CLIENTS: u64 = 3;
const SECONDS: u64 = 6;

/// Calls that a client has in hand at a time.
const IN_HAND: usize = 64;

/// What a daemon may have grown by when all is over: what its allocator keeps.
const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Between two signals.
const PAUSE: Duration = Duration::from_millis(10);

const SIGNALS: [Signal; 4] = [Signal::KILL, Signal::SEGV, Signal::STOP, Signal::TERM];

/// A worker that was stopped while it was idle is found out by this time.
const CONFIG: &str = "allow_fault_injection = true\nquarantine_after = 0\n\
     [restart]\nbackoff_max = \"100ms\"\n\
     [pool.cpu]\nstart_timeout = \"500ms\"\ngrace = \"100ms\"\nworkers = ";

fn config(workers: u32, standby: u32) -> String {
    format!("{CONFIG}{workers}\nstandby = {standby}\n")
}

/// Submits tasks of every kind until told to stop, and judges each outcome; gives how many there were.
fn work(socket: &Path, seed: u64, stop: &AtomicBool) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let executor = Executor::connect_to(socket).unwrap();
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let calls: Vec<(Kind, Future<bool>)> = (0..rng.usize(1..=IN_HAND))
            .map(|_| {
                let kind = Kind::draw(&mut rng);
                let (function, args) = kind.call();
                let executor = executor.with_timeout(kind.timeout()).with_priority(rng.i16(-2..3));
                (kind, executor.submit(function, args).unwrap())
            })
            .collect();
        for (_, future) in calls.iter().filter(|(kind, _)| matches!(kind, Kind::Cancelled)) {
            future.cancel();
        }
        for (kind, future) in calls {
            let outcome = future.result(None);
            let signals = SIGNALS.map(Signal::as_raw);
            assert!(kind.allows(&outcome, &signals), "{kind:?} came to {outcome:?}");
            count += 1;
        }
    }
    count
}

/// Starts clients with work in hand and kills them, until told to stop; gives how many.
fn vanish(socket: &Path, stop: &AtomicBool) -> u64 {
    let mut vanished = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut map = Command::new(env!("CARGO_BIN_EXE_poolctl"));
        map.arg("--socket").arg(socket).args(["map", "is_prime_trial"]);
        let mut map = map.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let lines = "115797848077099\n".repeat(100);
        // It may be refused for now; whether it is does not matter here.
        let _ = std::io::Write::write_all(map.stdin.as_mut().unwrap(), lines.as_bytes());
        thread::sleep(Duration::from_millis(20));
        map.kill().unwrap();
        map.wait().unwrap();
        vanished += 1;
    }
    vanished
}

/// Changes how many workers there are, until told to stop; gives how often.
fn reload(socket: &Path, file: &Path, stop: &AtomicBool) -> u64 {
    let mut connection = Connection::connect(socket).unwrap();
    let mut rng = Rng::with_seed(3);
    let mut reloads = 0;
    while !stop.load(Ordering::SeqCst) {
        std::fs::write(file, config(rng.u32(1..4), rng.u32(0..3))).unwrap();
        connection.call(RequestBody::Reload).unwrap();
        thread::sleep(Duration::from_millis(50));
        reloads += 1;
    }
    reloads
}

#[test]
fn every_outcome_is_one_that_the_model_allows_in_mayhem() {
    let time = Duration::from_secs(variable("POOLD_CHAOS_SECONDS", SECONDS));
    let daemon = start(&config(2, 1));
    let mut connection = Connection::connect(&daemon.socket).unwrap();
    wait_until(&mut connection, "all workers are there", |now| now.pools[0].standby == 1);
    let socket = daemon.socket.as_path();
    let file = daemon.dir.path().join("poold.toml");
    let before = Footprint::of(daemon.pid());

    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (signals, vanished, reloads) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || done.fetch_add(work(socket, seed, stop), Ordering::SeqCst))
            })
            .collect();
        let harm = scope.spawn(|| signal_workers(socket, 2, &SIGNALS, PAUSE, &stop));
        let vanishing = scope.spawn(|| vanish(socket, &stop));
        let reloads = scope.spawn(|| reload(socket, &file, &stop));
        let until = Instant::now() + time;
        while Instant::now() < until && !clients.iter().any(|client| client.is_finished()) {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::SeqCst);
        let all_right = clients.into_iter().map(|client| client.join()).all(|client| client.is_ok());
        assert!(all_right, "a client saw what it should not");
        (harm.join().unwrap(), vanishing.join().unwrap(), reloads.join().unwrap())
    });

    daemon.configure(&config(2, 1));
    assert!(daemon.run(&["reload"]).status.success());
    wait_until(&mut connection, "all is well", |now| {
        let tasks = now.tasks;
        is_at_strength(now)
            && !now.pools[0].degraded
            && now.pools[0].standby == 1
            && now.connections == 1
            && tasks.delayed + tasks.pending + tasks.running == 0
    });
    let executor = Executor::connect_to(&daemon.socket).unwrap().with_timeout(TIMEOUT);
    let answers: Result<Vec<bool>, CallError> = executor.map("is_prime", 0..100_u64).unwrap().collect();
    assert_eq!(answers.unwrap().iter().filter(|is_prime| **is_prime).count(), 25, "primes below 100");
    drop(executor);
    wait_until(&mut connection, "the client and all that workers left are gone", |now| {
        now.connections == 1 && Footprint::of(daemon.pid()).has_nothing_left_since(&before)
    });

    let after = Footprint::of(daemon.pid());
    println!(
        "{} tasks in {time:?}, {signals} signals, {vanished} clients vanished, {reloads} reloads; before {before:?}, \
         after {after:?}",
        done.into_inner()
    );
    assert!(after.resident_bytes <= before.resident_bytes + GROWTH_BYTES_MAX, "{before:?}, {after:?}");
}
