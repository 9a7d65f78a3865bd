//! What a single event brings about, where that says more than a simulated world does.

use super::*;
use crate::id::{FunctionName, Pid, PoolName, RequestId, TaskId, Uid};
use crate::limits::{WATCHERS_PER_TASK_MAX, WATCHES_PER_CLIENT_MAX};
use crate::message::client::{Refusal, Reply, ReplyBody};
use crate::message::status::FunctionInfo;
use crate::task::{Attachment, Payload, TaskSpec};

const CLIENT: ConnectionId = ConnectionId(1);
const REQUEST: RequestId = RequestId(1);

/// A supervisor with a pool of one worker, which is being started, and a client.
struct Desk {
    supervisor: Supervisor,
    now: Time,
    worker: WorkerId,
}

impl Desk {
    fn new() -> Self {
        let pools = vec![PoolPolicy::new(pool(), 1)];
        let mut supervisor = Supervisor::new(Time::ZERO, Policy::new(pools, Uid(0)), Epoch(1), 1);
        let worker = std::iter::from_fn(|| supervisor.poll_action()).find_map(|action| match action {
            Action::SpawnWorker { worker, .. } => Some(worker),
            _ => None,
        });
        let mut desk = Desk { supervisor, now: Time::ZERO, worker: worker.expect("one is started") };
        desk.handle(Event::ClientConnected { client: CLIENT, peer: Uid(7).into() });
        desk.handle(Event::WorkerSpawned { worker: desk.worker, pid: Pid(42) });
        desk
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.supervisor.handle(self.now, event);
        std::iter::from_fn(|| self.supervisor.poll_action()).collect()
    }

    fn ready(&mut self) {
        let info = FunctionInfo { name: function(), signature: String::new(), summary: String::new() };
        self.handle(Event::WorkerReady { worker: self.worker, functions: vec![info], capacity: 1, ahead: 1 });
    }

    fn submit(&mut self, spec: TaskSpec) -> Vec<ReplyBody> {
        let args = Payload::default();
        replies(self.handle(Event::Submitted {
            client: CLIENT,
            request: REQUEST,
            spec: spec.into(),
            deadline: None,
            args,
        }))
    }

    fn detach(&mut self) -> TaskId {
        let spec = TaskSpec { attachment: Attachment::Detached, ..TaskSpec::new(function()) };
        match self.submit(spec)[..] {
            [ReplyBody::Accepted { task }] => task,
            ref other => panic!("it is accepted, and not {other:?}"),
        }
    }
}

fn pool() -> PoolName {
    PoolName::new("cpu").expect("a name")
}

fn function() -> FunctionName {
    "echo".parse().expect("a name")
}

fn replies(actions: Vec<Action>) -> Vec<ReplyBody> {
    let body = |action| match action {
        Action::Reply { reply: Reply { body, .. }, .. } => Some(body),
        _ => None,
    };
    actions.into_iter().filter_map(body).collect()
}

#[test]
fn client_that_waits_for_a_task_many_times_is_held_to_its_waits() {
    let mut desk = Desk::new();
    desk.ready();
    let tasks = WATCHES_PER_CLIENT_MAX / WATCHERS_PER_TASK_MAX;
    for _ in 0..tasks {
        let task = desk.detach();
        for _ in 0..WATCHERS_PER_TASK_MAX {
            let wait = Event::ResultRequested { client: CLIENT, request: REQUEST, task, wait: true };
            assert_eq!(replies(desk.handle(wait)), []);
        }
    }
    let task = desk.detach();
    let wait = Event::ResultRequested { client: CLIENT, request: REQUEST, task, wait: true };
    let waits_max = WATCHES_PER_CLIENT_MAX as u32;
    assert_eq!(replies(desk.handle(wait.clone())), [ReplyBody::Refused(Refusal::TooManyWaits { waits_max })]);

    let first = TaskId { epoch: Epoch(1), number: 1 };
    let cancelled = desk.handle(Event::CancelRequested { client: CLIENT, request: REQUEST, task: first });
    assert_eq!(
        replies(cancelled).len(),
        WATCHERS_PER_TASK_MAX + 1,
        "every wait is answered, and the request"
    );
    assert_eq!(replies(desk.handle(wait)), [], "there is room again");
}

