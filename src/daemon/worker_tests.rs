//! Workers with real sockets and real processes: what is told of each.

use std::collections::BTreeMap;
use std::time::Instant;

use super::config::{EnvironmentPass, PoolLimits};
use super::spawner::Order;
use super::tests::{PATIENCE, children, guard, unconfined};
use super::*;
use crate::id::{AttemptId, Generation, PoolName, RequestId, SlotId, WorkerId};
use crate::limits;
use crate::message::client::{Request, RequestBody};
use crate::message::resources::WorkLimits;
use crate::message::worker::FromWorker;
use crate::task::Exit;
use crate::wire::{Hello, Role, encode};

const SLOT: SlotId = SlotId(3);

/// What starts `program`, or what an order names in its place, and has `registry` report on it.
fn spawner(program: &str, registry: &mio::Registry) -> Spawner {
    Spawner::start(program.into(), None, children(), guard(), unconfined(), registry, 1024).expect("a thread")
}

/// A worker with this command, if it is to have one.
fn order(command: Option<Vec<String>>) -> Order {
    Order {
        worker: WorkerId { slot: SLOT, generation: Generation(0) },
        pool: PoolName::new("cpu").expect("a name"),
        command,
        env_pass: EnvironmentPass::default(),
        env: BTreeMap::new(),
        allow_fault_injection: false,
        threads: 1,
        commands: [].into(),
        limits: PoolLimits::default(),
        sandbox: true,
        work_limits: WorkLimits::default(),
        payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
    }
}

/// A shell in a worker's place, and what the daemon knows of it.
struct Shell {
    poll: mio::Poll,
    workers: Workers,
    spawner: Spawner,
}

impl Shell {
    fn start(script: &str) -> Self {
        Self::start_by("/bin/sh", Some(vec!["-c".to_owned(), script.to_owned()]))
    }

    /// Another program in its place.
    fn start_by(program: &str, command: Option<Vec<String>>) -> Self {
        let poll = mio::Poll::new().expect("a poller");
        let registry = poll.registry().try_clone().expect("it can be shared");
        let spawner = spawner(program, &registry);
        let mut shell = Shell { poll, workers: Workers::new(registry, spawner.records()), spawner };
        shell.spawner.order(order(command));
        shell.spawner.hand_over(Time::ZERO);
        shell
    }

    /// Runs until the process has ended; gives all that it did.
    fn events(mut self) -> Vec<Event> {
        let mut readiness = mio::Events::with_capacity(16);
        let begun = Instant::now();
        loop {
            // A signal interrupts it, and then there is nothing.
            poll(&mut self.poll, &mut readiness, Some(PATIENCE)).expect("a poller");
            assert!(begun.elapsed() < PATIENCE, "nothing happened within {PATIENCE:?}");
            while let Some(answer) = self.spawner.next_answer() {
                self.workers.add(*answer.expect("it starts"));
            }
            if let Some((events, _)) = self.workers.take_ended(SLOT) {
                return events;
            }
        }
    }
}

/// `bytes` as the format of printf(1).
fn printf_format(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

#[test]
fn worker_exit_is_told_with_its_status() {
    let events = Shell::start("exit 3").events();
    assert!(matches!(events[..], [Event::WorkerExited { exit: Exit::Code(3), .. }]), "{events:?}");
}

#[test]
fn files_of_a_copy_that_was_not_heard_of_are_not_used_again() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/template.py");
    let events = Shell::start_by(program, None).events();
    assert!(matches!(events[..], [Event::WorkerExited { exit: Exit::Code(3), .. }]), "{events:?}");
}

#[test]
fn what_a_worker_said_before_it_was_killed_is_told_before_its_exit() {
    let mut said = bytes::BytesMut::from(&Hello::new(Role::Worker).encode()[..]);
    encode(
        &FromWorker::Ready { functions: Vec::new(), capacity: 1, uses_page: false, sentinel: None },
        &mut said,
    )
    .expect("it fits");
    let script = format!("printf '{}' >&0; kill -KILL $$", printf_format(&said));
    let events = Shell::start(&script).events();
    assert!(
        matches!(
            events[..],
            [Event::WorkerReady { capacity: 1, .. }, Event::WorkerExited { exit: Exit::Signal(9), .. }]
        ),
        "{events:?}"
    );
}

#[test]
fn worker_that_asks_for_an_attempt_it_does_not_hold_breaks_the_protocol() {
    let mut said = bytes::BytesMut::from(&Hello::new(Role::Worker).encode()[..]);
    let request = Box::new(Request { id: RequestId(1), body: RequestBody::Status });
    encode(&FromWorker::Ask { attempt: AttemptId(1), request }, &mut said).expect("it fits");
    let events = Shell::start(&format!("printf '{}' >&0", printf_format(&said))).events();
    let [Event::WorkerBroke { reason, .. }, Event::WorkerExited { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(reason, "it asked for attempt 1, which it does not hold");
}

#[test]
fn processes_that_a_worker_started_end_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it runs");
    assert!(made.success());
    // The grandchild has the pipe open for as long as it lives: its end is the end of the file.
    let script = format!("sleep 1000 > '{}' & exit 0", pipe.display());
    let shell = Shell::start(&script);
    let mut reading = std::fs::File::open(&pipe).expect("the grandchild opens it too");
    let events = shell.events();
    assert!(matches!(events[..], [Event::WorkerExited { exit: Exit::Code(0), .. }]), "{events:?}");
    assert_eq!(std::io::Read::read(&mut reading, &mut [0]).expect("a pipe"), 0);
}

#[test]
fn program_that_is_not_there_is_an_answer() {
    let poll = mio::Poll::new().expect("a poller");
    let mut spawner = spawner("/nonexistent", poll.registry());
    spawner.order(order(None));
    spawner.hand_over(Time::ZERO);
    let answer = loop {
        if let Some(answer) = spawner.next_answer() {
            break answer;
        }
        std::thread::yield_now();
    };
    assert!(answer.is_err_and(|failed| failed.message.contains("No such file")));
}

#[test]
fn errands_give_way_to_the_first_of_several_standbys_and_for_its_moment_alone() {
    let poll = mio::Poll::new().expect("a poller");
    let mut spawner = spawner("/bin/sh", poll.registry());
    let over = Time::ZERO + limits::SUCCESSION;
    spawner.give_way(Time::ZERO);
    assert_eq!(spawner.next_timeout(), None, "there is nothing to be done");
    spawner.sweep_strays();
    spawner.give_way(over);
    spawner.hand_over(Time::ZERO);
    assert_eq!(spawner.next_timeout(), Some(over));
    spawner.hand_over(over);
    assert_eq!(spawner.next_timeout(), None, "it is handed over");
}
