//! A daemon with tasks that wait, and how it is let go: its workers wait at a gate meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use poold::client::Connection;
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::TaskCounts;
use poold::task::Payload;
use poold::{Executor, Future};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use tempfile::TempDir;

use crate::Failure;
use crate::pool::Daemon;
use crate::process::Memory;

const WORKERS: u32 = 2;

/// What no queue takes to be filled.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(5);

/// A daemon of two workers and the tasks that wait for them.
pub struct Backlog {
    pub tasks: VecDeque<Future<(u64,)>>,
    /// Bytes of memory that the daemon has taken for each, arguments included.
    pub bytes_per_task: f64,
    /// Bytes of arguments of each.
    pub argument_bytes: f64,
    executor: Executor,
    gate: File,
    _directory: TempDir,
}

impl Backlog {
    /// What the daemon must be told for workers to have a gate, in a directory.
    pub fn daemon() -> Result<(Daemon, TempDir), Failure> {
        let directory = tempfile::tempdir()?;
        let gate = directory.path().join("gate");
        mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let config = format!("[function.gate]\nexec = ['head', '-c', '1', '{}']\n", gate.display());
        Ok((Daemon::start_with(WORKERS, &config)?, directory))
    }

    /// So many tasks, all accepted and none begun.
    pub fn fill(daemon: &Daemon, directory: TempDir, count: usize) -> Result<Self, Failure> {
        // Open for both, so that it never waits for the other side.
        let gate = open(directory.path().join("gate"), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let executor = daemon.executor()?;
        for _ in 0..WORKERS {
            executor.with_priority(i16::MAX).submit_payload("gate", Payload::from_args::<&str>([]))?;
        }
        let before = Memory::of(daemon.pid())?.resident;
        let tasks: Result<VecDeque<_>, _> =
            (0..count as u64).map(|number| executor.submit("echo", number)).collect();
        let waiting = wait_for(daemon, count as u64)?;
        let grown = Memory::of(daemon.pid())?.resident - before;
        Ok(Backlog {
            tasks: tasks?,
            bytes_per_task: grown / count as f64,
            argument_bytes: waiting.argument_bytes as f64 / count as f64,
            executor,
            gate: gate.into(),
            _directory: directory,
        })
    }

    /// Lets the workers begin.
    pub fn release(&mut self) -> Result<(), Failure> {
        Ok(self.gate.write_all(&[7; WORKERS as usize])?)
    }

    /// Takes the result of the first task, and submits another one behind the last.
    pub fn replace_first(&mut self) -> Result<(), Failure> {
        if let Some(first) = self.tasks.pop_front() {
            let (number,) = first.result(None)?;
            self.tasks.push_back(self.executor.submit("echo", number)?);
        }
        Ok(())
    }
}

/// Waits until so many tasks wait in a daemon; what it tells of them then.
fn wait_for(daemon: &Daemon, count: u64) -> Result<TaskCounts, Failure> {
    let mut connection = Connection::connect(&daemon.socket())?;
    let started = Instant::now();
    loop {
        let counts = counts(&mut connection)?;
        if counts.pending + counts.running >= count {
            return Ok(counts);
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("only {} of {count} tasks wait after {PATIENCE:?}", counts.pending).into());
        }
        thread::sleep(PAUSE);
    }
}

/// How many tasks a daemon has.
pub fn counts(connection: &mut Connection) -> Result<TaskCounts, Failure> {
    match connection.call(RequestBody::Status)? {
        ReplyBody::Status(status) => Ok(status.tasks),
        other => Err(format!("the status came to {other:?}").into()),
    }
}
