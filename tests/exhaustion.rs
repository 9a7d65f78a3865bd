//! The daemon when the system has nothing left to give: no descriptors, no processes, no room on the disk, no
//! `/proc`; and when thousands of clients ask for nothing, or never read.
//!
//! `POOLD_TEST_FULL=1` has ten thousand idle clients in place of one thousand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "support/table.rs"]
mod table;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use poold::id::{FunctionName, RequestId};
use poold::message::client::{Request, RequestBody};
use poold::task::{Payload, TaskSpec};
use poold::wire::{Hello, Inbox, Role, Verdict, encode};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use support::{
    Daemon, PATIENCE, assert_error, child_named, cpu_ticks, directory_with, parts, pid, replace_program,
    waits,
};

const CLIENTS: usize = 200;

fn still_serves(daemon: &Daemon) {
    assert_eq!(parts(&daemon.run(&["submit", "is_prime", "7"])), (0, "true\n".to_owned(), String::new()));
}

/// A connection, and what was answered to its hello.
fn enter(daemon: &Daemon) -> (UnixStream, Verdict) {
    let mut stream = daemon.connect();
    // Whoever is turned away may be so before it has said anything.
    let _ = stream.write_all(&Hello::new(Role::Client).encode());
    let answer = Inbox::default().receive_answer(&mut stream).unwrap();
    (stream, answer.verdict)
}

/// So many connections, each of which must be answered; and how many were let in.
fn enter_all(daemon: &Daemon) -> (Vec<UnixStream>, usize) {
    let entered: Vec<(UnixStream, Verdict)> = (0..CLIENTS).map(|_| enter(daemon)).collect();
    let refused = entered.iter().filter(|(_, verdict)| *verdict == Verdict::TooManyConnections).count();
    let served = entered.iter().filter(|(_, verdict)| *verdict == Verdict::Accepted).count();
    assert_eq!(served + refused, CLIENTS);
    (entered.into_iter().map(|(stream, _)| stream).collect(), served)
}

/// Sees the daemon fall asleep and then do nothing for a second, which is what is observed, not waited for.
fn assert_sleeps(daemon: &Daemon) {
    let count = || (waits(daemon.child.id()), cpu_ticks(daemon.child.id()));
    let mut before = count();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = count();
        if now == before {
            break;
        }
        before = now;
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(count(), before, "the daemon woke up with nothing to do");
}

/// Sets a soft limit of the daemon, such as `--nofile`, as the user that it runs as.
fn set_limit(daemon: &Daemon, option: &str, limit: u64) {
    set_limit_of(daemon.child.id(), option, limit);
}

/// Limits what a process may have, in its owner's name.
fn set_limit_of(process: u32, option: &str, limit: u64) {
    let owner = std::fs::metadata(format!("/proc/{process}")).unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.to_string(), &format!("{option}={limit}:")]);
    command.uid(owner.uid()).gid(owner.gid());
    assert!(command.status().unwrap().success());
}

/// The lowest number that is none of the daemon's descriptors: with that as the limit there is no further one.
fn lowest_free_descriptor(daemon: &Daemon) -> u64 {
    let is_open = |number: &u64| std::fs::exists(format!("/proc/{}/fd/{number}", daemon.child.id())).unwrap();
    (0..).find(|number| !is_open(number)).unwrap()
}

#[test]
fn daemon_with_few_descriptors_serves_or_refuses_everyone_and_sleeps() {
    let dir = directory_with("[pool.cpu]\nworkers = 2\n");
    let mut daemon = Daemon::launch_after(dir, "ulimit -n 64");
    daemon.wait_until_ready();
    for _ in 0..2 {
        daemon.wait_for_log("is ready");
    }
    let workers = daemon.worker_pids();
    let (clients, served) = enter_all(&daemon);
    assert!((1..64).contains(&served), "{served} of {CLIENTS} are served");
    assert_sleeps(&daemon);
    for worker in workers {
        kill_process(worker, Signal::KILL).unwrap();
        daemon.wait_for_log("is ready");
    }
    leave(&mut daemon, clients, served);
    still_serves(&daemon);
    daemon.wait_for_log(" closed");
    let (clients, served) = enter_all(&daemon);
    leave(&mut daemon, clients, served);
    still_serves(&daemon);
}

/// Closes connections and waits until those that are served are seen to be: a process that another test is about to
/// start may hold them open a little longer.
fn leave(daemon: &mut Daemon, clients: Vec<UnixStream>, served: usize) {
    drop(clients);
    for _ in 0..served {
        daemon.wait_for_log(" closed");
    }
}

