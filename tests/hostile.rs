//! Clients and workers that do their worst harm themselves alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use bytes::BytesMut;
use poold::id::{FunctionName, RequestId};
use poold::message::client::{Reply, ReplyBody, Request, RequestBody};
use poold::task::{Payload, TaskSpec};
use poold::wire::{HANDSHAKE_BYTES, Hello, Inbox, Role, encode};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::thread::gettid;
use support::{
    Daemon, assert_error, child_named, children_named, directory_with, parts, pid, pidfd, replace_program,
    wait_for_exit, workers_of,
};

/// Tasks that are submitted one after the other.
const TASKS_IN_A_ROW: usize = 100;

fn still_serves(daemon: &Daemon) {
    assert_eq!(parts(&daemon.run(&["submit", "is_prime", "7"])), (0, "true\n".to_owned(), String::new()));
}

fn greeted(daemon: &Daemon) -> (std::os::unix::net::UnixStream, Inbox) {
    let mut stream = daemon.connect();
    stream.write_all(&Hello::new(Role::Client).encode()).unwrap();
    let mut inbox = Inbox::default();
    inbox.receive_answer(&mut stream).unwrap();
    let welcome: Reply = inbox.receive(&mut stream).unwrap();
    assert!(matches!(welcome.body, ReplyBody::Welcome(_)));
    (stream, inbox)
}

fn submission(number: u64, function: &str, argument: &str) -> Request {
    let spec = TaskSpec::new(FunctionName::new(function).unwrap());
    Request {
        id: RequestId(number),
        body: RequestBody::Submit { spec: spec.into(), args: Payload::from_args([argument]) },
    }
}

#[test]
fn giant_length_is_refused_before_it_is_sent() {
    let daemon = Daemon::start("");
    let (mut stream, mut inbox) = greeted(&daemon);
    stream.write_all(&[0xff; 8]).unwrap();
    let reply: Reply = inbox.receive(&mut stream).unwrap();
    assert!(matches!(reply.body, ReplyBody::Refused(_)), "{reply:?}");
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "the connection is closed");
    still_serves(&daemon);
}

#[test]
fn malformed_message_is_answered_and_closed() {
    let daemon = Daemon::start("");
    let (mut stream, mut inbox) = greeted(&daemon);
    stream.write_all(&[4, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xfe, 0xfe, 0xfe]).unwrap();
    let reply: Reply = inbox.receive(&mut stream).unwrap();
    assert!(matches!(reply.body, ReplyBody::Refused(_)), "{reply:?}");
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "the connection is closed");
    still_serves(&daemon);
}

#[test]
fn client_that_vanishes_in_mid_frame_is_forgotten() {
    let daemon = Daemon::start("");
    for cut in [1, HANDSHAKE_BYTES - 1] {
        daemon.connect().write_all(&Hello::new(Role::Client).encode()[..cut]).unwrap();
    }
    let (mut stream, _) = greeted(&daemon);
    let mut frame = BytesMut::new();
    encode(&submission(1, "is_prime", "7"), &mut frame).unwrap();
    stream.write_all(&frame[..frame.len() - 1]).unwrap();
    drop(stream);
    still_serves(&daemon);
    assert_eq!(daemon.json(&["status"])["outcomes"]["cancelled"], 0, "half a submission is none");
}

#[test]
fn worker_role_is_refused_on_the_client_socket() {
    let daemon = Daemon::start("");
    let mut stream = daemon.connect();
    stream.write_all(&Hello::new(Role::Worker).encode()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!((answer.len(), answer[6]), (HANDSHAKE_BYTES, 3), "the verdict: wrong role");
    still_serves(&daemon);
}

#[test]
fn client_that_never_reads_waits_while_others_are_served() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\n[limits]\nunread_bytes = \"1 MiB\"\n");
    let (stream, mut inbox) = greeted(&daemon);
    let argument = "x".repeat(60_000);
    let tasks = 200;
    let mut writer = stream.try_clone().unwrap();
    let submitting = std::thread::spawn(move || {
        let mut frame = BytesMut::new();
        for number in 0..tasks {
            encode(&submission(number, "echo", &argument), &mut frame).unwrap();
            writer.write_all(&frame.split()).unwrap();
        }
    });
    // 12 MB of results that nobody reads: another client is served all the same.
    for _ in 0..20 {
        still_serves(&daemon);
    }
    let unread = daemon.json(&["status"])["tasks"].clone();
    assert_eq!(unread["kept"], 0);

    let mut reader = stream;
    let mut done = 0;
    while done < tasks {
        let reply: Reply = inbox.receive(&mut reader).unwrap();
        if let ReplyBody::Done { outcome, .. } = reply.body {
            assert_eq!(outcome.payload_bytes(), 60_002, "a JSON string of 60,000 characters");
            done += 1;
        }
    }
    submitting.join().unwrap();
}

