//! The races that a pool can meet, told one by one. Each is a story: what happens, and what must follow.

use std::time::Duration;

use poold::id::{AttemptId, TaskId, Uid};
use poold::limits::{WATCHERS_PER_TASK_MAX, WATCHES_PER_CLIENT_MAX};
use poold::message::client::{CancelAnswer, Refusal, ReplyBody};
use poold::message::status::{Phase, TaskState};
use poold::supervisor::{Action, Event, Notice, Policy, PoolPolicy, Signal, Who};
use poold::task::{Attachment, CancelReason, Deadline, Exit, Limit, Outcome, Started, TaskSpec};

use crate::harness::{ALICE, BOB, Harness, cpu, is_ok, ok, work, worker};
use crate::policies::{DAEMON_USER, STAFF, credentials, function, ms, pool};

const SEGMENTATION_FAULT: Exit = Exit::Signal(11);
const TERMINATED: Exit = Exit::Signal(15);
const KILLED: Exit = Exit::Signal(9);

fn detached() -> TaskSpec {
    TaskSpec { attachment: Attachment::Detached, ..work() }
}

fn with_deadline(wait: Duration) -> TaskSpec {
    TaskSpec { deadline: Some(Deadline::After(wait)), ..work() }
}

fn cancelled(reason: CancelReason) -> Outcome {
    Outcome::Cancelled(reason)
}

// A task's way.

#[test]
fn task_on_idle_worker_runs_and_its_result_is_told() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.finishes(sent, ok("done")).expect_done(alice, task, is_ok("done")).expect_no_more();
}

#[test]
fn finished_without_started_counts_as_started() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    it.calls(sent).finishes(sent, ok("quick")).expect_done(alice, task, is_ok("quick"));
}

// Death of workers.

#[test]
fn worker_death_under_a_task_crashes_it_and_requeues_nothing_else() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (first, _) = it.submit_running(alice, work());
    let second = it.submit(alice, work());
    it.exits(worker(0, 0), SEGMENTATION_FAULT)
        .expect_done(alice, first, Outcome::Crashed(SEGMENTATION_FAULT))
        .expect_spawn(worker(0, 1))
        .expect_no_more();
    it.spawned(worker(0, 1)).becomes_ready(worker(0, 1), &["work"]);
    it.expect_send(second);
}

#[test]
fn worker_death_before_the_start_sends_the_task_elsewhere_uncounted() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (_, busy) = it.submit_running(alice, work());
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    it.exits(sent.worker, KILLED).expect_no_more();
    let (rows, _) = it.supervisor().tasks(poold::time::Time::ZERO, 0, 10);
    assert_eq!(rows.iter().find(|row| row.id == task).map(|row| row.attempts), Some(0));
    it.finishes(busy, ok("done"));
    it.expect_done(alice, TaskId { number: 1, ..task }, is_ok("done"));
    assert_eq!(it.expect_send(task).worker, busy.worker);
}

#[test]
fn worker_death_after_its_result_was_written_publishes_the_result() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.finishes(sent, ok("last words")).expect_done(alice, task, is_ok("last words"));
    it.exits(worker(0, 0), SEGMENTATION_FAULT)
        .expect_spawn(worker(0, 1))
        .expect_notice(|notice| matches!(notice, Notice::WorkerExited { crashed, .. } if crashed.is_empty()));
}

#[test]
fn late_message_of_a_dead_generation_is_ignored() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (first, old) = it.submit_running(alice, work());
    it.exits(worker(0, 0), KILLED)
        .expect_done(alice, first, Outcome::Crashed(KILLED))
        .expect_spawn(worker(0, 1));
    it.spawned(worker(0, 1)).becomes_ready(worker(0, 1), &["work"]);
    let (second, new) = it.submit_running(alice, work());
    assert_eq!(old.attempt, new.attempt, "the numbers are the same, the generations are not");
    it.finishes(old, ok("from the grave")).expect_no_more();
    it.exits(worker(0, 0), KILLED).expect_no_more();
    it.finishes(new, ok("alive")).expect_done(alice, second, is_ok("alive"));
}

#[test]
fn retry_after_a_crash_runs_after_its_backoff() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (task, first) = it.submit_running(alice, TaskSpec { retries: 1, ..work() });
    it.exits(first.worker, KILLED).expect_spawn(worker(first.worker.slot.0, 1)).expect_no_more();
    it.advance(ms(50));
    let second = it.expect_send(task);
    it.starts(second).exits(second.worker, KILLED);
    it.expect_done(alice, task, Outcome::Crashed(KILLED)).expect_spawn(worker(second.worker.slot.0, 1));
}

