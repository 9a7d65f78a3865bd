//! A message of every kind, by the name it has in `tests/fixtures/wire-v1.txt`.
//!
//! Names never change and samples are never edited: what they encode to is what programs built long
//! ago send. A new variant gets a sample of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use poold::id::{
    AttemptId, Epoch, FunctionName, Generation, Pid, PoolName, RequestId, SlotId, TaskId, Uid, WorkerId,
};
use poold::message::Message;
use poold::message::client::{CancelAnswer, Refusal, Reply, ReplyBody, Request, RequestBody, Welcome};
use poold::message::command::CommandSpec;
use poold::message::resources::{AttemptLimits, WorkLimits};
use poold::message::status::{
    FunctionInfo, FunctionStatus, Phase, PoolStatus, Status, TaskCounts, TaskState, TaskStatus, WorkerState,
    WorkerStatus,
};
use poold::message::worker::{FromWorker, Report, Setup, ToWorker};
use poold::task::{
    Attachment, CancelReason, Content, Deadline, Encoding, Exit, Failure, FailureKind, Limit, Outcome,
    OutcomeKind, Payload, Payloads, PayloadsMut, Started, TaskSpec,
};
use poold::wire::{Inbox, WireError, encode};

/// A message of any of the four directions.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Request(Request),
    Reply(Reply),
    ToWorker(ToWorker),
    FromWorker(FromWorker),
}

/// The variants that a value nested in a sample has: for showing that none is missing.
pub mod nested {
    use super::*;

    pub fn refusals() -> Vec<(&'static str, Refusal)> {
        let nearest = vec![function("is_prime"), function("is_prime_trial")];
        vec![
            ("unknown_function", Refusal::UnknownFunction { function: function("is_prim"), nearest }),
            ("not_in_pool", Refusal::NotInPool { pool: pool("io"), function: function("is_prime") }),
            ("queue_full", Refusal::QueueFull { tasks_max: 2_000_000 }),
            ("queue_bytes_full", Refusal::QueueBytesFull { bytes_max: 1 << 30 }),
            ("payload_too_large", Refusal::PayloadTooLarge { bytes: 1_000_000, bytes_max: 983_040 }),
            ("bad_option", Refusal::BadOption("retries: 5000 is too many; 1000 is the most".to_owned())),
            ("would_deadlock", Refusal::WouldDeadlock { pool: pool("cpu"), ancestor: task(16) }),
            ("draining", Refusal::Draining),
            ("no_such_task", Refusal::NoSuchTask { task: task(18) }),
            ("not_allowed", Refusal::NotAllowed("only root may drain".to_owned())),
            ("too_many_watchers", Refusal::TooManyWatchers { task: task(17), watchers_max: 64 }),
            ("too_many_waits", Refusal::TooManyWaits { waits_max: 256 }),
            ("not_reloaded", Refusal::NotReloaded("line 3, column 1: unknown key `poool`".to_owned())),
            (
                "no_worker",
                Refusal::NoWorker {
                    pool: pool("cpu"),
                    failure: "its initializer failed: no model".to_owned(),
                },
            ),
            ("protocol", Refusal::Protocol("a head that is no message".to_owned())),
            ("too_many_descriptors", Refusal::TooManyDescriptors { descriptors_max: 256 }),
            ("quarantined", Refusal::Quarantined { function: function("is_prime") }),
            ("not_quarantined", Refusal::NotQuarantined { function: function("is_prime") }),
            ("degraded", Refusal::Degraded { pool: pool("cpu"), failure: "exit status 1".to_owned() }),
            ("user_queue_full", Refusal::UserQueueFull { tasks_max: 1_000_000 }),
            ("user_queue_bytes_full", Refusal::UserQueueBytesFull { bytes_max: 1 << 29 }),
            ("queue_descriptors_full", Refusal::QueueDescriptorsFull { descriptors_max: 65_536 }),
            ("user_queue_descriptors_full", Refusal::UserQueueDescriptorsFull { descriptors_max: 32_768 }),
        ]
    }

