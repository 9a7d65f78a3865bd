//! What the simulation found once, as the shortest story that shows it.

use poold::message::client::ReplyBody;
use poold::supervisor::{Action, Event, Signal};
use poold::task::{Deadline, Exit, Limit, Outcome, TaskSpec};

use crate::harness::{ALICE, Harness, cpu, work, worker};
use crate::policies::ms;

/// The supervisor went on answering requests after its `Exit`, which is to be its last action.
#[test]
fn request_after_the_exit_is_not_answered() {
    let mut it = Harness::with_workers(1);
    let alice = it.connect(ALICE);
    it.event(Event::StopRequested).expect(Action::StopWorker { worker: worker(0, 0) });
    it.exits(worker(0, 0), Exit::Code(0)).expect(Action::Exit { forced: false });
    it.submit_only(alice, work());
    it.expect_no_more();
    assert_eq!(it.supervisor().poll_deadline(), None);
}

/// The deadline of a submission that waited for the first worker was answered with "there is no such
/// function", which nobody knew.
#[test]
fn deadline_before_the_function_is_known_times_the_task_out() {
    let mut it = Harness::new(cpu(1));
    it.expect_spawn(worker(0, 0));
    let alice = it.connect(ALICE);
    let request = it.submit_only(alice, TaskSpec { deadline: Some(Deadline::After(ms(11))), ..work() });
    it.expect_no_more().advance(ms(11));
    let task = it.expect_accepted(alice, request);
    let outcome = Outcome::TimedOut(Limit::Deadline);
    assert_eq!(it.expect_reply(alice, request), ReplyBody::Done { task, outcome });
}

/// A pool that was degraded stayed so for good when a reload took away the slots that had failed.
#[test]
fn reload_that_takes_the_failing_slots_away_heals_the_pool() {
    let mut policy = cpu(2);
    policy.restart.intensity = 0;
    let mut it = Harness::new(policy.clone());
    it.expect_spawn(worker(0, 0)).expect_spawn(worker(1, 0));
    it.spawned(worker(0, 0)).becomes_ready(worker(0, 0), &["work"]);
    it.event(Event::SpawnFailed { worker: worker(1, 0), message: "no memory".to_owned() });
    assert!(it.supervisor().pools()[0].degraded);
    policy.pools[0].workers = 1;
    it.event(Event::PolicyChanged { policy: Box::new(policy) }).expect_no_more();
    assert!(!it.supervisor().pools()[0].degraded);
}

/// A worker that was killed as soon as it had a process was told to end once more, by TERM, when the slots of its
/// pool exchanged their roles.
#[test]
fn worker_that_was_killed_at_its_start_is_not_told_to_end_again() {
    let mut policy = cpu(1);
    policy.pools[0].standby = 1;
    let mut it = Harness::new(policy.clone());
    it.expect_spawn(worker(0, 0)).expect_spawn(worker(1, 0));
    policy.pools[0].revision = 1;
    it.event(Event::PolicyChanged { policy: Box::new(policy) });
    it.spawned(worker(0, 0)).expect_signal(worker(0, 0), Signal::Kill);
    it.event(Event::SpawnFailed { worker: worker(1, 0), message: "no memory".to_owned() }).expect_no_more();
}