#[test]
fn retry_after_a_timeout_waits_until_the_former_process_is_reaped() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (task, first) = it.submit_running(alice, TaskSpec { retries: 1, timeout: Some(ms(100)), ..work() });
    it.advance(ms(100)).expect_signal(first.worker, Signal::Terminate);
    it.advance(ms(999)).expect_no_more();
    it.advance(ms(1)).expect_signal(first.worker, Signal::Kill).expect_no_more();
    it.exits(first.worker, KILLED).expect_spawn(worker(first.worker.slot.0, 1));
    it.advance(ms(1));
    it.expect_send(task);
}

// Cancels.

#[test]
fn cancel_of_a_pending_task_never_starts_it() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (first, sent) = it.submit_running(alice, work());
    let second = it.submit(alice, work());
    let request = it.cancel(alice, second);
    it.expect_done(alice, second, cancelled(CancelReason::Client));
    let answer = ReplyBody::CancelAnswered { task: second, answer: CancelAnswer::Cancelled };
    assert_eq!(it.expect_reply(alice, request), answer);
    it.finishes(sent, ok("done")).expect_done(alice, first, is_ok("done")).expect_no_more();
}

#[test]
fn cancel_crossing_a_completion_drops_the_late_result() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    let request = it.cancel(alice, task);
    it.expect_reply(alice, request);
    it.expect_done(alice, task, cancelled(CancelReason::Client))
        .expect_signal(sent.worker, Signal::Terminate);
    it.finishes(sent, ok("too late"))
        .expect_notice(|notice| matches!(notice, Notice::LateResultDropped { .. }))
        .expect_no_more();
    it.exits(sent.worker, TERMINATED).expect_spawn(worker(0, 1));
}

#[test]
fn cancel_of_a_running_task_kills_after_the_grace() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    let request = it.cancel(alice, task);
    it.expect_reply(alice, request);
    it.expect_done(alice, task, cancelled(CancelReason::Client))
        .expect_signal(sent.worker, Signal::Terminate);
    it.advance(ms(999)).expect_no_more();
    it.advance(ms(1)).expect_signal(sent.worker, Signal::Kill);
}

#[test]
fn cancel_of_an_unstarted_attempt_recalls_it_and_spares_the_worker() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    let request = it.cancel(alice, task);
    it.expect_reply(alice, request);
    it.expect_done(alice, task, cancelled(CancelReason::Client)).expect_recall(sent).expect_no_more();
    it.event(Event::AttemptsRecalled { worker: sent.worker, attempt: sent.attempt, count: 1 })
        .expect_no_more();
    let next = it.submit(alice, work());
    assert_eq!(it.expect_send(next).attempt, AttemptId(2), "the same worker goes on");
}

#[test]
fn recall_crossing_a_start_ends_the_worker() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let task = it.submit(alice, work());
    let sent = it.expect_send(task);
    it.calls(sent);
    let request = it.cancel(alice, task);
    it.expect_reply(alice, request);
    it.expect_done(alice, task, cancelled(CancelReason::Client)).expect_recall(sent).expect_no_more();
    it.event(Event::AttemptStarted { worker: sent.worker, attempt: sent.attempt })
        .expect_signal(sent.worker, Signal::Terminate);
    it.exits(sent.worker, TERMINATED).expect_spawn(worker(0, 1));
}

// Owners and strangers.

#[test]
fn client_death_cancels_what_is_attached_and_spares_what_is_detached() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (_, attached) = it.submit_running(alice, work());
    let (kept, going_on) = it.submit_running(alice, detached());
    it.submit(alice, work());
    it.event(Event::ClientGone { client: alice })
        .expect_signal(attached.worker, Signal::Terminate)
        .expect_no_more();
    it.finishes(going_on, ok("kept")).expect_no_more();
    let later = it.connect(ALICE);
    for _ in 0..2 {
        it.ask(later, kept, false);
        it.expect_done(later, kept, is_ok("kept"));
    }
}

