//! Functions that submit: who waits for whom, and what ends with whom.

use super::*;
use crate::id::{
    AttemptId, Credentials, FunctionName, Generation, Gid, Pid, PoolName, RequestId, TaskId, Uid,
};
use crate::message::client::{Refusal, ReplyBody};
use crate::message::status::FunctionInfo;
use crate::message::worker::Report;
use crate::task::{Attachment, CancelReason, Exit, Outcome, Payload, Started, TaskSpec};

const USER: Uid = Uid(1000);
const CPU: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(0) };
const IO: WorkerId = WorkerId { slot: SlotId(1), generation: Generation(0) };

/// A supervisor of the pools `cpu` and `io` with a ready worker each, and a client that is connected.
struct World {
    supervisor: Supervisor,
    clients: u64,
    requests: u64,
}

impl World {
    fn new() -> Self {
        let pool = |name| PoolPolicy::new(PoolName::new(name).expect("a name"), 1);
        let policy = Policy::new(vec![pool("cpu"), pool("io")], USER);
        let mut world =
            World { supervisor: Supervisor::new(Time::ZERO, policy, Epoch(1), 0), clients: 1, requests: 0 };
        for worker in [CPU, IO] {
            let info = FunctionInfo { name: function(), signature: String::new(), summary: String::new() };
            world.handle(Event::WorkerSpawned { worker, pid: Pid(1) });
            world.handle(Event::WorkerReady { worker, functions: vec![info], capacity: 1, ahead: 1 });
        }
        world.handle(Event::ClientConnected { client: ConnectionId(1), peer: USER.into() });
        world
    }

    /// Has an event handled; gives what was done for it.
    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.handle(Time::ZERO, event);
        std::iter::from_fn(|| self.supervisor.poll_action()).collect()
    }

    /// What is replied at once to the submission of a task to `pool`.
    fn submit(&mut self, client: ConnectionId, pool: &str, attachment: Attachment) -> ReplyBody {
        self.submit_task(client, TaskSpec { attachment, ..in_pool(pool) })
    }

    /// What is replied at once to a submission.
    fn submit_task(&mut self, client: ConnectionId, spec: TaskSpec) -> ReplyBody {
        let actions = self.submitted(client, spec);
        actions.into_iter().find_map(|action| reply_to(client, action)).expect("a reply")
    }

    /// What is done for a submission that should not be heard.
    fn submit_unheard(&mut self, client: ConnectionId) -> Vec<Action> {
        self.submitted(client, in_pool("io"))
    }

    fn submitted(&mut self, client: ConnectionId, spec: TaskSpec) -> Vec<Action> {
        self.requests += 1;
        let (request, args) = (RequestId(self.requests), Payload::default());
        self.handle(Event::Submitted { client, request, spec: spec.into(), deadline: None, args })
    }

    /// Submits a task that is accepted.
    fn accepted(&mut self, client: ConnectionId, pool: &str) -> TaskId {
        match self.submit(client, pool, Attachment::Attached) {
            ReplyBody::Accepted { task } => task,
            other => panic!("{other:?}"),
        }
    }

    /// Starts the first attempt of `worker`, for `task`, whose function then speaks for itself.
    fn speaker(&mut self, worker: WorkerId, task: TaskId) -> ConnectionId {
        self.handle(Event::AttemptStarted { worker, attempt: AttemptId(1) });
        self.clients += 1;
        let client = ConnectionId(self.clients);
        self.handle(Event::FunctionConnected { client, task });
        client
    }
}

fn function() -> FunctionName {
    FunctionName::new("f").expect("a name")
}

fn in_pool(pool: &str) -> TaskSpec {
    TaskSpec { pool: Some(PoolName::new(pool).expect("a name")), ..TaskSpec::new(function()) }
}

fn reply_to(client: ConnectionId, action: Action) -> Option<ReplyBody> {
    match action {
        Action::Reply { client: told, reply } if told == client => Some(reply.body),
        _ => None,
    }
}

