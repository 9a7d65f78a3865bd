//! One death costs one attempt: workers are killed in the middle of a load.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use support::{Daemon, PATIENCE, pid, pidfd, text, wait_for_exit};

const TASKS: usize = 1000;
const KILLS: usize = 20;

/// Maps `is_prime_trial` over 1,000 primes on 2 workers while busy workers are killed 20 times.
fn map_under_fire(options: &[&str]) -> (Daemon, Vec<String>, Vec<String>) {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    let input = daemon.dir.path().join("numbers");
    std::fs::write(&input, "115797848077099\n".repeat(TASKS)).unwrap();
    let map = daemon
        .poolctl(&[&["map"], options, &["is_prime_trial"]].concat())
        .stdin(std::fs::File::open(&input).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::thread::spawn(move || map.wait_with_output().unwrap());
    // One kill for every 40 tasks that end well: the load goes on before, between and after.
    for _ in 0..KILLS {
        for _ in 0..40 {
            daemon.wait_for_log(" ok");
        }
        // Both may be idle for a moment: while one has nothing but to pass over what was taken back it is sent nothing.
        let begun = Instant::now();
        let busy = loop {
            match daemon.workers().into_iter().find(|worker| worker["state"] == "busy") {
                Some(busy) => break busy,
                None => assert!(begun.elapsed() < PATIENCE, "nobody is busy"),
            }
        };
        let victim = pid(busy["pid"].as_i64().unwrap());
        let process = pidfd(victim);
        kill_process(victim, Signal::KILL).unwrap();
        wait_for_exit(&process);
    }
    let output = output.join().unwrap();
    let lines = |bytes: &[u8]| text(bytes).lines().map(str::to_owned).collect();
    let (stdout, stderr) = (lines(&output.stdout), lines(&output.stderr));
    (daemon, stdout, stderr)
}

#[test]
fn workers_killed_under_a_map_cost_one_attempt_each() {
    let (mut daemon, lines, errors) = map_under_fire(&[]);
    let daemon_pid = daemon.json(&["status"])["pid"].clone();
    assert_eq!(daemon_pid, daemon.child.id(), "the daemon is the one that was started");

    assert_eq!(lines.len(), TASKS, "every line of output is there");
    let blamed = daemon.log_so_far().iter().filter(|line| line.contains("crashed with it: task ")).count();
    let empty = lines.iter().filter(|line| line.is_empty()).count();
    assert_eq!(empty, blamed, "exactly the attempts that were running crashed");
    assert!(blamed <= KILLS, "{blamed} attempts crashed of {KILLS} kills");
    assert_eq!(errors.len(), blamed, "{errors:?}");
    assert!(
        errors.iter().all(|line| line.starts_with("line ") && line.contains("signal 9 (SIGKILL)")),
        "{errors:?}"
    );
    assert!(lines.iter().all(|line| line.is_empty() || line == "true"));

    let status = daemon.json(&["status"]);
    assert_eq!(status["pools"][0]["restarts"], KILLS);
    assert_eq!(status["outcomes"]["crashed"], blamed);
    assert_eq!(status["outcomes"]["ok"], TASKS - blamed);
}

#[test]
fn workers_killed_under_a_map_with_retries_cost_nothing() {
    let (daemon, lines, errors) = map_under_fire(&["--retries", "5"]);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(lines, vec!["true".to_owned(); TASKS]);
    let status = daemon.json(&["status"]);
    assert_eq!(status["pools"][0]["restarts"], KILLS);
    assert_eq!(status["outcomes"]["ok"], TASKS);
}
