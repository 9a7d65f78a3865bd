//! Functions that run a command: what is given to it, what comes of it, and that nothing of it stays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;

use poold::limits::OUTPUT_BYTES_MAX;
use rustix::process::{Pid, Signal};
use support::{Daemon, assert_error, parts, pid, pidfd, text, wait_for_exit, workers_of};

/// Prints each of its arguments in brackets.
const SHOW: &str = r#"["sh", "-c", "for word; do printf '[%s]' \"$word\"; done", "--", "{*}"]"#;

/// A daemon with one worker and these functions.
fn daemon(functions: &str) -> Daemon {
    Daemon::start(&format!("[pool.cpu]\nworkers = 1\n{functions}"))
}

/// A script that prints its process id and that of a child, and then waits for ever, on standard error so
/// that it is in the log.
const FAMILY: &str = r#"["sh", "-c", "sleep 1000 & echo family $$ $! >&2; wait"]"#;

/// Waits until such a script runs, and gives its processes.
fn family(daemon: &mut Daemon) -> Vec<Pid> {
    let line = daemon.wait_for_log("stderr: family ");
    let numbers = line.split("family ").nth(1).unwrap().split(' ');
    numbers.map(|number| pid(number.trim().parse().unwrap())).collect()
}

#[test]
fn arguments_arrive_as_they_are() {
    let daemon = daemon(&format!("[function.show]\nexec = {SHOW}\n"));
    let long = "x".repeat(100_000);
    for argument in [
        "--help",
        "-x",
        "--",
        "$(id)",
        "`id`",
        "; rm -rf /",
        "",
        "a b",
        "a\nb",
        "*",
        "'",
        "\"1\"",
        "é",
        &long,
    ] {
        let output = daemon.run(&["submit", "show", "--", argument]);
        assert_eq!(parts(&output), (0, format!("[{argument}]"), String::new()));
    }
    let output = daemon.run(&["submit", "show", "--", "", "a b", ""]);
    assert_eq!(parts(&output).1, "[][a b][]");
    assert_eq!(parts(&daemon.run(&["submit", "show"])).1, "");
}

#[test]
fn argument_with_a_dash_is_refused_where_it_could_become_an_option() {
    let daemon = daemon(
        r#"
        [function.bare]
        exec = ["echo", "{0}.{1}"]
        [function.part]
        exec = ["echo", "of {0}"]
        [function.free]
        exec = ["printf", "%s", "{0}"]
        options = true
        "#,
    );
    for arguments in [["-n", "x"], ["", "-n"], ["--help", ""]] {
        let output = daemon.run(&[&["submit", "bare", "--"][..], &arguments[..1], &arguments[1..]].concat());
        let is_option = arguments[0].starts_with('-');
        match is_option {
            true => assert_error(&output, 1, &["bare does not accept", arguments[0], "option"]),
            // A dot is before the dash.
            false => assert_eq!(parts(&output).1, format!("{}.{}\n", arguments[0], arguments[1])),
        }
    }
    assert_eq!(parts(&daemon.run(&["submit", "part", "--", "-n"])).1, "of -n\n");
    assert_eq!(parts(&daemon.run(&["submit", "free", "--", "-n"])).1, "-n");
}