#[test]
fn stranger_is_refused_and_the_administrator_is_not() {
    let mut it = Harness::with_workers(1);
    let (alice, bob, root) = (it.connect(ALICE), it.connect(BOB), it.connect(DAEMON_USER));
    let (task, sent) = it.submit_running(alice, detached());
    let request = it.ask(bob, task, false);
    it.expect_refused(bob, request);
    let request = it.cancel(bob, task);
    it.expect_refused(bob, request);
    let request = it.ask(root, task, false);
    assert_eq!(it.expect_reply(root, request), ReplyBody::NotDone { task, state: TaskState::Running });
    it.ask(root, task, true);
    it.finishes(sent, ok("seen by both")).expect_done(root, task, is_ok("seen by both"));
}

#[test]
fn watchers_beyond_the_cap_are_refused() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, _) = it.submit_running(alice, detached());
    for _ in 0..WATCHERS_PER_TASK_MAX {
        it.ask(alice, task, true);
    }
    let request = it.ask(alice, task, true);
    assert!(matches!(it.expect_refused(alice, request), Refusal::TooManyWatchers { .. }));
}

#[test]
fn id_of_an_earlier_epoch_is_lost() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let task = TaskId { epoch: poold::id::Epoch(7), number: 1 };
    it.ask(alice, task, true);
    it.expect_done(alice, task, Outcome::Lost { started: Started::Unknown });
}

// Deadlines.

#[test]
fn deadline_over_a_pending_task_times_it_out() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    it.submit_running(alice, work());
    let task = it.submit(alice, with_deadline(ms(10)));
    it.advance(ms(9)).expect_no_more();
    it.advance(ms(1)).expect_done(alice, task, Outcome::TimedOut(Limit::Deadline)).expect_no_more();
}

#[test]
fn deadline_over_a_running_task_answers_first_and_kills_later() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, with_deadline(ms(10)));
    it.advance(ms(10))
        .expect_done(alice, task, Outcome::TimedOut(Limit::Deadline))
        .expect_signal(sent.worker, Signal::Terminate);
    it.advance(ms(1000)).expect_signal(sent.worker, Signal::Kill);
}

#[test]
fn deadline_over_a_delayed_task_times_it_out() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let task = it.submit(alice, TaskSpec { delay: Some(ms(20)), ..with_deadline(ms(10)) });
    it.advance(ms(10)).expect_done(alice, task, Outcome::TimedOut(Limit::Deadline));
    it.advance(ms(20)).expect_no_more();
}

#[test]
fn deadline_over_a_task_that_waits_for_its_retry_times_it_out() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, TaskSpec { retries: 3, ..with_deadline(ms(20)) });
    it.exits(sent.worker, KILLED).expect_spawn(worker(0, 1));
    it.advance(ms(20)).expect_done(alice, task, Outcome::TimedOut(Limit::Deadline));
    it.advance(ms(100)).expect_no_more();
}

#[test]
fn result_that_is_read_with_the_deadline_counts() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, with_deadline(ms(10)));
    it.advance(Duration::from_nanos(9_999_999));
    it.finishes(sent, ok("just in time")).expect_done(alice, task, is_ok("just in time"));
    it.advance(ms(1)).expect_no_more();
}

// Workers that do not start.

#[test]
fn pool_whose_workers_keep_dying_degrades_and_recovers() {
    let mut policy = cpu(1);
    policy.pools[0].start_timeout = Duration::from_secs(60);
    let mut it = Harness::new(policy);
    it.expect_spawn(worker(0, 0));
    for generation in 0..6 {
        it.spawned(worker(0, generation)).exits(worker(0, generation), Exit::Code(1));
        assert_eq!(it.supervisor().pools()[0].degraded, generation == 5, "the sixth failure is one too many");
        it.advance(if generation < 5 { ms(50 << generation) } else { Duration::from_secs(30) });
        it.expect_spawn(worker(0, generation + 1));
    }
    it.spawned(worker(0, 6)).becomes_ready(worker(0, 6), &["work"]);
    it.advance(Duration::from_secs(1)).expect_notice(|notice| matches!(notice, Notice::PoolRecovered { .. }));
    assert!(!it.supervisor().pools()[0].degraded);
}

#[test]
fn process_that_cannot_be_started_is_tried_again_after_a_backoff() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    it.event(Event::SpawnFailed { worker: worker(0, 0), message: "no memory".to_owned() });
    it.advance(ms(24)).expect_no_more();
    it.advance(ms(26)).expect_spawn(worker(0, 1));
}