#[test]
fn worker_that_is_ready_after_all_and_breaks_the_protocol_is_ended() {
    let mut desk = Desk::new();
    let worker = desk.worker;
    desk.handle(Event::WorkerNotReady { worker, message: "no database".to_owned() });
    desk.ready();
    let actions = desk.handle(Event::WorkerBroke { worker, reason: "garbage".to_owned() });
    let ended = |action: &Action| matches!(action, Action::SignalWorker { signal: Signal::Terminate, .. });
    assert!(actions.iter().any(ended), "{actions:?}");
}

#[test]
fn task_for_a_pool_that_is_not_ready_in_time_is_refused_for_that_pool() {
    let mut desk = Desk::new();
    assert_eq!(desk.submit(TaskSpec { pool: Some(pool()), ..TaskSpec::new(function()) }), []);
    desk.now = desk.now + crate::limits::START_TIMEOUT;
    assert_eq!(
        replies(desk.handle(Event::TimePassed)),
        [ReplyBody::Refused(Refusal::NotInPool { pool: pool(), function: function() })]
    );
}

#[test]
fn notices_that_nobody_reads_are_not_given() {
    let mut desk = Desk::new();
    desk.ready();
    let accepted = |actions: &[Action]| {
        actions.iter().any(|action| matches!(action, Action::Notice(Notice::TaskAccepted { .. })))
    };
    let submit = || Event::Submitted {
        client: CLIENT,
        request: REQUEST,
        spec: TaskSpec::new(function()).into(),
        deadline: None,
        args: Payload::default(),
    };
    assert!(accepted(&desk.handle(submit())), "all are given by default");
    desk.supervisor.omit_notices_of_tasks();
    assert!(!accepted(&desk.handle(submit())));
    let phase = Action::Notice(Notice::PhaseChanged(Phase::ShuttingDown));
    assert!(desk.handle(Event::StopRequested).contains(&phase), "what matters is given all the same");
}

#[test]
fn listing_of_fewer_rows_than_there_are_says_that_there_are_more() {
    let mut desk = Desk::new();
    let names = ["a", "b", "c"].map(|name| name.parse::<FunctionName>().expect("a name"));
    let info = |name: &FunctionName| FunctionInfo {
        name: name.clone(),
        signature: String::new(),
        summary: String::new(),
    };
    let functions = names.iter().map(info).collect();
    desk.handle(Event::WorkerReady { worker: desk.worker, functions, capacity: 1, ahead: 1 });
    let pools = vec![PoolPolicy::new(pool(), 3)];
    desk.handle(Event::PolicyChanged { policy: Box::new(Policy::new(pools, Uid(0))) });
    let spec = TaskSpec { attachment: Attachment::Detached, ..TaskSpec::new(names[0].clone()) };
    for _ in 0..3 {
        desk.submit(spec.clone());
    }

    let it = &desk.supervisor;
    for (first, rows_max, rows, more) in [
        (0, 2, vec![0, 1], true),
        (1, 2, vec![1, 2], false),
        (0, 3, vec![0, 1, 2], false),
        (3, 1, vec![], false),
    ] {
        let (workers, more_workers) = it.workers(desk.now, first, rows_max);
        assert_eq!(workers.iter().map(|row| row.slot.0 as usize).collect::<Vec<_>>(), rows);
        let (tasks, more_tasks) = it.tasks(desk.now, first as u64, rows_max);
        assert_eq!(tasks.iter().map(|row| row.id.number as usize - 1).collect::<Vec<_>>(), rows);
        let (functions, more_functions) = it.functions(first, rows_max);
        let named = |row: &usize| &names[*row];
        assert!(functions.iter().map(|row| &row.name).eq(rows.iter().map(named)), "{functions:?}");
        assert_eq!([more_workers, more_tasks, more_functions], [more; 3], "{first} {rows_max}");
    }
}
