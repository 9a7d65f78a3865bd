//! HUP and `poolctl reload`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use rustix::process::Signal;
use support::{Daemon, assert_error, parts};

#[test]
fn reload_changes_the_worker_count_without_touching_running_attempts() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 3\n");
    let running: Vec<_> = (0..3)
        .map(|_| daemon.poolctl(&["submit", "sleep", "0.5"]).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for _ in 0..3 {
        daemon.wait_for_log("started");
    }
    daemon.configure("[pool.cpu]\nworkers = 1\n");
    let reload = daemon.run(&["reload"]);
    assert_eq!(parts(&reload).0, 0, "{reload:?}");
    for child in running {
        assert_eq!(parts(&child.wait_with_output().unwrap()).0, 0);
    }
    daemon.wait_for_log("ended");
    daemon.wait_for_log("ended");
    assert_eq!(daemon.workers().len(), 1);

    daemon.configure("[pool.cpu]\nworkers = 4\n");
    daemon.signal(Signal::HUP);
    for _ in 0..3 {
        daemon.wait_for_log("is ready");
    }
    assert_eq!(daemon.workers().len(), 4);
}

#[test]
fn reload_of_a_file_with_a_mistake_changes_nothing_and_says_so() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    daemon.configure("[pool.cpu]\nwrokers = 5\n");
    assert_error(&daemon.run(&["reload"]), 4, &["poold.toml:2:1", "wrokers", "workers"]);
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("told to reload by a signal");
    let lines = daemon.log_so_far().into_iter().filter(|line| line.contains("wrokers"));
    assert_eq!(lines.count(), 2, "each is told once");
    assert_eq!(daemon.workers().len(), 2);
    assert_eq!(parts(&daemon.run(&["submit", "is_prime", "7"])).1, "true\n");
}

#[test]
fn reload_of_another_socket_mode_changes_who_may_connect() {
    let daemon = Daemon::start("socket_mode = \"0600\"\n");
    daemon.configure("socket_mode = \"0666\"\n");
    assert_eq!(parts(&daemon.run(&["reload"])).0, 0);
    assert_eq!(std::fs::metadata(&daemon.socket).unwrap().mode() & 0o777, 0o666);
}

#[test]
fn reload_of_another_socket_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("poold.sock");
    let config = |path: &std::path::Path| format!("socket = {path:?}\n");
    std::fs::write(dir.path().join("poold.toml"), config(&socket)).unwrap();
    let file = dir.path().join("poold.toml");
    let mut daemon = Daemon::launch_in(dir, |command| {
        let mut plain = std::process::Command::new(command.get_program());
        plain.arg("--config").arg(file).env("RUST_LOG", "debug").stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                plain.env(name, value);
            }
        }
        *command = plain;
    });
    daemon.wait_until_ready();
    daemon.configure(&config(std::path::Path::new("/nowhere/poold.sock")));
    assert_error(&daemon.run(&["reload"]), 4, &["socket", "restart poold"]);
}

#[test]
fn reload_that_adds_a_pool_serves_its_functions() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\nfunctions = [\"is_prime\"]\n");
    assert_error(&daemon.run(&["submit", "echo", "x"]), 4, &["no function `echo`"]);
    daemon.configure(
        "[pool.cpu]\nworkers = 1\nfunctions = [\"is_prime\"]\n[pool.talk]\nworkers = 1\nfunctions = [\"echo\"]\n",
    );
    assert_eq!(parts(&daemon.run(&["reload"])).0, 0);
    assert_eq!(parts(&daemon.run(&["submit", "echo", "x"])).1, "x\n", "it waits for the pool's first worker");
    daemon.wait_for_log("pool talk");
}