#[test]
fn worker_that_is_never_ready_is_terminated_then_killed() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    it.spawned(worker(0, 0));
    it.advance(Duration::from_secs(10)).expect_signal(worker(0, 0), Signal::Terminate);
    it.advance(Duration::from_secs(1)).expect_signal(worker(0, 0), Signal::Kill);
}

#[test]
fn worker_that_breaks_the_protocol_is_ended_and_replaced() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.event(Event::WorkerBroke { worker: sent.worker, reason: "garbage".to_owned() })
        .expect_signal(sent.worker, Signal::Terminate);
    it.exits(sent.worker, TERMINATED)
        .expect_done(alice, task, Outcome::Crashed(TERMINATED))
        .expect_spawn(worker(0, 1));
}

#[test]
fn worker_that_contradicts_itself_is_ended_when_it_breaks() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    it.spawned(worker(0, 0));
    it.event(Event::WorkerNotReady { worker: worker(0, 0), message: "no such library".to_owned() });
    it.becomes_ready(worker(0, 0), &["work"]);
    it.event(Event::WorkerBroke { worker: worker(0, 0), reason: "garbage".to_owned() })
        .expect_signal(worker(0, 0), Signal::Terminate);
    it.advance(Duration::from_secs(1)).expect_signal(worker(0, 0), Signal::Kill);
}

// Functions that are not known yet.

#[test]
fn unknown_function_waits_for_the_first_worker_and_is_accepted() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    let request = it.submit_only(alice, work());
    it.expect_no_more().spawned(worker(0, 0)).becomes_ready(worker(0, 0), &["work"]);
    let task = it.expect_accepted(alice, request);
    it.expect_send(task);
}

#[test]
fn unknown_function_is_refused_once_the_first_worker_is_ready() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    let early = it.submit_only(alice, TaskSpec::new(function("worc")));
    it.spawned(worker(0, 0)).becomes_ready(worker(0, 0), &["work"]);
    let nearest = vec![function("work")];
    let refusal = Refusal::UnknownFunction { function: function("worc"), nearest };
    assert_eq!(it.expect_refused(alice, early), refusal);
    let late = it.submit_only(alice, TaskSpec::new(function("worc")));
    assert_eq!(it.expect_refused(alice, late), refusal);
}

#[test]
fn unknown_function_is_refused_after_the_start_timeout() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    let request = it.submit_only(alice, work());
    it.advance(ms(9_999)).expect_no_more().advance(ms(1));
    assert!(matches!(it.expect_refused(alice, request), Refusal::UnknownFunction { .. }));
}

#[test]
fn task_without_a_pool_goes_to_the_first_that_has_its_function() {
    let mut policy = cpu(1);
    policy.pools.push(PoolPolicy::new(pool("io"), 1));
    policy.pools[0].functions = Some(vec![function("other")]);
    let mut it = Harness::ready(policy);
    let alice = it.connect(ALICE);
    let task = it.submit(alice, work());
    assert_eq!(it.expect_send(task).worker, worker(1, 0), "the worker of the pool io");
}

// Order.

#[test]
fn larger_priorities_go_first_and_equals_in_order() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (mut running, mut sent) = it.submit_running(alice, work());
    let low = it.submit(alice, TaskSpec { priority: -1, ..work() });
    let [first, second] = [it.submit(alice, work()), it.submit(alice, work())];
    let high = it.submit(alice, TaskSpec { priority: 1, ..work() });
    for next in [high, first, second, low] {
        it.finishes(sent, ok("done")).expect_done(alice, running, is_ok("done"));
        sent = it.expect_send(next);
        it.starts(sent);
        running = next;
    }
}

#[test]
fn turns_go_round_users_then_connections() {
    let mut it = Harness::with_workers(1);
    let (alice, also_alice, bob) = (it.connect(ALICE), it.connect(ALICE), it.connect(BOB));
    let (_, mut sent) = it.submit_running(bob, detached());
    let mut submit = |client| -> Vec<TaskId> { (0..3).map(|_| it.submit(client, detached())).collect() };
    let (a, b, c) = (submit(alice), submit(also_alice), submit(bob));
    for next in [a[0], c[0], b[0], c[1], a[1], c[2], b[1], a[2], b[2]] {
        it.finishes(sent, ok("done"));
        sent = it.expect_send(next);
        it.starts(sent);
    }
}

