//! What happens next, by the input: anything that the daemon could tell the supervisor now.
//!
//! Numbers are drawn small, so that they meet: requests of the same number, tasks that are done, attempts
//! that were never sent.

use std::time::Duration;

use bytes::Bytes;
use poold::id::{AttemptId, ConnectionId, Epoch, RequestId, TaskId, Uid, WorkerId};
use poold::limits::{ATTEMPTS_AHEAD_MAX, ATTEMPTS_PER_WORKER_MAX, RETRIES_MAX};
use poold::message::status::FunctionInfo;
use poold::message::worker::Report;
use poold::supervisor::Event;
use poold::task::{
    Attachment, Encoding, Exit, Failure, FailureKind, Payload, Payloads, PayloadsMut, TaskSpec,
};
use poold::time::Time;

use super::super::draw::Draw;
use super::ledger::{EPOCH, REQUESTS_OF_RUNS, Worker, is_detached};
use super::policies::{self, DAEMON_USER, any, short};
use super::world::World;

/// Numbers that requests have: few, so that some have the same.
const REQUESTS: usize = 6;

/// The next thing that happens, if it can.
pub fn act(world: &mut World, draw: &mut Draw<'_>) {
    match draw.below(16) {
        0 => _ = world.wake(),
        1 => time_goes(world, draw),
        2 => _ = world.connect(draw.pick(&[Uid(0), DAEMON_USER, Uid(1), Uid(2)])),
        3..=4 => with_client(world, draw, submits),
        5 => with_client(world, draw, submits_all),
        6 => with_client(world, draw, asks),
        7 => with_client(world, draw, behaves_badly),
        8 => function_connects(world, draw),
        9..=10 => process_starts(world, draw),
        11..=13 => worker_speaks(world, draw),
        14 => worker_ends(world, draw),
        _ => operator_acts(world, draw),
    }
}

fn time_goes(world: &mut World, draw: &mut Draw<'_>) {
    let by = draw.pick(&[Duration::from_nanos(1), Duration::from_millis(20), Duration::from_secs(2)]);
    world.now = world.now + by;
}

fn with_client(world: &mut World, draw: &mut Draw<'_>, act: fn(&mut World, &mut Draw<'_>, ConnectionId)) {
    let clients: Vec<ConnectionId> = world.ledger.clients.keys().copied().collect();
    if let Some(client) = draw.any(clients) {
        act(world, draw, client);
    }
}

fn submits(world: &mut World, draw: &mut Draw<'_>, client: ConnectionId) {
    let request = RequestId(draw.below(REQUESTS) as u64);
    let (mut spec, deadline) = draw_spec(world, draw);
    if is_detached(request) {
        spec.attachment = Attachment::Detached;
    }
    let args = Payload::new(Encoding::Bytes, Bytes::from(vec![0; draw.below(30)]));
    world.tell(Event::Submitted { client, request, spec: spec.into(), deadline, args });
}

fn submits_all(world: &mut World, draw: &mut Draw<'_>, client: ConnectionId) {
    let request = RequestId(REQUESTS_OF_RUNS + draw.below(REQUESTS) as u64);
    let (spec, deadline) = match draw.below(4) {
        0 => draw_spec(world, draw),
        _ => (TaskSpec::new(policies::function(draw)), None),
    };
    let args = payloads(draw, 8, 30);
    world.tell(Event::SubmittedAll { client, request, spec: spec.into(), deadline, args });
}

/// At most so many payloads, each of fewer bytes than that.
fn payloads(draw: &mut Draw<'_>, most: usize, bytes_max: usize) -> Payloads {
    let mut payloads = PayloadsMut::default();
    (0..=draw.below(most)).for_each(|_| payloads.push(Encoding::Bytes, &vec![0; draw.below(bytes_max)]));
    payloads.take()
}

