//! The pool: a real `poold`, reached over its socket.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use poold::client::Connection;
use poold::id::FunctionName;
use poold::message::client::{ReplyBody, RequestBody};
use poold::task::{Outcome, Payload, TaskSpec};
use poold::{Executor, Future};
use tempfile::TempDir;

/// Returns its argument: as near to nothing as a function comes.
const FUNCTION: &str = "echo";

/// A running daemon, killed when it is dropped.
pub struct Daemon {
    child: Child,
    directory: TempDir,
}

/// A connection that one call at a time is made on.
pub struct Caller(Connection);

impl Daemon {
    /// With so many workers, ready.
    pub fn start(workers: u32) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
        command.arg("--socket").arg(directory.path().join("poold.sock"));
        command.args(["--workers", &workers.to_string()]).env("RUST_LOG", "info");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let log = child.stderr.take().ok_or("no log")?;
        let mut ready = 0;
        let mut lines = BufReader::new(log).lines();
        while ready < workers {
            let line = lines.next().ok_or("poold ended before it was ready")??;
            ready += u32::from(line.contains("of pool cpu") && line.contains("is ready"));
        }
        // Nobody may make it wait for its log.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Daemon { child, directory })
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("poold.sock")
    }

    /// A connection of its own.
    pub fn connect(&self) -> Result<Caller, Box<dyn Error>> {
        Ok(Caller(Connection::connect(&self.socket())?))
    }

    /// The public client library.
    pub fn executor(&self) -> Result<Executor, Box<dyn Error>> {
        Ok(Executor::connect_to(self.socket())?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Caller {
    /// Microseconds of each of so many calls.
    pub fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Box<dyn Error>> {
        let spec = TaskSpec::new(FunctionName::new(FUNCTION)?);
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            let (spec, args) = (spec.clone(), Payload::from_args(["x"]));
            let before = Instant::now();
            let accepted = self.0.call(RequestBody::Submit { spec, args })?;
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
pub fn submit(executor: &Executor, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let before = Instant::now();
    let calls = (0..tasks).map(|_| executor.submit(FUNCTION, 7));
    let futures = calls.collect::<Result<Vec<Future<Vec<u64>>>, _>>()?;
    for future in futures {
        future.result(None)?;
    }
    Ok(tasks as f64 / before.elapsed().as_secs_f64())
}

/// Items in a second of a map.
pub fn map(executor: &Executor, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let before = Instant::now();
    for result in executor.map::<Vec<u64>, _>(FUNCTION, 0..tasks as u64)? {
        result?;
    }
    Ok(tasks as f64 / before.elapsed().as_secs_f64())
}
