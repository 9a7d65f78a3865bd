//! What a task costs in the supervisor alone: its time with few and with many others waiting, and the memory of
//! one that waits. `cargo bench --bench supervisor`
//!
//! Nothing is sent anywhere: workers are made up, take attempts as they are given and finish them at once. For
//! instructions per task run it under `valgrind --tool=callgrind` with two numbers of tasks, and divide the
//! difference: `supervisor DEPTH TASKS`.

use std::collections::VecDeque;
use std::time::Instant;
use std::{env, process};

use allocation_counter::measure;
use bytes::Bytes;
use poold::id::{AttemptId, ConnectionId, Epoch, FunctionName, Pid, PoolName, RequestId, Uid, WorkerId};
use poold::message::status::FunctionInfo;
use poold::message::worker::Report;
use poold::supervisor::{Action, Event, Policy, PoolPolicy, Supervisor};
use poold::task::{Encoding, Payload, TaskSpec};
use poold::time::Time;

const WORKERS: u32 = 2;
const CLIENT: ConnectionId = ConnectionId(1);
const FUNCTION: &str = "is_prime";
/// What the bytes of a payload are besides: they are held elsewhere.
const PAYLOAD: &[u8] = b"1000003";
const TASKS: u64 = 1_000_000;
const DEPTHS: [u64; 3] = [1, 100, 1_000_000];

/// A supervisor whose workers hold one attempt each, as long as tasks wait.
struct Desk {
    supervisor: Supervisor,
    now: Time,
    /// Attempts that are with a worker, the oldest first.
    held: VecDeque<(WorkerId, AttemptId)>,
    submitted: u64,
}

impl Desk {
    fn new() -> Self {
        let pool = PoolPolicy::new(PoolName::new("cpu").expect("a name"), WORKERS);
        let mut policy = Policy::new(vec![pool], Uid(0));
        policy.user_tasks_max = u64::MAX;
        policy.queue_tasks_max = u64::MAX;
        let mut supervisor = Supervisor::new(Time::ZERO, policy, Epoch(1), 1);
        supervisor.omit_notices_of_tasks();
        let mut desk = Desk { supervisor, now: Time::ZERO, held: VecDeque::new(), submitted: 0 };
        let spawn = |action| match action {
            Action::SpawnWorker { worker, .. } => Some(worker),
            _ => None,
        };
        let workers: Vec<WorkerId> =
            std::iter::from_fn(|| desk.supervisor.poll_action()).filter_map(spawn).collect();
        for worker in workers {
            let name = FunctionName::new(FUNCTION).expect("a name");
            let functions = vec![FunctionInfo { name, signature: String::new(), summary: String::new() }];
            desk.handle(Event::WorkerSpawned { worker, pid: Pid(1) });
            desk.handle(Event::WorkerReady { worker, functions, capacity: 1, ahead: 1 });
        }
        desk.handle(Event::ClientConnected { client: CLIENT, peer: Uid(1000).into() });
        desk
    }

    fn handle(&mut self, event: Event) {
        self.now = Time::from_nanos(self.now.as_nanos() + 1000);
        self.supervisor.handle(self.now, event);
        while let Some(action) = self.supervisor.poll_action() {
            if let Action::SendAttempt { worker, attempt, .. } = action {
                self.held.push_back((worker, attempt));
            }
        }
    }

    /// Submits a task, with a name and a payload of its own as one that was just received has.
    fn submit(&mut self) {
        self.submitted += 1;
        let spec = TaskSpec::new(FunctionName::new(FUNCTION).expect("a name"));
        let args = Payload::new(Encoding::Json, Bytes::copy_from_slice(PAYLOAD));
        let request = RequestId(self.submitted);
        self.handle(Event::Submitted { client: CLIENT, request, spec: spec.into(), deadline: None, args });
    }

    fn finish(&mut self) {
        let (worker, attempt) = self.held.pop_front().expect("a worker holds an attempt while tasks wait");
        self.handle(Event::AttemptStarted { worker, attempt });
        let report = Report::Ok(Payload::new(Encoding::Json, Bytes::from_static(b"true")));
        self.handle(Event::AttemptFinished { worker, attempt, report });
    }

    fn turn_over(&mut self, tasks: u64) {
        for _ in 0..tasks {
            self.submit();
            self.finish();
        }
    }
}

fn with_queue_of(depth: u64) -> Desk {
    let mut desk = Desk::new();
    (0..depth).for_each(|_| desk.submit());
    desk
}

fn main() {
    let numbers: Vec<u64> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    if let [depth, tasks] = numbers[..] {
        with_queue_of(depth).turn_over(tasks);
        process::exit(0);
    }
    println!("{:>9}  {:>7}  {:>17}", "waiting", "ns/task", "allocations/task");
    for depth in DEPTHS {
        let mut desk = with_queue_of(depth);
        let begun = Instant::now();
        desk.turn_over(TASKS);
        let nanos = begun.elapsed().as_nanos() as f64 / TASKS as f64;
        let allocations = measure(|| desk.turn_over(TASKS)).count_total as f64 / TASKS as f64;
        println!("{depth:>9}  {nanos:>7.0}  {allocations:>17.2}");
    }
    let mut desk = Desk::new();
    let waiting = measure(|| (0..TASKS).for_each(|_| desk.submit()));
    let bytes = waiting.bytes_current as f64 / TASKS as f64 - PAYLOAD.len() as f64;
    let allocations = waiting.count_current as f64 / TASKS as f64;
    println!("one that waits: {bytes:.0} bytes beyond its payload, {allocations:.2} allocations with it");
}
