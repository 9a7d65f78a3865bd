//! `poolctl` against a daemon that follows a script: what it asks, prints and exits with.
//!
//! The daemon is a thread of the test that speaks the wire; nothing here runs a task.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use bytes::BytesMut;
use poold::id::{Epoch, FunctionName, Generation, Pid, PoolName, RequestId, SlotId, TaskId, Uid};
use poold::limits::PAYLOAD_BYTES_MAX;
use poold::message::client::{CancelAnswer, Refusal, Reply, ReplyBody, Request, RequestBody, Welcome};
use poold::message::status::{
    FunctionStatus, Phase, PoolStatus, Status, TaskCounts, TaskState, TaskStatus, WorkerState, WorkerStatus,
};
use poold::task::{
    Attachment, CancelReason, Encoding, Exit, Failure, FailureKind, Limit, Outcome, OutcomeKind, Payload,
    Started, TaskSpec,
};
use poold::wire::{self, Answer, Inbox, Role, VERSION_MAX, Verdict};
use tempfile::TempDir;

const EPOCH: Epoch = Epoch(0x5f3a_91c2);

/// A daemon's socket in a directory of its own.
struct Daemon {
    directory: TempDir,
    script: JoinHandle<()>,
}

impl Daemon {
    /// Listens, welcomes the first client and follows `script` with it. The client asks nothing that is not
    /// in the script.
    fn start(script: impl FnOnce(&mut Client) + Send + 'static) -> Self {
        Self::start_with(PAYLOAD_BYTES_MAX, script)
    }

    /// As `start`, with another cap on payloads.
    fn start_with(payload_bytes_max: u64, script: impl FnOnce(&mut Client) + Send + 'static) -> Self {
        Self::listen(move |stream| {
            let mut client = Client::welcome(stream, payload_bytes_max);
            script(&mut client);
            assert_eq!(client.hear(), None);
        })
    }

    /// Listens, and follows `script` with the first connection.
    fn listen(script: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("poold.sock")).unwrap();
        let script = thread::spawn(move || script(listener.accept().unwrap().0));
        Daemon { directory, script }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("poold.sock")
    }

    /// `poolctl` with this daemon.
    fn poolctl(&self, args: &[&str]) -> Command {
        poolctl(&self.socket(), args)
    }

    /// What `poolctl` did, once the script is over too.
    fn run(self, args: &[&str]) -> Run {
        self.run_with_input(args, b"")
    }

    fn run_with_input(self, args: &[&str], input: &[u8]) -> Run {
        let run = run(self.poolctl(args), input);
        self.end();
        run
    }

    /// Waits for the end of the script; it fails if the script does.
    fn end(self) {
        self.script.join().unwrap();
    }
}

/// One client's connection, on the daemon's side.
struct Client {
    stream: UnixStream,
    inbox: Inbox,
}

impl Client {
    fn welcome(mut stream: UnixStream, payload_bytes_max: u64) -> Self {
        let mut inbox = Inbox::default();
        let hello = loop {
            if let Some(hello) = inbox.next_hello().unwrap() {
                break hello;
            }
            inbox.fill(&mut stream).unwrap();
        };
        assert_eq!(hello.role, Role::Client);
        stream.write_all(&Answer { verdict: Verdict::Accepted, version: VERSION_MAX }.encode()).unwrap();
        let mut client = Client { stream, inbox };
        let welcome = Welcome { version: "0.1.0".into(), pid: Pid(1), epoch: EPOCH, payload_bytes_max };
        client.say(None, ReplyBody::Welcome(welcome));
        client
    }

