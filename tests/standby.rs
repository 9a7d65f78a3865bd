//! Workers that stand by take the place of a lost one at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use support::{Daemon, pid};

fn in_state<'a>(workers: &'a [Value], state: &str) -> Vec<&'a Value> {
    workers.iter().filter(|worker| worker["state"] == state).collect()
}

/// A daemon whose only worker runs an endless task, while another one stands by.
fn busy_daemon() -> (Daemon, String) {
    let config = "allow_fault_injection = true\n[pool.cpu]\nworkers = 1\nstandby = 1\n";
    let mut daemon = Daemon::start(config);
    for _ in 0..2 {
        daemon.wait_for_log(" is ready");
    }
    let task = daemon.detach(&["spin"]);
    daemon.wait_for_log(&format!("task {task} started"));
    (daemon, task)
}

#[test]
fn standby_takes_no_task_while_its_pool_is_at_strength() {
    let (daemon, _) = busy_daemon();
    let waiting = daemon.detach(&["is_prime", "7"]);
    let workers = daemon.workers();
    assert_eq!(in_state(&workers, "busy").len(), 1, "{workers:?}");
    assert_eq!(in_state(&workers, "standby").len(), 1, "{workers:?}");
    let tasks = daemon.json(&["tasks"]);
    let waits = tasks.as_array().unwrap().iter().find(|task| task["id"] == *waiting).unwrap();
    assert_eq!(waits["state"], "pending", "{tasks}");
    let status = daemon.json(&["status"]);
    assert_eq!((&status["pools"][0]["ready"], &status["pools"][0]["standby"]), (&1.into(), &1.into()));
}

#[test]
fn standby_runs_the_next_task_when_a_busy_worker_is_killed_and_another_stands_by_then() {
    let (mut daemon, _) = busy_daemon();
    // Twenty times as long as it takes until its start is looked for.
    let waiting = daemon.detach(&["sleep", "1"]);
    let workers = daemon.workers();
    let standby = in_state(&workers, "standby")[0].clone();
    kill_process(pid(in_state(&workers, "busy")[0]["pid"].as_i64().unwrap()), Signal::KILL).unwrap();
    let started = daemon.wait_for_log(&format!("task {waiting} started on worker "));
    let by = format!("{}.{}", standby["slot"], standby["generation"]);
    assert!(started.ends_with(&by), "{started} by {standby}");
    // The successor may have been ready before it was known that the task had started.
    let is_ready = |line: &String| line.contains(" is ready");
    while daemon.log_so_far().iter().filter(|line| is_ready(line)).count() < 3 {
        daemon.wait_for_log(" is ready");
    }
    assert!(daemon.run(&["wait", &waiting]).status.success());
    let workers = daemon.workers();
    assert_eq!(in_state(&workers, "idle").len(), 1, "{workers:?}");
    assert_eq!(in_state(&workers, "standby").len(), 1, "{workers:?}");
}

#[test]
fn standby_serves_as_soon_as_a_running_task_is_cancelled() {
    let (mut daemon, task) = busy_daemon();
    let waiting = daemon.detach(&["sleep", "1000"]);
    assert!(daemon.run(&["cancel", &task]).status.success());
    let promoted = daemon.wait_for_log("stood by and serves now");
    let started = daemon.wait_for_log(&format!("task {waiting} started on worker "));
    let worker = started.rsplit(' ').next().unwrap();
    assert!(promoted.contains(&format!("worker {worker} of pool cpu")), "{promoted}, {started}");
}
