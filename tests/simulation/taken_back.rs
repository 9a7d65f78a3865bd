//! Stories of workers that attempts are sent ahead to, from which what they were sent is taken back.

use std::time::Duration;

use poold::id::{ConnectionId, TaskId, WorkerId};
use poold::message::status::FunctionInfo;
use poold::supervisor::{Event, Notice, PoolPolicy, Signal};
use poold::task::{CancelReason, Deadline, Exit, Limit, Outcome, TaskSpec};

use crate::harness::{ALICE, Harness, Sent, cpu, is_ok, ok, work, worker};
use crate::policies::{function, ms, pool};

/// A pool of one worker, to which attempts are sent ahead.
fn with_worker_ahead() -> (Harness, ConnectionId) {
    let mut it = Harness::new(cpu(1));
    get_ready(&mut it, worker(0, 0));
    let alice = it.connect(ALICE);
    (it, alice)
}

fn get_ready(it: &mut Harness, worker: WorkerId) {
    it.expect_spawn(worker).spawned(worker);
    let work =
        FunctionInfo { name: function("work"), signature: "work()".to_owned(), summary: String::new() };
    it.event(Event::WorkerReady { worker, functions: vec![work], capacity: 1, ahead: 64 });
}

fn start_timeout() -> Duration {
    PoolPolicy::new(pool("cpu"), 1).start_timeout
}

/// A client cancels a task that a worker has not begun.
fn cancel(it: &mut Harness, client: ConnectionId, task: TaskId, sent: Sent) {
    let request = it.cancel(client, task);
    it.expect_reply(client, request);
    it.expect_done(client, task, Outcome::Cancelled(CancelReason::Client)).expect_recall(sent);
    it.event(Event::AttemptsRecalled { worker: sent.worker, attempt: sent.attempt, count: 1 });
}

fn passes_over(it: &mut Harness, Sent { worker, attempt }: Sent) {
    it.event(Event::AttemptsPassedOver { worker, attempt, count: 1 });
}

#[test]
fn stopped_worker_is_killed_although_its_task_was_cancelled() {
    let (mut it, alice) = with_worker_ahead();
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    cancel(&mut it, alice, task, sent);
    it.advance(start_timeout() - ms(1)).expect_looks(sent.worker).expect_no_more();
    it.advance(ms(200)).expect_looks(sent.worker).expect_signal(sent.worker, Signal::Kill);
    it.exits(sent.worker, Exit::Signal(9)).expect_spawn(worker(0, 1));
}

#[test]
fn stopped_worker_is_sent_no_second_task_after_the_deadline_of_the_first() {
    let (mut it, alice) = with_worker_ahead();
    let first = it.submit(alice, TaskSpec { deadline: Some(Deadline::After(ms(500))), ..work() });
    let sent = it.expect_send(first);
    it.advance(ms(500)).expect_looks(sent.worker).expect_recall(sent);
    it.expect_done(alice, first, Outcome::TimedOut(Limit::Deadline));
    it.event(Event::AttemptsRecalled { worker: sent.worker, attempt: sent.attempt, count: 1 });
    let second = it.submit(alice, work());
    it.expect_no_more().advance(start_timeout()).expect_looks(sent.worker);
    it.expect_signal(sent.worker, Signal::Kill);
    it.exits(sent.worker, Exit::Signal(9));
    get_ready(&mut it, worker(0, 1));
    assert_eq!(it.expect_send(second).worker, worker(0, 1));
}

#[test]
fn worker_that_is_stopped_before_it_passes_over_what_was_taken_back_is_killed() {
    let (mut it, alice) = with_worker_ahead();
    // Its window widens with what it finishes.
    for _ in 0..2 {
        let (task, sent) = it.submit_running(alice, work());
        it.finishes(sent, ok("done")).expect_done(alice, task, is_ok("done"));
    }
    let (long, runs) = it.submit_running(alice, work());
    let task = it.submit(alice, work());
    let waits = it.expect_send(task);
    cancel(&mut it, alice, task, waits);
    it.advance(2 * start_timeout()).expect_looks(runs.worker).expect_no_more();
    it.finishes(runs, ok("long")).expect_done(alice, long, is_ok("long"));
    it.advance(start_timeout() + ms(200)).expect_looks(runs.worker);
    it.expect_signal(runs.worker, Signal::Kill);
}

#[test]
fn worker_that_passed_over_what_was_taken_back_has_all_its_time_for_the_next() {
    let (mut it, alice) = with_worker_ahead();
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    cancel(&mut it, alice, task, sent);
    let next = it.submit(alice, work());
    it.expect_no_more();
    passes_over(&mut it, sent);
    let next_sent = it.expect_send(next);
    it.starts(next_sent).finishes(next_sent, ok("next")).expect_done(alice, next, is_ok("next"));
    it.advance(3 * start_timeout()).expect_looks(sent.worker).expect_no_more();
    let last = it.submit(alice, work());
    let last_sent = it.expect_send(last);
    it.advance(start_timeout() - ms(1)).expect_looks(sent.worker).expect_no_more();
    it.starts(last_sent).finishes(last_sent, ok("last")).expect_done(alice, last, is_ok("last"));
}

#[test]
fn worker_that_is_seen_late_to_have_passed_over_what_was_taken_back_is_spared() {
    let (mut it, alice) = with_worker_ahead();
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    cancel(&mut it, alice, task, sent);
    it.wakes_late(start_timeout()).expect_looks(sent.worker).expect_no_more();
    passes_over(&mut it, sent);
    it.advance(3 * start_timeout()).expect_no_more();
}

#[test]
fn worker_that_passes_over_what_was_not_taken_back_is_ended() {
    let (mut it, alice) = with_worker_ahead();
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    passes_over(&mut it, sent);
    it.expect_notice(|notice| matches!(notice, Notice::WorkerBroke { .. }));
    it.expect_recall(sent).expect_signal(sent.worker, Signal::Terminate);
}
