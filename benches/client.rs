//! What a call costs the program that makes it: processor time of the client library alone, by part.
//! `cargo bench --bench client [-- submit|map] [CALLS] [--untimed]`
//!
//! The other side is this program again, in place of a daemon: it answers all that one read brings with one write, as
//! a daemon does whose workers are never behind. So nothing is measured but the library, and neither who waits for whom
//! nor what else the machine does matters: it is processor time that is told, not time that passed. `submit` is the
//! thread that submits, `result` the same thread as it asks each future, `threads` those of the library. Untimed it is
//! for a profiler that counts instructions, in which the clocks of processor time cannot be read.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use poold::id::{Epoch, Pid, TaskId};
use poold::message::client::{Reply, ReplyBody, Request, RequestBody, Welcome};
use poold::task::{Outcome, Payload, PayloadsMut};
use poold::wire::{Answer, HANDSHAKE_BYTES, Inbox, Outbox, ReceiveError, Verdict};
use poold::{Executor, Future};
use rustix::time::{ClockId, clock_gettime};

/// Says to this program that it is to answer, on the socket of that path.
const ANSWER: &str = "--answer=";

const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(path) = arguments.iter().find_map(|argument| argument.strip_prefix(ANSWER)) {
        return answer(Path::new(path));
    }
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let calls = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let is_timed = !has("--untimed");
    let directory = tempfile::tempdir()?;
    let daemon = Daemon::start(&directory.path().join("poold.sock"))?;
    let executor = Executor::connect_to(directory.path().join("poold.sock"))?;

    println!("ns of processor time per call         submit   result  threads      all      calls/s");
    let all = !has("submit") && !has("map");
    for (name, measure) in [("submit", submit as Measure), ("map", map)] {
        if !all && !has(name) {
            continue;
        }
        let measure_once = |_| measure(&executor, calls, is_timed);
        let mut rounds = (0..ROUNDS).map(measure_once).collect::<Result<Vec<Cost>, Box<dyn Error>>>()?;
        rounds.sort_by_key(Cost::all_nanos);
        for (which, cost) in [("least", &rounds[0]), ("median", &rounds[ROUNDS / 2])] {
            println!("{:<34}{}", format!("{name}, {which}"), cost.per_call(calls));
        }
    }
    drop(executor);
    drop(daemon);
    Ok(())
}

type Measure = fn(&Executor, usize, bool) -> Result<Cost, Box<dyn Error>>;

/// Nanoseconds that some calls took.
struct Cost {
    submit: u64,
    result: u64,
    threads: u64,
    passed: u64,
}

impl Cost {
    fn all_nanos(&self) -> u64 {
        self.submit + self.result + self.threads
    }

    fn per_call(&self, calls: usize) -> String {
        let each = |nanos: u64| nanos / calls as u64;
        format!(
            "{:>10} {:>8} {:>8} {:>8} {:>12.0}",
            each(self.submit),
            each(self.result),
            each(self.threads),
            each(self.all_nanos()),
            calls as f64 / self.passed as f64 * 1e9
        )
    }
}

/// Each call submitted by itself and with a future of its own.
fn submit(executor: &Executor, calls: usize, is_timed: bool) -> Result<Cost, Box<dyn Error>> {
    let begin = Clocks::now(is_timed);
    let futures = (0..calls).map(|number| executor.submit("echo", number));
    let futures = futures.collect::<Result<Vec<Future<u64>>, _>>()?;
    let submitted = Clocks::now(is_timed);
    for future in futures {
        future.result(None)?;
    }
    Ok(submitted.cost(&begin, &Clocks::now(is_timed)))
}

fn map(executor: &Executor, calls: usize, is_timed: bool) -> Result<Cost, Box<dyn Error>> {
    let begin = Clocks::now(is_timed);
    for result in executor.map::<u64, _>("echo", 0..calls)? {
        result?;
    }
    Ok(begin.cost(&begin, &Clocks::now(is_timed)))
}