/// A daemon whose second pool runs a worker that misbehaves.
fn with_worker(behaviour: &[&str]) -> Daemon {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/worker.py");
    let mut command: Vec<&str> = vec!["python3", script];
    command.extend(behaviour);
    Daemon::launch(&format!(
        "[restart]\nintensity = 1\nperiod = \"1m\"\n[pool.good]\nworkers = 1\n[pool.bad]\nworkers = 1\ngrace = \"200ms\"\nstart_timeout = \"2s\"\ncommand = {command:?}\n"
    ))
}

#[test]
fn worker_in_another_language_serves() {
    let mut daemon = with_worker(&[]);
    daemon.wait_until_ready();
    let output = daemon.run(&["submit", "--pool", "bad", "echo", "hello"]);
    assert_eq!(parts(&output), (0, "hello\n".to_owned(), String::new()));
}

#[test]
fn worker_that_writes_garbage_is_ended_and_its_unstarted_task_waits() {
    let mut daemon = with_worker(&["garbage"]);
    daemon.wait_until_ready();
    let output = daemon.run(&["submit", "--pool", "bad", "--deadline", "1s", "echo", "x"]);
    assert_error(&output, 124, &["timed out", "deadline"]);
    daemon.wait_for_log("broke the protocol");
    daemon.wait_for_log("restarted in");
    still_serves(&daemon);
}

#[test]
fn worker_that_closes_its_socket_and_lives_is_killed() {
    let mut daemon = with_worker(&["close"]);
    daemon.wait_until_ready();
    let output = daemon.run(&["submit", "--pool", "bad", "--deadline", "1s", "echo", "x"]);
    assert_error(&output, 124, &["timed out", "deadline"]);
    daemon.wait_for_log("SIGKILL, because its socket or its sentinel ended before it did");
    daemon.wait_for_log("restarted in");
    still_serves(&daemon);
}

/// Whether the end of a worker's sentinel is known on this kernel.
fn knows_sentinels() -> bool {
    const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(OFlags::EXCL.bits());
    let knows = pidfd_open(gettid(), PIDFD_THREAD).is_ok();
    if !knows {
        println!("NOT RUN: this kernel has no descriptors of threads (Linux 6.9)");
    }
    knows
}

#[test]
fn what_a_worker_reports_after_its_sentinel_has_ended_counts() {
    if !knows_sentinels() {
        return;
    }
    let dir = directory_with("");
    let fifo = dir.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/worker.py");
    let daemon = Daemon::start(&format!(
        "[pool.py]\nworkers = 1\ngrace = '1h'\ncommand = ['python3', '{script}', 'survive-sentinel', '{}']\n",
        fifo.display()
    ));
    let task = daemon.detach(&["echo", "x"]);
    while daemon.workers()[0]["state"] != "stopping" {
        std::thread::yield_now();
    }
    std::fs::write(&fifo, "").unwrap();
    assert!(daemon.run(&["wait", &task]).status.success());
    assert_eq!(parts(&daemon.run(&["result", &task])), (0, "x\n".to_owned(), String::new()));
}

#[test]
fn worker_that_outlives_its_sentinel_is_killed() {
    if !knows_sentinels() {
        return;
    }
    let mut daemon = with_worker(&["end-sentinel"]);
    daemon.wait_until_ready();
    let output = daemon.run(&["submit", "--pool", "bad", "echo", "x"]);
    assert_error(&output, 137, &["SIGKILL"]);
    daemon.wait_for_log("SIGKILL, because its socket or its sentinel ended before it did");
    still_serves(&daemon);
}

#[test]
fn sentinel_that_is_no_thread_of_the_worker_is_not_minded() {
    let mut daemon = with_worker(&["foreign-sentinel"]);
    daemon.wait_until_ready();
    let output = daemon.run(&["submit", "--pool", "bad", "echo", "x"]);
    assert_eq!(parts(&output), (0, "x\n".to_owned(), String::new()));
}

#[test]
fn worker_that_is_never_ready_is_ended_in_time() {
    let mut daemon = with_worker(&["never-ready"]);
    daemon.wait_for_log("it was not ready in time");
    still_serves(&daemon);
}

