//! The examples, run against a daemon of the test's own: each prints what its documentation promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{Daemon, parts};

/// The example of that name, which `cargo test` builds beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

/// Runs the example of that name to its end.
fn run(daemon: &Daemon, name: &str) -> (i32, String, String) {
    parts(&Command::new(example(name)).env("POOLD_SOCKET", &daemon.socket).output().unwrap())
}

#[test]
fn primes_prints_what_the_program_of_python_does() {
    let daemon = Daemon::start("");
    let expected = "112272535095293 is prime: true\n\
                    112582705942171 is prime: true\n\
                    112272535095293 is prime: true\n\
                    115280095190773 is prime: true\n\
                    115797848077099 is prime: true\n\
                    1099726899285419 is prime: false\n";
    assert_eq!(run(&daemon, "primes"), (0, expected.to_owned(), String::new()));
}

#[test]
fn futures_shows_every_way_to_wait() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    let (status, mut lines, stderr) = run(&daemon, "futures");
    assert_eq!((status, stderr.as_str()), (0, ""));
    // The callback has a thread of its own, and so no place among the other lines.
    let callback = "sleep is done: true\n";
    assert!(lines.contains(callback), "{lines}");
    lines = lines.replacen(callback, "", 1);
    let expected = "done after 1 ms: false\n\
                    primes among 7, 8 and 9: 1\n\
                    cancelled: true\n\
                    timed out: true\n\
                    failed: there is no such month\n\
                    2^31 - 1 is prime: true\n";
    assert_eq!(lines, expected);
}
