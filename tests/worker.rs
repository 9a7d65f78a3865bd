//! A worker's process, seen from the daemon's end of its socket.
//!
//! Each test starts `poold` the way the daemon does and speaks the protocol with it. Functions that the
//! built-in ones lack (printing, panicking) come from this very executable, run as a pool's `command`:
//! see [`functions_of_its_own`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use poold::id::{AttemptId, Epoch, Generation, SlotId, TaskId, WorkerId};
use poold::inline::InlineBytes;
use poold::message::resources::WorkLimits;
use poold::message::worker::{FromWorker, Report, Setup, ToWorker};
use poold::task::{Encoding, Failure, FailureKind, Payload};
use poold::wire::{self, Answer, Filled, Inbox, Role, VERSION_MAX, Verdict};
use poold::worker::Registry;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

/// How long a test waits before it fails for want of something that should have happened at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker's process and the daemon's end of its socket.
struct Worker {
    child: Child,
    socket: UnixStream,
    inbox: Inbox,
}

impl Worker {
    /// Starts a worker with the built-in functions.
    fn start() -> Self {
        Self::start_by(&mut poold())
    }

    /// Starts a worker by `command`, as the daemon does.
    fn start_by(command: &mut Command) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        command.stdin(OwnedFd::from(far)).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().unwrap();
        // The command keeps a copy of the worker's end, which would hide that the worker closed its own.
        command.stdin(Stdio::null());
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        Worker { child, socket: near, inbox: Inbox::default() }
    }

    /// Shakes hands and sets the worker up, for all that it says next.
    fn open(mut self, allow_fault_injection: bool) -> Self {
        let hello = loop {
            if let Some(hello) = self.inbox.next_hello().unwrap() {
                break hello;
            }
            assert_ne!(self.inbox.fill(&mut self.socket).unwrap(), Filled::End, "{}", self.errors());
        };
        assert_eq!(hello.role, Role::Worker);
        let answer = Answer { verdict: Verdict::Accepted, version: VERSION_MAX };
        self.socket.write_all(&answer.encode()).unwrap();
        let worker = WorkerId { slot: SlotId(3), generation: Generation(0) };
        self.say(&[ToWorker::Setup(Box::new(Setup {
            worker,
            allow_fault_injection,
            threads: 1,
            commands: Vec::new(),
            limits: WorkLimits::default(),
            payload_bytes_max: poold::limits::PAYLOAD_BYTES_MAX,
            page: Payload::default(),
        }))]);
        self
    }

    /// Opens the conversation and waits until the worker is ready; gives the names of its functions too.
    fn ready(self, allow_fault_injection: bool) -> (Self, Vec<String>) {
        let mut worker = self.open(allow_fault_injection);
        match worker.hear() {
            FromWorker::Ready { functions, capacity: 1, uses_page: false, sentinel: Some(_) } => {
                let names = functions.into_iter().map(|function| function.name.to_string()).collect();
                (worker, names)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends `messages` with one write.
    fn say(&mut self, messages: &[ToWorker]) {
        let mut bytes = BytesMut::new();
        for message in messages {
            wire::encode(message, &mut bytes).unwrap();
        }
        self.socket.write_all(&bytes).unwrap();
    }

    fn hear(&mut self) -> FromWorker {
        self.inbox.receive(&mut self.socket).unwrap()
    }

    /// Waits until the worker's end is closed.
    fn hear_the_end(&mut self) {
        assert_eq!(self.inbox.fill(&mut self.socket).unwrap(), Filled::End);
    }

    /// Sends attempt 1 and waits until it has started.
    fn begin(&mut self, function: &str, args: &[&str]) {
        self.say(&[attempt(1, function, args)]);
        assert_eq!(self.hear(), FromWorker::Started { attempt: AttemptId(1) });
    }

    /// Has attempt 1 run and gives the report.
    fn run(&mut self, function: &str, args: &[&str]) -> Report {
        self.begin(function, args);
        match self.hear() {
            FromWorker::Finished { attempt: AttemptId(1), report } => report,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the process to end.
    fn exit(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        await_readable(&pidfd_open(pid, PidfdFlags::empty()).unwrap());
        self.child.wait().unwrap()
    }

    /// All that the process writes to its standard output until it is closed.
    fn output(&mut self) -> String {
        read_all(self.child.stdout.take().unwrap())
    }

    /// All that the process writes to its standard error until it is closed.
    fn errors(&mut self) -> String {
        read_all(self.child.stderr.take().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A test that failed leaves its worker behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `poold`, to be started as a worker of this process.
fn poold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
    command.env("POOLD_WORKER", std::process::id().to_string());
    command
}

/// Waits until there is something to read, or nothing more will be.
fn await_readable(fd: &impl AsFd) {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "nothing happened within {PATIENCE:?}");
}

fn read_all(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn attempt(number: u64, function: &str, args: &[&str]) -> ToWorker {
    ToWorker::Attempt {
        attempt: AttemptId(number),
        task: TaskId { epoch: Epoch(1), number },
        function: function.parse().unwrap(),
        args: Payload::from_args(args),
    }
}

fn json(json: impl Into<InlineBytes>) -> Report {
    Report::Ok(Payload::new(Encoding::Json, json))
}

/// `poold`, to be started as a worker that executes [`functions_of_its_own`].
fn own_functions() -> Command {
    let mut command = poold();
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "functions_of_its_own", "--nocapture"]);
    command
}

/// Not a test: what [`own_functions`] runs. Among the tests it does nothing.
#[test]
fn functions_of_its_own() {
    poold::init(|| {
        Registry::new()
            .register("print", &["TEXT"], "Prints without a line's end.", |text: String| {
                print!("out:{text}");
                eprint!("err:{text}");
                Ok::<_, Infallible>(())
            })
            .register("panic", &["MESSAGE"], "Panics.", |message: String| -> Result<(), Infallible> {
                panic!("{message}")
            })
            .register("environment", &[], "Names of its variables.", |()| {
                Ok::<_, Infallible>(std::env::vars().map(|(name, _)| name).collect::<Vec<_>>())
            })
    });
}

#[test]
fn ready_lists_functions() {
    let (_worker, names) = Worker::start().ready(false);
    assert_eq!(names, ["echo", "fail", "is_prime", "is_prime_trial", "load_url", "sleep"]);
}

#[test]
fn ready_lists_faults_where_allowed() {
    let (_worker, names) = Worker::start().ready(true);
    assert!(names.contains(&"crash".to_owned()) && names.contains(&"spin".to_owned()), "{names:?}");
}

#[test]
fn attempts_are_reported_in_order() {
    let (mut worker, _) = Worker::start().ready(false);
    for (n, prime) in [("112272535095293", "true"), ("1099726899285419", "false")] {
        assert_eq!(worker.run("is_prime", &[n]), json(prime));
    }
    let failed =
        |kind, message: &str| Report::Failed(Failure { kind, message: message.to_owned(), location: None });
    assert_eq!(worker.run("fail", &["because"]), failed(FailureKind::Error, "because"));
    assert_eq!(
        worker.run("is_prime", &["banana"]),
        failed(
            FailureKind::BadArguments,
            "is_prime takes N: u128; \"banana\" is not one (invalid digit found in string)"
        )
    );
}

#[test]
fn recall_in_the_same_read_takes_the_attempt_back() {
    let (mut worker, _) = Worker::start().ready(true);
    worker.say(&[attempt(1, "crash", &["abort"]), ToWorker::Recall { attempt: AttemptId(1) }]);
    assert_eq!(worker.hear(), FromWorker::Recalled { attempt: AttemptId(1) });
    assert_eq!(worker.run("echo", &["alive"]), json("\"alive\""));
}

#[test]
fn recall_behind_a_started_attempt_is_answered_by_its_report() {
    let (mut worker, _) = Worker::start().ready(false);
    worker.begin("sleep", &["0.01"]);
    worker.say(&[ToWorker::Recall { attempt: AttemptId(1) }]);
    assert_eq!(worker.hear(), FromWorker::Finished { attempt: AttemptId(1), report: json("null") });
    assert_eq!(worker.run("echo", &["next"]), json("\"next\""));
}

#[test]
fn stop_ends_the_worker() {
    let (mut worker, _) = Worker::start().ready(false);
    worker.say(&[ToWorker::Stop]);
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn end_of_socket_ends_an_idle_worker() {
    let (mut worker, _) = Worker::start().ready(false);
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn end_of_socket_kills_a_worker_that_spins() {
    let (mut worker, _) = Worker::start().ready(true);
    worker.begin("spin", &[]);
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.exit().signal(), Some(SIGKILL));
}

#[test]
fn death_of_its_parent_kills_a_worker_that_spins() {
    let script = "exec 3<&0; POOLD_WORKER=$$ \"$0\" <&3 & wait";
    let mut shell = Command::new("/bin/sh");
    let (mut worker, _) =
        Worker::start_by(shell.args(["-c", script, env!("CARGO_BIN_EXE_poold")])).ready(true);
    worker.begin("spin", &[]);
    worker.child.kill().unwrap();
    // This end stays open: the other one is closed when the last process that has it is gone.
    worker.hear_the_end();
}

#[test]
fn spinning_worker_outlives_sigterm() {
    let (mut worker, _) = Worker::start().ready(true);
    worker.begin("spin", &[]);
    let pid = worker.child.id().to_string();
    // Started is written before the function blocks signals: wait until every thread has done so.
    let blocked = |status: String| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & (1 << 14) != 0
    };
    let all_blocked = || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).all(blocked)
    };
    let begun = Instant::now();
    while !all_blocked() {
        assert!(begun.elapsed() < PATIENCE, "a thread of the worker takes signals");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.exit().signal(), Some(SIGKILL), "SIGTERM would have come first");
}

#[test]
fn crash_by_signal_is_the_real_one() {
    for (how, signal) in [("abort", SIGABRT), ("segfault", SIGSEGV)] {
        let (mut worker, _) = Worker::start().ready(true);
        worker.begin("crash", &[how]);
        assert_eq!(worker.exit().signal(), Some(signal), "{how}");
    }
}

#[test]
fn crash_by_exit_has_its_status() {
    for status in [0, 7, 255] {
        let (mut worker, _) = Worker::start().ready(true);
        worker.begin("crash", &[&status.to_string()]);
        assert_eq!(worker.exit().code(), Some(status));
        worker.hear_the_end();
    }
}

#[test]
fn worker_of_another_parent_exits() {
    let mut worker = Worker::start_by(poold().env("POOLD_WORKER", "1"));
    assert_eq!(worker.exit().code(), Some(2));
    let errors = worker.errors();
    assert!(errors.contains("process 1 starts this worker"), "{errors}");
    assert_eq!(errors.lines().count(), 1);
}

#[test]
fn worker_without_a_socket_says_so() {
    for variable in ["POOLD_WORKER", "POOLD_WORKER_FD"] {
        let output = poold()
            .env_remove("POOLD_WORKER")
            .env(variable, std::process::id().to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("is not a worker's socket"), "{errors}");
        assert_eq!(errors.lines().count(), 1);
    }
}

#[test]
fn worker_has_its_socket_and_no_other_descriptor() {
    let leak = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let null = leak.metadata().unwrap().rdev();
    let (worker, _) = Worker::start().ready(false);
    let directory = format!("/proc/{}/fd", worker.child.id());
    let mut descriptors: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap();
            let is_null = fs::metadata(entry.path()).is_ok_and(|file| file.rdev() == null);
            let kind = if is_null { "null" } else { target.split(':').next().unwrap() };
            let kind = kind.to_owned();
            (entry.file_name().into_string().unwrap(), kind)
        })
        .collect();
    descriptors.sort();
    let expected = [("0", "null"), ("1", "pipe"), ("2", "pipe"), ("3", "socket")];
    assert_eq!(descriptors, expected.map(|(number, kind)| (number.to_owned(), kind.to_owned())));
}