    pub fn outcomes() -> Vec<(&'static str, Outcome)> {
        let failed = |kind, message: &str, location: Option<&str>| {
            Outcome::Failed(Failure {
                kind,
                message: message.to_owned(),
                location: location.map(str::to_owned),
            })
        };
        let out_of_memory = |memory_max_bytes| Outcome::Crashed(Exit::OutOfMemory { memory_max_bytes });
        vec![
            ("ok", Outcome::Ok(payload(Encoding::Json, b"true"))),
            ("ok_empty", Outcome::Ok(payload(Encoding::Bytes, b""))),
            ("ok_shared", Outcome::Ok(shared(65_537))),
            ("failed_error", failed(FailureKind::Error, "disk on fire", None)),
            ("failed_panic", failed(FailureKind::Panic, "index 3 of 2", Some("src/sum.rs:7:9"))),
            ("failed_bad_arguments", failed(FailureKind::BadArguments, "`banana` is not a u128", None)),
            ("crashed_code", Outcome::Crashed(Exit::Code(3))),
            ("crashed_signal", Outcome::Crashed(Exit::Signal(9))),
            ("crashed_out_of_memory", out_of_memory(Some(256 << 20))),
            ("crashed_out_of_memory_elsewhere", out_of_memory(None)),
            ("timed_out_timeout", Outcome::TimedOut(Limit::Timeout)),
            ("timed_out_deadline", Outcome::TimedOut(Limit::Deadline)),
            ("cancelled_client", Outcome::Cancelled(CancelReason::Client)),
            ("cancelled_client_gone", Outcome::Cancelled(CancelReason::ClientGone)),
            ("cancelled_shutdown", Outcome::Cancelled(CancelReason::Shutdown)),
            ("cancelled_dependency", Outcome::Cancelled(CancelReason::Dependency)),
            ("lost_yes", Outcome::Lost { started: Started::Yes }),
            ("lost_no", Outcome::Lost { started: Started::No }),
            ("lost_unknown", Outcome::Lost { started: Started::Unknown }),
        ]
    }

    pub fn reports() -> Vec<(&'static str, Report)> {
        let failure = Failure {
            kind: FailureKind::Panic,
            message: "index 3 of 2".to_owned(),
            location: Some("src/sum.rs:7:9".to_owned()),
        };
        vec![
            ("ok", Report::Ok(payload(Encoding::Json, b"true"))),
            ("failed", Report::Failed(failure)),
            ("ok_shared", Report::Ok(shared(65_537))),
        ]
    }

    pub fn encodings() -> Vec<(&'static str, Payload)> {
        vec![
            ("args", Payload::from_args(["112272535095293"])),
            ("json", payload(Encoding::Json, b"[1.10,\"a\"]")),
            ("bincode", payload(Encoding::Bincode, &[0xfb, 0x2c, 0x01])),
            ("bytes", payload(Encoding::Bytes, &[0, 255, 0])),
            ("pickle", payload(Encoding::Pickle, b"\x80\x04K\x07.")),
            ("shared", shared(256 << 20)),
        ]
    }

    pub fn specs() -> Vec<(&'static str, TaskSpec)> {
        let full = TaskSpec {
            function: function("is_prime"),
            pool: Some(pool("cpu")),
            priority: -2,
            timeout: Some(Duration::from_millis(1_500)),
            deadline: Some(Deadline::After(Duration::from_secs(3_600))),
            retries: 5,
            delay: Some(Duration::from_nanos(250)),
            attachment: Attachment::Detached,
            report_start: true,
        };
        let at = Deadline::At(Duration::new(1_767_225_600, 500_000_000));
        vec![
            ("all_options", full.clone()),
            ("deadline_at", TaskSpec { deadline: Some(at), priority: 1_000, ..full }),
        ]
    }

    pub fn states() -> Vec<(&'static str, TaskState)> {
        vec![
            ("delayed", TaskState::Delayed),
            ("pending", TaskState::Pending),
            ("running", TaskState::Running),
            ("done", TaskState::Done(OutcomeKind::TimedOut)),
        ]
    }

    pub fn cancel_answers() -> Vec<(&'static str, CancelAnswer)> {
        vec![("cancelled", CancelAnswer::Cancelled), ("already_done", CancelAnswer::AlreadyDone)]
    }

    pub fn phases() -> Vec<(&'static str, Phase)> {
        vec![
            ("serving", Phase::Serving),
            ("draining", Phase::Draining),
            ("shutting_down", Phase::ShuttingDown),
            ("stopped", Phase::Stopped),
        ]
    }

    pub fn worker_states() -> Vec<WorkerState> {
        use WorkerState::{Busy, Down, Idle, Standby, Starting, Stopping};
        vec![Starting, Idle, Busy, Stopping, Down, Standby]
    }
}

/// Every sample with its name, in the order of the fixture file.
pub fn all() -> Vec<(String, Sample)> {
    let mut all = Vec::new();
    let mut add = |prefix: &str, name: &str, sample: Sample| all.push((format!("{prefix}{name}"), sample));
    for (name, body) in requests() {
        add("request.", &name, Sample::Request(Request { id: RequestId(1), body }));
    }
    for (name, body) in replies() {
        let request = (!name.starts_with("welcome")).then_some(RequestId(1));
        add("reply.", &name, Sample::Reply(Reply { request, body }));
    }
    for (name, message) in to_worker() {
        add("to_worker.", name, Sample::ToWorker(message));
    }
    for (name, message) in from_worker() {
        add("from_worker.", &name, Sample::FromWorker(message));
    }
    all
}

