//! What workers and attempts may use: limits of the process, and those of a control group where one can be had.
//!
//! The tests of control groups need to make one: where they may not, they say so and are not run. Those of
//! memory and processes by control group are in `tests/systemd/`, since they need its controllers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Output;

use support::{Daemon, assert_error, pid, pidfd, text, wait_for_exit};

/// One worker, whose functions may do harm.
fn daemon(keys: &str) -> Daemon {
    Daemon::start(&format!("allow_fault_injection = true\n[pool.cpu]\nworkers = 1\n{keys}"))
}

/// What a function printed that went well.
#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Whether the process is there, a zombie included.
fn is_there(process: &str) -> bool {
    Path::new("/proc").join(process).exists()
}

#[test]
fn memory_beyond_the_limit_ends_the_attempt_alone() {
    let daemon = daemon("memory = '256 MiB'");
    assert_eq!(printed(&daemon.run(&["submit", "hog", "1000000"])), "1000000");
    let by_group = daemon.json(&["status"])["limits"].as_str().unwrap().starts_with("memory by cgroup");
    let (status, word) = if by_group { (137, "ran out of memory") } else { (134, "SIGABRT") };
    assert_error(&daemon.run(&["submit", "hog", "1000000000"]), status, &["crashed", word]);
    assert_eq!(printed(&daemon.run(&["submit", "is_prime", "7"])), "true");
}

#[test]
fn what_cannot_be_limited_is_said_in_the_log_and_in_the_status() {
    let mut daemon = daemon("processes = 10");
    let line = daemon.wait_for_log("limits of workers: ");
    let words = line.split_once("limits of workers: ").unwrap().1;
    assert!(words.contains("processes by cgroup") || words.contains("processes: not available ("), "{line}");
    assert_eq!(daemon.json(&["status"])["limits"], words);
    let status = printed(&daemon.run(&["status"]));
    assert!(status.contains(&format!("limits    {words}\n")), "{status}");
}

#[test]
fn memory_of_a_function_is_limited_as_long_as_it_runs() {
    let daemon = daemon("[function.hog]\nmemory = '256 MiB'");
    assert_eq!(printed(&daemon.run(&["submit", "hog", "1000000"])), "1000000");
    assert_error(&daemon.run(&["submit", "hog", "1000000000"]), 134, &["crashed", "SIGABRT"]);
    let other = ["submit", "--pool", "cpu", "is_prime", "7"];
    assert_eq!(printed(&daemon.run(&other)), "true");
}

#[test]
fn cpu_time_is_counted_anew_for_each_attempt() {
    // 2^61 - 1 is prime: trial division takes seconds.
    let daemon = daemon("cpu_time = '200ms'");
    for _ in 0..3 {
        assert_eq!(printed(&daemon.run(&["submit", "is_prime_trial", "1099726899285419"])), "false");
    }
    let worker = daemon.worker_pids();
    assert_error(
        &daemon.run(&["submit", "is_prime_trial", "2305843009213693951"]),
        152,
        &["crashed", "SIGXCPU"],
    );
    assert_ne!(daemon.worker_pids(), worker);
}

#[test]
fn attempt_that_ignores_the_end_of_its_cpu_time_is_killed() {
    let daemon = daemon("[function.spin]\ncpu_time = '10ms'");
    assert_error(&daemon.run(&["submit", "spin"]), 137, &["crashed", "SIGKILL"]);
}

#[test]
fn file_beyond_the_limit_ends_the_attempt() {
    let daemon = daemon("file_size = '1 MiB'");
    assert_eq!(printed(&daemon.run(&["submit", "fill", "1048576"])), "1048576");
    assert_error(&daemon.run(&["submit", "fill", "1048577"]), 153, &["crashed", "SIGXFSZ"]);
}

#[test]
fn limits_of_a_command_hold_for_it_and_for_nothing_else() {
    let daemon = Daemon::start(
        "[pool.cpu]\nworkers = 1\ncpu_time = '7s'\nopen_files = 99\nfile_size = '1 MiB'\n\
         [function.one]\nexec = ['cat', '/proc/self/limits']\nmemory = '1 GiB'\n\
         [function.other]\nexec = ['cat', '/proc/self/limits']\ncpu_time = '1500ms'\nfile_size = '1 KiB'\n",
    );
    let limits = |name: &str| printed(&daemon.run(&["submit", name]));
    let (one, other) = (limits("one"), limits("other"));
    let of = |limits: &str, name: &str| -> (String, String) {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let mut values = line[name.len()..].split_whitespace().map(str::to_owned);
        (values.next().unwrap(), values.next().unwrap())
    };
    let both = |value: &str| (value.to_owned(), value.to_owned());
    assert_eq!(of(&one, "Max cpu time"), ("7".to_owned(), "8".to_owned()));
    assert_eq!(of(&other, "Max cpu time"), ("2".to_owned(), "3".to_owned()));
    assert_eq!(of(&one, "Max address space"), both("1073741824"));
    assert_eq!(of(&other, "Max address space"), both("unlimited"));
    assert_eq!(of(&one, "Max file size"), both("1048576"));
    assert_eq!(of(&other, "Max file size"), both("1024"));
    assert_eq!(of(&one, "Max open files"), both("99"));
    assert_eq!(of(&one, "Max core file size"), both("0"));
}

