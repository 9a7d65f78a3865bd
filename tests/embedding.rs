//! Programs that run functions of their own: the scenarios of `tests/embedding/program.rs`, and the
//! examples.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, child_named, directory_with, memory_of, parts, pid, pidfd, text, wait_for_exit};

/// The example of that name. Cargo builds the examples together with the tests, beside them.
fn example(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not there; run `cargo build --examples`", path.display());
    path
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).env_remove("POOLD_SOCKET").output().unwrap()
}

/// Runs a scenario to its end, which it comes to if all is as it should be.
fn scenario(name: &str) {
    let output = run(&example("embedded"), &[name]);
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
}

/// The processes that run `program`.
fn processes_of(program: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let runs_it = |entry: &PathBuf| std::fs::read_link(entry.join("exe")).is_ok_and(|exe| exe == program);
    entries.filter(runs_it).collect()
}

#[test]
fn own_functions_example_prints_what_it_computes() {
    let (status, stdout, stderr) = parts(&run(&example("own_functions"), &[]));
    assert_eq!(stderr, "");
    assert_eq!(stdout, "area: 12\ncapital: Tokyo\nquotient: 42\nno quotient: there is no quotient by zero\n");
    assert_eq!(status, 0);
}

#[test]
fn program_without_the_guard_call_says_what_to_add_and_leaves_no_process() {
    let program = example("missing_guard");
    let (status, stdout, stderr) = parts(&run(&program, &[]));
    assert_eq!((status, stdout.as_str()), (1, ""));
    let lines: Vec<&str> = stderr.lines().collect();
    // The process that it has started says so, and then it does itself.
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines.iter().all(|line| line.contains("call `poold::init(…)` first in `main`")), "{stderr}");
    assert!(lines[1].starts_with("missing_guard: "), "{stderr}");
    assert_eq!(processes_of(&program), Vec::<PathBuf>::new());
}

/// A program that goes on until it is killed, its private supervisor and a worker of that.
fn hold() -> (Child, [Pid; 2]) {
    let mut program = Command::new(example("embedded"))
        .arg("hold")
        // Cargo sets it, and no template is forked from a supervisor that has it.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let processes = line.split_whitespace().map(|number| pid(number.parse().unwrap()));
    (program, processes.collect::<Vec<_>>().try_into().unwrap())
}

#[test]
fn private_supervisor_and_its_workers_end_with_a_program_that_is_killed() {
    let (mut program, processes) = hold();
    let processes = processes.map(pidfd);
    kill_process(Pid::from_child(&program), Signal::KILL).unwrap();
    program.wait().unwrap();
    for process in &processes {
        wait_for_exit(process);
    }
}

#[test]
fn worker_of_a_private_supervisor_holds_no_variable_of_another_pool() {
    let (mut program, [_, worker]) = hold();
    let memory = memory_of(worker);
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(memory.contains("value-of-its-own"));
    assert!(!memory.contains("value-of-another"));
}

#[test]
fn child_that_a_program_starts_before_it_serves_is_no_stray() {
    let dir = directory_with("[pool.cpu]\nworkers = 1\n");
    let directory = dir.path().to_owned();
    let mut daemon = Daemon::launch_in(dir, |command| {
        *command = Command::new(example("embedded"));
        command.arg("daemon").current_dir(&directory).env_remove("LD_LIBRARY_PATH");
        command.env("NOTIFY_SOCKET", directory.join("notify.sock")).env("RUST_LOG", "debug");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    });
    daemon.wait_for_log("is ready");
    let child = child_named(&daemon, "sleep").unwrap();
    // Strays are looked for when a worker has ended, and before another takes the place of the next.
    for _ in 0..2 {
        kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
        daemon.wait_for_log("is ready");
    }
    let remained = child_named(&daemon, "sleep");
    let _ = kill_process(child, Signal::KILL);
    assert_eq!(remained, Some(child));
}

#[test]
fn two_private_executors_have_processes_of_their_own() {
    scenario("two");
}

#[test]
fn initializer_leaves_what_functions_share() {
    scenario("state");
}

#[test]
fn failing_initializer_is_told_to_the_caller() {
    scenario("broken_initializer");
}

#[test]
fn unknown_name_is_refused_with_the_nearest() {
    scenario("unknown_name");
}

#[test]
fn wrong_types_of_arguments_and_results_are_errors() {
    scenario("wrong_types");
}

#[test]
fn panic_fails_one_call_alone() {
    scenario("panic");
}

#[test]
fn function_that_calls_itself_is_refused() {
    scenario("recursion");
}

#[test]
fn chain_of_pools_is_legal_until_it_comes_back() {
    scenario("chain");
}

#[test]
fn functions_on_threads_ask_side_by_side() {
    scenario("threads");
}

#[test]
fn function_may_not_administer_nor_connect_beside_itself() {
    scenario("administration");
}
