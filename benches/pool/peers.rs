//! The pools that one could pick instead, as far as they are installed: each a program in `benches/peers` that takes
//! commands on its standard input and answers in lines.
//!
//! `trips N` is answered by the microseconds of N calls of nothing, one after the other; `throughput N` by how many
//! such calls it does in a second, each with a result of its own.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A program that is measured.
pub struct Peer {
    /// What it is called in the tables.
    pub name: &'static str,
    child: Child,
    /// Closed to end it.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Every peer that is there.
pub fn all() -> Result<Vec<Peer>, Box<dyn Error>> {
    let has_python = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_python {
        eprintln!("python3 is not installed: its executors are left out");
        return Ok(Vec::new());
    }
    let peers = [("ProcessPoolExecutor", "executor"), ("multiprocessing.Pool", "pool")];
    peers.into_iter().map(|(name, kind)| Peer::start(name, kind)).collect()
}

impl Peer {
    fn start(name: &'static str, kind: &str) -> Result<Self, Box<dyn Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/python.py");
        let mut command = Command::new("python3");
        let mut child = command.args([script, kind]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Peer { name, child, orders, answers })
    }

    fn ask(&mut self, order: &str, count: usize) -> Result<Vec<f64>, Box<dyn Error>> {
        let orders = self.orders.as_mut().ok_or("it was given no standard input")?;
        writeln!(orders, "{order} {count}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Microseconds of each of so many calls.
    pub fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Box<dyn Error>> {
        self.ask("trips", trips)
    }

    /// Calls in a second.
    pub fn throughput(&mut self, tasks: usize) -> Result<f64, Box<dyn Error>> {
        self.ask("throughput", tasks)?.first().copied().ok_or_else(|| "it gave no answer".into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Killed, it would leave its own workers behind.
        self.orders = None;
        let _ = self.child.wait();
    }
}
