//! Programs that were written from the document alone, in conversation with this implementation.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use bytes::{Bytes, BytesMut};
use poold::id::{AttemptId, Epoch, FunctionName, Generation, Pid, RequestId, SlotId, TaskId, WorkerId};
use poold::message::Message;
use poold::message::client::{Refusal, Reply, ReplyBody, Request, RequestBody, Welcome};
use poold::message::resources::WorkLimits;
use poold::message::worker::{FromWorker, Report, Setup, ToWorker};
use poold::task::{Encoding, Exit, Outcome, Payload, PayloadsMut, TaskSpec};
use poold::wire::{Answer, Hello, Inbox, ReceiveError, Role, VERSION_MAX, Verdict, WireError, encode};

const TASK: TaskId = TaskId { epoch: Epoch(1), number: 1 };

/// The daemon's end of a conversation.
struct Peer {
    stream: UnixStream,
    inbox: Inbox,
}

impl Peer {
    /// Reads the hello of a `role` and accepts it.
    fn accept(stream: UnixStream, role: Role) -> Self {
        let mut peer = Peer { stream, inbox: Inbox::default() };
        let hello = loop {
            match peer.inbox.next_hello().expect("it is a hello") {
                Some(hello) => break hello,
                None => peer.inbox.fill(&mut peer.stream).expect("the peer has not died"),
            };
        };
        assert_eq!(hello, Hello::new(role));
        let answer = Answer { verdict: Verdict::Accepted, version: VERSION_MAX };
        peer.stream.write_all(&answer.encode()).expect("the peer has not died");
        peer
    }

    fn send(&mut self, message: &impl Message) {
        let mut out = BytesMut::new();
        encode(message, &mut out).expect("the message is within the caps");
        self.stream.write_all(&out).expect("the peer has not died");
    }

    fn receive<M: Message>(&mut self) -> Result<M, ReceiveError> {
        self.inbox.receive(&mut self.stream)
    }
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(format!("{}/tests/protocol/{script}", env!("CARGO_MANIFEST_DIR")));
    command
}

fn echo() -> FunctionName {
    FunctionName::new("echo").expect("it is a name")
}

/// What `client.py` prints and exits with when its command, for which it asks for `request`, is answered so.
fn client_answered(command: &[&str], request: RequestBody, answer: &[ReplyBody]) -> (String, Option<i32>) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("the directory is empty");
    let client = python("client.py")
        .arg(&path)
        .args(command)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");

    let mut peer = Peer::accept(listener.accept().expect("the client connects").0, Role::Client);
    let welcome =
        Welcome { version: "0.1.0".to_owned(), pid: Pid(1), epoch: Epoch(1), payload_bytes_max: 983_040 };
    peer.send(&Reply { request: None, body: ReplyBody::Welcome(welcome) });
    let asked: Request = peer.receive().expect("the client submits");
    assert_eq!(asked, Request { id: RequestId(1), body: request });
    for body in answer {
        // Tasks and requests count on alike.
        let task = match body {
            ReplyBody::Done { task, .. } | ReplyBody::AllDone { first: task, .. } => *task,
            _ => TASK,
        };
        let request = RequestId(1).plus(task.number - TASK.number);
        peer.send(&Reply { request: Some(request), body: body.clone() });
    }

    let output = client.wait_with_output().expect("the client ends");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// The same, for a task of `echo a "b c"` that ends so.
fn submission_answered(body: ReplyBody) -> (String, Option<i32>) {
    let args = Payload::from_args(["a", "b c"]);
    let submit = RequestBody::Submit { spec: TaskSpec::new(echo()).into(), args };
    let mut answer = vec![ReplyBody::Accepted { task: TASK }, body];
    if let ReplyBody::Refused(_) = answer[1] {
        answer.remove(0);
    }
    client_answered(&["submit", "echo", "a", "b c"], submit, &answer)
}

#[test]
fn client_in_python_submits_and_prints_the_outcome() {
    let result = Payload::new(Encoding::Json, Bytes::from_static(b"\"a b c\""));
    let done = |outcome| ReplyBody::Done { task: TASK, outcome };
    assert_eq!(submission_answered(done(Outcome::Ok(result))), ("Ok \"a b c\"\n".to_owned(), Some(0)));
    let crashed = done(Outcome::Crashed(Exit::Signal(9)));
    assert_eq!(submission_answered(crashed), ("Crashed {\"Signal\": 9}\n".to_owned(), Some(1)));
    let refused = ReplyBody::Refused(Refusal::Draining);
    assert_eq!(submission_answered(refused), ("Refused \"Draining\"\n".to_owned(), Some(4)));
}

