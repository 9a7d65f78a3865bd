//! `poolctl run`: a command in a worker that behaves as if it ran where it was called.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, PATIENCE, assert_error, parts, pid, pidfd, text, wait_for_exit};

fn daemon() -> Daemon {
    Daemon::start("[pool.cpu]\nworkers = 2\n")
}

fn run(daemon: &Daemon, command: &[&str]) -> Command {
    daemon.poolctl(&[&["run", "--"], command].concat())
}

/// Starts a script that prints a line when it is ready, and gives the rest of its output with that line.
fn start(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    (child, stdout, line)
}

fn pids(line: &str) -> Vec<Pid> {
    line.split_whitespace().map(|number| pid(number.parse().unwrap())).collect()
}

/// Waits until a process does by itself what a signal asks for.
fn wait_until_caught(process: Pid, signal: Signal) {
    let begun = Instant::now();
    let is_caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (signal.as_raw() - 1)) != 0
    };
    while !is_caught() {
        assert!(begun.elapsed() < PATIENCE, "process {process:?} never catches {signal:?}");
        std::thread::yield_now();
    }
}

/// Resident memory of a process, in KiB: what it takes now, and the most it ever took.
fn memory_kib(process: Pid) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

#[test]
fn status_is_the_commands() {
    let daemon = daemon();
    for status in [0, 1, 3, 124, 255] {
        let output = run(&daemon, &["sh", "-c", &format!("exit {status}")]).output().unwrap();
        assert_eq!(parts(&output), (status, String::new(), String::new()));
    }
    let output = run(&daemon, &["sh", "-c", "kill -9 $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9));
}

#[test]
fn failures_of_its_own_have_their_own_status() {
    let daemon = daemon();
    let missing = run(&daemon, &["no-such-program"]).output().unwrap();
    assert_error(&missing, 127, &["cannot run no-such-program", "No such file"]);
    let file = daemon.dir.path().join("data");
    std::fs::write(&file, "not a program").unwrap();
    let denied = run(&daemon, &[file.to_str().unwrap()]).output().unwrap();
    assert_error(&denied, 126, &["cannot run", "ermission denied"]);
    let late = daemon.run(&["run", "--timeout", "50ms", "sleep", "1000"]);
    assert_error(&late, 124, &["timed out"]);
    assert_error(&daemon.run(&["run", "--pool", "nowhere", "true"]), 125, &["nowhere"]);
    let mut nobody = run(&daemon, &["true"]);
    nobody.env("POOLD_SOCKET", daemon.dir.path().join("nothing"));
    assert_error(&nobody.output().unwrap(), 125, &["no daemon listens"]);
}

#[test]
fn directory_environment_and_arguments_are_the_callers() {
    let daemon = daemon();
    let odd = std::os::unix::ffi::OsStringExt::from_vec(b"\xff\n=x".to_vec());
    let mut command = run(&daemon, &["sh", "-c", "pwd; printf '%s|' \"$A\" \"$@\"; env | wc -l", "sh"]);
    command.args(["--help", "$(id)", "; rm", "", "a\nb", "-x"]);
    command.env_clear().env("POOLD_SOCKET", &daemon.socket).env("PATH", "/usr/bin:/bin");
    command.env::<_, std::ffi::OsString>("A", odd).current_dir("/usr");
    let output = command.output().unwrap();
    assert_eq!(text(&output.stderr), "");
    let expected = b"/usr\n\xff\n=x|--help|$(id)|; rm||a\nb|-x|";
    assert!(output.stdout.starts_with(expected), "{}", text(&output.stdout));
}

#[test]
fn relative_program_is_the_one_in_the_callers_directory() {
    let daemon = daemon();
    let script = daemon.dir.path().join("here");
    std::fs::write(&script, "#!/bin/sh\necho here\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let output = run(&daemon, &["./here"]).current_dir(daemon.dir.path()).output().unwrap();
    assert_eq!(parts(&output), (0, "here\n".to_owned(), String::new()));
}

#[test]
fn streams_are_the_callers_as_they_come() {
    let daemon = daemon();
    let mut command =
        run(&daemon, &["sh", "-c", "while read line; do echo \"$line\"; echo \"$line\" >&2; done; exit 7"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    for line in ["one\n", "two\n"] {
        stdin.write_all(line.as_bytes()).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_line(&mut out).unwrap();
        stderr.read_line(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str()), (line, line), "each line is there before the next is given");
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn hundred_megabytes_stream_through_without_a_trace_in_the_daemon() {
    let bytes = 100_000_000;
    let daemon = daemon();
    assert_eq!(run(&daemon, &["true"]).status().unwrap().code(), Some(0));
    let (_, before) = memory_kib(daemon.pid());
    let mut command = run(&daemon, &["head", "-c", &bytes.to_string(), "/dev/zero"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let copied = std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert_eq!((copied, child.wait().unwrap().code()), (bytes, Some(0)));
    let (_, after) = memory_kib(daemon.pid());
    println!("the daemon's peak memory: {before} KiB before, {after} KiB after {bytes} bytes");
    assert!(after < before + 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn interrupt_ends_the_command_and_what_it_left_in_the_background() {
    let daemon = daemon();
    let (mut child, _, line) = start(run(&daemon, &["sh", "-c", "sleep 100 & echo $$ $!; exec sleep 100"]));
    let processes: Vec<_> = pids(&line).into_iter().map(pidfd).collect();
    assert_eq!(processes.len(), 2);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    processes.iter().for_each(wait_for_exit);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 0, "its worker lives on");
}

#[test]
fn signals_are_passed_on_and_the_command_decides() {
    let daemon = daemon();
    let script = "trap 'echo got TERM' TERM; trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done";
    let (mut child, mut stdout, _) = start(run(&daemon, &["sh", "-c", script]));
    let client = Pid::from_child(&child);
    kill_process(client, Signal::TERM).unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "got TERM\n");
    kill_process(client, Signal::USR1).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn interrupt_before_the_start_cancels_what_waits() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    let task = daemon.detach(&["sleep", "1000"]);
    daemon.wait_for_log("started");
    let mut child = run(&daemon, &["true"]).spawn().unwrap();
    daemon.wait_for_log("accepted: run");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    daemon.wait_for_log("cancelled (client_gone)");
    assert_eq!(parts(&daemon.run(&["cancel", &task])).0, 0);
}

#[test]
fn interrupt_before_any_worker_is_ready_cancels_what_waits() {
    let daemon =
        Daemon::launch("[pool.cpu]\nworkers = 1\ncommand = ['sleep', '1000']\nstart_timeout = '1h'\n");
    let mut child = daemon.poolctl(&["run", "--connect-timeout", "1m", "true"]).spawn().unwrap();
    let caller = Pid::from_child(&child);
    wait_until_caught(caller, Signal::INT);
    kill_process(caller, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn signal_right_after_the_start_is_the_commands() {
    let daemon = daemon();
    let script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done";
    for _ in 0..20 {
        let (mut child, _, _) = start(run(&daemon, &["sh", "-c", script]));
        kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

#[test]
fn signal_at_any_moment_ends_the_caller_as_a_signal_does() {
    let daemon = daemon();
    for spins in 0..20 {
        let mut child = run(&daemon, &["sleep", "1000"]).spawn().unwrap();
        let caller = Pid::from_child(&child);
        wait_until_caught(caller, Signal::TERM);
        (0..spins * 10).for_each(|_| std::thread::yield_now());
        kill_process(caller, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    }
}

#[test]
fn wrong_usage_is_told_apart_from_failures_of_its_own() {
    let daemon = daemon();
    assert_error(&daemon.run(&["run"]), 2, &["COMMAND"]);
    assert_error(&daemon.run(&["run", "--timeout", "soon", "true"]), 2, &["--timeout"]);
}

#[test]
fn killed_caller_takes_its_command_along() {
    let daemon = daemon();
    let (mut child, _, line) = start(run(&daemon, &["sh", "-c", "sleep 100 & echo $$ $!; wait"]));
    let processes: Vec<_> = pids(&line).into_iter().map(pidfd).collect();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    processes.iter().for_each(wait_for_exit);
}

#[test]
fn killed_daemon_takes_the_command_along_and_the_caller_is_told() {
    let daemon = daemon();
    let (child, _, line) = start(run(&daemon, &["sh", "-c", "sleep 100 & echo $$ $!; wait"]));
    let processes: Vec<_> = pids(&line).into_iter().map(pidfd).collect();
    daemon.signal(Signal::KILL);
    processes.iter().for_each(wait_for_exit);
    assert_error(&child.wait_with_output().unwrap(), 125, &["lost"]);
}

#[test]
fn another_user_may_not_run_commands_unless_the_configuration_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can act as another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let poolctl = directory.path().join("poolctl");
    std::fs::copy(env!("CARGO_BIN_EXE_poolctl"), &poolctl).unwrap();
    let config = |rule: &str| format!("socket_mode = \"0666\"\n{rule}\n[pool.cpu]\nworkers = 1\n");
    std::fs::write(directory.path().join("poold.toml"), config("")).unwrap();
    let mut daemon = Daemon::launch_in(directory, |_| {});
    daemon.wait_until_ready();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&poolctl);
        command.args(arguments).env("POOLD_SOCKET", &daemon.socket).current_dir("/").uid(65534).gid(65534);
        command.output().unwrap()
    };
    let refused = ["not allowed", "access.run", "`run`"];
    assert_error(&as_nobody(&["run", "id"]), 125, &refused);
    assert_error(&as_nobody(&["submit", "run", "--", "--", "id"]), 4, &refused);
    assert_eq!(parts(&as_nobody(&["submit", "is_prime", "7"])).1, "true\n");

    daemon.configure(&config("access.run.run = [\"*\"]"));
    assert_eq!(parts(&daemon.run(&["reload"])).1, "access.run.run nobody -> *\n");
    assert_eq!(parts(&as_nobody(&["run", "id", "-u"])), (0, "0\n".to_owned(), String::new()));
}

#[test]
fn run_without_its_files_fails_and_harms_nobody() {
    let daemon = daemon();
    let output = daemon.run(&["submit", "run", "--", "--", "id"]);
    assert_error(&output, 1, &["run takes what `poolctl run` sends"]);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 0);
}

#[test]
fn descriptors_are_closed_when_the_task_is_done() {
    let daemon = daemon();
    let open =
        |process: Pid| std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).unwrap().count();
    assert_eq!(run(&daemon, &["true"]).status().unwrap().code(), Some(0));
    // Asked over a connection, after all that the last one left was cleaned away.
    let workers = daemon.worker_pids();
    let before: Vec<usize> = [&workers[..], &[daemon.pid()]].concat().into_iter().map(open).collect();
    for _ in 0..20 {
        assert_eq!(run(&daemon, &["true"]).status().unwrap().code(), Some(0));
    }
    assert_eq!(daemon.worker_pids(), workers);
    let after: Vec<usize> = [&workers[..], &[daemon.pid()]].concat().into_iter().map(open).collect();
    assert!(after.iter().zip(&before).all(|(after, before)| *after <= before + 4), "{before:?}, {after:?}");
}
