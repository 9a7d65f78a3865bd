//! Starts worker processes, on a thread of its own since starting one blocks its caller.
//!
//! ```text
//!   loop ──Order──> backlog ──> (channel) ──> thread: socketpair, pipes, posix_spawn, pidfd
//!   loop <──Answer── (channel, then a wake of the poller) <──┘
//! ```
//!
//! The thread lives as long as the [`Spawner`]: a worker asks the kernel to be killed when the *thread*
//! that started it ends (PR_SET_PDEATHSIG).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Waker};

use super::connection::Connection;
use super::guard::{Guard, Records};
use super::output::Output;
use super::token::{OutputStream, Token};
use crate::id::{Pid, PoolName, WorkerId};
use crate::limits::SPAWNS_AHEAD;
use crate::message::command::CommandSpec;
use crate::message::guard::Record;
use crate::os::pidfd::Child;
use crate::wire::Role;

/// The daemon's own program: the one that runs, even if its file was replaced.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// Variables that the service manager meant for the daemon.
const DAEMON_VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// A process to be started.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Its address.
    pub(super) worker: WorkerId,
    /// Its pool.
    pub(super) pool: PoolName,
    /// What its first stage executes; without, it runs the built-in functions.
    pub(super) command: Option<Vec<String>>,
    /// Variables added to its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Whether functions that show faults may be announced.
    pub(super) allow_fault_injection: bool,
    /// How many attempts it is to run at a time.
    pub(super) threads: u32,
    /// Functions that run a command.
    pub(super) commands: Arc<[CommandSpec]>,
}

/// A process that was started, with the daemon's ends of all that it holds.
#[derive(Debug)]
pub(super) struct Started {
    /// What it was started for.
    pub(super) order: Order,
    /// The process, not reaped.
    pub(super) child: Child,
    /// Its socket.
    pub(super) connection: Connection,
    /// Its standard output and error.
    pub(super) outputs: [Output; 2],
}

/// What became of an order.
pub(super) type Answer = Result<Box<Started>, Failed>;

/// Why an order came to nothing.
#[derive(Debug)]
pub(super) struct Failed {
    /// Which worker's.
    pub(super) worker: WorkerId,
    /// Why, in one line.
    pub(super) message: String,
}

/// The loop's side of the spawning thread.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: SyncSender<Order>,
    answers: Receiver<Answer>,
    /// Orders for which the thread has no room yet. At most one for each slot.
    backlog: VecDeque<Order>,
    records: Records,
}

impl Spawner {
    /// Starts the thread. What it starts executes `program` and is registered with `registry`, and
    /// each has a guard that runs; `nofile`
    /// is the limit on descriptors that workers get back.
    pub(super) fn start(
        program: &'static str,
        (mut guard, records): (Guard, Records),
        registry: &Registry,
        nofile: u64,
    ) -> io::Result<Self> {
        let waker = Waker::new(registry, Token::Spawner.into())?;
        let registry = registry.try_clone()?;
        let starter = Starter { program, nofile, registry, records: records.clone() };
        let (orders, to_do) = sync_channel::<Order>(SPAWNS_AHEAD);
        // When it is full the thread waits for the loop, which never waits for the thread.
        let (done, answers) = sync_channel(SPAWNS_AHEAD);
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for order in to_do {
                let worker = order.worker;
                let answer = guard
                    .keep_running()
                    .and_then(|()| starter.start(order))
                    .map(Box::new)
                    .map_err(|error| Failed { worker, message: error.to_string() });
                if done.send(answer).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Spawner { orders, answers, backlog: VecDeque::new(), records })
    }

    /// Has a process started, once the thread is handed the order. Its answer comes later.
    pub(super) fn order(&mut self, order: Order) {
        self.backlog.push_back(order);
    }

    /// The next answer that is there.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok();
        self.hand_over();
        answer
    }

    /// What the guard is told with.
    pub(super) fn records(&self) -> Records {
        self.records.clone()
    }

    /// Hands the thread what was ordered. It runs at once, beside the loop: so what is urgent comes before.
    pub(super) fn hand_over(&mut self) {
        while let Some(order) = self.backlog.pop_front() {
            match self.orders.try_send(order) {
                Ok(()) => {}
                Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
                    self.backlog.push_front(order);
                    return;
                }
            }
        }
    }
}

/// What the thread starts workers with.
struct Starter {
    program: &'static str,
    nofile: u64,
    registry: Registry,
    records: Records,
}

impl Starter {
    /// Starts the process of `order` as `src/worker` expects it: see there.
    fn start(&self, order: Order) -> io::Result<Started> {
        let Starter { program, nofile, registry, records } = self;
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command
            .arg0(format!("poold: worker {} ({})", order.worker, order.pool))
            .args(order.command.iter().flatten())
            .envs(&order.env)
            .env("POOLD_WORKER", std::process::id().to_string())
            .env("POOLD_WORKER_NOFILE", nofile.to_string())
            .env("POOLD_WORKER_GUARD", records.fd().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for variable in DAEMON_VARIABLES {
            command.env_remove(variable);
        }
        let mut process = command.spawn()?;
        // Closes the worker's ends: from here on its death is the end of ours.
        drop(command);
        records.tell(Record::WorkerStarted { worker: Pid(process.id()) });

        let slot = order.worker.slot;
        let stdout = process.stdout.take().map(OwnedFd::from);
        let stderr = process.stderr.take().map(OwnedFd::from);
        let held = Child::hold(Pid(process.id())).and_then(|child| {
            let output = |stream, pipe: Option<OwnedFd>| {
                let pipe = pipe.ok_or(io::ErrorKind::BrokenPipe)?;
                Output::open(stream, pipe, Token::WorkerOutput(slot, stream), registry)
            };
            let outputs = [output(OutputStream::Stdout, stdout)?, output(OutputStream::Stderr, stderr)?];
            let connection =
                Connection::open(ours.into(), Role::Worker, Token::WorkerSocket(slot), registry)?;
            let exit = Token::WorkerExit(slot);
            registry.register(&mut SourceFd(&child.as_fd().as_raw_fd()), exit.into(), Interest::READABLE)?;
            Ok((child, connection, outputs))
        });
        match held {
            Ok((child, connection, outputs)) => Ok(Started { order, child, connection, outputs }),
            Err(error) => {
                // Nobody else knows of it: it must not stay, and it is reaped here.
                if process.kill().and_then(|()| process.wait()).is_err() {
                    log::error!("process {} could not be ended", process.id());
                }
                records.tell(Record::WorkerEnded { worker: Pid(process.id()) });
                Err(error)
            }
        }
    }
}
