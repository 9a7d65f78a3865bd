//! TERM, a second TERM, the drain timeout, and `poolctl drain`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use support::{Daemon, assert_error, parts};

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A daemon with one worker that runs `function`, and a task that waits behind it.
fn busy_daemon(config: &str, function: &[&str]) -> (Daemon, Child, Child) {
    let mut daemon =
        Daemon::start(&format!("allow_fault_injection = true\n{config}\n[pool.cpu]\nworkers = 1\n"));
    let running = start(daemon.poolctl(&[&["submit"], function].concat()));
    daemon.wait_for_log("started");
    let pending = start(daemon.poolctl(&["submit", "is_prime", "7"]));
    daemon.wait_for_log("accepted");
    (daemon, running, pending)
}

fn output(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn term_lets_running_tasks_finish_and_cancels_pending_ones() {
    let (mut daemon, running, pending) = busy_daemon("", &["sleep", "0.5"]);
    daemon.signal(Signal::TERM);
    assert_error(&output(pending), 125, &["cancelled (shutdown)"]);
    assert_eq!(parts(&output(running)).0, 0);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!daemon.socket.exists(), "the socket is gone");
}

#[test]
fn second_term_kills_running_tasks() {
    let (mut daemon, running, pending) = busy_daemon("", &["spin"]);
    daemon.signal(Signal::TERM);
    assert_error(&output(pending), 125, &["cancelled (shutdown)"]);
    daemon.signal(Signal::TERM);
    assert_error(&output(running), 126, &["lost"]);
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(!daemon.socket.exists());
}

#[test]
fn drain_timeout_kills_running_tasks() {
    let (mut daemon, running, pending) = busy_daemon("drain_timeout = \"200ms\"", &["spin"]);
    daemon.signal(Signal::INT);
    assert_error(&output(pending), 125, &["cancelled (shutdown)"]);
    assert_error(&output(running), 126, &["lost"]);
    assert_eq!(daemon.wait().code(), Some(1));
}

#[test]
fn drain_finishes_everything_accepted_and_refuses_new_tasks() {
    let (mut daemon, running, pending) = busy_daemon("", &["sleep", "0.5"]);
    let drain = start(daemon.poolctl(&["drain"]));
    daemon.wait_for_log("draining");
    assert_error(&daemon.run(&["submit", "is_prime", "11"]), 4, &["draining"]);
    assert_eq!(parts(&output(running)).0, 0);
    assert_eq!(parts(&output(pending)), (0, "true\n".to_owned(), String::new()));
    assert_eq!(parts(&output(drain)).0, 0);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn term_of_an_idle_daemon_ends_it_at_once() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 4\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!daemon.socket.exists());
}
