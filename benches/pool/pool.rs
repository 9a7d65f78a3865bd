//! The pool: a real `poold`, reached over its socket.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use poold::client::Connection;
use poold::id::FunctionName;
use poold::message::client::{ReplyBody, RequestBody};
use poold::task::{Outcome, Payload, TaskSpec};
use poold::{Executor, Future};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Failure;

/// Returns its argument: as near to nothing as a function comes.
const FUNCTION: &str = "echo";

/// How long a daemon may take to stop, and how often it is looked whether it has.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// A running daemon, stopped when it is dropped; its workers end with it.
pub struct Daemon {
    child: Child,
    directory: TempDir,
}

/// A connection that one call at a time is made on.
pub struct Caller(Connection);

impl Daemon {
    /// With so many workers, ready, and all else as it is by default.
    pub fn start(workers: u32) -> Result<Self, Failure> {
        Daemon::start_with(workers, "")
    }

    /// With so many workers, ready, and this after the table of their pool.
    pub fn start_with(workers: u32, config: &str) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("poold.toml");
        std::fs::write(&file, format!("[pool.cpu]\nworkers = {workers}\n{config}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
        command.arg("--config").arg(file).arg("--socket").arg(directory.path().join("poold.sock"));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).env("RUST_LOG", "info");
        // Cargo sets it, and no template is forked from a daemon that has it.
        command.env_remove("LD_LIBRARY_PATH");
        let mut child = command.spawn()?;
        let log = child.stderr.take();
        let daemon = Daemon { child, directory };
        let mut lines = BufReader::new(log.ok_or("no log")?).lines();
        let mut ready = 0;
        while ready < workers {
            let line = lines.next().ok_or("poold ended before it was ready")??;
            ready += u32::from(line.contains("of pool cpu") && line.contains("is ready"));
        }
        // Nobody may make it wait for its log.
        thread::spawn(move || lines.for_each(drop));
        Ok(daemon)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("poold.sock")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection of its own.
    pub fn connect(&self) -> Result<Caller, Failure> {
        Caller::connect(&self.socket())
    }

    /// The public client library.
    pub fn executor(&self) -> Result<Executor, Failure> {
        Ok(Executor::connect_to(self.socket())?)
    }
}

impl Drop for Daemon {
    /// Stops it as an operator would, so that it takes its processes along, and by force where that takes long.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let told = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && told.elapsed() < PATIENCE {
            thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Caller {
    /// To the daemon that listens on `socket`, warmed up.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let mut caller = Caller(Connection::connect(socket)?);
        caller.round_trips(10)?;
        Ok(caller)
    }

    /// Microseconds of each of so many calls.
    pub fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure> {
        self.calls(&TaskSpec::new(FunctionName::new(FUNCTION)?), trips)
    }

    /// The processes of the workers.
    pub fn worker_pids(&mut self) -> Result<Vec<u32>, Failure> {
        match self.0.call(RequestBody::Workers { skip: 0 })? {
            ReplyBody::Workers { rows, .. } => Ok(rows.iter().filter_map(|row| Some(row.pid?.0)).collect()),
            other => Err(format!("the workers came to {other:?}").into()),
        }
    }

    /// Microseconds of each of so many calls with these options.
    pub fn calls(&mut self, spec: &TaskSpec, trips: usize) -> Result<Vec<f64>, Failure> {
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            let (spec, args) = (spec.clone(), Payload::from_args(["x"]));
            let before = Instant::now();
            let accepted = self.0.call(RequestBody::Submit { spec: spec.into(), args })?;
            let ended = self.0.receive()?;
            micros.push(before.elapsed().as_secs_f64() * 1e6);
            match (accepted, ended) {
                (ReplyBody::Accepted { .. }, ReplyBody::Done { outcome: Outcome::Ok(_), .. }) => {}
                other => return Err(format!("a call came to {other:?}").into()),
            }
        }
        Ok(micros)
    }
}

/// Calls in a second, each submitted by itself and with a future of its own.
pub fn submit(executor: &Executor, tasks: usize) -> Result<f64, Failure> {
    let before = Instant::now();
    let calls = (0..tasks as u64).map(|number| executor.submit(FUNCTION, number));
    let futures = calls.collect::<Result<Vec<Future<(u64,)>>, _>>()?;
    for future in futures {
        future.result(None)?;
    }
    Ok(tasks as f64 / before.elapsed().as_secs_f64())
}

/// Items in a second of a map.
pub fn map(executor: &Executor, items: usize) -> Result<f64, Failure> {
    let before = Instant::now();
    for result in executor.map::<(u64,), _>(FUNCTION, 0..items as u64)? {
        result?;
    }
    Ok(items as f64 / before.elapsed().as_secs_f64())
}