#[test]
fn arguments_of_another_count_or_pattern_are_refused_in_one_line() {
    let daemon = daemon(
        r#"
        [function.resize]
        exec = ["echo", "{0}", "{1}"]
        patterns = ["[a-z]+|x1", "[0-9]+"]
        [function.some]
        exec = ["echo", "{*}"]
        args = { min = 1, max = 2 }
        patterns = ["[a-z]"]
        "#,
    );
    assert_eq!(parts(&daemon.run(&["submit", "resize", "x1", "12"])).1, "x1 12\n");
    assert_error(&daemon.run(&["submit", "resize", "x"]), 1, &["resize takes 2 arguments, got 1"]);
    let refused = ["argument 2 is", "which does not match [0-9]+"];
    for wrong in ["12\n", "x12", "", "1 2", "١"] {
        assert_error(&daemon.run(&["submit", "resize", "x", wrong]), 1, &refused);
    }
    assert_error(&daemon.run(&["submit", "resize", "x2", "1"]), 1, &["argument 1 is \"x2\""]);
    assert_eq!(parts(&daemon.run(&["submit", "some", "a", "b"])).1, "a b\n");
    assert_error(&daemon.run(&["submit", "some"]), 1, &["some takes 1 to 2 arguments, got 0"]);
    assert_error(&daemon.run(&["submit", "some", "a", "bb"]), 1, &["argument 2 is \"bb\""]);
}

#[test]
fn argument_becomes_standard_input_whatever_is_in_it() {
    let daemon =
        daemon("[function.count]\nexec = [\"wc\", \"-c\"]\nstdin = 0\n[function.none]\nexec = [\"cat\"]\n");
    let long = "-x\n".repeat(30_000);
    assert_eq!(parts(&daemon.run(&["submit", "count", "--", &long])).1.trim(), "90000");
    assert_eq!(parts(&daemon.run(&["submit", "count", ""])).1.trim(), "0");
    assert_eq!(parts(&daemon.run(&["submit", "none"])), (0, String::new(), String::new()));
}

#[test]
fn directory_and_environment_are_the_configured_ones() {
    let daemon = daemon(
        r#"
        [function.where]
        exec = ["sh", "-c", "pwd; echo $COLOUR; env | grep ^POOLD"]
        cwd = "/usr"
        env = { COLOUR = "green" }
        [function.nothing]
        exec = ["sh", "-c", "env | grep -c POOLD || :"]
        "#,
    );
    let output = daemon.run(&["submit", "where"]);
    assert_error(&output, 1, &["sh: exit status 1"]);
    assert_eq!(
        parts(&daemon.run(&["submit", "nothing"])).1,
        "0\n",
        "the daemon's variables are not handed on"
    );
}

#[test]
fn directory_need_not_be_readable() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o111)).unwrap();
    let path = directory.path().display();
    let daemon = daemon(&format!("[function.where]\nexec = [\"pwd\"]\ncwd = \"{path}\"\n"));
    assert_eq!(parts(&daemon.run(&["submit", "where"])), (0, format!("{path}\n"), String::new()));
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn pipe_in_place_of_a_directory_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let daemon = daemon(&format!("[function.where]\nexec = [\"pwd\"]\ncwd = \"{}\"\n", pipe.display()));
    // The timeout ends only a call that waits.
    let output = daemon.run(&["submit", "--timeout", "1m", "where"]);
    assert_error(&output, 1, &["cannot run pwd", "Not a directory"]);
}

#[test]
fn failure_tells_the_status_and_the_end_of_standard_error() {
    let daemon = daemon(
        r#"
        [function.fail]
        exec = ["sh", "-c", "echo first >&2; echo second >&2; echo output; exit 3"]
        [function.die]
        exec = ["sh", "-c", "kill -9 $$"]
        [function.chatter]
        exec = ["sh", "-c", "yes chatter | head -c 1000000 >&2; echo last >&2; exit 1"]
        [function.missing]
        exec = ["/nowhere/program"]
        "#,
    );
    assert_error(&daemon.run(&["submit", "fail"]), 1, &["sh: exit status 3: first\\nsecond"]);
    assert_error(&daemon.run(&["submit", "die"]), 1, &["sh: signal 9 (SIGKILL)"]);
    let output = daemon.run(&["submit", "chatter"]);
    assert_error(&output, 1, &["exit status 1", "last"]);
    assert!(output.stderr.len() < 4096);
    assert_error(&daemon.run(&["submit", "missing"]), 1, &["cannot run /nowhere/program", "No such file"]);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 0, "the worker lives on");
}

