//! Open files that go with a task: which tasks they may go with, and how many of them a client's tasks may hold.
//!
//! No trial judges these stories: its history keeps all that was submitted, and with it the files, whose end is
//! what matters here.

use std::fs::File;
use std::os::fd::OwnedFd;

use poold::descriptor::Descriptors;
use poold::id::{ConnectionId, FunctionName, Pid, RUN_FUNCTION, RequestId, TaskId, Uid};
use poold::limits::DESCRIPTORS_PER_CLIENT_MAX;
use poold::message::client::{Refusal, Reply, ReplyBody};
use poold::message::status::FunctionInfo;
use poold::supervisor::{Action, Event, Supervisor};
use poold::task::{Attachment, Payload, TaskSpec};
use poold::time::Time;

use crate::harness::{cpu, worker};
use crate::policies::{DAEMON_USER, function};
use crate::trial::EPOCH;

const CLIENT: ConnectionId = ConnectionId(1);
const REQUEST: RequestId = RequestId(1);

/// A supervisor with one worker, which has `run` and `work` and is kept busy, and a client.
struct Desk(Supervisor);

impl Desk {
    fn new() -> Self {
        let mut desk = Desk(Supervisor::new(Time::ZERO, cpu(1), EPOCH, 1));
        let info = |name| FunctionInfo { name, signature: String::new(), summary: String::new() };
        let functions = [run(), function("work")].map(info).to_vec();
        desk.handle(Event::WorkerSpawned { worker: worker(0, 0), pid: Pid(1) });
        desk.handle(Event::WorkerReady { worker: worker(0, 0), functions, capacity: 1, ahead: 1 });
        desk.handle(Event::ClientConnected { client: CLIENT, peer: DAEMON_USER.into() });
        desk.accepted(&TaskSpec::new(function("work")), 0);
        desk
    }

    /// Has an event handled; gives what the client is told.
    fn handle(&mut self, event: Event) -> Vec<ReplyBody> {
        self.0.handle(Time::ZERO, event);
        let actions = std::iter::from_fn(|| self.0.poll_action());
        let told = |action| match action {
            Action::Reply { reply: Reply { body, .. }, .. } => Some(body),
            _ => None,
        };
        actions.filter_map(told).collect()
    }

    /// Submits a task with so many open files; gives what is told at once.
    fn submit(&mut self, spec: &TaskSpec, files: usize) -> ReplyBody {
        let args = Payload { descriptors: open_files(files), ..Payload::default() };
        let spec = spec.clone();
        let event =
            Event::Submitted { client: CLIENT, request: REQUEST, spec: spec.into(), deadline: None, args };
        let [told] = <[ReplyBody; 1]>::try_from(self.handle(event)).expect("it is told one thing");
        told
    }

    fn accepted(&mut self, spec: &TaskSpec, files: usize) -> TaskId {
        match self.submit(spec, files) {
            ReplyBody::Accepted { task } => task,
            other => panic!("it is accepted, and not {other:?}"),
        }
    }
}

fn open_files(count: usize) -> Descriptors {
    let file = File::open("/dev/null").expect("it is there");
    let copies = (0..count).map(|_| OwnedFd::from(file.try_clone().expect("there is room for it")));
    Descriptors::from(copies.collect::<Vec<_>>())
}

fn run() -> FunctionName {
    function(RUN_FUNCTION)
}

#[test]
fn open_files_go_with_run_alone_and_attached() {
    let mut desk = Desk::new();
    let attached = TaskSpec::new(run());
    let detached = TaskSpec { attachment: Attachment::Detached, ..attached.clone() };
    let rule = Refusal::BadOption("open files can only go with `run`, and attached".to_owned());
    for spec in [&TaskSpec::new(function("work")), &detached] {
        assert_eq!(desk.submit(spec, 1), ReplyBody::Refused(rule.clone()), "{spec:?}");
        desk.accepted(spec, 0);
    }
    desk.accepted(&attached, 1);
}

#[test]
fn client_whose_tasks_hold_all_the_files_they_may_is_refused_until_one_has_ended() {
    let mut desk = Desk::new();
    let spec = TaskSpec::new(run());
    let task = desk.accepted(&spec, DESCRIPTORS_PER_CLIENT_MAX - 1);
    desk.accepted(&spec, 1);
    let too_many = Refusal::TooManyDescriptors { descriptors_max: DESCRIPTORS_PER_CLIENT_MAX as u32 };
    assert_eq!(desk.submit(&spec, 1), ReplyBody::Refused(too_many));
    desk.handle(Event::ClientConnected { client: ConnectionId(2), peer: Uid(0).into() });
    desk.handle(Event::CancelRequested { client: ConnectionId(2), request: REQUEST, task });
    desk.accepted(&spec, DESCRIPTORS_PER_CLIENT_MAX - 1);
}
