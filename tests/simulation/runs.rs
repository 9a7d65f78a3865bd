//! Stories of tasks that are submitted at once, and of workers that are sent many.

use std::time::Duration;

use poold::id::{ConnectionId, RequestId, TaskId, WorkerId};
use poold::limits::LOOK_INTERVAL;
use poold::message::client::Refusal;
use poold::message::status::FunctionInfo;
use poold::supervisor::{Event, Notice};
use poold::task::{CancelReason, Encoding, Exit, Outcome, PayloadsMut, TaskSpec};

use crate::harness::{ALICE, BOB, Harness, Sent, cpu, is_ok, ok, work, worker};
use crate::policies::function;

/// As long as two looks take at which nothing is new.
const LOOKS: Duration = LOOK_INTERVAL.saturating_mul(4);

/// A pool of so many workers, each of which may be sent 32 attempts.
fn with_quick_workers(workers: u32) -> (Harness, ConnectionId) {
    let mut it = Harness::new(cpu(workers));
    (0..workers).for_each(|slot| _ = it.expect_spawn(worker(slot, 0)));
    (0..workers).for_each(|slot| get_ready(&mut it, worker(slot, 0)));
    let alice = it.connect(ALICE);
    // The last one is free alone, and works itself up, while all others are kept busy.
    for free in (0..workers).rev() {
        let busy: Vec<(TaskId, Sent)> = (0..free).map(|_| it.submit_running(alice, work())).collect();
        for _ in 0..31 {
            let (task, sent) = it.submit_running(alice, work());
            assert_eq!(sent.worker, worker(free, 0));
            it.finishes(sent, ok("done")).expect_done(alice, task, is_ok("done"));
        }
        for (task, sent) in busy {
            it.finishes(sent, ok("busy")).expect_done(alice, task, is_ok("busy"));
        }
    }
    (it, alice)
}

fn get_ready(it: &mut Harness, worker: WorkerId) {
    let work =
        FunctionInfo { name: function("work"), signature: "work()".to_owned(), summary: String::new() };
    it.spawned(worker);
    it.event(Event::WorkerReady { worker, functions: vec![work], capacity: 1, ahead: 64 });
}

/// A client submits so many tasks at once.
fn submit_all(it: &mut Harness, client: ConnectionId, spec: TaskSpec, count: u64) -> Vec<RequestId> {
    let mut args = PayloadsMut::default();
    (0..count).for_each(|_| args.push(Encoding::Json, b"1"));
    let request = it.next_requests(count);
    it.event(Event::SubmittedAll { client, request, spec: spec.into(), deadline: None, args: args.take() });
    (0..count).map(|place| request.plus(place)).collect()
}

fn accepted(it: &mut Harness, client: ConnectionId, requests: &[RequestId]) -> Vec<TaskId> {
    requests.iter().map(|request| it.expect_accepted(client, *request)).collect()
}

fn sent(it: &mut Harness, tasks: &[TaskId]) -> Vec<Sent> {
    tasks.iter().map(|task| it.expect_send(*task)).collect()
}

fn given_back(it: &mut Harness, sent: &[Sent]) {
    sent.iter().for_each(|sent| _ = it.expect_recall(*sent));
    let (worker, attempt) = (sent[0].worker, sent[0].attempt);
    it.event(Event::AttemptsRecalled { worker, attempt, count: sent.len() as u32 });
}

fn passed_over(it: &mut Harness, sent: &[Sent]) {
    let (worker, attempt) = (sent[0].worker, sent[0].attempt);
    it.event(Event::AttemptsPassedOver { worker, attempt, count: sent.len() as u32 });
}

#[test]
fn run_is_shared_out_over_the_workers_that_have_room() {
    let (mut it, alice) = with_quick_workers(2);
    let requests = submit_all(&mut it, alice, work(), 10);
    let tasks = accepted(&mut it, alice, &requests);
    let sent = sent(&mut it, &tasks);
    for slot in 0..2 {
        assert_eq!(sent.iter().filter(|sent| sent.worker == worker(slot, 0)).count(), 5);
    }
}

#[test]
fn run_takes_turns_with_another_connection_task_by_task() {
    let mut it = Harness::with_workers(1);
    let (alice, bob) = (it.connect(ALICE), it.connect(BOB));
    let requests = submit_all(&mut it, alice, work(), 3);
    let run = accepted(&mut it, alice, &requests);
    let first = it.expect_send(run[0]);
    let lone = it.submit(bob, work());
    it.starts(first).finishes(first, ok("1")).expect_done(alice, run[0], is_ok("1"));
    let second = it.expect_send(lone);
    it.starts(second).finishes(second, ok("2")).expect_done(bob, lone, is_ok("2"));
    it.expect_send(run[1]);
}