#[test]
fn client_in_python_submits_many_at_once_and_prints_each_outcome() {
    let mut args = PayloadsMut::default();
    for number in ["1", "2", "3", "4"] {
        args.push(Encoding::Args, format!("{number}\0").as_bytes());
    }
    let submit_all = RequestBody::SubmitAll { spec: TaskSpec::new(echo()).into(), args: args.take() };
    let results = |of: &[&[u8]]| {
        let mut results = PayloadsMut::default();
        of.iter().for_each(|bytes| results.push(Encoding::Json, bytes));
        results.take()
    };
    let (second, third) = (TASK.plus(1), TASK.plus(2));
    let answer = [
        ReplyBody::AllAccepted { first: TASK, count: 4 },
        ReplyBody::AllDone { first: third, results: results(&[b"\"3\"", b"\"4\""]) },
        ReplyBody::Done { task: second, outcome: Outcome::Crashed(Exit::Signal(9)) },
        ReplyBody::AllDone { first: TASK, results: results(&[b"\"1\""]) },
    ];
    let printed = client_answered(&["map", "echo", "1", "2", "3", "4"], submit_all, &answer);
    let expected = "Ok \"1\"\nCrashed {\"Signal\": 9}\nOk \"3\"\nOk \"4\"\n";
    assert_eq!(printed, (expected.to_owned(), Some(1)));
}

/// A running `worker.py`, which does not outlive its test.
struct Worker {
    process: Child,
    peer: Peer,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    /// Starts one, its socket on standard input, and takes it through handshake and setup.
    fn start(arguments: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets can be made");
        let process = python("worker.py")
            .args(arguments)
            .env("POOLD_WORKER_FD", "0")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .expect("python3 is installed");
        let mut peer = Peer::accept(ours, Role::Worker);
        let id = WorkerId { slot: SlotId(0), generation: Generation(0) };
        let (commands, limits) = (Vec::new(), WorkLimits::default());
        peer.send(&ToWorker::Setup(Box::new(Setup {
            worker: id,
            allow_fault_injection: false,
            threads: 1,
            commands,
            limits,
            payload_bytes_max: poold::limits::PAYLOAD_BYTES_MAX,
            page: Payload::default(),
        })));
        Worker { process, peer }
    }

    /// Starts one and waits until it is ready.
    fn start_ready(arguments: &[&str]) -> Self {
        let mut worker = Worker::start(arguments);
        match worker.peer.receive().expect("the worker says something") {
            FromWorker::Ready { functions, capacity: 1, uses_page: false, sentinel: None } => {
                assert!(functions.into_iter().map(|info| info.name).eq([echo()]));
            }
            other => panic!("not ready: {other:?}"),
        }
        worker
    }

    fn attempt(&mut self, attempt: AttemptId) {
        let args = Payload::from_args(["a", "b c"]);
        self.peer.send(&ToWorker::Attempt { attempt, task: TASK, function: echo(), args });
    }

    /// Waits for it to exit by itself.
    fn exit_status(&mut self) -> Option<i32> {
        self.process.wait().expect("it is waited for once").code()
    }
}

#[test]
fn worker_in_python_runs_attempts_until_it_is_stopped() {
    let mut worker = Worker::start_ready(&[]);
    for attempt in [AttemptId(1), AttemptId(2)] {
        worker.attempt(attempt);
        assert_eq!(worker.peer.receive().ok(), Some(FromWorker::Started { attempt }));
        let result = Payload::new(Encoding::Json, Bytes::from_static(b"\"a b c\""));
        let finished = FromWorker::Finished { attempt, report: Report::Ok(result) };
        assert_eq!(worker.peer.receive().ok(), Some(finished));
    }
    worker.peer.send(&ToWorker::Stop);
    assert_eq!(worker.exit_status(), Some(0));
}

#[test]
fn worker_in_python_exits_when_its_socket_ends() {
    let mut worker = Worker::start_ready(&[]);
    worker.peer.stream.shutdown(Shutdown::Both).expect("it is connected");
    assert_eq!(worker.exit_status(), Some(0));
}

#[test]
fn worker_in_python_misbehaves_as_it_is_told() {
    let mut worker = Worker::start(&["exit-before-ready", "7"]);
    assert_eq!(worker.exit_status(), Some(7));

    let mut worker = Worker::start_ready(&["garbage"]);
    worker.attempt(AttemptId(1));
    let garbage = worker.peer.receive::<FromWorker>();
    assert!(matches!(garbage, Err(ReceiveError::Wire(WireError::FrameTooLarge { .. }))), "{garbage:?}");

    let mut worker = Worker::start_ready(&["close"]);
    worker.attempt(AttemptId(1));
    assert!(matches!(worker.peer.receive::<FromWorker>(), Err(ReceiveError::Closed)));
    assert!(matches!(worker.process.try_wait(), Ok(None)), "its process goes on");

    let mut worker = Worker::start_ready(&["ignore-term"]);
    worker.attempt(AttemptId(1));
    assert_eq!(worker.peer.receive().ok(), Some(FromWorker::Started { attempt: AttemptId(1) }));
    assert!(ignores_signal(worker.process.id(), 15));
}

/// Whether a process ignores a signal, by what proc(5) says of it.
fn ignores_signal(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("it has a mask");
    u64::from_str_radix(mask, 16).expect("the mask is in hexadecimal") & 1 << (signal - 1) != 0
}
