//! Executors and futures, over real daemons.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use poold::Executor;
use support::{Daemon, PATIENCE};

fn executor(daemon: &Daemon) -> Executor {
    Executor::connect_to(&daemon.socket).unwrap()
}

#[test]
fn submitted_call_has_its_result() {
    let daemon = Daemon::start("");
    let future = executor(&daemon).submit::<bool>("is_prime", 112272535095293_u64).unwrap();
    assert!(future.result(PATIENCE).unwrap());
    assert!(future.done() && !future.running() && !future.cancelled());
}

#[test]
fn running_call_is_cancelled_at_once_and_nobody_else_notices() {
    let daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 2\n");
    let executor = executor(&daemon);
    let spin = executor.submit::<()>("spin", ()).unwrap();
    let other = executor.submit::<()>("sleep", 0.1).unwrap();
    while !spin.running() {
        std::thread::yield_now();
    }
    assert!(spin.cancel());
    assert!(spin.cancelled() && spin.done());
    assert!(spin.result(None).unwrap_err().is_cancelled());
    assert!(other.result(PATIENCE).is_ok());
}
