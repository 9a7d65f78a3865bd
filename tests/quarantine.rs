//! A function that kills one worker after another is kept away until somebody releases it; a pool whose workers
//! keep failing refuses tasks, where it is told to, until it is well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use rustix::process::{Signal, kill_process};
use support::{Daemon, assert_error, text};

const CONFIG: &str = "allow_fault_injection = true\nquarantine_after = 2\n[pool.cpu]\nworkers = 2\n";

fn crash(daemon: &Daemon) {
    assert_eq!(daemon.run(&["submit", "crash", "segfault"]).status.code(), Some(128 + 11));
}

#[test]
fn function_that_kills_too_many_workers_in_a_row_is_refused_until_released() {
    let mut daemon = Daemon::start(CONFIG);
    for _ in 0..3 {
        crash(&daemon);
    }
    let line = daemon.wait_for_log("is quarantined");
    assert!(line.contains("function crash is quarantined: its tasks killed 3 workers in a row"), "{line}");
    assert_error(
        &daemon.run(&["submit", "crash", "segfault"]),
        4,
        &["`crash` is quarantined", "poolctl release crash"],
    );
    assert_eq!(text(&daemon.run(&["submit", "is_prime", "7"]).stdout), "true\n", "no other one is");
    assert!(
        text(&daemon.run(&["status"]).stdout)
            .contains("blocked   crash (quarantined; `poolctl release` lifts it)\n")
    );
    assert!(text(&daemon.run(&["functions"]).stdout).contains("(quarantined) "));

    assert_eq!(daemon.run(&["release", "crash"]).status.code(), Some(0));
    crash(&daemon);
    assert_error(&daemon.run(&["release", "crash"]), 4, &["`crash` is not quarantined"]);
}

#[test]
fn task_that_leaves_its_worker_alive_begins_the_count_anew() {
    let daemon = Daemon::start(CONFIG);
    for _ in 0..3 {
        crash(&daemon);
        crash(&daemon);
        // Arguments that it does not accept: the function fails, and its worker lives.
        assert_eq!(daemon.run(&["submit", "crash", "no such signal"]).status.code(), Some(1));
    }
    assert_eq!(daemon.json(&["status"])["quarantined"], serde_json::json!([]));
}

#[test]
fn degraded_pool_refuses_tasks_if_told_to_and_takes_them_again_when_it_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let (script, fail) = (dir.path().join("worker.sh"), dir.path().join("fail"));
    let poold = env!("CARGO_BIN_EXE_poold");
    fs::write(&script, format!("[ -e {} ] && exit 3\nexec {poold}\n", fail.display())).unwrap();
    let mut daemon = Daemon::start(&format!(
        "[restart]\nintensity = 0\nbackoff_min = \"1ms\"\nbackoff_max = \"20ms\"\n\
         [pool.cpu]\nworkers = 1\nwhen_degraded = \"refuse\"\ncommand = [\"/bin/sh\", \"{}\"]\n",
        script.display()
    ));
    fs::write(&fail, "").unwrap();
    kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
    daemon.wait_for_log("pool cpu is degraded");
    assert_error(&daemon.run(&["submit", "is_prime", "7"]), 4, &["`cpu` is degraded", "it died"]);
    fs::remove_file(&fail).unwrap();
    daemon.wait_for_log("pool cpu is well again");
    assert_eq!(text(&daemon.run(&["submit", "is_prime", "7"]).stdout), "true\n");
}