    /// The next request; none once the client has closed the connection.
    fn hear(&mut self) -> Option<(RequestId, RequestBody)> {
        match self.inbox.receive::<Request>(&mut self.stream) {
            Ok(request) => Some((request.id, request.body)),
            Err(wire::ReceiveError::Closed) => None,
            // Its replies were not all read.
            Err(wire::ReceiveError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn hear_submit(&mut self) -> (RequestId, TaskSpec, Payload) {
        match self.hear() {
            Some((id, RequestBody::Submit { spec, args })) => (id, TaskSpec::clone(&spec), args),
            other => panic!("expected a submission, got {other:?}"),
        }
    }

    /// Takes submissions until there are `count`, and accepts them.
    fn accept(&mut self, count: usize) -> Vec<(RequestId, TaskId, Payload)> {
        (0..count)
            .map(|_| {
                let (id, _, args) = self.hear_submit();
                let task = task(id.0);
                self.say(Some(id), ReplyBody::Accepted { task });
                (id, task, args)
            })
            .collect()
    }

    fn say(&mut self, request: Option<RequestId>, body: ReplyBody) {
        let mut bytes = BytesMut::new();
        wire::encode(&Reply { request, body }, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// Ends as a daemon does that was killed: all that it said before can still be read.
    fn die(&mut self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    fn done(&mut self, id: RequestId, outcome: Outcome) {
        self.say(Some(id), ReplyBody::Done { task: task(id.0), outcome });
    }

    fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        self.say(Some(id), ReplyBody::Refused(refusal));
    }
}

/// What a run of `poolctl` came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Run {
    #[track_caller]
    fn assert(&self, status: i32, stdout: &str, stderr: &str) {
        let got = (self.status, String::from_utf8_lossy(&self.stdout), &self.stderr[..]);
        assert_eq!(got, (Some(status), stdout.into(), stderr));
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Run { status: output.status.code(), stdout: output.stdout, stderr }
    }
}

fn poolctl(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command.args(args).arg("--socket").arg(socket).env_remove("POOLD_SOCKET").env_remove("XDG_RUNTIME_DIR");
    command
}

fn run(mut command: Command, input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A client that does not read its input to the end is no fault.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn task(number: u64) -> TaskId {
    TaskId { epoch: EPOCH, number }
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

fn json(text: &str) -> Outcome {
    Outcome::Ok(Payload::new(Encoding::Json, text.as_bytes().to_vec()))
}

fn bytes(bytes: &[u8]) -> Outcome {
    Outcome::Ok(Payload::new(Encoding::Bytes, bytes.to_vec()))
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Error, message: message.into(), location: None })
}

/// A daemon that ends its first task so.
fn daemon_that_ends_with(outcome: Outcome) -> Daemon {
    Daemon::start(move |client| {
        client.accept(1);
        client.done(RequestId(1), outcome);
    })
}

mod connecting {
    use super::*;

    #[test]
    fn no_socket_is_status_3_and_says_what_to_do() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("poold.sock");
        let expected = format!(
            "poolctl: no daemon listens on {} (there is no such file); \
             start `poold`, or name its socket with --socket or $POOLD_SOCKET\n",
            socket.display()
        );
        run(poolctl(&socket, &["status"]), b"").assert(3, "", &expected);
    }

    #[test]
    fn stale_socket_is_status_3() {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("poold.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let run = run(poolctl(&socket, &["status"]), b"");
        assert_eq!(run.status, Some(3));
        assert!(run.stderr.contains("(nobody listens)"), "{}", run.stderr);
    }

    #[test]
    fn socket_of_the_environment_is_used_and_the_users_is_found() {
        for variable in ["POOLD_SOCKET", "XDG_RUNTIME_DIR"] {
            let daemon = daemon_that_ends_with(json("true"));
            let value =
                if variable == "POOLD_SOCKET" { daemon.socket() } else { daemon.directory.path().into() };
            let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
            command.env_remove("POOLD_SOCKET").env(variable, value).args(["submit", "f"]);
            run(command, b"").assert(0, "true\n", "");
            daemon.end();
        }
    }

    #[test]
    fn answer_decides_the_status() {
        let answers = [
            (Verdict::NoCommonVersion, 3, "version 9 of the protocol"),
            (Verdict::WrongRole, 3, "is not poold's socket"),
            (Verdict::TooManyConnections, 4, "too many connections"),
            (Verdict::NotAllowed, 4, "access.connect"),
            (Verdict::TooManyOfUser, 4, "limits.user_connections"),
        ];
        for (verdict, status, words) in answers {
            let daemon = Daemon::listen(move |mut stream| {
                stream.write_all(&Answer { verdict, version: 9 }.encode()).unwrap();
                drop(stream.read_to_end(&mut Vec::new()));
            });
            let run = daemon.run(&["status"]);
            assert_eq!(run.status, Some(status), "{run:?}");
            assert!(run.stderr.contains(words), "{run:?}");
        }
    }

    #[test]
    fn socket_of_another_program_is_status_3() {
        let daemon = Daemon::listen(|mut stream| {
            stream.write_all(b"220 mail ready\r\n").unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
        });
        let run = daemon.run(&["status"]);
        assert_eq!(run.status, Some(3));
        assert!(run.stderr.contains("is not poold's socket"), "{run:?}");
    }

    #[test]
    fn usage_error_is_status_2_in_one_line() {
        let directory = TempDir::new().unwrap();
        for args in [
            &["submit"][..],
            &["submit", "no spaces"],
            &["submit", "f", "--timeout", "5"],
            &["submit", "f", "--priority", "40000"],
            &["submit", "f", "--retries", "1001"],
            &["submit", "f", "--durable"],
            &["wait", "7"],
            &["no-such-command"],
            &[],
        ] {
            let run = run(poolctl(&directory.path().join("poold.sock"), args), b"");
            assert_eq!((run.status, run.stderr.lines().count()), (Some(2), 1), "{args:?}: {run:?}");
            assert!(run.stderr.starts_with("poolctl: "), "{args:?}: {run:?}");
        }
    }
}

mod submit {
    use super::*;

    #[test]
    fn task_carries_its_options_and_arguments() {
        let daemon = Daemon::start(|client| {
            let (id, spec, args) = client.hear_submit();
            assert_eq!(args, Payload::from_args(["-5", "1.10", "--detach"]));
            assert_eq!(
                (spec.pool, spec.priority, spec.retries, spec.attachment),
                (Some(PoolName::new("io").unwrap()), -3, 5, Attachment::Attached)
            );
            assert_eq!(spec.timeout.unwrap().as_millis(), 1500);
            client.say(Some(id), ReplyBody::Accepted { task: task(1) });
            client.done(id, json("true"));
        });
        let options = ["--pool", "io", "--priority", "-3", "--timeout", "1s 500ms", "--retries", "5"];
        let args = [&["submit", "f", "-5", "1.10"][..], &options, &["--socket"]].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
        command.args(args).arg(daemon.socket()).args(["--", "--detach"]);
        run(command, b"").assert(0, "true\n", "");
        daemon.end();
    }

    #[test]
    fn result_strings_and_bytes_print_as_they_are_all_else_as_json() {
        let results = [
            (json(r#""two\nlines""#), &b"two\nlines\n"[..]),
            (json("340282366920938463463374607431768211455"), b"340282366920938463463374607431768211455\n"),
            (json(r#"{"a": [1, null]}"#), b"{\"a\":[1,null]}\n"),
            (bytes(b"\xff\n\x00"), b"\xff\n\x00"),
        ];
        for (result, printed) in results {
            let run = daemon_that_ends_with(result).run(&["submit", "f"]);
            assert_eq!((run.status, &run.stdout[..], &run.stderr[..]), (Some(0), printed, ""));
        }
    }

    #[test]
    fn every_outcome_has_its_status_and_its_line() {
        let cancelled = Outcome::Cancelled;
        let outcomes = [
            (failed("no\nway"), 1, "f: failed: no\\nway"),
            (
                Outcome::TimedOut(Limit::Timeout),
                124,
                "f: timed out: an attempt took too long; submit it with a longer --timeout",
            ),
            (
                Outcome::TimedOut(Limit::Deadline),
                124,
                "f: timed out: its deadline passed; submit it with a later --deadline",
            ),
            (cancelled(CancelReason::Client), 125, "f: cancelled (client)"),
            (
                cancelled(CancelReason::Shutdown),
                125,
                "f: cancelled (shutdown); submit it again once the daemon is back",
            ),
            (
                Outcome::Lost { started: Started::Yes },
                126,
                "f: lost: the daemon stopped while it ran; submit it again once the daemon is back",
            ),
            (
                Outcome::Crashed(Exit::Code(3)),
                127,
                "f: crashed: its worker ended with exit status 3; submit it with --retries to have it tried again",
            ),
            (
                Outcome::Crashed(Exit::Signal(11)),
                139,
                "f: crashed: its worker died of signal 11 (SIGSEGV); submit it with --retries to have it tried again",
            ),
        ];
        for (outcome, status, line) in outcomes {
            daemon_that_ends_with(outcome).run(&["submit", "f"]).assert(
                status,
                "",
                &format!("poolctl: {line}\n"),
            );
        }
    }

    #[test]
    fn json_is_one_object_and_nothing_else() {
        daemon_that_ends_with(failed("no")).run(&["submit", "f", "--json"]).assert(
            1,
            "{\"id\":\"5f3a91c2-1\",\"outcome\":\"failed\",\"error\":\"no\"}\n",
            "",
        );
    }

    #[test]
    fn refusal_is_status_4() {
        let daemon = Daemon::start(|client| {
            let (id, ..) = client.hear_submit();
            let nearest = vec![function("is_prime")];
            client.refuse(id, Refusal::UnknownFunction { function: function("is_prim"), nearest });
        });
        daemon.run(&["submit", "is_prim", "7"]).assert(
            4,
            "",
            "poolctl: there is no function `is_prim`, did you mean `is_prime`?; `poolctl functions` lists them\n",
        );
    }

    #[test]
    fn arguments_too_large_are_refused_without_asking() {
        let daemon = Daemon::start_with(100, |_| {});
        daemon.run(&["submit", "f", &"x".repeat(100)]).assert(
            4,
            "",
            "poolctl: the arguments take 101 bytes and 100 is the most; pass them in parts or as a file's name\n",
        );
    }

    #[test]
    fn detached_prints_the_id_alone_and_does_not_wait() {
        let daemon = Daemon::start(|client| {
            let (id, spec, _) = client.hear_submit();
            assert_eq!(spec.attachment, Attachment::Detached);
            client.say(Some(id), ReplyBody::Accepted { task: task(17) });
        });
        daemon.run(&["submit", "--detach", "f"]).assert(0, "5f3a91c2-17\n", "");
    }

    #[test]
    fn daemon_death_after_acceptance_is_lost() {
        let daemon = Daemon::start(|client| {
            client.accept(1);
            client.die();
        });
        daemon.run(&["submit", "f"]).assert(
            126,
            "",
            "poolctl: f: lost: the daemon that accepted it is gone; submit it again once the daemon is back\n",
        );
    }

    #[test]
    fn daemon_death_before_acceptance_is_no_daemon() {
        // With a submission unread, or before it could be written.
        let daemon = Daemon::listen(|stream| drop(Client::welcome(stream, 100)));
        daemon.run(&["submit", "f"]).assert(
            3,
            "",
            "poolctl: the daemon went away; see its log, and try again once it is back\n",
        );
    }

    #[test]
    fn interrupt_ends_the_connection_and_is_status_130() {
        for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
            let (accepted, when_accepted) = std::sync::mpsc::channel();
            let daemon = Daemon::start(move |client| {
                client.accept(1);
                accepted.send(()).unwrap();
            });
            let child = spawn(daemon.poolctl(&["submit", "f"]));
            when_accepted.recv().unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
            Run::from(child.wait_with_output().unwrap()).assert(130, "", "");
            daemon.end();
        }
    }

    #[test]
    fn closed_output_is_status_141_without_a_word() {
        let daemon = daemon_that_ends_with(json("true"));
        let mut child = spawn(daemon.poolctl(&["submit", "f"]));
        drop(child.stdout.take());
        Run::from(child.wait_with_output().unwrap()).assert(141, "", "");
        daemon.end();
    }
}

mod map {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_lines() {
        let daemon = Daemon::start(|client| {
            for (id, _, args) in client.accept(3).into_iter().rev() {
                let bytes = args.bytes().unwrap();
                let text = bytes.strip_suffix(b"\0").unwrap();
                client.done(id, json(&format!("{:?}", std::str::from_utf8(text).unwrap())));
            }
        });
        daemon.run_with_input(&["map", "f"], b"one\ntwo words \n3").assert(0, "one\ntwo words \n3\n", "");
    }

    #[test]
    fn as_completed_numbers_the_lines() {
        let daemon = Daemon::start(|client| {
            client.accept(3);
            client.done(RequestId(3), json("true"));
            client.done(RequestId(1), json(r#""a\nb""#));
            client.done(RequestId(2), failed("no"));
        });
        daemon.run_with_input(&["map", "f", "--as-completed"], b"1\n2\n3\n").assert(
            1,
            "3\ttrue\n1\t\"a\\nb\"\n2\t\n",
            "line 2: failed: no\n",
        );
    }

    #[test]
    fn status_is_that_of_the_first_line_that_is_not_ok() {
        let daemon = Daemon::start(|client| {
            client.accept(4);
            client.done(RequestId(4), failed("no"));
            client.done(RequestId(2), Outcome::TimedOut(Limit::Timeout));
            client.done(RequestId(3), json("3"));
            client.done(RequestId(1), json("1"));
        });
        daemon.run_with_input(&["map", "f"], b"1\n2\n3\n4\n").assert(
            124,
            "1\n\n3\n\n",
            "line 2: timed out: an attempt took too long; submit it with a longer --timeout\n\
             line 4: failed: no\n",
        );
    }

    #[test]
    fn json_is_an_object_per_line() {
        let daemon = Daemon::start_with(5, |client| {
            client.accept(2);
            client.done(RequestId(2), failed("no"));
            client.done(RequestId(1), json("[1, 2]"));
        });
        daemon.run_with_input(&["map", "f", "--json"], b"1\n2\n345678").assert(
            1,
            "{\"line\":1,\"id\":\"5f3a91c2-1\",\"outcome\":\"ok\",\"result\":[1,2]}\n\
             {\"line\":2,\"id\":\"5f3a91c2-2\",\"outcome\":\"failed\",\"error\":\"no\"}\n\
             {\"line\":3,\"id\":null,\"outcome\":\"refused\",\"error\":\"the arguments take 7 bytes and 5 is the \
             most; pass them in parts or as a file's name\"}\n",
            "",
        );
    }

    #[test]
    fn lines_empty_or_not_text_are_arguments_to_the_byte() {
        let daemon = Daemon::start(|client| {
            let args: Vec<Payload> = client.accept(3).into_iter().map(|(_, _, args)| args).collect();
            assert_eq!(args, [&b""[..], b"\xff\xfe", b"7\r"].map(|arg| Payload::from_args([arg])));
            for id in 1..=3 {
                client.done(RequestId(id), json("0"));
            }
        });
        daemon.run_with_input(&["map", "f"], b"\n\xff\xfe\n7\r\n").assert(0, "0\n0\n0\n", "");
    }

    #[test]
    fn line_with_a_zero_byte_is_refused_and_the_others_are_not() {
        let daemon = Daemon::start(|client| {
            let (id, ..) = client.hear_submit();
            client.say(Some(id), ReplyBody::Accepted { task: task(id.0) });
            client.done(id, json("2"));
        });
        daemon.run_with_input(&["map", "f"], b"a\0b\n2\n").assert(
            2,
            "\n2\n",
            "line 1: an argument cannot hold a zero byte; is the input text, a task per line?\n",
        );
    }

    #[test]
    fn result_is_printed_while_the_input_is_still_open() {
        let daemon = Daemon::start(|client| {
            for id in 1..=2 {
                client.accept(1);
                client.done(RequestId(id), json(&id.to_string()));
            }
        });
        let mut child = spawn(daemon.poolctl(&["map", "f"]));
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for expected in ["1", "2"] {
            stdin.write_all(b"x\n").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), expected);
        }
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        daemon.end();
    }

    #[test]
    fn endless_input_is_read_no_further_than_the_window() {
        const WINDOW_LINES: usize = 1024;
        let daemon = Daemon::start(|client| {
            for _ in 0..WINDOW_LINES {
                client.hear_submit();
            }
            // The client takes it for the daemon's end, and leaves what it had sent to be counted.
            client.stream.shutdown(Shutdown::Write).unwrap();
        });
        let run = daemon.run_with_input(&["map", "f"], &b"x\n".repeat(10 * WINDOW_LINES));
        run.assert(
            3,
            "",
            "line 1: the daemon went away; see its log, and try again once it is back; map ends here\n",
        );
    }

    #[test]
    fn window_moves_on_with_every_line_that_ends() {
        const LINES: u64 = 5000;
        let daemon = Daemon::start(|client| {
            for id in 1..=LINES {
                client.accept(1);
                client.done(RequestId(id), json(&id.to_string()));
            }
        });
        let expected: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
        daemon.run_with_input(&["map", "f"], &b"x\n".repeat(LINES as usize)).assert(0, &expected, "");
    }

    #[test]
    fn refusal_of_every_line_is_told_once() {
        let daemon = Daemon::start(|client| {
            while let Some((id, RequestBody::Submit { .. })) = client.hear() {
                client.refuse(id, Refusal::UnknownFunction { function: function("f"), nearest: vec![] });
            }
        });
        daemon.run_with_input(&["map", "f"], b"1\n2\n3\n").assert(
            4,
            "",
            "line 1: there is no function `f`; `poolctl functions` lists them; map ends here\n",
        );
    }

    #[test]
    fn draining_daemon_finishes_what_it_accepted() {
        let daemon = Daemon::start(|client| {
            for line in 1..=3 {
                assert_eq!(client.hear_submit().0, RequestId(line));
            }
            client.say(Some(RequestId(1)), ReplyBody::Accepted { task: task(1) });
            client.refuse(RequestId(2), Refusal::Draining);
            client.refuse(RequestId(3), Refusal::Draining);
            client.done(RequestId(1), json("1"));
        });
        let run = daemon.run_with_input(&["map", "f"], b"1\n2\n3\n");
        run.assert(
            4,
            "1\n",
            "line 2: the daemon is draining and takes no new tasks; submit again once it is back; \
             map ends here\n",
        );
    }

    #[test]
    fn full_queue_holds_lines_until_one_of_ours_ends() {
        let daemon = Daemon::start(|client| {
            for line in 1..=3 {
                assert_eq!(client.hear_submit().0, RequestId(line));
            }
            client.say(Some(RequestId(1)), ReplyBody::Accepted { task: task(1) });
            client.refuse(RequestId(2), Refusal::QueueFull { tasks_max: 1 });
            client.refuse(RequestId(3), Refusal::QueueFull { tasks_max: 1 });
            for line in 1..=3 {
                client.done(RequestId(line), json(&line.to_string()));
                if line < 3 {
                    assert_eq!(client.accept(1)[0].0, RequestId(line + 1));
                }
            }
        });
        daemon.run_with_input(&["map", "f"], b"a\nb\nc\n").assert(0, "1\n2\n3\n", "");
    }

    #[test]
    fn queue_full_of_others_tasks_is_refused() {
        let daemon = Daemon::start(|client| {
            let submissions: Vec<RequestId> = (0..2).map(|_| client.hear_submit().0).collect();
            for id in submissions {
                client.refuse(id, Refusal::QueueFull { tasks_max: 9 });
            }
        });
        daemon.run_with_input(&["map", "f"], b"a\nb\n").assert(
            4,
            "",
            "line 1: the queue is full (9 tasks); wait for some to end, or raise limits.queue_tasks; \
             map ends here\n",
        );
    }

    #[test]
    fn daemon_death_loses_what_was_accepted_and_ends_the_rest() {
        let daemon = Daemon::start(|client| {
            client.accept(3);
            client.hear_submit();
            client.done(RequestId(3), json("3"));
            client.done(RequestId(1), json("1"));
            client.die();
        });
        let run = daemon.run_with_input(&["map", "f"], b"1\n2\n3\n4\n");
        run.assert(
            126,
            "1\n\n3\n",
            "line 2: lost: the daemon that accepted it is gone; submit it again once the daemon is back\n\
             line 4: the daemon went away; see its log, and try again once it is back; map ends here\n",
        );
    }

    #[test]
    fn detached_prints_an_id_per_line() {
        let daemon = Daemon::start(|client| {
            client.accept(2);
        });
        daemon.run_with_input(&["map", "f", "--detach"], b"1\n2\n").assert(0, "5f3a91c2-1\n5f3a91c2-2\n", "");
    }

    #[test]
    fn closed_output_ends_the_connection_and_is_status_141() {
        let daemon = Daemon::start(|client| {
            client.accept(2);
            client.done(RequestId(1), json("1"));
        });
        let mut child = spawn(daemon.poolctl(&["map", "f"]));
        drop(child.stdout.take());
        // The input stays open: it is the output's end that ends the command.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"1\n2\n").unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), &stderr[..]), (Some(141), ""));
        daemon.end();
    }

    #[test]
    fn interrupt_ends_the_connection_and_is_status_130() {
        let (accepted, when_accepted) = std::sync::mpsc::channel();
        let daemon = Daemon::start(move |client| {
            client.accept(2);
            accepted.send(()).unwrap();
        });
        let mut child = spawn(daemon.poolctl(&["map", "f"]));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"1\n2\n").unwrap();
        when_accepted.recv().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        daemon.end();
    }
}

mod tasks_by_id {
    use super::*;

    #[test]
    fn wait_prints_each_in_the_order_asked_and_goes_on_after_one_that_failed() {
        let daemon = Daemon::start(|client| {
            for (number, outcome) in [(2, failed("no")), (1, json("1"))] {
                let (id, body) = client.hear().unwrap();
                assert_eq!(body, RequestBody::Result { task: task(number), wait: true });
                client.say(Some(id), ReplyBody::Done { task: task(number), outcome });
            }
        });
        daemon.run(&["wait", "5f3a91c2-2", "5f3a91c2-1"]).assert(
            1,
            "1\n",
            "poolctl: 5f3a91c2-2: failed: no\n",
        );
    }

    #[test]
    fn result_not_done_is_status_4() {
        for (option, stdout, stderr) in [
            (
                None,
                "",
                "poolctl: 5f3a91c2-1: not done, it is running; `poolctl wait 5f3a91c2-1` waits for it\n",
            ),
            (Some("--json"), "{\"id\":\"5f3a91c2-1\",\"state\":\"running\"}\n", ""),
        ] {
            let daemon = Daemon::start(|client| {
                let (id, body) = client.hear().unwrap();
                assert_eq!(body, RequestBody::Result { task: task(1), wait: false });
                client.say(Some(id), ReplyBody::NotDone { task: task(1), state: TaskState::Running });
            });
            let args: Vec<&str> = ["result", "5f3a91c2-1"].into_iter().chain(option).collect();
            daemon.run(&args).assert(4, stdout, stderr);
        }
    }

    #[test]
    fn cancel_says_what_became_of_each() {
        let daemon = Daemon::start(|client| {
            for (number, answer) in [(1, CancelAnswer::Cancelled), (2, CancelAnswer::AlreadyDone)] {
                let (id, body) = client.hear().unwrap();
                assert_eq!(body, RequestBody::Cancel { task: task(number) });
                client.say(Some(id), ReplyBody::CancelAnswered { task: task(number), answer });
            }
            let (id, _) = client.hear().unwrap();
            client.refuse(id, Refusal::NoSuchTask { task: task(3) });
        });
        let run = daemon.run(&["cancel", "5f3a91c2-1", "5f3a91c2-2", "5f3a91c2-3"]);
        run.assert(
            4,
            "5f3a91c2-1 cancelled\n5f3a91c2-2 already done\n",
            "poolctl: there is no task 5f3a91c2-3: it was never accepted, belonged to a connection that ended, \
             or its result expired\n",
        );
    }
}

mod listings {
    use super::*;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: Pid(4711),
            uptime_ms: 7_384_005,
            phase: Phase::Serving,
            connections: 1,
            tasks: TaskCounts { pending: 12, running: 1, argument_bytes: 2048, ..TaskCounts::default() },
            outcomes: [(OutcomeKind::Ok, 1000), (OutcomeKind::Crashed, 20)].into(),
            refusals: 3,
            log_lines_dropped: 0,
            limits: "memory by RLIMIT_AS".to_owned(),
            pools: vec![PoolStatus {
                name: PoolName::new("cpu").unwrap(),
                workers: 2,
                ready: 2,
                busy: 1,
                standby: 1,
                pending: 12,
                restarts: 20,
                degraded: false,
                last_failure: None,
            }],
            quarantined: vec![function("crash")],
        }
    }

    fn worker(slot: u32, busy: bool) -> WorkerStatus {
        WorkerStatus {
            slot: SlotId(slot),
            generation: Generation(1),
            pool: PoolName::new("cpu").unwrap(),
            state: if busy { WorkerState::Busy } else { WorkerState::Idle },
            pid: Some(Pid(5000 + slot)),
            task: busy.then(|| task(1021)),
            function: busy.then(|| function("is_prime_trial")),
            running_ms: busy.then_some(350),
            capacity: 1,
            held: u32::from(busy),
            stuck: 0,
            attempts: 500,
            restarts: 10,
            rss_bytes: Some(4_404_019),
        }
    }

    /// A daemon with two workers, a page each.
    fn daemon_with_status() -> Daemon {
        Daemon::start(|client| {
            let (id, body) = client.hear().unwrap();
            assert_eq!(body, RequestBody::Status);
            client.say(Some(id), ReplyBody::Status(Box::new(status())));
            for (skip, more) in [(0, true), (1, false)] {
                let (id, body) = client.hear().unwrap();
                assert_eq!(body, RequestBody::Workers { skip });
                client.say(Some(id), ReplyBody::Workers { rows: vec![worker(skip, skip == 0)], more });
            }
        })
    }

    #[test]
    fn status_shows_the_daemon_its_pools_and_every_worker() {
        let expected = "\
poold 0.1.0, pid 4711, up 2h 3m, serving, 1 connection
tasks     1 running, 12 pending (2.0 KiB of arguments), 0 delayed
outcomes  1000 ok, 0 failed, 20 crashed, 0 timed_out, 0 cancelled, 0 lost
kept      0 results (0 B)
refused   3 requests
limits    memory by RLIMIT_AS
blocked   crash (quarantined; `poolctl release` lifts it)

POOL  WORKERS  READY  BUSY  STANDBY  PENDING  RESTARTS  HEALTH
cpu         2      2     1        1       12        20  ok

SLOT  POOL   PID  STATE  TASK           FUNCTION        RUNNING  CAPACITY  HELD  STUCK  ATTEMPTS  RESTARTS      RSS
   0  cpu   5000  busy   5f3a91c2-1021  is_prime_trial    350ms         1     1      0       500        10  4.2 MiB
   1  cpu   5001  idle   -              -                     -         1     0      0       500        10  4.2 MiB
";
        daemon_with_status().run(&["status"]).assert(0, expected, "");
    }

    #[test]
    fn status_json_is_one_object_with_the_workers() {
        let run = daemon_with_status().run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(status["outcomes"]["crashed"], 20);
        assert_eq!(status["phase"], "serving");
        assert_eq!(status["pools"][0]["name"], "cpu");
        assert_eq!(status["workers"][0]["task"], "5f3a91c2-1021");
        assert_eq!(status["workers"][1]["slot"], 1);
    }

    #[test]
    fn tasks_are_fetched_page_by_page() {
        let row = |number, state| TaskStatus {
            id: task(number),
            function: function("f"),
            pool: PoolName::new("cpu").unwrap(),
            state,
            priority: -1,
            user: Uid(1000),
            detached: true,
            attempts: 1,
            age_ms: 61_000,
            slot: None,
        };
        let daemon = Daemon::start(move |client| {
            for (after, number, state) in
                [(0, 3, TaskState::Running), (3, 9, TaskState::Done(OutcomeKind::TimedOut))]
            {
                let (id, body) = client.hear().unwrap();
                assert_eq!(body, RequestBody::Tasks { after });
                client.say(Some(id), ReplyBody::Tasks { rows: vec![row(number, state)], more: after == 0 });
            }
        });
        let expected = "\
ID          FUNCTION  POOL  STATE      PRIORITY   UID  DETACHED  ATTEMPTS    AGE  SLOT
5f3a91c2-3  f         cpu   running          -1  1000  yes              1  1m 1s     -
5f3a91c2-9  f         cpu   timed_out        -1  1000  yes              1  1m 1s     -
";
        daemon.run(&["tasks"]).assert(0, expected, "");
    }

    #[test]
    fn functions_list_their_pools() {
        let daemon = Daemon::start(|client| {
            let (id, _) = client.hear().unwrap();
            let is_prime = FunctionStatus {
                name: function("is_prime"),
                signature: "is_prime(N: u128) -> bool".into(),
                summary: "Whether N is prime.".into(),
                pools: ["cpu", "io"].map(|name| PoolName::new(name).unwrap()).to_vec(),
                quarantined: false,
            };
            client.say(Some(id), ReplyBody::Functions { rows: vec![is_prime], more: false });
        });
        let expected = "\
FUNCTION                   POOLS   WHAT IT DOES
is_prime(N: u128) -> bool  cpu,io  Whether N is prime.
";
        daemon.run(&["functions"]).assert(0, expected, "");
    }
}

mod operating {
    use super::*;

    #[test]
    fn reload_prints_what_changed_or_why_nothing_did() {
        let daemon = Daemon::start(|client| {
            let (id, body) = client.hear().unwrap();
            assert_eq!(body, RequestBody::Reload);
            client.say(Some(id), ReplyBody::Reloaded { changes: vec!["pool cpu: 2 workers, now 4".into()] });
        });
        daemon.run(&["reload"]).assert(0, "pool cpu: 2 workers, now 4\n", "");

        let daemon = Daemon::start(|client| {
            let (id, _) = client.hear().unwrap();
            client.refuse(id, Refusal::NotReloaded("line 3: unknown key `worker`".into()));
        });
        daemon.run(&["reload"]).assert(
            4,
            "",
            "poolctl: the configuration was not reloaded and nothing changed: line 3: unknown key `worker`\n",
        );
    }

    #[test]
    fn drain_returns_when_all_is_done() {
        let daemon = Daemon::start(|client| {
            let (id, body) = client.hear().unwrap();
            assert_eq!(body, RequestBody::Drain);
            client.say(Some(id), ReplyBody::Drained);
        });
        daemon.run(&["drain"]).assert(0, "", "");
    }

    #[test]
    fn completions_and_help_need_no_daemon() {
        let directory = TempDir::new().unwrap();
        for (args, words) in [(&["completions", "bash"][..], "_poolctl()"), (&["--help"], "Exit status:")] {
            let run = run(poolctl(&directory.path().join("poold.sock"), args), b"");
            assert_eq!((run.status, &run.stderr[..]), (Some(0), ""));
            assert!(String::from_utf8(run.stdout).unwrap().contains(words));
        }
    }
}