#[test]
fn command_starts_with_a_clean_environment() {
    let mut worker = Worker::start_by(
        poold()
            .arg("/usr/bin/env")
            .env("POOLD_WORKER_NOFILE", "64")
            .env("POOLD_SOCKET", "/nowhere")
            .env("NOTIFY_SOCKET", "/nowhere")
            .env("LISTEN_FDS", "1")
            .env("WATCHDOG_USEC", "1")
            .env("POOL_VARIABLE", "kept"),
    );
    let output = worker.output();
    let names: Vec<&str> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"POOL_VARIABLE"), "{output}");
    let daemons = |name: &&&str| {
        ["POOLD_", "NOTIFY_", "LISTEN_", "WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
    };
    assert_eq!(names.iter().filter(daemons).collect::<Vec<_>>(), [&"POOLD_WORKER_FD"]);
    assert!(output.lines().any(|line| line == "POOLD_WORKER_FD=3"), "{output}");
}

#[test]
fn command_starts_hardened_with_its_socket_alone() {
    let script = "cat /proc/self/status; ulimit -Sn; echo /proc/self/fd/*";
    // env(1) starts it as a daemon would that had inherited a bad state.
    let mut command = Command::new("env");
    command
        .args(["--ignore-signal=HUP,CHLD", "--block-signal=TERM,USR1", env!("CARGO_BIN_EXE_poold")])
        .args(["/bin/sh", "-c", script])
        .env("POOLD_WORKER", std::process::id().to_string())
        .env("POOLD_WORKER_NOFILE", "64");
    let output = Worker::start_by(&mut command).output();
    for line in ["NoNewPrivs:\t1", "SigBlk:\t0000000000000000", "64"] {
        assert!(output.lines().any(|other| other == line), "{line}: {output}");
    }
    let ignored = output.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let of_the_c_library = 0b11 << 31;
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !of_the_c_library, 0, "{output}");
    // The shell reads that directory by way of a fifth descriptor.
    let descriptors = output.lines().last().unwrap();
    assert_eq!(descriptors.replace("/proc/self/fd/", ""), "0 1 2 3 4");
}