#[test]
fn blocked_client_is_not_dispatched_and_others_are() {
    let mut it = Harness::with_workers(1);
    let (alice, bob) = (it.connect(ALICE), it.connect(BOB));
    let (_, sent) = it.submit_running(alice, detached());
    let (slow, reads) = (it.submit(alice, work()), it.submit(bob, work()));
    it.event(Event::ClientBlocked { client: alice });
    it.finishes(sent, ok("done"));
    let second = it.expect_send(reads);
    it.starts(second).finishes(second, ok("done")).expect_done(bob, reads, is_ok("done")).expect_no_more();
    it.event(Event::ClientUnblocked { client: alice });
    it.expect_send(slow);
}

// Bounds.

#[test]
fn full_queue_refuses_by_count_and_by_bytes() {
    let mut policy = cpu(1);
    policy.queue_tasks_max = 2;
    let mut it = Harness::ready(policy.clone());
    let alice = it.connect(ALICE);
    it.submit_running(alice, work());
    it.submit(alice, work());
    let request = it.submit_only(alice, work());
    assert_eq!(it.expect_refused(alice, request), Refusal::QueueFull { tasks_max: 2 });

    policy.queue_bytes_max = 10;
    let mut it = Harness::ready(policy);
    let alice = it.connect(ALICE);
    it.submit_running(alice, work());
    let request = it.submit_only(alice, work());
    assert_eq!(it.expect_refused(alice, request), Refusal::QueueBytesFull { bytes_max: 10 });
}

#[test]
fn kept_results_expire_by_count_bytes_and_age() {
    let mut policy = cpu(1);
    policy.results_max = 2;
    policy.result_bytes_max = 10;
    policy.result_age_max = ms(100);
    let mut it = Harness::ready(policy);
    let alice = it.connect(ALICE);
    let mut keep = |result| {
        let (task, sent) = it.submit_running(alice, detached());
        it.finishes(sent, ok(result));
        task
    };
    let (first, second, third, fourth) = (keep("1"), keep("2"), keep("3"), keep("9 letters"));
    for (task, is_kept) in [(first, false), (second, false), (third, true), (fourth, true)] {
        let request = it.ask(alice, task, false);
        let answer = it.expect_reply(alice, request);
        assert_eq!(matches!(answer, ReplyBody::Done { .. }), is_kept, "{task}: {answer:?}");
    }
    it.advance(ms(100));
    assert_eq!(it.supervisor().task_counts().kept, 0);
}

#[test]
fn user_with_a_full_share_is_refused_and_others_are_not() {
    let mut policy = cpu(1);
    policy.user_tasks_max = 2;
    policy.user_bytes_max = 30;
    let mut it = Harness::ready(policy);
    let (alice, also_alice) = (it.connect(ALICE), it.connect(ALICE));
    let (bob, daemon) = (it.connect(BOB), it.connect(DAEMON_USER));
    it.submit_running(alice, work());
    let second = it.submit(also_alice, detached());
    let request = it.submit_only(alice, work());
    assert_eq!(it.expect_refused(alice, request), Refusal::UserQueueFull { tasks_max: 2 });
    it.submit(bob, work());
    for _ in 0..3 {
        it.submit(daemon, work());
    }
    let request = it.cancel(alice, second);
    it.expect_reply(alice, request);
    it.submit(alice, work());
    let request = it.submit_with(bob, work(), "more than is left of thirty bytes");
    assert_eq!(it.expect_refused(bob, request), Refusal::UserQueueBytesFull { bytes_max: 30 });
}

#[test]
fn results_of_a_user_with_a_full_share_expire_and_those_of_others_do_not() {
    let mut policy = cpu(1);
    policy.user_results_max = 2;
    let mut it = Harness::ready(policy.clone());
    let (alice, bob) = (it.connect(ALICE), it.connect(BOB));
    let mut keep = |client| {
        let (task, sent) = it.submit_running(client, detached());
        it.finishes(sent, ok("done"));
        task
    };
    let of_bob = keep(bob);
    let of_alice = [keep(alice), keep(alice), keep(alice)];
    let is_kept = |it: &mut Harness, client, task| {
        let request = it.ask(client, task, false);
        matches!(it.expect_reply(client, request), ReplyBody::Done { .. })
    };
    assert_eq!(of_alice.map(|task| is_kept(&mut it, alice, task)), [false, true, true]);
    assert!(is_kept(&mut it, bob, of_bob));
    policy.user_results_max = 1;
    it.event(Event::PolicyChanged { policy: Box::new(policy) });
    assert_eq!(of_alice.map(|task| is_kept(&mut it, alice, task)), [false, false, true]);
    assert!(is_kept(&mut it, bob, of_bob));
}