fn would_deadlock(pool: &str, ancestor: TaskId) -> ReplyBody {
    let pool = PoolName::new(pool).expect("a name");
    ReplyBody::Refused(Refusal::WouldDeadlock { pool, ancestor })
}

#[test]
fn function_that_submits_to_its_own_pool_is_refused() {
    let mut world = World::new();
    let parent = world.accepted(ConnectionId(1), "cpu");
    let speaker = world.speaker(CPU, parent);
    assert_eq!(world.submit(speaker, "cpu", Attachment::Attached), would_deadlock("cpu", parent));
}

#[test]
fn function_that_submits_to_the_pool_of_an_ancestor_is_refused() {
    let mut world = World::new();
    let grandparent = world.accepted(ConnectionId(1), "cpu");
    let grandparents_speaker = world.speaker(CPU, grandparent);
    let parent = world.accepted(grandparents_speaker, "io");
    let speaker = world.speaker(IO, parent);
    assert_eq!(world.submit(speaker, "cpu", Attachment::Attached), would_deadlock("cpu", grandparent));
    assert_eq!(world.submit(speaker, "io", Attachment::Attached), would_deadlock("io", parent));
}

#[test]
fn function_that_does_not_wait_may_submit_anywhere() {
    let mut world = World::new();
    let parent = world.accepted(ConnectionId(1), "cpu");
    let speaker = world.speaker(CPU, parent);
    let reply = world.submit(speaker, "cpu", Attachment::Detached);
    assert!(matches!(reply, ReplyBody::Accepted { .. }), "{reply:?}");
}

#[test]
fn clients_are_not_held_to_what_functions_wait_for() {
    let mut world = World::new();
    let first = world.accepted(ConnectionId(1), "cpu");
    world.speaker(CPU, first);
    world.accepted(ConnectionId(1), "cpu");
}

#[test]
fn function_may_run_what_its_tasks_submitter_may() {
    let mut world = World::new();
    let (member, stranger) = (ConnectionId(11), ConnectionId(12));
    let peer = Credentials { user: Uid(1001), groups: [Gid(100)].into() };
    world.handle(Event::ClientConnected { client: member, peer });
    world.handle(Event::ClientConnected { client: stranger, peer: Uid(1001).into() });
    let task = world.accepted(member, "cpu");
    let function_of_member = world.speaker(CPU, task);
    let task = world.accepted(stranger, "io");
    let function_of_stranger = world.speaker(IO, task);
    let mut policy = world.supervisor.policy().clone();
    let who = Who::Listed { users: BTreeSet::new(), groups: [Gid(100)].into() };
    policy.access.run.insert(function(), who);
    world.handle(Event::PolicyChanged { policy: Box::new(policy) });
    let reply = world.submit(function_of_member, "io", Attachment::Attached);
    assert!(matches!(reply, ReplyBody::Accepted { .. }), "{reply:?}");
    let reply = world.submit(function_of_stranger, "cpu", Attachment::Attached);
    assert!(matches!(reply, ReplyBody::Refused(Refusal::NotAllowed(_))), "{reply:?}");
}

#[test]
fn tasks_of_a_function_end_with_it() {
    let mut world = World::new();
    let parent = world.accepted(ConnectionId(1), "cpu");
    let speaker = world.speaker(CPU, parent);
    let running = world.accepted(speaker, "io");
    world.handle(Event::AttemptStarted { worker: IO, attempt: AttemptId(1) });
    let pending = world.accepted(speaker, "io");

    let actions = world.handle(Event::ClientGone { client: speaker });
    for child in [running, pending] {
        let outcome = Outcome::Cancelled(CancelReason::ClientGone);
        let done = Action::Notice(Notice::TaskDone { task: child, outcome });
        assert!(actions.contains(&done), "{actions:?}");
    }
    assert!(actions.contains(&Action::SignalWorker { worker: IO, signal: Signal::Terminate }), "{actions:?}");

    let report = Report::Ok(Payload::default());
    let actions = world.handle(Event::AttemptFinished { worker: CPU, attempt: AttemptId(1), report });
    let replies = actions.into_iter().filter_map(|action| reply_to(ConnectionId(1), action));
    let done = ReplyBody::Done { task: parent, outcome: Outcome::Ok(Payload::default()) };
    assert_eq!(replies.collect::<Vec<_>>(), [done]);
}

