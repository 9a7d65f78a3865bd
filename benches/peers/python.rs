//! Python's process pools: `python.py` takes orders on its standard input and answers each in a line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Peer;
use crate::Failure;

/// Which of them.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Executor,
    Pool,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Executor, Kind::Pool];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Executor => "ProcessPoolExecutor",
            Kind::Pool => "multiprocessing.Pool",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Kind::Executor => "executor",
            Kind::Pool => "pool",
        }
    }
}

/// One of them, with two workers.
pub struct Python {
    kind: Kind,
    child: Child,
    /// Closed to end it.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Nothing where there is no Python.
    pub fn start(kind: Kind) -> Result<Option<Self>, Failure> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/python.py");
        let mut command = Command::new("python3");
        command.args([script, kind.argument()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            eprintln!("python3 is not installed: {} is left out", kind.name());
            return Ok(None);
        };
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("python3 has no standard output")?);
        Ok(Some(Python { kind, child, orders, answers }))
    }

    /// Gives an order; the numbers that it answers.
    fn ask(&mut self, order: &str) -> Result<Vec<f64>, Failure> {
        let orders = self.orders.as_mut().ok_or("python3 has no standard input")?;
        writeln!(orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }

    fn ask_for_one(&mut self, order: &str) -> Result<f64, Failure> {
        let answer = self.ask(order)?;
        answer.first().copied().ok_or_else(|| format!("{} gave no answer to `{order}`", self.name()).into())
    }

    /// Items in a second of a map, in chunks of that many; of as many as it takes by default where that is 0.
    pub fn map(&mut self, items: usize, chunk: usize) -> Result<f64, Failure> {
        self.ask_for_one(&format!("map {items} {chunk}"))
    }

    /// Milliseconds that so many bytes take there and back.
    pub fn carry(&mut self, bytes: usize) -> Result<f64, Failure> {
        self.ask_for_one(&format!("carry {bytes}"))
    }
}

impl Peer for Python {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure> {
        self.ask(&format!("trips {trips}"))
    }

    fn throughput(&mut self, tasks: usize) -> Result<f64, Failure> {
        self.ask_for_one(&format!("throughput {tasks}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Killed, it would leave its own workers behind.
        self.orders = None;
        let _ = self.child.wait();
    }
}
