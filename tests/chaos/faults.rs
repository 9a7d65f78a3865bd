//! Whoever harms workers: at random, by signals, in a steady rhythm.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use poold::client::Connection;
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::{WorkerState, WorkerStatus};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Sends a worker that is ready one of `signals` every `pause` until told to stop; gives how often it did.
pub fn signal_workers(
    socket: &Path,
    seed: u64,
    signals: &[Signal],
    pause: Duration,
    stop: &AtomicBool,
) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut connection = Connection::connect(socket).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        let ready: Vec<WorkerStatus> = workers(&mut connection).into_iter().filter(is_ready).collect();
        if let Some(victim) = rng.choice(&ready) {
            sent += u64::from(signal(victim, *rng.choice(signals).unwrap()));
        }
        thread::sleep(pause);
    }
    sent
}

fn workers(connection: &mut Connection) -> Vec<WorkerStatus> {
    match connection.call(RequestBody::Workers { skip: 0 }).unwrap() {
        ReplyBody::Workers { rows, .. } => rows,
        other => panic!("asked for its workers, the daemon answers {other:?}"),
    }
}

fn is_ready(worker: &WorkerStatus) -> bool {
    matches!(worker.state, WorkerState::Idle | WorkerState::Busy | WorkerState::Standby)
}

/// Whether it was still there to get the signal.
fn signal(worker: &WorkerStatus, signal: Signal) -> bool {
    let Some(pid) = worker.pid.and_then(|pid| Pid::from_raw(pid.0 as i32)) else { return false };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // The number may be another process's by now, but then it is not named as a worker of this slot.
    let name = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let expected = format!("poold: worker {}.{} ", worker.slot.0, worker.generation.0);
    name.starts_with(expected.as_bytes()) && pidfd_send_signal(process, signal).is_ok()
}
