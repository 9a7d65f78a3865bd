//! Pools of threads: what they share, and what becomes of the others when one crashes or gets stuck.
//!
//! Functions that the built-in ones lack come from this very executable, run as the pool's `command`: see
//! [`functions_of_its_own`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use poold::worker::Registry;
use rustix::process::Signal;
use serde_json::Value;
use support::{Daemon, assert_error, parts, pid, pidfd, text, wait_for_exit};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Not a test: what the pools' `command` runs. Among the tests it does nothing.
#[test]
fn functions_of_its_own() {
    poold::init(|| {
        Registry::built_in()
            .register("count", &["ANYTHING"], "How often its process was asked.", |_: String| {
                Ok::<_, Infallible>(CALLS.fetch_add(1, Ordering::SeqCst) + 1)
            })
            .register("hold", &["PATH"], "What is written into a pipe, once it is.", |path: PathBuf| {
                std::fs::read_to_string(path)
            })
            .register("print", &["TEXT"], "Prints a line.", |text: String| {
                println!("{text}");
                Ok::<_, Infallible>(())
            })
    });
}

/// A daemon with a pool of one worker that runs so many attempts at a time.
fn start(threads: u32, options: &str) -> Daemon {
    let program = std::env::current_exe().unwrap();
    Daemon::start(&format!(
        "allow_fault_injection = true\n[pool.io]\nworkers = 1\nthreads = {threads}\n\
         command = ['{}', '--exact', 'functions_of_its_own', '--nocapture']\n{options}\n",
        program.display()
    ))
}

/// A detached task that runs until something is written into its pipe.
struct Hold {
    task: String,
    pipe: PathBuf,
}

impl Hold {
    /// Submits it and waits until it has started.
    fn start(daemon: &mut Daemon, name: &str) -> Self {
        let pipe = daemon.dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let task = daemon.detach(&["hold", pipe.to_str().unwrap()]);
        daemon.wait_for_log(&format!("task {task} started"));
        Hold { task, pipe }
    }

    fn release(&self, text: &str) {
        std::fs::write(Path::new(&self.pipe), text).unwrap();
    }
}

/// The rows of workers in this state.
fn in_state(daemon: &Daemon, state: &str) -> Vec<Value> {
    daemon.workers().into_iter().filter(|worker| worker["state"] == state).collect()
}

#[test]
fn threads_of_a_worker_share_its_memory() {
    let daemon = start(4, "");
    let output = daemon.run_with_input(&["map", "count"], &"x\n".repeat(20));
    let mut counts: Vec<u64> = text(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=20).collect::<Vec<u64>>(), "every call saw those before it");
}

#[test]
fn attempts_of_one_worker_run_at_one_time_and_are_shown() {
    let mut daemon = start(3, "");
    let holds = ["a", "b", "c"].map(|name| Hold::start(&mut daemon, name));
    let workers = daemon.workers();
    let [worker] = &workers[..] else { panic!("{workers:?}") };
    assert_eq!((&worker["capacity"], &worker["held"], &worker["stuck"]), (&3.into(), &3.into(), &0.into()));
    for hold in &holds {
        hold.release(&hold.task);
        let result = daemon.run(&["wait", &hold.task]);
        assert_eq!(result.status.code(), Some(0), "{}", text(&result.stderr));
        assert_eq!(text(&daemon.run(&["result", &hold.task]).stdout), format!("{}\n", hold.task));
    }
}

#[test]
fn crash_on_one_thread_takes_the_attempts_of_its_siblings_alone() {
    let mut daemon = start(3, "");
    let holds = ["a", "b"].map(|name| Hold::start(&mut daemon, name));
    assert_error(&daemon.run(&["submit", "crash", "abort"]), 128 + 6, &["crashed", "SIGABRT"]);
    for hold in &holds {
        assert_error(&daemon.run(&["result", &hold.task]), 128 + 6, &["crashed", "SIGABRT"]);
    }
    let after = daemon.run(&["submit", "is_prime", "7"]);
    assert_eq!(parts(&after), (0, "true\n".to_owned(), String::new()));
}

#[test]
fn stuck_thread_lets_its_siblings_finish_and_the_pool_goes_on_meanwhile() {
    let mut daemon = start(3, "grace = '1h'");
    let hold = Hold::start(&mut daemon, "a");
    assert_error(&daemon.run(&["submit", "--timeout", "50ms", "spin"]), 124, &["timed out"]);

    let served = daemon.run(&["submit", "--deadline", "1m", "is_prime", "7"]);
    assert_eq!(parts(&served), (0, "true\n".to_owned(), String::new()));
    let leaving = in_state(&daemon, "stopping");
    let [leaving] = &leaving[..] else { panic!("{leaving:?}") };
    assert_eq!((&leaving["held"], &leaving["stuck"]), (&2.into(), &1.into()));
    let process = pidfd(pid(leaving["pid"].as_i64().unwrap()));

    hold.release("finished");
    wait_for_exit(&process);
    assert_eq!(parts(&daemon.run(&["result", &hold.task])), (0, "finished\n".to_owned(), String::new()));
    daemon.wait_for_log("ended: ");
    assert_eq!(daemon.workers().len(), 1, "the slot of the worker that left is gone");
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 1);
}

#[test]
fn stuck_thread_takes_its_siblings_with_it_after_the_grace() {
    let mut daemon = start(2, "grace = '50ms'");
    let hold = Hold::start(&mut daemon, "a");
    let spin = daemon.detach(&["spin"]);
    daemon.wait_for_log(&format!("task {spin} started"));
    assert_eq!(daemon.run(&["cancel", &spin]).status.code(), Some(0));
    assert_error(&daemon.run(&["wait", &spin]), 125, &["cancelled"]);
    let held = daemon.run(&["wait", &hold.task]);
    assert_eq!(held.status.code(), Some(128 + 9), "{}", text(&held.stderr));
}

#[test]
fn stuck_thread_alone_ends_its_worker_at_once() {
    let mut daemon = start(2, "grace = '1h'");
    assert_error(&daemon.run(&["submit", "--timeout", "50ms", "sleep", "3600"]), 124, &["timed out"]);
    daemon.wait_for_log("SIGTERM, because its task");
    let after = daemon.run(&["submit", "is_prime", "7"]);
    assert_eq!(parts(&after), (0, "true\n".to_owned(), String::new()));
}

#[test]
fn stop_of_the_daemon_waits_for_all_threads() {
    let mut daemon = start(2, "");
    let holds = ["a", "b"].map(|name| Hold::start(&mut daemon, name));
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("shutting down");
    for hold in &holds {
        hold.release("x");
    }
    assert_eq!(daemon.wait().code(), Some(0));
    for hold in &holds {
        daemon.wait_for_log(&format!("task {} ok", hold.task));
    }
}

#[test]
fn printed_line_names_its_task_only_where_one_runs_at_a_time() {
    for (threads, is_named) in [(1, true), (2, false)] {
        let mut daemon = start(threads, "");
        let task = daemon.detach(&["print", "a line"]);
        let line = daemon.wait_for_log("stdout: a line");
        assert!(line.contains("worker 0.0 of pool io"), "{line}");
        assert_eq!(line.contains(&task), is_named, "{line}");
    }
}