#[test]
fn command_that_cannot_be_run_is_not_ready() {
    let mut worker = Worker::start_by(poold().arg("/nowhere/worker")).open(false);
    match worker.hear() {
        FromWorker::NotReady { message } => {
            assert!(message.starts_with("cannot run \"/nowhere/worker\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.exit().code(), Some(1));
}

#[test]
fn program_with_functions_of_its_own_is_a_worker() {
    let (mut worker, names) = Worker::start_by(&mut own_functions()).ready(false);
    assert_eq!(names, ["environment", "panic", "print"]);
    let Report::Ok(result) = worker.run("environment", &[]) else { panic!("the function failed") };
    let names: Vec<String> = serde_json::from_slice(&result.bytes().unwrap()).unwrap();
    assert!(names.contains(&"PATH".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("POOLD_")), "{names:?}");
}

#[test]
fn function_prints_apart_from_the_protocol_and_before_its_report() {
    let (mut worker, _) = Worker::start_by(&mut own_functions()).ready(false);
    assert_eq!(worker.run("print", &["one"]), json("null"));
    // The process lives, so what is read here was written out before the report.
    let mut output = String::new();
    while !output.ends_with("out:one") {
        let stdout = worker.child.stdout.as_mut().unwrap();
        await_readable(stdout);
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        output.push(byte[0].into());
    }
    assert_eq!(worker.run("print", &["two"]), json("null"));
    worker.say(&[ToWorker::Stop]);
    assert_eq!(worker.output(), "out:two");
    assert_eq!(worker.errors(), "err:oneerr:two");
}

#[test]
fn panic_is_reported_with_its_place_and_printed_nowhere() {
    let (mut worker, _) = Worker::start_by(&mut own_functions()).ready(false);
    match worker.run("panic", &["oh no"]) {
        Report::Failed(Failure { kind: FailureKind::Panic, message, location: Some(location) }) => {
            assert_eq!(message, "oh no");
            assert!(location.starts_with("tests/worker.rs:"), "{location}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(worker.run("print", &["alive"]), json("null"));
    worker.say(&[ToWorker::Stop]);
    assert_eq!(worker.errors(), "err:alive");
}
