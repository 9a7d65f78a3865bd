//! Workers are replaced before they do harm: after so many attempts, so long a life, or so much memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{Daemon, parts, text};

/// Runs `is_prime 7` so often, one after the other.
fn submit(daemon: &Daemon, times: usize) {
    for _ in 0..times {
        let output = daemon.run(&["submit", "is_prime", "7"]);
        assert_eq!(parts(&output), (0, "true\n".to_owned(), String::new()));
    }
}

#[test]
fn worker_is_replaced_after_max_attempts_and_no_attempt_is_lost() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\nmax_attempts = 3\n");
    submit(&daemon, 10);
    for generation in 0..3 {
        let worn = daemon.wait_for_log(&format!("worker 0.{generation} of pool cpu is replaced"));
        assert!(worn.ends_with("it was sent 3 attempts (max_attempts)"), "{worn}");
    }
    let status = daemon.json(&["status"]);
    assert_eq!(status["pools"][0]["restarts"], 0, "no worker died: {status}");
    assert_eq!(status["outcomes"]["ok"], 10, "{status}");
    assert_eq!(status["workers"][0]["attempts"], 10, "{status}");
}

#[test]
fn worker_of_threads_is_succeeded_before_its_last_attempt_has_ended() {
    let config = "allow_fault_injection = true\n[pool.io]\nworkers = 1\nthreads = 4\nmax_attempts = 1\n";
    let mut daemon = Daemon::start(config);
    let endless = daemon.detach(&["spin"]);
    daemon.wait_for_log("worker 0.0 of pool io is replaced once it is idle");
    submit(&daemon, 2);
    let state = daemon.run(&["result", &endless]);
    assert!(text(&state.stderr).contains("running"), "the first one still runs: {state:?}");
}

#[test]
fn idle_worker_is_replaced_after_max_lifetime() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\nmax_lifetime = \"50ms\"\n");
    for generation in 0..3 {
        let worn = daemon.wait_for_log(&format!("worker 0.{generation} of pool cpu is replaced"));
        assert!(worn.contains("(max_lifetime)"), "{worn}");
        daemon.wait_for_log(&format!("worker 0.{} of pool cpu", generation + 1));
    }
    submit(&daemon, 1);
}

#[test]
fn worker_beyond_max_rss_is_replaced_after_its_attempt() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\nmax_rss = \"4 KiB\"\n");
    submit(&daemon, 2);
    for generation in 0..2 {
        let worn = daemon.wait_for_log(&format!("worker 0.{generation} of pool cpu is replaced"));
        assert!(worn.ends_with("bytes of it are resident (max_rss)"), "{worn}");
    }
    daemon.configure("[pool.cpu]\nworkers = 1\nmax_rss = \"1 GiB\"\n");
    assert!(daemon.run(&["reload"]).status.success());
    submit(&daemon, 2);
    let generation = |daemon: &Daemon| daemon.workers()[0]["generation"].clone();
    let before = generation(&daemon);
    submit(&daemon, 1);
    assert_eq!(generation(&daemon), before, "within the limit it stays");
}
