//! A task ends with the client that submitted it, unless it is detached.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, assert_error, parts};

#[test]
fn interrupted_submit_cancels_its_running_task() {
    let mut daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 1\n");
    let mut submit = daemon.poolctl(&["submit", "spin"]).spawn().unwrap();
    daemon.wait_for_log("started");
    kill_process(Pid::from_child(&submit), Signal::INT).unwrap();
    assert_eq!(submit.wait().unwrap().code(), Some(130));
    daemon.wait_for_log("cancelled (client_gone)");
    let after = daemon.run(&["submit", "is_prime", "7"]);
    assert_eq!(parts(&after).1, "true\n", "the worker was replaced");
}

#[test]
fn killed_map_cancels_its_running_and_pending_tasks() {
    let mut daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 1\n");
    let mut map = daemon.poolctl(&["map", "sleep"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut map.stdin.as_ref().unwrap(), b"1000\n1000\n1000\n").unwrap();
    for _ in 0..3 {
        daemon.wait_for_log("accepted");
    }
    map.kill().unwrap();
    map.wait().unwrap();
    for _ in 0..3 {
        daemon.wait_for_log("cancelled (client_gone)");
    }
    let tasks = daemon.json(&["status"])["tasks"].clone();
    assert_eq!((&tasks["pending"], &tasks["running"]), (&0.into(), &0.into()));
}

#[test]
fn detached_task_goes_on_and_its_result_is_read_twice() {
    let daemon = Daemon::start("");
    let id = daemon.detach(&["is_prime", "112272535095293"]);
    assert_eq!(parts(&daemon.run(&["wait", &id])), (0, "true\n".to_owned(), String::new()));
    for _ in 0..2 {
        assert_eq!(parts(&daemon.run(&["result", &id])), (0, "true\n".to_owned(), String::new()));
    }
    assert_error(&daemon.run(&["result", "00000000-1"]), 126, &["lost"]);
    let never = format!("{}-999", id.split('-').next().unwrap());
    assert_error(&daemon.run(&["result", &never]), 4, &["no task"]);
}

#[test]
fn detached_task_is_cancelled_by_its_owner() {
    let mut daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 1\n");
    let id = daemon.detach(&["spin"]);
    daemon.wait_for_log("started");
    assert_eq!(parts(&daemon.run(&["cancel", &id])).0, 0);
    assert_error(&daemon.run(&["result", &id]), 125, &["cancelled (client)"]);
}

/// Runs as root only: another user is needed.
#[test]
fn detached_task_of_another_user_is_neither_read_nor_cancelled() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let daemon = Daemon::start("socket_mode = \"0666\"\n");
    std::fs::set_permissions(daemon.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let id = daemon.detach(&["is_prime", "7"]);
    daemon.run(&["wait", &id]);
    // A stranger cannot run a program out of root's directories: it gets a copy of its own.
    let poolctl = daemon.dir.path().join("poolctl");
    std::fs::copy(env!("CARGO_BIN_EXE_poolctl"), &poolctl).unwrap();
    let stranger = |args: &[&str]| {
        let mut command = std::process::Command::new(&poolctl);
        command.args(args).env("POOLD_SOCKET", &daemon.socket).uid(65534).gid(65534).output().unwrap()
    };
    assert_error(&stranger(&["result", &id]), 4, &["not allowed"]);
    assert_error(&stranger(&["cancel", &id]), 4, &["not allowed"]);
    assert_error(&stranger(&["reload"]), 4, &["not allowed"]);
    assert_error(&stranger(&["drain"]), 4, &["not allowed"]);
    let own = stranger(&["submit", "is_prime", "7"]);
    assert_eq!(parts(&own), (0, "true\n".to_owned(), String::new()));
}