pub fn requests() -> Vec<(String, RequestBody)> {
    let submit = |spec: TaskSpec, args: Payload| RequestBody::Submit { spec: spec.into(), args };
    let mut requests = Vec::new();
    for (name, args) in nested::encodings() {
        requests.push((format!("submit.{name}"), submit(TaskSpec::new(function("is_prime")), args)));
    }
    for (name, spec) in nested::specs() {
        requests.push((format!("submit.{name}"), submit(spec, Payload::default())));
    }
    requests.extend(
        [
            ("cancel", RequestBody::Cancel { task: task(17) }),
            ("result", RequestBody::Result { task: task(17), wait: true }),
            ("status", RequestBody::Status),
            ("workers", RequestBody::Workers { skip: 256 }),
            ("tasks", RequestBody::Tasks { after: 1 << 40 }),
            ("functions", RequestBody::Functions { skip: 256 }),
            ("reload", RequestBody::Reload),
            ("drain", RequestBody::Drain),
            ("release", RequestBody::Release { function: function("is_prime") }),
            (
                "submit_all",
                RequestBody::SubmitAll {
                    spec: TaskSpec::new(function("is_prime")).into(),
                    args: payloads(Encoding::Args, &[b"7\0", b"112272535095293\0", b""]),
                },
            ),
        ]
        .map(|(name, body)| (name.to_owned(), body)),
    );
    requests
}

pub fn replies() -> Vec<(String, ReplyBody)> {
    let welcome =
        Welcome { version: "0.1.0".to_owned(), pid: Pid(4242), epoch: EPOCH, payload_bytes_max: 1 << 30 };
    let mut replies = vec![
        ("welcome".to_owned(), ReplyBody::Welcome(welcome)),
        ("accepted".to_owned(), ReplyBody::Accepted { task: task(17) }),
        ("started".to_owned(), ReplyBody::Started { task: task(17) }),
    ];
    let mut add = |name: String, body: ReplyBody| replies.push((name, body));
    for (name, outcome) in nested::outcomes() {
        add(format!("done.{name}"), ReplyBody::Done { task: task(17), outcome });
    }
    for (name, state) in nested::states() {
        add(format!("not_done.{name}"), ReplyBody::NotDone { task: task(17), state });
    }
    for (name, answer) in nested::cancel_answers() {
        add(format!("cancel_answered.{name}"), ReplyBody::CancelAnswered { task: task(17), answer });
    }
    for (name, phase) in nested::phases() {
        add(format!("status.{name}"), ReplyBody::Status(Box::new(status(phase))));
    }
    add("workers".to_owned(), ReplyBody::Workers { rows: worker_rows(), more: true });
    add("tasks".to_owned(), ReplyBody::Tasks { rows: vec![task_row()], more: false });
    add("functions".to_owned(), ReplyBody::Functions { rows: vec![function_row()], more: false });
    add("reloaded".to_owned(), ReplyBody::Reloaded { changes: vec!["pool cpu: workers 2 -> 4".to_owned()] });
    add("drained".to_owned(), ReplyBody::Drained);
    add("released".to_owned(), ReplyBody::Released { function: function("is_prime") });
    add("all_accepted".to_owned(), ReplyBody::AllAccepted { first: task(17), count: 64 });
    let results = payloads(Encoding::Json, &[b"true", b"true", b"false"]);
    add("all_done".to_owned(), ReplyBody::AllDone { first: task(17), results });
    for (name, refusal) in nested::refusals() {
        add(format!("refused.{name}"), ReplyBody::Refused(refusal));
    }
    replies
}

