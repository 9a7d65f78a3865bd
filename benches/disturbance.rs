//! What a call of one pool takes while workers of another misbehave, against the same undisturbed.
//! `cargo bench --bench disturbance`
//!
//! Each kind of harm is done once at a time, again and again, by the only worker of a pool, as calls of the other
//! pool are timed. All kinds take turns in short stretches, undisturbed ones among them: so all meet the same
//! machine. The worker that breaks the protocol is this program again, with the socket as its standard input.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use poold::Executor;
use poold::id::FunctionName;
use poold::message::status::FunctionInfo;
use poold::message::worker::{FromWorker, ToWorker};
use poold::wire::{Hello, Inbox, Outbox, Role};
use rustix::process::{Signal, getpid, kill_process};

type Failure = Box<dyn Error + Send + Sync>;

/// Says to this program that it is a worker.
const WORKER: &str = "--misbehaving-worker";

const ROUNDS: u32 = 25;
const STRETCH: Duration = Duration::from_millis(200);
/// From one harm to the next.
const PERIOD: Duration = Duration::from_millis(100);

/// What a worker makes of TERM: nothing more.
static TOLD_TO_END: AtomicBool = AtomicBool::new(false);

/// A way to misbehave.
#[derive(Clone, Copy)]
struct Harm {
    what: &'static str,
    function: &'static str,
    arguments: &'static [&'static str],
}

const HARMS: [Harm; 7] = [
    Harm { what: "memory bomb, beyond its limit", function: "hog", arguments: &["1000000000"] },
    Harm { what: "fork bomb of 200 processes", function: "fork_bomb", arguments: &["200"] },
    Harm { what: "segfault", function: "crash", arguments: &["segfault"] },
    Harm { what: "stopped worker (SIGSTOP)", function: "stop", arguments: &[] },
    Harm { what: "closes its socket and lives", function: "close", arguments: &[] },
    Harm { what: "writes garbage", function: "garbage", arguments: &[] },
    Harm { what: "ignores TERM", function: "ignore_term", arguments: &[] },
];

/// The functions of the worker that breaks the protocol.
const BREACHES: [&str; 4] = ["stop", "close", "garbage", "ignore_term"];

fn config() -> Result<String, Failure> {
    let own = env::current_exe()?;
    let own = own.to_str().ok_or("this program has an odd path")?;
    Ok(format!(
        "allow_fault_injection = true
        quarantine_after = 0
        [pool.calm]
        workers = 1
        functions = ['is_prime']
        [pool.faults]
        workers = 1
        memory = '256 MiB'
        functions = ['hog', 'fork_bomb', 'crash']
        [pool.breaches]
        workers = 1
        timeout = '30ms'
        grace = '20ms'
        command = ['sh', '-c', 'exec \"$0\" {WORKER} <&3 3<&-', '{own}']
        "
    ))
}