#[test]
fn death_in_the_middle_of_a_run_crashes_the_one_that_ran_and_sends_the_rest_again() {
    let (mut it, alice) = with_quick_workers(1);
    let requests = submit_all(&mut it, alice, work(), 4);
    let tasks = accepted(&mut it, alice, &requests);
    let first = sent(&mut it, &tasks);
    it.calls(first[0]);
    it.finishes(first[0], ok("1")).expect_done(alice, tasks[0], is_ok("1"));
    it.starts(first[1]);
    it.exits(worker(0, 0), Exit::Signal(11));
    it.expect_done(alice, tasks[1], Outcome::Crashed(Exit::Signal(11)));
    it.expect_spawn(worker(0, 1));
    get_ready(&mut it, worker(0, 1));
    // A new worker shows first how fast it is.
    for task in &tasks[2..] {
        let again = it.expect_send(*task);
        it.starts(again).finishes(again, ok("again")).expect_done(alice, *task, is_ok("again"));
    }
}

#[test]
fn task_of_a_run_that_waits_is_cancelled_alone() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let requests = submit_all(&mut it, alice, work(), 4);
    let tasks = accepted(&mut it, alice, &requests);
    let mut runs = it.expect_send(tasks[0]);
    let request = it.cancel(alice, tasks[2]);
    it.expect_reply(alice, request);
    it.expect_done(alice, tasks[2], Outcome::Cancelled(CancelReason::Client)).expect_no_more();
    for (task, next) in [(tasks[0], tasks[1]), (tasks[1], tasks[3])] {
        it.starts(runs).finishes(runs, ok("done")).expect_done(alice, task, is_ok("done"));
        runs = it.expect_send(next);
    }
}

#[test]
fn what_is_sent_beyond_what_a_worker_proves_to_do_is_taken_back_and_others_have_their_turn() {
    let (mut it, alice) = with_quick_workers(1);
    let requests = submit_all(&mut it, alice, work(), 20);
    let long = accepted(&mut it, alice, &requests);
    let mut sent = sent(&mut it, &long);
    let bob = it.connect(BOB);
    let short = it.submit(bob, work());
    sent.push(it.expect_send(short));
    it.starts(sent[0]);
    it.advance(LOOKS).expect_looks(sent[0].worker);
    given_back(&mut it, &sent[1..]);
    it.finishes(sent[0], ok("long")).expect_done(alice, long[0], is_ok("long"));
    passed_over(&mut it, &sent[1..]);
    it.expect_send(long[1]);
    it.expect_send(short);
    it.expect_no_more();
}

#[test]
fn stop_takes_back_what_has_not_begun_and_lets_the_rest_finish() {
    let (mut it, alice) = with_quick_workers(1);
    let requests = submit_all(&mut it, alice, work(), 3);
    let tasks = accepted(&mut it, alice, &requests);
    let sent = sent(&mut it, &tasks);
    it.starts(sent[0]);
    it.event(Event::StopRequested);
    given_back(&mut it, &sent[1..]);
    for task in &tasks[1..] {
        it.expect_done(alice, *task, Outcome::Cancelled(CancelReason::Shutdown));
    }
    it.finishes(sent[0], ok("done")).expect_done(alice, tasks[0], is_ok("done"));
    assert!(it.is_stopped(worker(0, 0)));
}

#[test]
fn run_of_an_unknown_function_is_refused_task_by_task_and_noted_once() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let requests = submit_all(&mut it, alice, TaskSpec::new(function("nowhere")), 5);
    for request in requests {
        assert!(matches!(it.expect_refused(alice, request), Refusal::UnknownFunction { .. }));
    }
    it.expect_notice(|notice| matches!(notice, Notice::Refused { count: 5, .. }));
}

#[test]
fn run_that_the_queue_has_no_room_for_is_taken_as_far_as_it_has() {
    let mut policy = cpu(1);
    policy.queue_tasks_max = 3;
    let mut it = Harness::ready(policy);
    let alice = it.connect(ALICE);
    let requests = submit_all(&mut it, alice, work(), 5);
    let tasks = accepted(&mut it, alice, &requests[..3]);
    for request in &requests[3..] {
        assert!(matches!(it.expect_refused(alice, *request), Refusal::QueueFull { .. }));
    }
    it.expect_send(tasks[0]);
}

#[test]
fn start_of_what_follows_on_a_long_attempt_is_looked_for_soon() {
    let (mut it, alice) = with_quick_workers(1);
    let requests = submit_all(&mut it, alice, work(), 2);
    let tasks = accepted(&mut it, alice, &requests);
    let sent = sent(&mut it, &tasks);
    it.starts(sent[0]);
    it.advance(LOOKS).expect_looks(sent[0].worker);
    given_back(&mut it, &sent[1..]);
    it.advance(Duration::from_secs(1)).expect_looks(sent[0].worker);
    it.finishes(sent[0], ok("long")).expect_done(alice, tasks[0], is_ok("long"));
    passed_over(&mut it, &sent[1..]);
    let again = it.expect_send(tasks[1]);
    let wakes_at = it.supervisor().poll_deadline().expect("it is to be looked at");
    assert!(wakes_at <= it.now() + LOOK_INTERVAL, "{again:?}");
}
