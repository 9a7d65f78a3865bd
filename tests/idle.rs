//! With nothing to do, the daemon does nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use support::{Daemon, waits};

#[test]
fn idle_daemon_and_workers_do_not_wake_up() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    daemon.wait_for_log("is ready");
    let mut pids: Vec<u32> =
        daemon.worker_pids().iter().map(|pid| pid.as_raw_nonzero().get() as u32).collect();
    pids.push(daemon.child.id());
    assert_eq!(pids.len(), 3);
    let count = || pids.iter().map(|pid| waits(*pid)).sum::<u64>();
    // What the last request left to be done is over once two counts in a row are the same; then nothing
    // may come for a second, which is what is observed here, not waited for.
    let mut before = count();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = count();
        if now == before {
            break;
        }
        before = now;
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(count(), before, "somebody woke up with nothing to do");
}