// Who may do what.

/// A policy by which only `who` may run `work`.
fn work_is_for(who: Who) -> Policy {
    let mut policy = cpu(1);
    policy.access.run.insert(function("work"), who);
    policy
}

#[test]
fn function_is_run_by_those_it_is_for_and_refused_to_others() {
    let who = Who::Listed { users: [BOB].into(), groups: [STAFF].into() };
    let mut it = Harness::ready(work_is_for(who));
    let in_the_group = credentials(ALICE);
    assert!(in_the_group.groups.contains(&STAFF));
    for peer in [in_the_group, BOB.into(), Uid(0).into(), DAEMON_USER.into()] {
        let client = it.connect(peer);
        let (task, sent) = it.submit_running(client, work());
        it.finishes(sent, ok("done")).expect_done(client, task, is_ok("done"));
    }
    let outside = it.connect(ALICE);
    let request = it.submit_only(outside, work());
    assert!(matches!(it.expect_refused(outside, request), Refusal::NotAllowed(_)));
}

#[test]
fn reload_that_takes_a_function_away_refuses_what_waits_to_be_placed_and_ends_nothing_that_runs() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    let request = it.submit_only(alice, work());
    it.event(Event::PolicyChanged { policy: Box::new(work_is_for(Who::nobody())) });
    assert!(matches!(it.expect_refused(alice, request), Refusal::NotAllowed(_)));

    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.event(Event::PolicyChanged { policy: Box::new(work_is_for(Who::nobody())) }).expect_no_more();
    it.finishes(sent, ok("done")).expect_done(alice, task, is_ok("done"));
}

// Reload.

#[test]
fn reload_shrinking_a_busy_pool_lets_running_tasks_finish() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (first, one) = it.submit_running(alice, work());
    let (second, two) = it.submit_running(alice, work());
    it.event(Event::PolicyChanged { policy: Box::new(cpu(1)) }).expect_no_more();
    it.finishes(one, ok("one")).expect_done(alice, first, is_ok("one"));
    let stopped: Vec<_> = [one.worker, two.worker].into_iter().filter(|id| it.is_stopped(*id)).collect();
    it.finishes(two, ok("two")).expect_done(alice, second, is_ok("two"));
    let stopped: Vec<_> =
        [one.worker, two.worker].into_iter().filter(|id| it.is_stopped(*id)).chain(stopped).collect();
    assert_eq!(stopped.len(), 1, "one of the two goes once it is idle");
    it.exits(stopped[0], Exit::Code(0)).expect_no_more();
    assert_eq!(it.supervisor().pools()[0].ready, 1);
}

#[test]
fn reload_with_a_new_revision_replaces_workers_as_they_fall_idle() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (task, busy) = it.submit_running(alice, work());
    let idle = worker(1 - busy.worker.slot.0, 0);
    let mut policy = cpu(2);
    policy.pools[0].revision = 1;
    it.event(Event::PolicyChanged { policy: Box::new(policy) }).expect(Action::StopWorker { worker: idle });
    it.exits(idle, Exit::Code(0)).expect_spawn(worker(idle.slot.0, 1)).expect_no_more();
    it.finishes(busy, ok("done"))
        .expect_done(alice, task, is_ok("done"))
        .expect(Action::StopWorker { worker: busy.worker });
    it.exits(busy.worker, Exit::Code(0)).expect_spawn(worker(busy.worker.slot.0, 1));
}

// The end.

#[test]
fn drain_refuses_new_tasks_and_finishes_pending_ones() {
    let mut it = Harness::with_workers(1);
    let (alice, root) = (it.connect(ALICE), it.connect(DAEMON_USER));
    let (first, one) = it.submit_running(alice, work());
    let second = it.submit(alice, work());
    let drain = it.drain(root);
    assert_eq!(it.supervisor().phase(), Phase::Draining);
    let request = it.submit_only(alice, work());
    assert_eq!(it.expect_refused(alice, request), Refusal::Draining);
    it.finishes(one, ok("one")).expect_done(alice, first, is_ok("one"));
    let two = it.expect_send(second);
    it.starts(two).finishes(two, ok("two")).expect_done(alice, second, is_ok("two"));
    assert_eq!(it.expect_reply(root, drain), ReplyBody::Drained);
    it.expect(Action::StopWorker { worker: worker(0, 0) });
    it.exits(worker(0, 0), Exit::Code(0)).expect(Action::Exit { forced: false });
}

