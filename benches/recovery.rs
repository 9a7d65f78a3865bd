//! From the death of a busy worker to the next attempt running in its place, against the start of a process of
//! the same binary up to its first message. `cargo bench --bench recovery`
//!
//! Each round starts a bare process, kills a worker of a pool without standbys, and kills two of a pool with a
//! standby, the second of which holds much memory: so all meet the same machine. The instants are those of the
//! machine's monotonic clock, taken here before the kill and in the next attempt as its first act.

use std::error::Error;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use poold::worker::Registry;
use poold::{Executor, Function, PoolOptions};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};

/// Takes so many bytes of memory, tells its process to the socket of that path, and never returns.
const HANG: Function<(u64, String), ()> = Function::new("hang");
/// When it was called: nanoseconds of the monotonic clock.
const NOW: Function<(), u64> = Function::new("now");

/// Says to this program that it is the bare process: it writes one byte and ends.
const BARE: &str = "--bare";

const ROUNDS: usize = 200;

/// Bytes that a worker with much memory has.
const MUCH: u64 = 256 << 20;

/// Between two rounds, so that a lost standby is there again: long against the start of a process.
const PAUSE: Duration = Duration::from_millis(20);

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn hang((bytes, path): (u64, String)) {
    std::hint::black_box(vec![1_u8; bytes as usize].leak());
    let tell = || UnixDatagram::unbound()?.send_to(&std::process::id().to_ne_bytes(), path);
    if let Err(error) = tell() {
        panic!("nobody is told which process this is: {error}");
    }
    loop {
        std::thread::park();
    }
}

fn functions() -> Registry {
    Registry::new()
        .add(HANG, &["BYTES", "PATH"], "Hangs.", hang)
        .add(NOW, &[], "When it was called.", |()| now())
}

/// Microseconds from the order for a process to its first message.
fn start_bare() -> Result<f64, Box<dyn Error>> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(BARE).stdin(Stdio::null()).stdout(Stdio::from(OwnedFd::from(theirs)));
    let before = Instant::now();
    let mut child = command.spawn()?;
    drop(command);
    ours.read_exact(&mut [0])?;
    let micros = before.elapsed().as_secs_f64() * 1e6;
    child.wait()?;
    Ok(micros)
}

/// Microseconds from the kill of the worker that runs an attempt and holds so many bytes to the start of the next one.
fn recover(pool: &Executor, bytes: u64, socket: &UnixDatagram, path: &str) -> Result<f64, Box<dyn Error>> {
    let hanging = pool.call(HANG, (bytes, path.to_owned()))?;
    let next = pool.call(NOW, ())?;
    let mut pid = [0; 4];
    socket.recv(&mut pid)?;
    let victim = Pid::from_raw(i32::from_ne_bytes(pid)).ok_or("there is no process 0")?;
    // Gives the second task the time to be accepted and the daemon to fall asleep.
    std::thread::sleep(Duration::from_millis(2));
    let before = now();
    kill_process(victim, Signal::KILL)?;
    let started = next.result(None)?;
    match hanging.exception(None)? {
        Some(error) if error.is_crash() => Ok(started.saturating_sub(before) as f64 / 1e3),
        other => Err(format!("the killed attempt did not crash: {other:?}").into()),
    }
}

/// A line of the table; the median.
fn tell(name: &str, mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    let (least, median, high, most) = (at(0.0), at(0.5), at(0.95), at(1.0));
    println!("{name:<34} {least:>9.1} {median:>9.1} {high:>9.1} {most:>9.1}");
    median
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        std::io::Write::write_all(&mut std::io::stdout(), b"x")?;
        return Ok(());
    }
    poold::init(functions);

    let directory = tempfile::tempdir()?;
    let path = directory.path().join("pid");
    let socket = UnixDatagram::bind(&path)?;
    let path = path.to_str().ok_or("the temporary directory has an odd name")?;
    let without = Executor::private([PoolOptions::new("cpu").workers(1)])?;
    let with = Executor::private([PoolOptions::new("cpu").workers(1).standby(1)])?;

    let (mut bare, mut cold, mut warm, mut large) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(start_bare()?);
        cold.push(recover(&without, 0, &socket, path)?);
        warm.push(recover(&with, 0, &socket, path)?);
        std::thread::sleep(PAUSE);
        large.push(recover(&with, MUCH, &socket, path)?);
        std::thread::sleep(PAUSE);
    }
    println!("{ROUNDS} rounds, microseconds{:>22} {:>9} {:>9} {:>9}", "min", "median", "95 %", "max");
    let bare = tell("bare process to its first message", bare);
    let cold = tell("recovery without a standby", cold);
    let warm = tell("recovery with a standby", warm);
    tell("the same, of a worker of 256 MiB", large);
    println!("without a standby, of the bare process: {:.2}", cold / bare);
    println!("with a standby, of the bare process: {:.2}", warm / bare);
    Ok(())
}