#[test]
fn pool_whose_workers_keep_dying_is_degraded_and_says_so() {
    let mut daemon = with_worker(&["exit-before-ready", "3"]);
    daemon.wait_for_log("pool bad is degraded");
    let status = daemon.json(&["status"]);
    let bad = status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "bad").unwrap();
    assert_eq!(bad["degraded"], true);
    assert!(bad["last_failure"].as_str().unwrap().contains("exit status 3"), "{bad}");
    still_serves(&daemon);
}

#[test]
fn worker_that_ignores_term_is_killed_after_the_grace() {
    let mut daemon = with_worker(&["ignore-term"]);
    daemon.wait_until_ready();
    assert_error(
        &daemon.run(&["submit", "--pool", "bad", "--timeout", "50ms", "echo", "x"]),
        124,
        &["timed out"],
    );
    daemon.wait_for_log("SIGTERM");
    daemon.wait_for_log("SIGKILL");
    daemon.wait_for_log("signal 9");
    still_serves(&daemon);
}

#[test]
fn worker_that_is_stopped_while_idle_is_replaced_and_its_unstarted_task_runs() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\nstart_timeout = '500ms'\ngrace = '200ms'\n");
    still_serves(&daemon);
    let stopped = daemon.worker_pids();
    kill_process(stopped[0], Signal::STOP).unwrap();
    still_serves(&daemon);
    assert_ne!(daemon.worker_pids(), stopped);
}

#[test]
fn worker_that_is_stopped_is_replaced_although_what_it_was_sent_is_cancelled() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\nstart_timeout = '500ms'\n");
    still_serves(&daemon);
    let worker = daemon.worker_pids()[0];
    let stopped = pidfd(worker);
    kill_process(worker, Signal::STOP).unwrap();
    let task = daemon.detach(&["is_prime", "7"]);
    assert_eq!(daemon.run(&["cancel", &task]).status.code(), Some(0));
    wait_for_exit(&stopped);
    daemon.wait_for_log("it does not answer");
    still_serves(&daemon);
}

#[test]
fn worker_that_is_stopped_is_replaced_although_no_task_waits_so_long_for_it() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\nstart_timeout = '500ms'\n");
    still_serves(&daemon);
    kill_process(daemon.worker_pids()[0], Signal::STOP).unwrap();
    let is_served =
        || daemon.run(&["submit", "--deadline", "50ms", "is_prime", "7"]).status.code() == Some(0);
    assert!((0..TASKS_IN_A_ROW).any(|_| is_served()), "no task was served");
}

#[test]
fn worker_goes_on_after_what_it_was_sent_ahead_is_cancelled() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\nstart_timeout = '500ms'\n");
    let numbers: String = (0..TASKS_IN_A_ROW).map(|number| format!("{number}\n")).collect();
    assert_eq!(daemon.run_with_input(&["map", "is_prime"], &numbers).status.code(), Some(0));
    let workers = daemon.worker_pids();
    let long = daemon.detach(&["sleep", "1"]);
    for _ in 0..3 {
        let task = daemon.detach(&["is_prime", "7"]);
        assert_eq!(daemon.run(&["cancel", &task]).status.code(), Some(0));
    }
    still_serves(&daemon);
    assert_eq!(daemon.run(&["wait", &long]).status.code(), Some(0));
    assert_eq!(daemon.worker_pids(), workers);
}

#[test]
fn worker_that_is_stopped_while_busy_costs_its_attempt_alone() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 2\ngrace = '200ms'\n");
    daemon.wait_for_log("is ready");
    daemon.wait_for_log("is ready");
    let task = daemon.detach(&["--timeout", "1s", "sleep", "1000"]);
    daemon.wait_for_log("started on worker");
    let busy = daemon.workers().iter().find(|worker| worker["task"].is_string()).unwrap()["pid"].clone();
    let process = pid(busy.as_i64().unwrap());
    let stopped = pidfd(process);
    kill_process(process, Signal::STOP).unwrap();
    still_serves(&daemon);
    assert_error(&daemon.run(&["wait", &task]), 124, &["timed out"]);
    wait_for_exit(&stopped);
    still_serves(&daemon);
}

/// Kills the child of a daemon with that name, and waits for its end.
fn kill_child(daemon: &Daemon, name: &str) -> Pid {
    let child = child_named(daemon, name).unwrap();
    let process = pidfd(child);
    kill_process(child, Signal::KILL).unwrap();
    wait_for_exit(&process);
    child
}