#[test]
fn drain_waits_for_a_client_to_read_until_the_drain_timeout() {
    let mut it = Harness::with_workers(1);
    let (alice, root) = (it.connect(ALICE), it.connect(DAEMON_USER));
    let (running, sent) = it.submit_running(alice, work());
    let pending = it.submit(alice, work());
    it.event(Event::ClientBlocked { client: alice });
    let drain = it.drain(root);
    it.finishes(sent, ok("done")).expect_done(alice, running, is_ok("done"));
    it.advance(ms(29_999)).expect_no_more();
    it.advance(ms(1)).expect_done(alice, pending, cancelled(CancelReason::Shutdown));
    assert_eq!(it.expect_reply(root, drain), ReplyBody::Drained);
    it.expect(Action::StopWorker { worker: worker(0, 0) });
}

#[test]
fn client_that_reads_again_during_a_drain_loses_nothing() {
    let mut it = Harness::with_workers(1);
    let (alice, root) = (it.connect(ALICE), it.connect(DAEMON_USER));
    let (_, sent) = it.submit_running(alice, detached());
    let pending = it.submit(alice, work());
    it.drain(root);
    it.event(Event::ClientBlocked { client: alice });
    it.advance(ms(29_999)).event(Event::ClientUnblocked { client: alice });
    it.advance(ms(10)).finishes(sent, ok("done"));
    it.expect_send(pending);
}

#[test]
fn drains_that_one_client_waits_for_are_capped() {
    let mut it = Harness::with_workers(1);
    let (alice, root) = (it.connect(ALICE), it.connect(DAEMON_USER));
    it.submit_running(alice, work());
    for _ in 0..WATCHES_PER_CLIENT_MAX {
        it.drain(root);
    }
    let drain = it.drain(root);
    let waits_max = WATCHES_PER_CLIENT_MAX as u32;
    assert_eq!(it.expect_refused(root, drain), Refusal::TooManyWaits { waits_max });
}

#[test]
fn worker_death_during_a_drain_is_made_good_for_what_is_pending() {
    let mut it = Harness::with_workers(1);
    let (alice, root) = (it.connect(ALICE), it.connect(DAEMON_USER));
    let (first, _) = it.submit_running(alice, work());
    let second = it.submit(alice, work());
    it.drain(root);
    it.exits(worker(0, 0), KILLED)
        .expect_done(alice, first, Outcome::Crashed(KILLED))
        .expect_spawn(worker(0, 1));
    it.spawned(worker(0, 1)).becomes_ready(worker(0, 1), &["work"]);
    it.expect_send(second);
}

#[test]
fn stop_cancels_what_waits_and_lets_running_tasks_finish() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (running, sent) = it.submit_running(alice, work());
    let pending = it.submit(alice, work());
    let delayed = it.submit(alice, TaskSpec { delay: Some(ms(10)), ..work() });
    it.event(Event::StopRequested)
        .expect_done(alice, pending, cancelled(CancelReason::Shutdown))
        .expect_done(alice, delayed, cancelled(CancelReason::Shutdown))
        .expect_no_more();
    it.finishes(sent, ok("in time"))
        .expect_done(alice, running, is_ok("in time"))
        .expect(Action::StopWorker { worker: sent.worker });
    it.exits(sent.worker, Exit::Code(0)).expect(Action::Exit { forced: false });
}

#[test]
fn second_stop_kills_and_loses_what_runs() {
    let mut it = Harness::with_workers(2);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.event(Event::StopRequested).expect_no_more();
    it.event(Event::StopRequested)
        .expect_done(alice, task, Outcome::Lost { started: Started::Yes })
        .expect_signal(worker(0, 0), Signal::Kill)
        .expect_signal(worker(1, 0), Signal::Kill);
    it.take_stops();
    it.finishes(sent, ok("too late")).expect_no_more();
    it.exits(worker(0, 0), KILLED).expect_no_more();
    it.exits(worker(1, 0), KILLED).expect(Action::Exit { forced: true });
}

#[test]
fn drain_timeout_kills_and_loses_what_runs() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    it.event(Event::StopRequested).expect_no_more();
    it.advance(ms(29_999)).expect_no_more();
    it.advance(ms(1))
        .expect_done(alice, task, Outcome::Lost { started: Started::Yes })
        .expect_signal(sent.worker, Signal::Kill);
    it.take_stops();
    it.exits(sent.worker, KILLED).expect(Action::Exit { forced: true });
}

