//! When the daemon is killed, its workers go with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::process::Signal;
use support::{Daemon, pidfd, wait_for_exit, workers_of};

#[test]
fn workers_of_a_killed_daemon_end_whatever_they_do() {
    let mut daemon = Daemon::start("allow_fault_injection = true\n[pool.cpu]\nworkers = 4\n");
    for _ in 0..2 {
        daemon.detach(&["spin"]);
        // 2^61 - 1 is prime: trial division takes seconds.
        daemon.detach(&["is_prime_trial", "2305843009213693951"]);
    }
    // Sent is not started: a worker that has not begun to spin would end for less.
    for _ in 0..4 {
        daemon.wait_for_log("started on worker");
    }
    let workers = daemon.workers();
    assert!(workers.iter().all(|worker| worker["state"] == "busy"), "{workers:?}");
    let processes: Vec<_> = daemon.worker_pids().into_iter().map(pidfd).collect();
    assert_eq!(processes.len(), 4);
    daemon.signal(Signal::KILL);
    for process in &processes {
        wait_for_exit(process);
    }
    daemon.wait();
}

#[test]
fn workers_of_a_daemon_killed_while_they_start_end() {
    for spawned in 1..=8 {
        let mut daemon = Daemon::launch("[pool.cpu]\nworkers = 8\n");
        let daemon_pid = daemon.pid();
        while workers_of(daemon_pid).len() < spawned {
            std::thread::yield_now();
        }
        daemon.signal(Signal::KILL);
        daemon.wait();
        // Those that are left are on their way out: wait for each by its own end. One that the daemon had
        // forked when it was killed shows only now.
        loop {
            let left = workers_of(daemon_pid);
            if left.is_empty() {
                break;
            }
            for worker in left {
                if let Ok(process) = rustix::process::pidfd_open(worker, rustix::process::PidfdFlags::empty())
                {
                    wait_for_exit(&process);
                }
            }
        }
    }
}
