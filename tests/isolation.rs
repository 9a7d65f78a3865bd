//! One death costs one attempt: workers are killed in the middle of a load.

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Signal, kill_process};
use support::{Daemon, pid, pidfd, text, wait_for_exit};

const TASKS: usize = 1000;
const KILLS: usize = 20;

/// Maps `is_prime_trial` over 1,000 primes on 2 workers while busy workers are killed 20 times.
fn map_under_fire(options: &[&str]) -> (Daemon, Vec<String>, Vec<String>) {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 2\n");
    let input = daemon.dir.path().join("numbers");
    std::fs::write(&input, "115797848077099\n".repeat(TASKS)).unwrap();
    let mut map = daemon
        .poolctl(&[&["map"], options, &["is_prime_trial"]].concat())
        .stdin(std::fs::File::open(&input).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(map.stderr.take().unwrap());
    let errors = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut line = String::new();
        while errors.read_line(&mut line).unwrap() > 0 {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        lines
    });
    let mut output = BufReader::new(map.stdout.take().unwrap()).lines().map(Result::unwrap);

    let mut lines = Vec::new();
    let mut killed = 0;
    // One kill for every 40 lines of output: the load goes on before, between and after.
    while let Some(line) = output.next() {
        lines.push(line);
        if killed < KILLS && lines.len() % 40 == 0 {
            let busy = daemon.workers().into_iter().find(|worker| worker["state"] == "busy").unwrap();
            let victim = pid(busy["pid"].as_i64().unwrap());
            let process = pidfd(victim);
            kill_process(victim, Signal::KILL).unwrap();
            wait_for_exit(&process);
            daemon.wait_for_log("died: signal 9");
            killed += 1;
        }
    }
    assert_eq!(killed, KILLS);
    map.wait().unwrap();
    (daemon, lines, errors.join().unwrap())
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

#[test]
fn output_of_a_function_stays_out_of_its_result() {
    let daemon = Daemon::start("");
    let output = daemon.run(&["submit", "echo", "to the result"]);
    assert_eq!(text(&output.stdout), "to the result\n");
}