#[test]
fn daemon_that_loses_its_descriptors_refuses_everyone_and_sleeps() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    let lowest_free = lowest_free_descriptor(&daemon);
    // With a last one a client can be let in, and it cannot be seen who that is.
    for left in 0..2 {
        still_serves(&daemon);
        while lowest_free_descriptor(&daemon) != lowest_free {
            std::thread::yield_now();
        }
        set_limit(&daemon, "--nofile", lowest_free + left);
        let (clients, served) = enter_all(&daemon);
        assert_eq!(served, 0);
        assert_sleeps(&daemon);
        set_limit(&daemon, "--nofile", 1000);
        drop(clients);
    }
    still_serves(&daemon);
}

#[test]
fn clients_that_cannot_even_be_refused_are_served_once_there_are_descriptors() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    set_limit(&daemon, "--nofile", 3);
    let mut client = daemon.connect();
    client.write_all(&Hello::new(Role::Client).encode()).unwrap();
    daemon.wait_for_log("no client can be let in for now");
    // It tries again ten times a second, and works at nothing between.
    let before = cpu_ticks(daemon.child.id());
    std::thread::sleep(Duration::from_secs(1));
    let ticks = cpu_ticks(daemon.child.id()) - before;
    assert!(ticks <= 30, "the daemon was busy for {ticks} hundredths of a second");
    set_limit(&daemon, "--nofile", 1000);
    // Nobody else connects: that it waits is not told again.
    let answer = Inbox::default().receive_answer(&mut client).unwrap();
    assert_eq!(answer.verdict, Verdict::Accepted);
}

#[test]
fn pool_whose_processes_cannot_be_started_is_degraded_and_heals() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: the limit on processes does not count for this user alone");
    }
    // A user that has no other processes.
    const NOBODY_ELSE: u32 = 61_274;
    let config = "[restart]\nintensity = 1\nperiod = '1m'\nbackoff_max = '200ms'\n[pool.cpu]\nworkers = 2\n";
    let dir = directory_with(config);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let program = dir.path().join("poold");
    std::fs::copy(env!("CARGO_BIN_EXE_poold"), &program).unwrap();
    let mut daemon = Daemon::launch_in(dir, |command| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "shift; exec \"$0\" \"$@\""]).arg(program).uid(NOBODY_ELSE).gid(NOBODY_ELSE);
        replace_program(command, shell);
    });
    daemon.wait_for_log("is ready");
    daemon.wait_for_log("is ready");
    let pids = daemon.worker_pids();
    // Workers are copies of the template, and have its limits.
    let template = child_named(&daemon, "poold: template").unwrap().as_raw_nonzero().get().unsigned_abs();
    let processes = [daemon.child.id(), template];
    let set_limits = |limit| processes.map(|process| set_limit_of(process, "--nproc", limit));
    set_limits(1);
    kill_process(pids[0], Signal::KILL).unwrap();
    let line = daemon.wait_for_log("Resource temporarily unavailable");
    assert!(line.contains("worker"), "{line}");
    daemon.wait_for_log("pool cpu is degraded");
    daemon.wait_for_log("restarted in");
    still_serves(&daemon);
    let pool = daemon.json(&["status"])["pools"][0].clone();
    assert!(pool["last_failure"].as_str().unwrap().contains("Resource temporarily unavailable"), "{pool}");
    set_limits(1000);
    daemon.wait_for_log("is ready");
    daemon.wait_for_log("pool cpu is well again");
    assert_eq!(daemon.worker_pids().len(), 2);
}

#[test]
fn log_on_a_full_disk_is_counted_and_everyone_is_served() {
    let mut daemon = Daemon::launch_in(directory_with("[pool.cpu]\nworkers = 1\n"), |command| {
        command.stderr(std::fs::File::options().write(true).open("/dev/full").unwrap());
    });
    daemon.wait_until_ready();
    still_serves(&daemon);
    // Each line is counted when it is written, on another thread than the one that answers.
    let started = Instant::now();
    while daemon.json(&["status"])["log_lines_dropped"].as_u64().unwrap() == 0 {
        assert!(started.elapsed() < PATIENCE, "no line is counted");
    }
}

#[test]
fn log_that_nobody_reads_is_counted_and_everyone_is_served() {
    let (_nobody_reads, log) = std::io::pipe().unwrap();
    let mut daemon = Daemon::launch_in(directory_with("[pool.cpu]\nworkers = 1\n"), |command| {
        command.stderr(log);
    });
    daemon.wait_until_ready();
    // Each task is worth several lines, of which a pipe and the queue hold some ten thousand.
    let numbers: String = (0..6000).map(|number| format!("{number}\n")).collect();
    let output = daemon.run_with_input(&["map", "is_prime"], &numbers);
    assert!(output.status.success(), "{output:?}");
    let dropped = daemon.json(&["status"])["log_lines_dropped"].as_u64().unwrap();
    assert!(dropped > 0, "no line is counted");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}