/// A parent in `cpu` and its child in `io`, both started; and the parent's function.
fn started_family(world: &mut World, retries: u32) -> (TaskId, TaskId, ConnectionId) {
    let spec = TaskSpec { retries, ..in_pool("cpu") };
    let ReplyBody::Accepted { task: parent } = world.submit_task(ConnectionId(1), spec) else {
        panic!("the parent is refused")
    };
    let speaker = world.speaker(CPU, parent);
    let child = world.accepted(speaker, "io");
    world.handle(Event::AttemptStarted { worker: IO, attempt: AttemptId(1) });
    (parent, child, speaker)
}

fn ended(actions: &[Action], task: TaskId) -> Option<&Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Notice(Notice::TaskDone { task: done, outcome }) if *done == task => Some(outcome),
        _ => None,
    })
}

#[test]
fn cancel_of_a_task_ends_what_its_function_submitted_though_that_runs_on() {
    let mut world = World::new();
    let (parent, child, speaker) = started_family(&mut world, 0);
    let actions =
        world.handle(Event::CancelRequested { client: ConnectionId(1), request: RequestId(9), task: parent });
    assert_eq!(ended(&actions, parent), Some(&Outcome::Cancelled(CancelReason::Client)));
    assert_eq!(ended(&actions, child), Some(&Outcome::Cancelled(CancelReason::ClientGone)));
    assert!(!actions.iter().any(|action| reply_to(speaker, action.clone()).is_some()), "{actions:?}");

    assert_eq!(world.submit_unheard(speaker), []);
    let report = Report::Ok(Payload::default());
    world.handle(Event::ClientGone { client: speaker });
    world.handle(Event::AttemptFinished { worker: CPU, attempt: AttemptId(1), report });
}

#[test]
fn detached_task_of_a_function_goes_on_when_the_functions_task_is_cancelled() {
    let mut world = World::new();
    let parent = world.accepted(ConnectionId(1), "cpu");
    let speaker = world.speaker(CPU, parent);
    let ReplyBody::Accepted { task: child } = world.submit(speaker, "io", Attachment::Detached) else {
        panic!("the child is refused")
    };
    let actions =
        world.handle(Event::CancelRequested { client: ConnectionId(1), request: RequestId(9), task: parent });
    assert_eq!(ended(&actions, child), None);
}

#[test]
fn attempt_that_is_to_be_repeated_ends_what_its_function_submitted() {
    let mut world = World::new();
    let (parent, child, speaker) = started_family(&mut world, 1);
    world.handle(Event::WorkerExited { worker: CPU, exit: Exit::Signal(9) });
    let (_, more) = world.supervisor.tasks(Time::ZERO, parent.number - 1, 1);
    assert!(!more, "the parent alone is left, and child {child} is not");
    assert_eq!(world.submit_unheard(speaker), []);
}

#[test]
fn forced_stop_loses_a_task_and_what_its_function_submitted() {
    let mut world = World::new();
    let (parent, child, _) = started_family(&mut world, 0);
    world.handle(Event::StopRequested);
    let actions = world.handle(Event::StopRequested);
    for task in [parent, child] {
        assert_eq!(ended(&actions, task), Some(&Outcome::Lost { started: Started::Yes }));
    }
}

#[test]
fn function_of_a_task_that_has_ended_is_not_heard() {
    let mut world = World::new();
    let task = world.accepted(ConnectionId(1), "cpu");
    world.handle(Event::AttemptStarted { worker: CPU, attempt: AttemptId(1) });
    world.handle(Event::CancelRequested { client: ConnectionId(1), request: RequestId(9), task });
    let speaker = ConnectionId(2);
    world.handle(Event::FunctionConnected { client: speaker, task });
    assert_eq!(world.submit_unheard(speaker), []);
}