// Standby, recycling, quarantine.

fn with_standby(workers: u32, standby: u32) -> Policy {
    let mut policy = cpu(workers);
    policy.pools[0].standby = standby;
    policy
}

#[test]
fn standby_is_sent_the_next_task_when_a_worker_dies_and_the_successor_stands_by() {
    let mut it = Harness::ready(with_standby(1, 1));
    let alice = it.connect(ALICE);
    let (first, sent) = it.submit_running(alice, work());
    assert_eq!(sent.worker, worker(0, 0));
    let second = it.submit(alice, work());
    it.expect_no_more();
    it.exits(worker(0, 0), KILLED)
        .expect_done(alice, first, Outcome::Crashed(KILLED))
        .expect_spawn(worker(0, 1));
    let sent = it.expect_send(second);
    assert_eq!(sent.worker, worker(1, 0));
    let third = it.starts(sent).submit(alice, work());
    it.spawned(worker(0, 1)).becomes_ready(worker(0, 1), &["work"]).expect_no_more();
    it.exits(worker(1, 0), KILLED)
        .expect_done(alice, second, Outcome::Crashed(KILLED))
        .expect_spawn(worker(1, 1));
    assert_eq!(it.expect_send(third).worker, worker(0, 1));
}

#[test]
fn standby_serves_while_a_cancelled_task_still_runs() {
    let mut it = Harness::ready(with_standby(1, 1));
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    let waiting = it.submit(alice, work());
    let request = it.cancel(alice, task);
    it.expect_done(alice, task, cancelled(CancelReason::Client))
        .expect_signal(sent.worker, Signal::Terminate);
    it.expect_reply(alice, request);
    assert_eq!(it.expect_send(waiting).worker, worker(1, 0));
}

#[test]
fn reload_that_swaps_workers_for_standbys_starts_and_ends_none() {
    let mut it = Harness::with_workers(2);
    it.event(Event::PolicyChanged { policy: Box::new(with_standby(1, 1)) }).expect_no_more();
    let alice = it.connect(ALICE);
    it.submit_running(alice, work());
    it.submit(alice, work());
    it.expect_no_more();
}

#[test]
fn worn_worker_is_stopped_when_it_is_idle_and_succeeded_when_it_is_gone() {
    let mut policy = cpu(1);
    policy.pools[0].max_attempts = Some(1);
    let mut it = Harness::ready(policy);
    let alice = it.connect(ALICE);
    let (task, sent) = it.submit_running(alice, work());
    let waiting = it.submit(alice, work());
    it.expect_no_more();
    it.finishes(sent, ok("done")).expect_done(alice, task, is_ok("done"));
    it.expect(Action::StopWorker { worker: worker(0, 0) });
    it.exits(worker(0, 0), Exit::Code(0)).expect_spawn(worker(0, 1));
    it.spawned(worker(0, 1)).becomes_ready(worker(0, 1), &["work"]);
    it.expect_send(waiting);
    assert_eq!(it.supervisor().pools()[0].restarts, 0, "none died");
}

#[test]
fn function_in_quarantine_is_refused_until_it_is_released_and_others_are_not() {
    let mut policy = cpu(1);
    policy.quarantine_after = Some(1);
    let mut it = Harness::new(policy);
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    for generation in 0..2 {
        it.spawned(worker(0, generation)).becomes_ready(worker(0, generation), &["work", "play"]);
        let (task, sent) = it.submit_running(alice, work());
        it.exits(sent.worker, KILLED)
            .expect_done(alice, task, Outcome::Crashed(KILLED))
            .expect_spawn(worker(0, generation + 1));
    }
    it.expect_notice(|notice| matches!(notice, Notice::FunctionQuarantined { killed: 2, .. }));
    let refused = it.submit_only(alice, work());
    assert_eq!(it.expect_refused(alice, refused), Refusal::Quarantined { function: function("work") });
    it.submit(alice, TaskSpec::new(function("play")));
    let operator = it.connect(DAEMON_USER);
    let release = it.release(operator, "work");
    assert_eq!(it.expect_reply(operator, release), ReplyBody::Released { function: function("work") });
    it.submit(alice, work());
    let release = it.release(operator, "work");
    assert_eq!(it.expect_refused(operator, release), Refusal::NotQuarantined { function: function("work") });
}