pub fn to_worker() -> Vec<(&'static str, ToWorker)> {
    let worker = WorkerId { slot: SlotId(3), generation: Generation(300) };
    let attempt = ToWorker::Attempt {
        attempt: AttemptId(1),
        task: task(17),
        function: function("is_prime"),
        args: Payload::from_args(["112272535095293"]),
    };
    let outcome = Outcome::Ok(payload(Encoding::Json, b"true"));
    let reply = Reply { request: Some(RequestId(3)), body: ReplyBody::Done { task: task(18), outcome } };
    let text = str::to_owned;
    let thumbnail = CommandSpec {
        name: function("thumbnail"),
        summary: text("Makes a small picture."),
        exec: ["convert", "-resize", "128x128", "--", "{0}", "png:-"].map(text).into(),
        stdin: Some(1),
        cwd: Some(text("/srv/pictures")),
        env: BTreeMap::from([(text("LANG"), text("C.UTF-8"))]),
        args_min: 2,
        args_max: 1024,
        patterns: vec![text("[a-z]+"), text(".*")],
        options: false,
        limits: AttemptLimits { file_size_bytes: Some(1 << 20), ..AttemptLimits::default() },
    };
    let commands = vec![thumbnail];
    let limits = WorkLimits {
        each: AttemptLimits { cpu_time: Some(Duration::from_millis(1500)), ..AttemptLimits::default() },
        by_function: BTreeMap::from([(
            function("is_prime"),
            AttemptLimits { memory_bytes: Some(256 << 20), ..AttemptLimits::default() },
        )]),
    };
    let none = WorkLimits::default();
    let payload_bytes_max = 1 << 30;
    let setup_commands = ToWorker::Setup(Box::new(Setup {
        worker,
        allow_fault_injection: false,
        threads: 1,
        commands,
        limits,
        payload_bytes_max,
        page: Payload::default(),
    }));
    let answer = ToWorker::Answer { attempt: AttemptId(1), reply: Box::new(reply) };
    vec![
        (
            "setup",
            ToWorker::Setup(Box::new(Setup {
                worker,
                allow_fault_injection: false,
                threads: 32,
                commands: Vec::new(),
                limits: none,
                payload_bytes_max,
                page: Payload::default(),
            })),
        ),
        ("setup_commands", setup_commands),
        ("attempt", attempt),
        ("recall", ToWorker::Recall { attempt: AttemptId(2) }),
        ("answer", answer),
        ("stop", ToWorker::Stop),
        (
            "attempts",
            ToWorker::Attempts {
                attempt: AttemptId(3),
                task: task(17),
                function: function("is_prime"),
                args: payloads(Encoding::Json, &[b"[7]", b"[112272535095293]"]),
            },
        ),
    ]
}

pub fn from_worker() -> Vec<(String, FromWorker)> {
    let info = FunctionInfo {
        name: function("echo"),
        signature: "echo(TEXT: string) -> string".to_owned(),
        summary: "Gives back its argument.".to_owned(),
    };
    let not_ready = FromWorker::NotReady { message: "no module named `sums`".to_owned() };
    let mut messages = vec![
        (
            "ready".to_owned(),
            FromWorker::Ready {
                functions: vec![info],
                capacity: 1,
                uses_page: true,
                sentinel: Some(Pid(4711)),
            },
        ),
        ("not_ready".to_owned(), not_ready),
        ("started".to_owned(), FromWorker::Started { attempt: AttemptId(1) }),
    ];
    for (name, report) in nested::reports() {
        let finished = FromWorker::Finished { attempt: AttemptId(1), report };
        messages.push((format!("finished.{name}"), finished));
    }
    messages.push(("recalled".to_owned(), FromWorker::Recalled { attempt: AttemptId(2) }));
    let spec = TaskSpec::new(function("is_prime"));
    let body = RequestBody::Submit { spec: spec.into(), args: Payload::from_args(["7"]) };
    let request = Request { id: RequestId(3), body };
    messages.push(("ask".to_owned(), FromWorker::Ask { attempt: AttemptId(1), request: Box::new(request) }));
    messages
}

const EPOCH: Epoch = Epoch(0x5f3a_91c2);

fn task(number: u64) -> TaskId {
    TaskId { epoch: EPOCH, number }
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).expect("a sample's name is valid")
}

fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("a sample's name is valid")
}

fn payload(encoding: Encoding, bytes: &[u8]) -> Payload {
    Payload::new(encoding, Bytes::copy_from_slice(bytes))
}

fn payloads(encoding: Encoding, each: &[&[u8]]) -> Payloads {
    let mut payloads = PayloadsMut::default();
    each.iter().for_each(|bytes| payloads.push(encoding, bytes));
    payloads.take()
}

/// What is in memory that so many bytes of are announced.
fn shared(bytes: u64) -> Payload {
    let memory = serde_json::from_value(bytes.into()).expect("what is announced is a number");
    Payload::shared(Encoding::Bytes, memory)
}