#[test]
fn output_over_the_cap_is_a_failure_and_ends_the_command() {
    let daemon = daemon(
        r#"
        [function.zeros]
        exec = ["head", "-c", "{0}", "/dev/zero"]
        [function.endless]
        exec = ["yes"]
        "#,
    );
    let largest = OUTPUT_BYTES_MAX;
    let output = daemon.run(&["submit", "zeros", &largest.to_string()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), largest));
    let error = ["its output exceeds 67108864 bytes", "file"];
    assert_error(&daemon.run(&["submit", "zeros", &(largest + 1).to_string()]), 1, &error);
    assert_error(&daemon.run(&["submit", "endless"]), 1, &error);
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let daemon = daemon("[function.leave]\nexec = [\"sh\", \"-c\", \"sleep 1000 & echo $!\"]\n");
    let worker = daemon.worker_pids();
    let output = daemon.run(&["submit", "leave"]);
    let left = pid(text(&output.stdout).trim().parse().unwrap());
    if let Ok(process) = rustix::process::pidfd_open(left, rustix::process::PidfdFlags::empty()) {
        wait_for_exit(&process);
    }
    assert_eq!(daemon.worker_pids(), worker, "the worker lives on");
}

#[test]
fn cancelled_command_is_asked_to_end_and_takes_its_children_along() {
    let mut daemon = daemon(&format!(
        "[function.family]\nexec = {FAMILY}\n[function.polite]\n{}\n",
        r#"exec = ["sh", "-c", "trap 'echo bye >&2; exit' TERM; echo ready >&2; while :; do sleep 0.01; done"]"#
    ));
    let task = daemon.detach(&["family"]);
    let processes: Vec<_> = family(&mut daemon).into_iter().map(pidfd).collect();
    assert_eq!(parts(&daemon.run(&["cancel", &task])).0, 0);
    processes.iter().for_each(wait_for_exit);

    let task = daemon.detach(&["polite"]);
    daemon.wait_for_log("stderr: ready");
    assert_eq!(parts(&daemon.run(&["cancel", &task])).0, 0);
    daemon.wait_for_log("stderr: bye");
}

#[test]
fn commands_on_threads_run_side_by_side_and_a_cancelled_one_harms_no_other() {
    let mut daemon = Daemon::start(&format!(
        "[pool.io]\nworkers = 1\nthreads = 3\ngrace = \"1h\"\n[function.family]\nexec = {FAMILY}\n\
         [function.hold]\nexec = [\"sh\", \"-c\", \"echo held >&2; read line < $0; echo $line\", \"{{0}}\"]\n"
    ));
    let cancelled = daemon.detach(&["family"]);
    let processes: Vec<_> = family(&mut daemon).into_iter().map(pidfd).collect();
    let siblings = ["a", "b"].map(|name| {
        let pipe = daemon.dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let task = daemon.detach(&["hold", pipe.to_str().unwrap()]);
        daemon.wait_for_log("stderr: held");
        (task, pipe)
    });
    assert_eq!(daemon.workers().len(), 1, "all three run in one worker");

    assert_eq!(parts(&daemon.run(&["cancel", &cancelled])).0, 0);
    for (task, pipe) in &siblings {
        std::fs::write(pipe, "untouched\n").unwrap();
        let output = daemon.run(&["wait", task]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&daemon.run(&["result", task]).stdout), "untouched\n");
    }
    processes.iter().for_each(wait_for_exit);
}

#[test]
fn command_that_ignores_the_request_to_end_is_killed_after_the_grace() {
    let script = r#"["sh", "-c", "trap '' TERM; sleep 1000 & echo family $$ $! >&2; wait"]"#;
    let mut daemon = Daemon::start(&format!(
        "[pool.cpu]\nworkers = 1\ngrace = \"50ms\"\n[function.stay]\nexec = {script}\n"
    ));
    let task = daemon.detach(&["stay"]);
    let processes: Vec<_> = family(&mut daemon).into_iter().map(pidfd).collect();
    assert_eq!(parts(&daemon.run(&["cancel", &task])).0, 0);
    processes.iter().for_each(wait_for_exit);
}