#[test]
fn guard_that_is_killed_is_replaced_with_the_next_worker() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    let first = kill_child(&daemon, "poold: guard");
    kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
    still_serves(&daemon);
    assert_ne!(child_named(&daemon, "poold: guard").unwrap(), first);
    daemon.wait_for_log("the guard died");
}

#[test]
fn template_that_is_killed_is_replaced_and_meanwhile_done_without() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    let first = kill_child(&daemon, "poold: template");
    for _ in 0..2 {
        kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
        still_serves(&daemon);
    }
    assert_ne!(child_named(&daemon, "poold: template").unwrap(), first);
    daemon.wait_for_log("the template failed");
}

#[test]
fn template_that_is_stopped_is_replaced() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    let stopped = stop_template(&daemon);
    kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
    wait_for_exit(&stopped);
    still_serves(&daemon);
    daemon.wait_for_log("the template failed");
}

/// Stops the template of a daemon.
fn stop_template(daemon: &Daemon) -> OwnedFd {
    let template = child_named(daemon, "poold: template").unwrap();
    let process = pidfd(template);
    kill_process(template, Signal::STOP).unwrap();
    process
}

#[test]
fn guard_that_was_made_and_not_heard_of_is_ended() {
    // A worker of another program, whose attempts may leave behind what is not to be ended at once.
    let worker = env!("CARGO_BIN_EXE_poold");
    let dir = directory_with(&format!("[pool.cpu]\nworkers = 1\ncommand = ['{worker}']\n"));
    let mut daemon = Daemon::launch_in(dir, |command| {
        let mut tracer = Command::new("python3");
        tracer.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/stop_template.py"));
        replace_program(command, tracer);
    });
    daemon.wait_for_log("the template failed");
    daemon.wait_for_log("is ready");
    let guards = children_named(&daemon, "poold: guard");
    assert_eq!(guards.len(), 1, "{guards:?}");
}

#[test]
fn environment_larger_than_a_frame_is_that_of_a_copy() {
    let value = "x".repeat(125_000);
    let variables: Vec<String> = (0..5).map(|number| format!("V{number} = \"{value}\"")).collect();
    let mut daemon =
        Daemon::start(&format!("[pool.cpu]\nworkers = 1\nenv = {{ {} }}\n", variables.join(", ")));
    daemon.wait_for_log("is ready");
    let template = child_named(&daemon, "poold: template");
    assert!(template.is_some());
    kill_process(daemon.worker_pids()[0], Signal::KILL).unwrap();
    still_serves(&daemon);
    assert_eq!(child_named(&daemon, "poold: template"), template);
    // A copy has its address space in common with the template, which an executed process draws at random.
    let address = |process: Pid| {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.as_raw_nonzero())).unwrap();
        maps.split_once('-').unwrap().0.to_owned()
    };
    assert_eq!(address(daemon.worker_pids()[0]), address(template.unwrap()));
}

#[test]
fn variable_whose_name_begins_with_an_equals_sign_is_inherited() {
    let dir = directory_with("[pool.cpu]\nworkers = 1\nenv_pass = [\"*\"]\n");
    let mut daemon = Daemon::launch_in(dir, |command| _ = command.env("=x", "y"));
    daemon.wait_until_ready();
    still_serves(&daemon);
    let worker = daemon.worker_pids()[0].as_raw_nonzero();
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"=x=y"));
    let log = daemon.log_so_far();
    assert!(!log.iter().any(|line| line.contains("template failed")), "{log:?}");
}

#[test]
fn titles_are_whole_where_the_command_line_is_short() {
    let pool = "p".repeat(64);
    let dir = directory_with(&format!("[pool.{pool}]\nworkers = 1\n"));
    symlink(env!("CARGO_BIN_EXE_poold"), dir.path().join("p")).unwrap();
    let directory = dir.path().to_owned();
    let mut daemon = Daemon::launch_in(dir, |command| {
        *command = Command::new("./p");
        command.current_dir(&directory).env_clear().env("NOTIFY_SOCKET", directory.join("notify.sock"));
        command.args(["--config", "poold.toml", "--socket", "poold.sock"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    });
    daemon.wait_until_ready();
    assert!(child_named(&daemon, &format!("poold: worker 0.0 ({pool})")).is_some());
    let template = child_named(&daemon, "poold: template").unwrap();
    assert!(workers_of(daemon.pid()).contains(&template));
}
