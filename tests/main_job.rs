//! The main job, as a newcomer does it: numbers in, answers out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{Daemon, assert_error, parts};

const ARTICLE: &str =
    "112272535095293\n112582705942171\n112272535095293\n115280095190773\n115797848077099\n1099726899285419\n";

#[test]
fn submit_of_a_prime_prints_true() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    let output = daemon.run(&["submit", "is_prime", "112272535095293"]);
    assert_eq!(parts(&output), (0, "true\n".to_owned(), String::new()));
}

#[test]
fn map_of_the_six_numbers_prints_six_answers_in_order() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    for function in ["is_prime", "is_prime_trial"] {
        let output = daemon.run_with_input(&["map", function], ARTICLE);
        assert_eq!(parts(&output), (0, "true\ntrue\ntrue\ntrue\ntrue\nfalse\n".to_owned(), String::new()));
    }
}

#[test]
fn submit_of_arguments_keeps_every_digit() {
    let daemon = Daemon::start("");
    let largest = daemon.run(&["submit", "is_prime", "170141183460469231731687303715884105727"]);
    assert_eq!(parts(&largest), (0, "true\n".to_owned(), String::new()));
    let echoed = daemon.run(&["submit", "echo", "1.10", "", "two words", "--", "--flag"]);
    assert_eq!(parts(&echoed), (0, "1.10  two words --flag\n".to_owned(), String::new()));
}

#[test]
fn submit_of_a_function_that_fails_says_how_and_exits_1() {
    let daemon = Daemon::start("");
    assert_error(&daemon.run(&["submit", "fail", "no luck"]), 1, &["failed", "no luck"]);
}

#[test]
fn submit_of_a_crash_says_the_signal_and_exits_accordingly() {
    let daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 1\n");
    assert_error(&daemon.run(&["submit", "crash", "segfault"]), 128 + 11, &["crashed", "SIGSEGV"]);
    assert_error(&daemon.run(&["submit", "crash", "abort"]), 128 + 6, &["crashed", "SIGABRT"]);
    assert_error(&daemon.run(&["submit", "crash", "7"]), 127, &["crashed", "exit status 7"]);
    assert_error(&daemon.run(&["submit", "--timeout", "50ms", "spin"]), 124, &["timed out"]);
    assert_error(&daemon.run(&["submit", "--deadline", "50ms", "spin"]), 124, &["timed out", "deadline"]);
    let after = daemon.run(&["submit", "is_prime", "7"]);
    assert_eq!(parts(&after), (0, "true\n".to_owned(), String::new()));
}

#[test]
fn faults_that_are_not_allowed_are_unknown_functions() {
    let daemon = Daemon::start("");
    assert_error(&daemon.run(&["submit", "crash", "abort"]), 4, &["no function `crash`"]);
}

#[test]
fn status_tells_pools_workers_and_outcomes() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 3\n");
    daemon.run(&["submit", "is_prime", "7"]);
    daemon.run(&["submit", "fail", "x"]);
    let status = daemon.json(&["status"]);
    assert_eq!(status["outcomes"]["ok"], 1);
    assert_eq!(status["outcomes"]["failed"], 1);
    assert_eq!(status["pools"][0]["name"], "cpu");
    assert_eq!(status["pools"][0]["ready"], 3);
    assert_eq!(daemon.workers().len(), 3);
    let (code, stdout, _) = parts(&daemon.run(&["status"]));
    assert_eq!(code, 0);
    for word in ["cpu", "idle", "up ", "serving"] {
        assert!(stdout.contains(word), "`{word}` is not in:\n{stdout}");
    }
}

#[test]
fn functions_are_listed_with_what_they_accept() {
    let daemon = Daemon::start("");
    let functions = daemon.json(&["functions"]);
    let names: Vec<&str> =
        functions.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echo", "fail", "is_prime", "is_prime_trial", "load_url", "run", "sleep"]);
}
