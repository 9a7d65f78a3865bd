//! Bad input of every kind: one clear line, the documented exit status, and the daemon goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::process::Command;

use support::{Daemon, assert_error, parts, text};

fn still_serves(daemon: &Daemon) {
    assert_eq!(parts(&daemon.run(&["submit", "is_prime", "7"])), (0, "true\n".to_owned(), String::new()));
}

#[test]
fn unknown_function_is_refused_with_the_nearest_name() {
    let daemon = Daemon::start("");
    let output = daemon.run(&["submit", "is_primee", "7"]);
    assert_error(&output, 4, &["no function `is_primee`", "did you mean `is_prime`?"]);
    assert_error(&daemon.run(&["submit", "is_prime", "--pool", "gpu", "7"]), 4, &["gpu"]);
    still_serves(&daemon);
}

#[test]
fn arguments_that_a_function_does_not_take_fail_with_what_it_takes() {
    let daemon = Daemon::start("");
    assert_error(&daemon.run(&["submit", "is_prime", "banana"]), 1, &["banana", "is_prime"]);
    assert_error(&daemon.run(&["submit", "is_prime"]), 1, &["is_prime", "1 argument"]);
    assert_error(&daemon.run(&["submit", "is_prime", "7", "11"]), 1, &["is_prime", "1 argument"]);
    assert_error(&daemon.run(&["submit", "is_prime", "-7"]), 1, &["is_prime"]);
    assert_error(&daemon.run(&["submit", "sleep", "-1"]), 1, &["sleep"]);
    still_serves(&daemon);
}

#[test]
fn payload_over_the_cap_is_refused() {
    let daemon = Daemon::start("[limits]\npayload_bytes = '1 MiB'\n");
    let line = format!("{}\n", "9".repeat(2_000_000));
    let output = daemon.run_with_input(&["map", "echo"], &line);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("2000001 bytes"), "{}", text(&output.stderr));
    still_serves(&daemon);
}

#[test]
fn options_out_of_range_are_refused() {
    let daemon = Daemon::start("");
    assert_error(&daemon.run(&["submit", "--retries", "1001", "is_prime", "7"]), 2, &["--retries", "1000"]);
    assert_error(&daemon.run(&["submit", "--timeout", "0s", "is_prime", "7"]), 4, &["timeout"]);
    let usage = daemon.run(&["submit", "--priority", "70000", "is_prime", "7"]);
    assert_eq!(usage.status.code(), Some(2));
    still_serves(&daemon);
}

#[test]
fn garbage_on_the_socket_is_answered_and_closed() {
    let daemon = Daemon::start("");
    let mut stream = daemon.connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"poold\0"), "{answer:?}");
    assert_eq!(answer[6], 1, "the verdict: not a handshake");
    still_serves(&daemon);
}

#[test]
fn second_daemon_on_the_same_socket_exits_3() {
    let daemon = Daemon::start("");
    let output =
        Command::new(env!("CARGO_BIN_EXE_poold")).arg("--socket").arg(&daemon.socket).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("poold.sock"), "{}", text(&output.stderr));
    still_serves(&daemon);
}

#[test]
fn stale_socket_of_a_killed_daemon_is_taken_over() {
    let mut daemon = Daemon::start("");
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    assert!(daemon.socket.exists(), "a killed daemon leaves its socket");
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    let mut successor = Daemon::launch_in(dir, |_| {});
    successor.wait_until_ready();
    still_serves(&successor);
}

#[test]
fn client_without_a_daemon_exits_3_and_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let output = Command::new(env!("CARGO_BIN_EXE_poolctl"))
        .arg("status")
        .env("POOLD_SOCKET", &socket)
        .output()
        .unwrap();
    assert_error(&output, 3, &["nobody.sock"]);
}

#[test]
fn configuration_with_a_typo_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("poold.toml");
    std::fs::write(&file, "[pool.cpu]\nworker = 2\n").unwrap();
    for flags in [&["--check-config"][..], &[]] {
        let output = Command::new(env!("CARGO_BIN_EXE_poold"))
            .arg("--config")
            .arg(&file)
            .args(flags)
            .output()
            .unwrap();
        assert_error(&output, 2, &["poold.toml:2:1", "worker", "workers"]);
    }
}