#[test]
fn process_that_got_away_from_its_attempt_ends_with_it() {
    let daemon = daemon("");
    let stray = printed(&daemon.run(&["submit", "stray"]));
    // Reaped before the attempt was reported: nothing is to be waited for.
    assert!(!is_there(&stray), "process {stray} is still there");
    let worker = daemon.worker_pids();
    assert_eq!(printed(&daemon.run(&["submit", "fork_bomb", "50"])), "50");
    assert_eq!(daemon.worker_pids(), worker, "the worker was replaced");
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", worker[0].as_raw_nonzero()));
    assert_eq!(children.unwrap(), "");
}

#[test]
fn process_that_got_away_from_its_worker_ends_with_it() {
    let mut daemon = Daemon::start("[pool.cpu]\nworkers = 1\n[pool.other]\nworkers = 1\n");
    let file = daemon.dir.path().join("stray");
    let script =
        format!("setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & wait", file.display());
    let mut run = daemon.poolctl(&["run", "--pool", "cpu", "--", "sh", "-c", &script]).spawn().unwrap();
    daemon.wait_for_log("started on worker");
    let stray = loop {
        if let Ok(stray) = std::fs::read_to_string(&file) {
            break stray.trim().to_owned();
        }
        std::thread::yield_now();
    };
    let stray_process = pidfd(pid(stray.parse().unwrap()));
    let worker = daemon.workers().iter().find(|worker| worker["task"].is_string()).unwrap()["pid"].clone();
    rustix::process::kill_process(pid(worker.as_i64().unwrap()), rustix::process::Signal::KILL).unwrap();
    wait_for_exit(&stray_process);
    run.wait().unwrap();
    daemon.wait_for_log("had got away from a worker");
    // The daemon has adopted it, and reaps it: what comes later is done by the same thread later.
    while is_there(&stray) {
        std::thread::yield_now();
    }
}

/// A control group of its own for a daemon, if one can be made here.
struct Group(std::path::PathBuf);

impl Group {
    fn make(name: &str) -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path =
            Path::new(mount.split(' ').nth(4)?).join(format!("poold-test-{name}-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => Some(Group(path)),
            Err(error) => {
                // Not by `eprintln`, which is not shown of a test that passes.
                let line =
                    format!("\nNOT RUN: no control group can be made at {}: {error}\n", path.display());
                std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
                None
            }
        }
    }

    fn start(&self, config: &str) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("poold.toml"), config).unwrap();
        let procs = self.0.join("cgroup.procs");
        let mut daemon = Daemon::launch_in(dir, |command| {
            let poold = std::mem::replace(command, std::process::Command::new("sh"));
            command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(procs).arg(poold.get_program());
            command.args(poold.get_args());
            for (name, value) in poold.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::piped());
        });
        daemon.wait_until_ready();
        daemon
    }

    /// The groups of workers that there are.
    fn workers(&self) -> Vec<std::path::PathBuf> {
        let directories = |path: &Path| -> Vec<std::path::PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        let is_workers =
            |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("workers.");
        directories(&self.0).into_iter().filter(is_workers).flat_map(|path| directories(&path)).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        // What was killed is on its way out.
        for _ in 0..1000 {
            let _ = std::process::Command::new("find")
                .arg(&self.0)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .output();
            if !self.0.exists() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A function that leaves a process behind in a session of its own, while its worker lives on in a pool of
/// threads; then waits for ever.
const AWAY: &str = "[pool.cpu]\nworkers = 2\nthreads = 2\n\
    [function.away]\nexec = ['sh', '-c', 'setsid sleep 1000 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"; sleep 1000', '--', '{0}']\n";

#[test]
fn group_of_a_worker_is_killed_and_removed_with_it() {
    let Some(group) = Group::make("worker") else { return };
    let mut daemon = group.start(AWAY);
    assert!(daemon.wait_for_log("limits of workers: ").contains("workers."));
    assert_eq!(group.workers().len(), 2);
    let file = daemon.dir.path().join("away");
    let task = daemon.detach(&["away", file.to_str().unwrap()]);
    let stray = loop {
        if let Ok(stray) = std::fs::read_to_string(&file) {
            break pidfd(pid(stray.trim().parse().unwrap()));
        }
        std::thread::yield_now();
    };
    let worker = daemon.workers().iter().find(|worker| worker["task"].is_string()).unwrap()["pid"].clone();
    rustix::process::kill_process(pid(worker.as_i64().unwrap()), rustix::process::Signal::KILL).unwrap();
    wait_for_exit(&stray);
    assert_error(&daemon.run(&["wait", &task]), 137, &["SIGKILL"]);
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    assert_eq!(group.workers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn groups_of_a_killed_daemon_are_killed_and_removed() {
    let Some(group) = Group::make("daemon") else { return };
    let mut daemon = group.start(AWAY);
    let file = daemon.dir.path().join("away");
    daemon.detach(&["away", file.to_str().unwrap()]);
    let stray = loop {
        if let Ok(stray) = std::fs::read_to_string(&file) {
            break pidfd(pid(stray.trim().parse().unwrap()));
        }
        std::thread::yield_now();
    };
    let old = group.workers();
    assert_eq!(old.len(), 2);
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    wait_for_exit(&stray);
    // What the guard may have left is removed by the next daemon.
    let daemon = group.start(AWAY);
    let new = group.workers();
    assert_eq!(new.len(), 2);
    assert!(old.iter().all(|old| !new.contains(old)), "{old:?} {new:?}");
    drop(daemon);
}
