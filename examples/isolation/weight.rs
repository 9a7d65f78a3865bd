//! Section 3: what a process weighs, and what a thread.

use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::table::{self, Table, fastest, figure, median};

/// Processes started, one after another.
const PROCESSES: usize = 50;

/// Threads started, one after another, to see how long that takes.
const THREADS: usize = 500;

/// Threads that are there at one time, to see what memory they take.
const THREADS_AT_ONCE: usize = 64;

/// The bytes that a worker says first (`docs/PROTOCOL.md`, Handshake).
const HELLO_BYTES: usize = 12;

pub(crate) fn show() -> Result<(), Box<dyn Error>> {
    table::section(
        "3. Weight",
        &format!(
            "A thread is light to start and small, a process is not: a worker from the order for it to its \
             first message ({PROCESSES} of them), and the memory that it has to itself then; a thread from the \
             order for it to its first instruction ({THREADS}), and what each of {THREADS_AT_ONCE} adds to \
             their process."
        ),
    );
    let (starts, memory): (Vec<_>, Vec<_>) =
        (0..PROCESSES).map(|_| start_worker()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    let mut table = Table::new(&["", "start, µs: fastest", "median", "own memory, KiB"]);
    let mut row = |name: &str, starts: Vec<f64>, memory_kib: f64| {
        table.row(&[&name, &figure(fastest(&starts)), &figure(median(starts)), &figure(memory_kib)]);
    };
    row("process", starts, median(memory));
    row("thread", (0..THREADS).map(|_| start_thread()).collect::<io::Result<_>>()?, memory_per_thread()?);
    table.print();
    Ok(())
}

/// Starts this executable as a worker, as a daemon does that has it as a pool's command; microseconds to its
/// first message, and the KiB that it has to itself then.
fn start_worker() -> io::Result<(f64, f64)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut command = Command::new("/proc/self/exe");
    command.env("POOLD_WORKER_FD", theirs.as_raw_fd().to_string()).stdin(Stdio::null());
    let before = Instant::now();
    let mut worker = command.spawn()?;
    drop(theirs);
    ours.read_exact(&mut [0; HELLO_BYTES])?;
    let micros = before.elapsed().as_secs_f64() * 1e6;
    let memory_kib = private_kib(&worker.id().to_string())?;
    // A worker ends with its socket.
    drop(ours);
    worker.wait()?;
    Ok((micros, memory_kib))
}

/// Microseconds to the first instruction of a thread.
fn start_thread() -> io::Result<f64> {
    let before = Instant::now();
    let first_instruction =
        thread::spawn(Instant::now).join().map_err(|_| io::Error::other("it panicked"))?;
    Ok(first_instruction.duration_since(before).as_secs_f64() * 1e6)
}

/// What each of many threads adds to the memory of this process.
fn memory_per_thread() -> io::Result<f64> {
    let before = private_kib("self")?;
    let all_are_there = Barrier::new(THREADS_AT_ONCE + 1);
    let all_may_end = Barrier::new(THREADS_AT_ONCE + 1);
    let with_them = thread::scope(|scope| {
        for _ in 0..THREADS_AT_ONCE {
            scope.spawn(|| {
                all_are_there.wait();
                all_may_end.wait();
            });
        }
        all_are_there.wait();
        let with_them = private_kib("self");
        all_may_end.wait();
        with_them
    })?;
    Ok((with_them - before) / THREADS_AT_ONCE as f64)
}

/// The KiB that a process has in memory and shares with nobody: see smaps_rollup in proc_pid_smaps(5).
fn private_kib(process: &str) -> io::Result<f64> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let private = maps.lines().filter(|line| line.starts_with("Private_"));
    Ok(private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum())
}