/// What is attached, and its deadline.
fn draw_spec(world: &World, draw: &mut Draw<'_>) -> (TaskSpec, Option<Time>) {
    let mut spec = TaskSpec::new(policies::function(draw));
    let options = draw.byte();
    let has = |bit: u32| options & (1 << bit) != 0;
    spec.report_start = has(0);
    spec.pool = has(1).then(|| policies::pool(draw));
    spec.priority = if has(2) { draw.pick(&[i16::MIN, -1, 1, i16::MAX]) } else { 0 };
    spec.timeout = has(3).then(|| any(draw));
    spec.delay = has(4).then(|| if draw.below(4) == 0 { Duration::ZERO } else { short(draw) });
    spec.retries = if has(5) { draw.pick(&[1, 2, RETRIES_MAX + 1]) } else { 0 };
    let deadline = has(6).then(|| world.now + any(draw));
    let deadline = if has(7) { deadline.map(|_| world.now) } else { deadline };
    (spec, deadline)
}

fn asks(world: &mut World, draw: &mut Draw<'_>, client: ConnectionId) {
    let request = RequestId(draw.below(REQUESTS) as u64);
    let number = (world.ledger.last_number + 1).saturating_sub(draw.below(10) as u64);
    let task = TaskId { epoch: if draw.below(16) == 15 { Epoch(8) } else { EPOCH }, number };
    world.tell(match draw.below(3) {
        0 => Event::CancelRequested { client, request, task },
        1 => Event::ResultRequested { client, request, task, wait: false },
        // The daemon lets no function wait for another's task.
        _ if is_function(world, client) => return,
        _ => Event::ResultRequested { client, request, task, wait: true },
    });
}

fn behaves_badly(world: &mut World, draw: &mut Draw<'_>, client: ConnectionId) {
    match draw.below(4) {
        0 if world.blocked.insert(client) => world.tell(Event::ClientBlocked { client }),
        1 if world.blocked.remove(&client) => world.tell(Event::ClientUnblocked { client }),
        2 if !is_function(world, client) => world.leave(client),
        _ => {}
    }
}

fn is_function(world: &World, client: ConnectionId) -> bool {
    world.functions.values().any(|function| *function == client)
}

/// A function asks for something for the first time, or its worker says so before it started it.
fn function_connects(world: &mut World, draw: &mut Draw<'_>) {
    let heard = world.ledger.workers.iter().filter(|(_, worker)| !worker.is_deaf);
    let held =
        heard.flat_map(|(id, worker)| worker.held.iter().map(|(attempt, held)| ((*id, *attempt), held.task)));
    let silent: Vec<_> = held.filter(|(function, _)| !world.functions.contains_key(function)).collect();
    if let Some((function, task)) = draw.any(silent) {
        let client = world.next_connection();
        world.functions.insert(function, client);
        world.tell(Event::FunctionConnected { client, task });
    }
}

fn process_starts(world: &mut World, draw: &mut Draw<'_>) {
    let asked = world.ledger.workers.iter().filter(|(_, worker)| !worker.is_spawned).map(|(id, _)| *id);
    let asked: Vec<WorkerId> = asked.collect();
    let Some(worker) = draw.any(asked) else { return };
    match draw.below(8) {
        7 => world.tell(Event::SpawnFailed { worker, message: "no memory".to_owned() }),
        rest => {
            world.spawned(worker);
            if rest > 1 {
                ready(world, draw, worker);
            }
        }
    }
}

fn ready(world: &mut World, draw: &mut Draw<'_>, worker: WorkerId) {
    let info = |name| FunctionInfo { name, signature: String::new(), summary: String::new() };
    let functions = match draw.below(4) {
        0 => policies::functions(draw),
        _ => policies::all_functions(),
    };
    let functions = functions.into_iter().map(info).collect();
    let capacity = draw.pick(&[1, 1, 2, ATTEMPTS_PER_WORKER_MAX]);
    let ahead = if capacity == 1 { draw.pick(&[1, ATTEMPTS_AHEAD_MAX]) } else { capacity };
    world.tell(Event::WorkerReady { worker, functions, capacity, ahead });
}

