//! Big payloads: each byte arrives, the daemon's memory stays small, and whatever dies or lies, nothing is left of
//! them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use poold::CallErrorKind::{Crashed, Failed, Refused};
use poold::id::{FunctionName, RequestId, TaskId};
use poold::limits::{INLINE_BYTES_MAX, INLINE_BYTES_PREFERRED, MEMORY_DESCRIPTORS_MAX, OUTPUT_BYTES_MAX};
use poold::message::client::{Refusal, Reply, ReplyBody, Request, RequestBody};
use poold::task::{Attachment, Encoding, Outcome, Payload, TaskSpec};
use poold::wire::{Hello, Inbox, Outbox, Role, encode};
use poold::{CallError, Executor, Future, SharedBuffer};
use rustix::fs::{CWD, MemfdFlags, Mode, memfd_create, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use support::{Daemon, PATIENCE, assert_error, directory_with, parts, pidfd, text, wait_for_exit};

const MIB: usize = 1 << 20;

/// Bytes of which none is where another could be.
fn pattern(bytes: usize) -> Bytes {
    (0..bytes as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn start(config: &str) -> (Daemon, Executor) {
    let daemon = Daemon::start(config);
    let executor = Executor::connect_to(&daemon.socket).unwrap();
    (daemon, executor)
}

fn echo(executor: &Executor, bytes: &Bytes) -> Future<Payload> {
    executor.submit_payload("echo", Payload::new(Encoding::Bytes, bytes.clone())).unwrap()
}

/// Shared memory that a process has open or mapped.
fn memories_of(process: Pid) -> usize {
    let proc = format!("/proc/{}", process.as_raw_nonzero());
    let is_memory = |name: &str| name.ends_with("memfd:poold (deleted)");
    let links = fs::read_dir(format!("{proc}/fd")).into_iter().flatten().filter_map(Result::ok);
    let open = links.filter_map(|link| fs::read_link(link.path()).ok());
    let open = open.filter(|target| target.to_str().is_some_and(is_memory)).count();
    let maps = fs::read_to_string(format!("{proc}/maps")).unwrap_or_default();
    open + maps.lines().filter(|line| is_memory(line)).count()
}

/// Sees the daemon and its workers let go of all shared memory.
#[track_caller]
fn assert_nothing_is_left(daemon: &Daemon) {
    let workers = daemon.worker_pids();
    let left =
        || memories_of(daemon.pid()) + workers.iter().map(|worker| memories_of(*worker)).sum::<usize>();
    let patience = Instant::now() + PATIENCE;
    while left() > 0 {
        assert!(Instant::now() < patience, "{} memories are still held", left());
        thread::yield_now();
    }
}

fn still_serves(daemon: &Daemon) {
    assert_eq!(parts(&daemon.run(&["submit", "is_prime", "7"])), (0, "true\n".to_owned(), String::new()));
}

/// The most memory that a process had at a time, and the resident memory that it has, in KiB.
fn memory_kib(process: Pid) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (number("VmHWM:"), number("VmRSS:"))
}

/// A client that says what it likes.
struct Client {
    stream: UnixStream,
    inbox: Inbox,
}

impl Client {
    fn of(daemon: &Daemon) -> Self {
        let mut stream = daemon.connect();
        stream.write_all(&Hello::new(Role::Client).encode()).unwrap();
        let mut inbox = Inbox::default();
        inbox.receive_answer(&mut stream).unwrap();
        let mut client = Client { stream, inbox };
        assert!(matches!(client.hear(), ReplyBody::Welcome(_)));
        client
    }

    fn say(&mut self, number: u64, body: RequestBody) {
        let mut outbox = Outbox::default();
        outbox.push(&Request { id: RequestId(number), body }).unwrap();
        while !outbox.is_empty() {
            outbox.send(&self.stream).unwrap();
        }
    }

    fn hear(&mut self) -> ReplyBody {
        let reply: Reply = self.inbox.receive_from(&self.stream).unwrap();
        reply.body
    }

    fn submit(&mut self, spec: TaskSpec, args: Payload) -> Result<TaskId, Refusal> {
        self.say(1, RequestBody::Submit { spec: spec.into(), args });
        match self.hear() {
            ReplyBody::Accepted { task } => Ok(task),
            ReplyBody::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

fn spec(function: &str) -> TaskSpec {
    TaskSpec::new(FunctionName::new(function).unwrap())
}

/// So many bytes of shared memory.
fn shared(bytes: usize) -> Payload {
    SharedBuffer::new(bytes).unwrap().into_payload(Encoding::Bytes).unwrap()
}

fn outcome(reply: ReplyBody) -> Outcome {
    match reply {
        ReplyBody::Done { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

fn refusal(error: &CallError) -> String {
    assert_eq!(error.kind(), Refused);
    error.to_string()
}

#[test]
fn big_payload_comes_back_as_it_was() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    let bytes = pattern(64 * MIB);
    let result = echo(&executor, &bytes).result(None).unwrap();
    assert_eq!(result.encoding, Encoding::Bytes);
    assert!(result.bytes().unwrap() == bytes);
    let same = executor.submit_payload("echo", Payload::new(Encoding::Bytes, bytes.clone())).unwrap();
    drop((result, same.result(None).unwrap(), same));
    assert_nothing_is_left(&daemon);
}

#[test]
fn payloads_around_every_threshold_come_back_as_they_were() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 2\n");
    for threshold in [INLINE_BYTES_PREFERRED, INLINE_BYTES_MAX, MIB] {
        for bytes in [threshold - 1, threshold, threshold + 1] {
            let bytes = pattern(bytes);
            let result = echo(&executor, &bytes).result(None).unwrap();
            assert!(result.bytes().unwrap() == bytes, "{} bytes", bytes.len());
        }
    }
    let empty = executor.submit_payload("echo", shared(0)).unwrap().result(None).unwrap();
    assert!(empty.is_empty());
    assert_nothing_is_left(&daemon);
}

#[test]
fn payload_over_the_cap_is_refused_both_ways() {
    let config =
        "[limits]\npayload_bytes = '100 KiB'\n[function.zeros]\nexec = ['head', '-c', '{0}', '/dev/zero']\n";
    let (daemon, executor) = start(&format!("{config}[pool.cpu]\nworkers = 1\n"));
    let most = pattern(100 * 1024);
    assert!(echo(&executor, &most).result(None).unwrap().bytes().unwrap() == most);
    let over = Payload::new(Encoding::Bytes, pattern(100 * 1024 + 1));
    let error = executor.submit_payload("echo", over.clone()).unwrap_err();
    assert!(refusal(&error).contains("the arguments take 102401 bytes and 102400 is the most"), "{error}");
    // Nor does the daemon take it from one who does not ask himself.
    let refused = Client::of(&daemon).submit(spec("echo"), shared(102_401)).unwrap_err();
    assert_eq!(refused, Refusal::PayloadTooLarge { bytes: 102_401, bytes_max: 102_400 });
    let error = executor.submit::<Bytes>("zeros", 102_401).unwrap().result(None).unwrap_err();
    assert_eq!(error.kind(), Failed);
    assert!(error.to_string().contains("its result of 102401 bytes is too large"), "{error}");
    assert_nothing_is_left(&daemon);
}

#[test]
fn daemon_needs_no_memory_for_what_it_passes_on() {
    let (daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    drop(echo(&executor, &pattern(MIB)).result(None).unwrap());
    let (_, before) = memory_kib(daemon.pid());
    let bytes = pattern(256 * MIB);
    assert!(echo(&executor, &bytes).result(None).unwrap().bytes().unwrap() == bytes);
    let (peak, _) = memory_kib(daemon.pid());
    assert!(peak.saturating_sub(before) < 4 * 1024, "its memory grew from {before} to {peak} KiB");
}

#[test]
fn client_that_dies_leaves_nothing_of_what_it_had_queued() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    let mut client = Client::of(&daemon);
    client.submit(spec("sleep"), Payload::from_args(["3600"])).unwrap();
    for _ in 0..32 {
        client.submit(spec("echo"), shared(8 * MIB)).unwrap();
    }
    assert_eq!(memories_of(daemon.pid()), 32);
    drop(client);
    assert_nothing_is_left(&daemon);
    still_serves(&daemon);
}

#[test]
fn result_for_a_client_that_is_gone_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
    let mut daemon = Daemon::start(&format!(
        "[function.slow]\nexec = ['sh', '-c', 'read line; read go < {}; head -c 8000000 /dev/zero']\nstdin = 0\n[pool.cpu]\nworkers = 1\n",
        fifo.display()
    ));
    let mut client = Client::of(&daemon);
    // Two attempts that start, and whose results come when nobody waits any more.
    let args = || Payload::new(Encoding::Bytes, pattern(100_000));
    let task = client.submit(spec("slow"), args()).unwrap();
    daemon.wait_for_log(&format!("task {task} started"));
    drop(client);
    daemon.wait_for_log(&format!("task {task} cancelled"));
    assert_nothing_is_left(&daemon);
    let mut client = Client::of(&daemon);
    let detached = TaskSpec { attachment: Attachment::Detached, ..spec("slow") };
    let task = client.submit(detached, args()).unwrap();
    client.say(2, RequestBody::Result { task, wait: true });
    drop(client);
    fs::write(&fifo, "go\n").unwrap();
    daemon.wait_for_log(&format!("task {task} ok"));
    assert_eq!(memories_of(daemon.pid()), 1, "the result of a detached task is kept");
}

#[test]
fn kept_result_is_given_to_everyone_and_then_expires() {
    let mut daemon = Daemon::start(
        "[limits]\nresults = 1\n[function.zeros]\nexec = ['head', '-c', '{0}', '/dev/zero']\n[pool.cpu]\nworkers = 1\n",
    );
    let big = 3 * MIB;
    let task = daemon.detach(&["zeros", &big.to_string()]);
    for _ in 0..2 {
        let output = daemon.run(&["wait", &task]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let output = daemon.run(&["result", &task]);
        assert_eq!((output.stdout.len(), output.status.code()), (big, Some(0)), "{}", text(&output.stderr));
    }
    assert_eq!(memories_of(daemon.pid()), 1);
    let next = daemon.detach(&["is_prime", "7"]);
    assert!(daemon.run(&["wait", &next]).status.success());
    daemon.wait_for_log(&format!("the result of task {task} expired"));
    assert_nothing_is_left(&daemon);
}

#[test]
fn task_with_a_big_argument_is_retried_with_all_of_it() {
    let dir = directory_with("");
    let once = dir.path().join("once");
    // The first attempt kills its worker, the second counts what it was given.
    let script = format!("if mkdir {}; then kill -9 $PPID; sleep 60; else wc -c; fi", once.display());
    let (daemon, executor) = start(&format!(
        "[function.count]\nexec = ['sh', '-c', \"{script}\"]\nstdin = 0\n[pool.cpu]\nworkers = 1\nsandbox = false\n"
    ));
    let args = Payload::new(Encoding::Bytes, pattern(8 * MIB));
    let result = executor.with_retries(1).submit_payload("count", args.clone()).unwrap().result(None);
    let bytes = result.unwrap().bytes().unwrap();
    assert_eq!(text(&bytes).trim(), (8 * MIB).to_string());
    fs::remove_dir(&once).unwrap();
    let error = executor.submit_payload("count", args).unwrap().result(None).unwrap_err();
    assert_eq!(error.kind(), Crashed);
    assert_nothing_is_left(&daemon);
}

#[test]
fn worker_that_is_killed_leaves_nothing_of_its_argument() {
    let (daemon, executor) =
        start("[function.wait]\nexec = ['sleep', '3600']\nstdin = 0\n[pool.cpu]\nworkers = 1\n");
    let args = Payload::new(Encoding::Bytes, pattern(8 * MIB));
    let waiting = executor.submit_payload("wait", args.clone()).unwrap();
    let cancelled = executor.submit_payload("wait", args).unwrap();
    while !waiting.running() {
        thread::yield_now();
    }
    assert!(cancelled.cancel());
    for worker in daemon.worker_pids() {
        let process = pidfd(worker);
        kill_process(worker, Signal::KILL).unwrap();
        wait_for_exit(&process);
    }
    assert_eq!(waiting.result(None).unwrap_err().kind(), Crashed);
    assert_nothing_is_left(&daemon);
}

#[test]
fn poolctl_sends_and_prints_what_is_big() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    let word = "x".repeat(120_000);
    assert_eq!(parts(&daemon.run(&["submit", "echo", &word])), (0, format!("{word}\n"), String::new()));
    let lines = format!("{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}\nshort\n", word);
    assert_eq!(parts(&daemon.run_with_input(&["map", "echo"], &lines)), (0, lines, String::new()));
    let json = daemon.json(&["submit", "echo", &word]);
    assert_eq!(json["result"], word);
}

#[test]
fn bytes_of_a_result_are_read_where_they_are() {
    let (_daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    let bytes = pattern(MIB);
    let result = echo(&executor, &bytes).result(None).unwrap();
    assert_eq!(result.bytes().unwrap().as_ptr(), result.bytes().unwrap().as_ptr());
    assert!(result.bytes().unwrap() == bytes);
}

#[test]
fn more_results_than_a_client_may_have_descriptors_can_be_held() {
    let (_daemon, executor) = start("[pool.cpu]\nworkers = 1\n");
    let bytes = pattern(INLINE_BYTES_PREFERRED + 1);
    // The usual soft limit is 1,024; the tests of this file share a process.
    let futures: Vec<_> = (0..1_500).map(|_| echo(&executor, &bytes)).collect();
    let results: Vec<_> = futures.iter().map(|future| future.result(None).unwrap()).collect();
    assert!(results.iter().all(|result| result.bytes().unwrap() == bytes));
    let own = rustix::process::getpid();
    let open = fs::read_dir(format!("/proc/{}/fd", own.as_raw_nonzero())).unwrap().count();
    assert!(open < 1_000, "{open} descriptors are open");
}

#[test]
fn client_that_does_not_read_is_passed_little_and_gets_all_once_it_does() {
    let daemon = Daemon::start(
        "[function.zeros]\nexec = ['head', '-c', '{0}', '/dev/zero']\n[pool.cpu]\nworkers = 1\n",
    );
    let task: TaskId = daemon.detach(&["zeros", "100000"]).parse().unwrap();
    assert!(daemon.run(&["wait", &task.to_string()]).status.success());
    let mut client = Client::of(&daemon);
    const REQUESTS: u64 = 100;
    for number in 1..=REQUESTS {
        client.say(number, RequestBody::Result { task, wait: false });
    }
    still_serves(&daemon);
    for _ in 1..=REQUESTS {
        let Outcome::Ok(result) = outcome(client.hear()) else { panic!("it was ok") };
        assert_eq!(result.len(), 100_000);
    }
    still_serves(&daemon);
}

#[test]
fn queue_with_as_many_big_arguments_as_there_are_descriptors_is_full() {
    let config = "[pool.cpu]\nworkers = 1\n";
    let mut daemon = Daemon::launch_after(directory_with(config), "ulimit -n 256");
    daemon.wait_until_ready();
    let mut client = Client::of(&daemon);
    client.submit(spec("sleep"), Payload::from_args(["3600"])).unwrap();
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < MEMORY_DESCRIPTORS_MAX);
        match client.submit(spec("echo"), shared(100_000)) {
            Ok(_) => accepted += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refused, Refusal::QueueDescriptorsFull { descriptors_max: accepted });
    assert!((10..100).contains(&accepted), "{accepted} were accepted");
    assert!(refused.is_queue_full() && refused.to_string().contains("limit on open files"), "{refused}");
    client.submit(spec("echo"), Payload::from_args(["small"])).unwrap();
    let clients: Vec<Client> = (0..50).map(|_| Client::of(&daemon)).collect();
    drop((client, clients));
    still_serves(&daemon);
    assert_nothing_is_left(&daemon);
}

#[test]
fn big_result_beyond_a_limit_of_its_worker_is_a_failure_in_words() {
    let pool = "[function.zeros]\nexec = ['head', '-c', '{0}', '/dev/zero']\n[pool.cpu]\nworkers = 1\n";
    let (daemon, executor) = start(&format!("{pool}file_size = '1 MiB'\n"));
    let fits = executor.submit::<Bytes>("zeros", MIB).unwrap().result(None).unwrap();
    assert_eq!(fits.len(), MIB);
    let error = executor.submit::<Bytes>("zeros", MIB + 1).unwrap().result(None).unwrap_err();
    assert_eq!(error.kind(), Failed);
    assert!(error.to_string().contains("more than the limit on the size of files, 1048576"), "{error}");
    // What others made is none of its files.
    let bytes = pattern(4 * MIB);
    assert!(echo(&executor, &bytes).result(None).unwrap().bytes().unwrap() == bytes);
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 0);
}

#[test]
fn big_argument_beyond_the_memory_of_its_function_is_a_failure_in_words() {
    let (daemon, executor) =
        start("[function.is_prime]\nmemory = '1 GiB'\n[pool.cpu]\nworkers = 1\nsandbox = false\n");
    let zeros = |bytes| executor.submit_payload("is_prime", shared(bytes)).unwrap().result(None).unwrap_err();
    let error = zeros(1000 * MIB);
    assert!(error.to_string().contains("its arguments of 1048576000 bytes cannot be mapped"), "{error}");
    let error = zeros(MIB);
    assert!(error.to_string().contains("they came as plain bytes"), "{error}");
    assert_eq!(daemon.json(&["status"])["pools"][0]["restarts"], 0);
}

#[test]
fn client_that_sends_other_than_sealed_memory_harms_itself_alone() {
    let daemon = Daemon::start("[pool.cpu]\nworkers = 1\n");
    let unsealed = memfd_create("poold", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&unsealed, 100_000).unwrap();
    let sealed = shared(99_999);
    let file = sealed.content.memory().unwrap().file().unwrap();
    for wrong in [unsealed.as_fd(), file, fs::File::open("/dev/zero").unwrap().as_fd()] {
        let mut client = Client::of(&daemon);
        let announced = serde_json::from_value(100_000.into()).unwrap();
        let args = Payload::shared(Encoding::Bytes, announced);
        let request =
            Request { id: RequestId(1), body: RequestBody::Submit { spec: spec("echo").into(), args } };
        let mut frame = BytesMut::new();
        encode(&request, &mut frame).unwrap();
        send_with(&client.stream, &frame, wrong);
        let ReplyBody::Refused(Refusal::Protocol(reason)) = client.hear() else {
            panic!("it is not refused")
        };
        assert!(reason.contains("big payload"), "{reason}");
        assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "the connection is closed");
    }
    assert_nothing_is_left(&daemon);
    still_serves(&daemon);
}

fn send_with(stream: &UnixStream, bytes: &[u8], file: std::os::fd::BorrowedFd<'_>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let files = [file];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    let sent = sendmsg(stream, &[std::io::IoSlice::new(bytes)], &mut ancillary, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn worker_that_sends_other_than_sealed_memory_is_replaced() {
    // It announces what it does not send.
    let script = r#"
import os, socket, sys
sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True
import wire
stream = socket.socket(fileno=int(os.environ['POOLD_WORKER_FD']))
connection = wire.Connection(stream, wire.WORKER)
connection.receive('ToWorker')
info = {'name': 'lie', 'signature': 'lie()', 'summary': ''}
connection.send('FromWorker', {'Ready': {'functions': [info], 'capacity': 1, 'uses_page': False, 'sentinel': None}})
attempt = connection.receive('ToWorker')[0]['Attempt']['attempt']
connection.send('FromWorker', {'Started': {'attempt': attempt}})
report = {'Ok': {'encoding': 'Bytes', 'content': {'Shared': 5}, 'descriptors': 0}}
frame = wire.encode_frame('FromWorker', {'Finished': {'attempt': attempt, 'report': report}})
socket.send_fds(stream, [frame], [os.memfd_create('poold')])
stream.recv(1)
"#;
    let dir = directory_with("");
    let path = dir.path().join("liar.py");
    fs::write(&path, script).unwrap();
    let protocol = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol");
    let mut daemon = Daemon::start(&format!(
        "[pool.lies]\nworkers = 1\nenv_pass = ['*']\ncommand = ['python3', '{}', '{protocol}']\n[pool.cpu]\nworkers = 1\n",
        path.display()
    ));
    let output = daemon.run(&["submit", "lie"]);
    assert_error(&output, 143, &["SIGTERM"]);
    daemon.wait_for_log("broke the protocol: a big payload that is no memory file");
    still_serves(&daemon);
    assert_nothing_is_left(&daemon);
}

#[test]
fn programs_written_from_the_document_take_and_give_what_is_big() {
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/worker.py");
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/client.py");
    let daemon = Daemon::start(&format!("[pool.py]\nworkers = 1\ncommand = ['python3', '{worker}']\n"));
    let word = "x".repeat(100_000);
    let mut python = Command::new("python3");
    let output = python.arg(client).arg(&daemon.socket).args(["submit", "echo", &word]).output().unwrap();
    assert_eq!(parts(&output), (0, format!("Ok \"{word}\"\n"), String::new()));
    assert_nothing_is_left(&daemon);
}

#[test]
fn output_of_a_command_up_to_its_cap_is_returned() {
    let (_daemon, executor) =
        start("[function.zeros]\nexec = ['head', '-c', '{0}', '/dev/zero']\n[pool.cpu]\nworkers = 1\n");
    let zeros = executor.submit::<Bytes>("zeros", OUTPUT_BYTES_MAX).unwrap().result(None).unwrap();
    assert_eq!(zeros.len(), OUTPUT_BYTES_MAX);
}