fn status(phase: Phase) -> Status {
    let tasks = TaskCounts {
        delayed: 1,
        pending: 250,
        running: 251,
        kept: 65_535,
        argument_bytes: 65_536,
        result_bytes: u64::from(u32::MAX) + 1,
    };
    let cpu = PoolStatus {
        name: pool("cpu"),
        workers: 2,
        ready: 1,
        busy: 1,
        standby: 3,
        pending: 250,
        restarts: 7,
        degraded: true,
        last_failure: Some("exit status 1".to_owned()),
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: Pid(4242),
        uptime_ms: 86_400_000,
        phase,
        connections: 3,
        tasks,
        outcomes: BTreeMap::from(OutcomeKind::ALL.map(|kind| (kind, kind as u64))),
        refusals: 2,
        log_lines_dropped: 0,
        limits: "memory by RLIMIT_AS; processes: not available (no delegated cgroup)".to_owned(),
        pools: vec![cpu],
        quarantined: vec![function("is_prime")],
    }
}

fn worker_rows() -> Vec<WorkerStatus> {
    let row = |(slot, state)| {
        let busy = state == WorkerState::Busy;
        WorkerStatus {
            slot: SlotId(slot),
            generation: Generation(1),
            pool: pool("cpu"),
            state,
            pid: (state != WorkerState::Down).then_some(Pid(4300 + slot)),
            task: busy.then(|| task(17)),
            function: busy.then(|| function("is_prime")),
            running_ms: busy.then_some(1_250),
            capacity: 32,
            held: 3,
            stuck: 1,
            attempts: 41,
            restarts: 1,
            rss_bytes: (state != WorkerState::Down).then_some(3_145_728),
        }
    };
    (0..).zip(nested::worker_states()).map(row).collect()
}

fn task_row() -> TaskStatus {
    TaskStatus {
        id: task(17),
        function: function("is_prime"),
        pool: pool("cpu"),
        state: TaskState::Running,
        priority: i16::MIN,
        user: Uid(1000),
        detached: true,
        attempts: 2,
        age_ms: 1_250,
        slot: Some(SlotId(3)),
    }
}

fn function_row() -> FunctionStatus {
    FunctionStatus {
        name: function("is_prime"),
        signature: "is_prime(N: u128) -> bool".to_owned(),
        summary: "Whether N is a prime number — exact.".to_owned(),
        pools: vec![pool("cpu"), pool("io")],
        quarantined: false,
    }
}

impl Sample {
    /// The message as one frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Sample::Request(message) => encode(message, &mut out),
            Sample::Reply(message) => encode(message, &mut out),
            Sample::ToWorker(message) => encode(message, &mut out),
            Sample::FromWorker(message) => encode(message, &mut out),
        }
        .expect("a sample is within the caps");
        out.to_vec()
    }

    /// The next message in `inbox`, of the direction that this one has.
    pub fn next_alike(&self, inbox: &mut Inbox) -> Result<Option<Sample>, WireError> {
        Ok(match self {
            Sample::Request(_) => inbox.next_message()?.map(Sample::Request),
            Sample::Reply(_) => inbox.next_message()?.map(Sample::Reply),
            Sample::ToWorker(_) => inbox.next_message()?.map(Sample::ToWorker),
            Sample::FromWorker(_) => inbox.next_message()?.map(Sample::FromWorker),
        })
    }

    /// The head's value in JSON, by the names that the protocol's document uses.
    pub fn json(&self) -> String {
        match self {
            Sample::Request(message) => serde_json::to_string(message),
            Sample::Reply(message) => serde_json::to_string(message),
            Sample::ToWorker(message) => serde_json::to_string(message),
            Sample::FromWorker(message) => serde_json::to_string(message),
        }
        .expect("a message is JSON")
    }

    /// Bytes of the payload within the frame.
    pub fn payload_bytes(&self) -> usize {
        if let Some(payloads) = self.payloads() {
            return payloads.as_bytes().len();
        }
        match self.payload().map(|payload| &payload.content) {
            Some(Content::Inline(bytes)) => bytes.len(),
            Some(Content::Shared(_)) | None => 0,
        }
    }

    /// What it says of many tasks, if it does.
    pub fn payloads(&self) -> Option<&Payloads> {
        match self {
            Sample::Request(message) => message.payloads(),
            Sample::Reply(message) => message.payloads(),
            Sample::ToWorker(message) => message.payloads(),
            Sample::FromWorker(message) => message.payloads(),
        }
    }

    /// Whether a descriptor goes with it.
    pub fn is_shared(&self) -> bool {
        self.payload().is_some_and(|payload| payload.content.memory().is_some())
    }

    fn payload(&self) -> Option<&Payload> {
        match self {
            Sample::Request(message) => message.payload(),
            Sample::Reply(message) => message.payload(),
            Sample::ToWorker(message) => message.payload(),
            Sample::FromWorker(message) => message.payload(),
        }
    }
}