#[test]
fn command_that_writes_to_a_full_disk_fails_with_that_reason() {
    let daemon = Daemon::start(
        "[pool.cpu]\nworkers = 1\n[function.save]\nexec = ['sh', '-c', 'cat /proc/self/stat > /dev/full']\n",
    );
    assert_error(&daemon.run(&["submit", "save"]), 1, &["failed", "No space left on device"]);
    still_serves(&daemon);
}

#[test]
fn daemon_without_proc_serves_and_replaces_its_workers() {
    let can_unshare = Command::new("unshare").args(["--mount", "true"]).output();
    if !can_unshare.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: no namespace of mounts can be made");
    }
    let mut daemon = Daemon::launch_in(directory_with("[pool.cpu]\nworkers = 1\n"), |command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
        replace_program(command, unshare);
    });
    daemon.wait_for_log("/proc is not mounted");
    daemon.wait_until_ready();
    still_serves(&daemon);
    let workers = daemon.workers();
    assert!(workers[0]["rss_bytes"].is_null(), "{workers:?}");
    kill_process(pid(workers[0]["pid"].as_i64().unwrap()), Signal::KILL).unwrap();
    daemon.wait_for_log("signal 9");
    still_serves(&daemon);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}

#[test]
fn idle_clients_cost_little_and_others_are_served_beside_them() {
    let wanted = if std::env::var_os("POOLD_TEST_FULL").is_some() { 10_000 } else { 1_000 };
    let files_max = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files_max, maximum: files_max }).unwrap();
    let clients = files_max.map_or(wanted, |files_max| wanted.min(files_max.saturating_sub(200) as usize));
    let mut daemon =
        Daemon::start("[limits]\nconnections = 12000\nuser_connections = 12000\n[pool.cpu]\nworkers = 1\n");
    daemon.wait_for_log("is ready");
    let before = resident_kib(daemon.child.id());
    let idle: Vec<UnixStream> = (0..clients)
        .map(|_| {
            let (stream, verdict) = enter(&daemon);
            assert_eq!(verdict, Verdict::Accepted);
            stream
        })
        .collect();
    still_serves(&daemon);
    assert_eq!(daemon.json(&["status"])["connections"], clients + 1);
    let after = resident_kib(daemon.child.id());
    println!(
        "{clients} idle connections take {} bytes each of the daemon's memory",
        (after.saturating_sub(before)) * 1024 / clients as u64
    );
    assert_sleeps(&daemon);
    drop(idle);
    still_serves(&daemon);
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn client_that_never_reads_does_not_hold_a_drain_up() {
    let mut daemon = Daemon::start(
        "drain_timeout = '300ms'\n[pool.cpu]\nworkers = 1\n[limits]\nunread_bytes = '64 KiB'\n",
    );
    let (mut stream, _) = enter(&daemon);
    let spec = TaskSpec::new(FunctionName::new("echo").unwrap());
    let mut frames = BytesMut::new();
    for number in 0..50 {
        let body =
            RequestBody::Submit { spec: spec.clone().into(), args: Payload::from_args(["x".repeat(60_000)]) };
        encode(&Request { id: RequestId(number), body }, &mut frames).unwrap();
    }
    let submitting = std::thread::spawn(move || {
        // What the daemon does not take any more is not submitted.
        let _ = stream.write_all(&frames);
        stream
    });
    daemon.wait_for_log("its tasks are held back");
    let output = daemon.run(&["drain"]);
    assert!(output.status.success(), "{output:?}");
    assert!(daemon.wait().success());
    drop(submitting.join().unwrap());
}

/// Every row of the table of faults names a test, or says that there is none yet; every test that it names is
/// there, and every test of this file is named.
#[test]
fn table_of_faults_and_tests_name_each_other() {
    let named = table::tests_named_in("docs/FAULTS.md", "no test");
    let here = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exhaustion.rs")).unwrap();
    let tests = here.split("#[test]\nfn ").skip(1).filter_map(|test| test.split_once('(')).map(|test| test.0);
    for test in tests.filter(|test| *test != "table_of_faults_and_tests_name_each_other") {
        assert!(named.contains(&format!("exhaustion::{test}")), "`exhaustion::{test}` is not in the table");
    }
}