/// A worker that is heard says something, true or not; or one is heard that is gone.
fn worker_speaks(world: &mut World, draw: &mut Draw<'_>) {
    let heard = world.ledger.workers.iter().filter(|(_, worker)| worker.is_spawned && !worker.is_deaf);
    let mut speakers: Vec<WorkerId> = heard.map(|(id, _)| *id).collect();
    speakers.extend(world.ledger.gone.last());
    let Some(worker) = draw.any(speakers) else { return };
    let known = world.ledger.workers.get(&worker).into_iter();
    let sent = known.flat_map(|worker| worker.held.keys().chain(&worker.taken_back).copied());
    let sent: Vec<AttemptId> = sent.collect();
    let attempt = match draw.below(8) {
        0 => AttemptId(draw.below(4) as u64),
        _ => draw.any(sent).unwrap_or(AttemptId(1)),
    };
    let message = "so it says".to_owned();
    world.tell_of_worker(match draw.below(16) {
        0..=4 => Event::AttemptStarted { worker, attempt },
        5..=7 => Event::AttemptFinished { worker, attempt, report: report(draw) },
        8..=9 => {
            let results = payloads(draw, 4, 10);
            Event::AttemptsFinished { worker, attempt, results }
        }
        10 => {
            let count = at_once(world, draw, worker, |worker| worker.can_give_back(attempt));
            Event::AttemptsRecalled { worker, attempt, count }
        }
        11 => {
            let count = at_once(world, draw, worker, |worker| worker.can_pass_over(attempt));
            Event::AttemptsPassedOver { worker, attempt, count }
        }
        12 => Event::WorkerMeasured { worker, rss_bytes: draw.below(3) as u64 },
        13 => Event::WorkerNotReady { worker, message },
        14 => return ready(world, draw, worker),
        _ if draw.below(2) == 0 => Event::WorkerHungUp { worker },
        _ => Event::WorkerBroke { worker, reason: message },
    });
}

/// How many attempts a worker says something of at once: one if it may not say it at all.
fn at_once(world: &World, draw: &mut Draw<'_>, worker: WorkerId, most: impl Fn(&Worker) -> u32) -> u32 {
    let most = world.ledger.workers.get(&worker).map_or(0, most);
    1 + draw.below(most.max(1) as usize) as u32
}

fn report(draw: &mut Draw<'_>) -> Report {
    match draw.below(3) {
        0 => Report::Failed(Failure { kind: FailureKind::Error, message: "no".to_owned(), location: None }),
        _ => Report::Ok(Payload::new(Encoding::Bytes, Bytes::from(vec![0; draw.below(10)]))),
    }
}

/// A process ends, whether it was told to or not.
fn worker_ends(world: &mut World, draw: &mut Draw<'_>) {
    let told = draw.below(2) == 0;
    let there = world.ledger.workers.iter().filter(|(_, worker)| worker.is_spawned);
    let ends = there.filter(|(_, worker)| !told || worker.is_told_to_end()).map(|(id, _)| *id);
    let ends: Vec<WorkerId> = ends.collect();
    if let Some(worker) = draw.any(ends) {
        let exit = draw.pick(&[Exit::Signal(9), Exit::Code(0), Exit::Signal(11)]);
        world.tell_of_worker(Event::WorkerExited { worker, exit });
    }
}

fn operator_acts(world: &mut World, draw: &mut Draw<'_>) {
    let clients: Vec<ConnectionId> = world.ledger.clients.keys().copied().collect();
    let clients = clients.into_iter().filter(|client| !is_function(world, *client));
    let Some(client) = draw.any(clients.collect::<Vec<_>>()) else { return };
    let request = RequestId(draw.below(REQUESTS) as u64);
    match draw.below(16) {
        0 => world.tell(Event::DrainRequested { client, request }),
        1 => world.tell(Event::StopRequested),
        2..=8 => {
            let function = policies::function(draw);
            world.tell(Event::ReleaseRequested { client, request, function });
        }
        _ => {
            let policy = Box::new(policies::draw(draw));
            world.tell(Event::PolicyChanged { policy });
        }
    }
}