#[test]
fn function_has_its_own_timeout() {
    let mut daemon = daemon(&format!("[function.family]\nexec = {FAMILY}\ntimeout = \"300ms\"\n"));
    let output = daemon.run(&["submit", "family"]);
    assert_error(&output, 124, &["timed out"]);
    let worker = daemon.wait_for_log("because its task");
    assert!(worker.contains("SIGTERM"), "{worker}");
    daemon.wait_for_log("is ready");
    let output = daemon.run(&["submit", "--timeout", "10ms", "family"]);
    assert_error(&output, 124, &["timed out"]);
}

#[test]
fn killed_worker_takes_its_command_along() {
    let mut daemon = daemon(&format!("[function.family]\nexec = {FAMILY}\n"));
    let task = daemon.detach(&["family"]);
    let processes: Vec<_> = family(&mut daemon).into_iter().map(pidfd).collect();
    rustix::process::kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
    processes.iter().for_each(wait_for_exit);
    assert_error(&daemon.run(&["wait", &task]), 137, &["crashed"]);
}

#[test]
fn killed_daemon_takes_all_commands_and_their_children_along() {
    let mut daemon = Daemon::start(&format!("[pool.cpu]\nworkers = 4\n[function.family]\nexec = {FAMILY}\n"));
    let mut processes = Vec::new();
    for _ in 0..4 {
        daemon.detach(&["family"]);
        processes.extend(family(&mut daemon));
    }
    processes.extend(daemon.worker_pids());
    let processes: Vec<_> = processes.into_iter().map(pidfd).collect();
    assert_eq!(processes.len(), 12);
    let killed = std::time::Instant::now();
    daemon.signal(Signal::KILL);
    processes.iter().for_each(wait_for_exit);
    println!("12 processes gone {:?} after the daemon was killed", killed.elapsed());
    daemon.wait();
    assert_eq!(workers_of(daemon.pid()), []);
}

#[test]
fn files_are_mapped_over_a_command() {
    let daemon = daemon("[function.size]\nexec = [\"wc\", \"-c\", \"--\", \"{0}\"]\n");
    let directory = daemon.dir.path();
    let names = ["a", "two words", "-n"].map(|name| directory.join(name));
    for (bytes, name) in names.iter().enumerate() {
        std::fs::write(name, "x".repeat(bytes)).unwrap();
    }
    let input: String = names.iter().map(|name| format!("{}\n", name.display())).collect();
    let output = daemon.run_with_input(&["map", "size"], &input);
    let expected: String = names
        .iter()
        .enumerate()
        .map(|(bytes, name)| format!("\"{bytes} {}\\n\"\n", name.display()))
        .collect();
    assert_eq!(parts(&output), (0, expected, String::new()));
}

#[test]
fn reload_brings_functions_in_and_takes_them_away() {
    let daemon = daemon("[function.old]\nexec = [\"echo\", \"old\"]\n");
    assert_eq!(parts(&daemon.run(&["submit", "old"])).1, "old\n");
    daemon.configure("[pool.cpu]\nworkers = 1\n[function.new]\nexec = [\"echo\", \"new\"]\n");
    let reload = daemon.run(&["reload"]);
    assert!(text(&reload.stdout).contains("function new: added"), "{reload:?}");
    assert!(text(&reload.stdout).contains("function old: removed"), "{reload:?}");
    let mut daemon = daemon;
    daemon.wait_for_log("ended");
    daemon.wait_for_log("is ready");
    assert_eq!(parts(&daemon.run(&["submit", "new"])).1, "new\n");
    assert_error(&daemon.run(&["submit", "old"]), 4, &["no function `old`"]);
}