/// A daemon of its own, killed when it is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &tempfile::TempDir) -> Result<(Self, Executor), Failure> {
        let (config, socket) = (directory.path().join("poold.toml"), directory.path().join("poold.sock"));
        std::fs::write(&config, self::config()?)?;
        let log = File::create(directory.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
        command.arg("--config").arg(config).arg("--socket").arg(&socket).stdin(Stdio::null()).stderr(log);
        let daemon = Daemon(command.spawn()?);
        let started = Instant::now();
        loop {
            match Executor::connect_to(&socket) {
                Ok(executor) => return Ok((daemon, executor)),
                Err(error) if started.elapsed() > Duration::from_secs(10) => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Failing, it would be because it has ended.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The worker that breaks the protocol: what it is asked for says how.
fn misbehave() -> Result<(), Failure> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    outbox.push_handshake(&Hello::new(Role::Worker).encode());
    outbox.send(&socket)?;
    inbox.receive_answer_from(&socket)?;
    let mut functions = Vec::new();
    for name in BREACHES {
        let (signature, summary) = (format!("{name}()"), "Misbehaves.".to_owned());
        functions.push(FunctionInfo { name: FunctionName::new(name)?, signature, summary });
    }
    outbox.push(&FromWorker::Ready { functions, capacity: 1, uses_page: false, sentinel: None })?;
    outbox.send(&socket)?;
    loop {
        let ToWorker::Attempt { attempt, function, .. } = inbox.receive_from(&socket)? else { continue };
        outbox.push(&FromWorker::Started { attempt })?;
        outbox.send(&socket)?;
        match function.as_str() {
            "stop" => kill_process(getpid(), Signal::STOP)?,
            "close" => drop(socket),
            "garbage" => io::Write::write_all(&mut socket, &[0xff; 64])?,
            _ => _ = signal_hook::flag::register(Signal::TERM.as_raw(), &TOLD_TO_END)?,
        }
        loop {
            thread::park();
        }
    }
}

/// Microseconds that each call took, one after another, for a stretch of time.
fn time_calls(calm: &Executor, samples: &mut Vec<f64>) -> Result<(), Failure> {
    let started = Instant::now();
    while started.elapsed() < STRETCH {
        let before = Instant::now();
        let is_prime = calm.submit::<bool>("is_prime", 7)?.result(None)?;
        samples.push(before.elapsed().as_secs_f64() * 1e6);
        assert!(is_prime);
    }
    Ok(())
}

/// Does harm until it is told to end; how often, and how the calls ended.
fn disturb(executor: &Executor, harm: Harm, ends: &AtomicBool) -> Result<(u32, BTreeSet<String>), Failure> {
    let (mut times, mut outcomes) = (0, BTreeSet::new());
    while !ends.load(Ordering::Relaxed) {
        let started = Instant::now();
        let args = poold::task::Payload::from_args(harm.arguments);
        let error = executor.submit_payload(harm.function, args)?.exception(None)?;
        outcomes.insert(error.map_or("ok".to_owned(), |error| format!("{:?}", error.kind())));
        times += 1;
        thread::sleep(PERIOD.saturating_sub(started.elapsed()));
    }
    Ok((times, outcomes))
}

/// The median and the 95th of a hundred.
fn ranks(samples: &mut [f64]) -> (f64, f64) {
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.95))
}

fn main() -> Result<(), Failure> {
    if env::args().nth(1).as_deref() == Some(WORKER) {
        return misbehave();
    }
    let directory = tempfile::tempdir()?;
    let (_daemon, executor) = Daemon::start(&directory)?;
    let calm = executor.with_pool("calm")?;

    let mut undisturbed = Vec::new();
    let mut rows: Vec<(Harm, Vec<f64>, u32, BTreeSet<String>)> =
        HARMS.map(|harm| (harm, Vec::new(), 0, BTreeSet::new())).into();
    // Whatever is slow only once is.
    time_calls(&calm, &mut Vec::new())?;
    for _ in 0..ROUNDS {
        time_calls(&calm, &mut undisturbed)?;
        for (harm, samples, times, outcomes) in &mut rows {
            let ends = AtomicBool::new(false);
            let (timed, disturbed) = thread::scope(|scope| {
                let disturbing = scope.spawn(|| disturb(&executor, *harm, &ends));
                let timed = time_calls(&calm, samples);
                ends.store(true, Ordering::Relaxed);
                (timed, disturbing.join())
            });
            timed?;
            let (more, ended) = disturbed.map_err(|_| "the disturbance panicked")??;
            *times += more;
            outcomes.extend(ended);
        }
    }

    let (median, high) = ranks(&mut undisturbed);
    println!("a call, microseconds              calls   median     95 %   of undisturbed   harms   outcome");
    println!("{:<32} {:>6} {median:>8.1} {high:>8.1}", "undisturbed", undisturbed.len());
    for (harm, samples, times, outcomes) in &mut rows {
        let (disturbed, high) = ranks(samples);
        let outcomes = outcomes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (what, calls, factor) = (harm.what, samples.len(), disturbed / median);
        println!("{what:<32} {calls:>6} {disturbed:>8.1} {high:>8.1} {factor:>16.2} {times:>7}   {outcomes}");
    }
    Ok(())
}
