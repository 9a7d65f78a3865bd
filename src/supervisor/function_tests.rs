//! Functions that submit: who waits for whom, and what ends with whom.

use super::*;
use crate::id::{
    AttemptId, Credentials, FunctionName, Generation, Gid, Pid, PoolName, RequestId, TaskId, Uid,
};
use crate::message::client::{Refusal, ReplyBody};
use crate::message::status::FunctionInfo;
use crate::message::worker::Report;
use crate::task::{Attachment, CancelReason, Outcome, Payload, TaskSpec};

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
            world.handle(Event::WorkerReady { worker, functions: vec![info], capacity: 1 });
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
        self.requests += 1;
        let pool = Some(PoolName::new(pool).expect("a name"));
        let actions = self.handle(Event::Submitted {
            client,
            request: RequestId(self.requests),
            spec: TaskSpec { pool, attachment, ..TaskSpec::new(function()) },
            deadline: None,
            args: Payload::default(),
        });
        actions.into_iter().find_map(|action| reply_to(client, action)).expect("a reply")
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
    let (member, function_of_member) = (ConnectionId(2), ConnectionId(3));
    let (stranger, function_of_stranger) = (ConnectionId(4), ConnectionId(5));
    let peer = Credentials { user: Uid(1001), groups: [Gid(100)].into() };
    world.handle(Event::ClientConnected { client: member, peer });
    world.handle(Event::ClientConnected { client: stranger, peer: Uid(1001).into() });
    let tasks = [world.accepted(member, "cpu"), world.accepted(stranger, "io")];
    let mut policy = world.supervisor.policy().clone();
    let who = Who::Listed { users: BTreeSet::new(), groups: [Gid(100)].into() };
    policy.access.run.insert(function(), who);
    world.handle(Event::PolicyChanged { policy: Box::new(policy) });
    for (client, task) in [function_of_member, function_of_stranger].into_iter().zip(tasks) {
        world.handle(Event::FunctionConnected { client, task });
    }
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

#[test]
fn function_of_a_task_that_has_ended_is_not_heard() {
    let mut world = World::new();
    let task = world.accepted(ConnectionId(1), "cpu");
    world.handle(Event::AttemptStarted { worker: CPU, attempt: AttemptId(1) });
    world.handle(Event::CancelRequested { client: ConnectionId(1), request: RequestId(9), task });
    let speaker = ConnectionId(2);
    world.handle(Event::FunctionConnected { client: speaker, task });
    let actions = world.handle(Event::Submitted {
        client: speaker,
        request: RequestId(1),
        spec: TaskSpec::new(function()),
        deadline: None,
        args: Payload::default(),
    });
    assert_eq!(actions, []);
}