/// Processor time and time, in nanoseconds.
struct Clocks {
    thread: u64,
    process: u64,
    wall: Instant,
}

impl Clocks {
    fn now(is_timed: bool) -> Self {
        let nanos = |clock| {
            if !is_timed {
                return 0;
            }
            let time = clock_gettime(clock);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        Clocks {
            thread: nanos(ClockId::ThreadCPUTime),
            process: nanos(ClockId::ProcessCPUTime),
            wall: Instant::now(),
        }
    }

    /// What was used from `begin` to `end`, when this was the middle.
    fn cost(&self, begin: &Clocks, end: &Clocks) -> Cost {
        let thread = end.thread - begin.thread;
        Cost {
            submit: self.thread - begin.thread,
            result: end.thread - self.thread,
            threads: (end.process - begin.process).saturating_sub(thread),
            passed: (end.wall - begin.wall).as_nanos() as u64,
        }
    }
}

/// The other side, ended when it is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(path: &Path) -> Result<Self, Box<dyn Error>> {
        let child =
            Command::new(std::env::current_exe()?).arg(format!("{ANSWER}{}", path.display())).spawn()?;
        let daemon = Daemon(child);
        while !path.exists() {
            std::thread::yield_now();
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Accepts one client, and has each of its tasks end with its arguments.
fn answer(path: &Path) -> Result<(), Box<dyn Error>> {
    // Others take the path for one that is listened on once it is there.
    let unready = path.with_extension("unready");
    let listener = UnixListener::bind(&unready)?;
    std::fs::rename(&unready, path)?;
    let (mut stream, _) = listener.accept()?;
    stream.read_exact(&mut [0; HANDSHAKE_BYTES])?;
    stream.write_all(&Answer { verdict: Verdict::Accepted, version: 1 }.encode())?;
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    let epoch = Epoch(7);
    let welcome = Welcome {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: Pid(std::process::id()),
        epoch,
        payload_bytes_max: 1024,
    };
    outbox.push(&Reply { request: None, body: ReplyBody::Welcome(welcome) })?;
    loop {
        while let Some(request) = inbox.next_message::<Request>()? {
            answer_one(request, epoch, &mut outbox)?;
        }
        while !outbox.is_empty() {
            outbox.send(&stream)?;
        }
        match wait_for_more(&mut inbox, &mut stream) {
            Err(ReceiveError::Closed) => return Ok(()),
            other => other?,
        }
    }
}

fn wait_for_more(inbox: &mut Inbox, stream: &mut UnixStream) -> Result<(), ReceiveError> {
    match inbox.fill(stream)? {
        poold::wire::Filled::End => Err(ReceiveError::Closed),
        poold::wire::Filled::Bytes { .. } | poold::wire::Filled::Nothing => Ok(()),
    }
}

fn answer_one(request: Request, epoch: Epoch, outbox: &mut Outbox) -> Result<(), Box<dyn Error>> {
    let task = TaskId { epoch, number: request.id.0 };
    let mut reply = |body| outbox.push(&Reply { request: Some(request.id), body });
    match request.body {
        RequestBody::Submit { spec, args } => {
            reply(ReplyBody::Accepted { task })?;
            if spec.report_start {
                reply(ReplyBody::Started { task })?;
            }
            let result = Payload::new(args.encoding, echo(args.as_slice()?));
            reply(ReplyBody::Done { task, outcome: Outcome::Ok(result) })?;
        }
        RequestBody::SubmitAll { args, .. } => {
            reply(ReplyBody::AllAccepted { first: task, count: args.count() })?;
            let mut results = PayloadsMut::default();
            args.iter().for_each(|list| results.push(args.encoding(), echo(list)));
            reply(ReplyBody::AllDone { first: task, results: results.take() })?;
        }
        _ => return Err("only submissions are answered".into()),
    }
    Ok(())
}

/// The one argument of a list of them.
fn echo(list: &[u8]) -> &[u8] {
    &list[1..list.len() - 1]
}
