//! `poolctl run`: a command in a worker, as if it ran here.
//!
//! The command gets this process's own directory, environment and standard streams, whose descriptors
//! travel with the task: what it reads and writes passes through nobody. Signals are passed on by a pipe
//! that travels with them.
//!
//! ```text
//!   signals ──> a thread ──> the pipe ──> the command
//!                  └─────────────┐
//!   daemon ──> a thread ─────> events ──> Run::end ──> what does the task do? ──> daemon
//! ```
//!
//! A signal before the start ends this process, and with the connection the task. Whether a command has
//! started only the daemon can say: it is asked after every signal. A command that starts meanwhile finds
//! the signal in its pipe.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{self, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use poold::client::{self, Connection, Receiver, Sender};
use poold::id::{FunctionName, PoolName, RUN_FUNCTION, RequestId, TaskId};
use poold::message::client::{Refusal, ReplyBody, RequestBody};
use poold::message::command::RunEnd;
use poold::message::status::TaskState;
use poold::task::{Outcome, Payload, Started, TaskSpec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::error::{Error, RUN_FAILED, SIGNALLED, TIMED_OUT};

/// The first descriptor that is no standard stream.
const FIRST_FD: i32 = 3;

/// Run a command in a worker, with this directory, environment, input and output
///
/// Its exit status is the command's: 128+N if it died of signal N, 127 if there is no such command, 126 if it
/// cannot be executed, 124 if it timed out, 125 if poolctl or the daemon failed; 2 if the command line is wrong,
/// and then nothing was tried. Signals are passed on, before its start they end poolctl with 128+N; when the
/// command ends, all that it started does. For root, the user that poold runs as, and those whom access.run of
/// the configuration names for `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pool to run in, instead of the first there is
    #[arg(long)]
    pool: Option<PoolName>,
    /// Larger goes first, -32768 to 32767
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    priority: i16,
    /// Most time for the command, from its start: 500ms, 2m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the command: its exit status, or that of a failure of ours, which is told.
    pub(crate) fn run(self, connect: impl FnOnce() -> Result<Connection, client::Error>) -> u8 {
        self.end(connect).unwrap_or_else(|error| {
            error.complain();
            match error.status() {
                TIMED_OUT => TIMED_OUT,
                _ => RUN_FAILED,
            }
        })
    }

    fn end(self, connect: impl FnOnce() -> Result<Connection, client::Error>) -> Result<u8, Error> {
        let (mut sender, receiver) = connect()?.split();
        let (descriptors, signals) = files().map_err(Error::Files)?;
        let (event_to, events) = channel();
        pass_signals_on(signals, event_to.clone()).map_err(Error::Files)?;
        let mut args = Payload::from_args(words(&self.command));
        args.descriptors = descriptors.into();
        // It is a valid name: the constant has letters alone.
        let function = FunctionName::new(RUN_FUNCTION).expect("a constant name is valid");
        let spec = TaskSpec {
            pool: self.pool,
            priority: self.priority,
            timeout: self.timeout,
            ..TaskSpec::new(function)
        };
        sender.send(SUBMISSION, RequestBody::Submit { spec: spec.into(), args })?;
        pass_replies_on(receiver, event_to);
        Following { sender, task: None, signals: Vec::new() }.follow(events)
    }
}

/// Something that happens while the command is awaited.
enum Event {
    /// This signal came, and is in the pipe.
    Signal(u8),
    /// The daemon said this, or can say nothing more.
    Reply(Result<(RequestId, ReplyBody), client::Error>),
}

/// The number of the request that submits the command. Questions have the next ones.
const SUBMISSION: RequestId = RequestId(0);

/// A command that was submitted.
struct Following {
    sender: Sender,
    /// Its task, once it was accepted.
    task: Option<TaskId>,
    /// The signals that came; after each the daemon was asked, by the request of its number from 1 on.
    signals: Vec<u8>,
}

impl Following {
    /// Follows it until it ends, or is given up for a signal.
    fn follow(mut self, events: mpsc::Receiver<Event>) -> Result<u8, Error> {
        loop {
            // The thread that passes signals on never ends.
            let end = match events.recv().map_err(|_| client::Error::Gone)? {
                Event::Signal(signal) => {
                    self.signals.push(signal);
                    self.ask_what_it_does(RequestId(self.signals.len() as u64))?;
                    None
                }
                Event::Reply(Ok((SUBMISSION, body))) => self.told(body)?,
                Event::Reply(Ok((question, body))) => self.answered(question, body)?,
                Event::Reply(Err(client::Error::Gone)) => {
                    return Err(not_ok(Outcome::Lost { started: Started::Unknown }));
                }
                Event::Reply(Err(error)) => return Err(error.into()),
            };
            if let Some(status) = end {
                return Ok(status);
            }
        }
    }

    /// Asks what the task does. Before it was accepted anything is asked: what is answered before the
    /// submission is answered finds it waiting.
    fn ask_what_it_does(&mut self, question: RequestId) -> Result<(), Error> {
        let body = match self.task {
            Some(task) => RequestBody::Result { task, wait: false },
            None => RequestBody::Status,
        };
        Ok(self.sender.send(question, body)?)
    }

    /// What the daemon says of the submission: the exit status, if it is the end.
    fn told(&mut self, body: ReplyBody) -> Result<Option<u8>, Error> {
        match body {
            ReplyBody::Accepted { task } => {
                self.task = Some(task);
                Ok(None)
            }
            ReplyBody::Done { outcome: Outcome::Ok(result), .. } => ended(&result).map(Some),
            ReplyBody::Done { outcome, .. } => Err(not_ok(outcome)),
            ReplyBody::Refused(refusal) => Err(client::Error::from(refusal).into()),
            _ => Err(client::Error::UnexpectedReply.into()),
        }
    }

    /// What the daemon says of what the task does: the exit status, if a signal came before its start.
    fn answered(&mut self, question: RequestId, body: ReplyBody) -> Result<Option<u8>, Error> {
        let signal = self.signals.get((question.0 as usize).wrapping_sub(1));
        let signal = *signal.ok_or(client::Error::UnexpectedReply)?;
        let given_up = Ok(Some(SIGNALLED + signal));
        match body {
            ReplyBody::Status(_) if self.task.is_none() => given_up,
            ReplyBody::Status(_) => self.ask_what_it_does(question).map(|()| None),
            ReplyBody::NotDone { state, .. } => match state {
                TaskState::Delayed | TaskState::Pending => given_up,
                TaskState::Running | TaskState::Done(_) => Ok(None),
            },
            // It has ended, and how was said before.
            ReplyBody::Refused(Refusal::NoSuchTask { .. }) => Ok(None),
            _ => Err(client::Error::UnexpectedReply.into()),
        }
    }
}

/// The exit status that says how the command ended.
fn ended(result: &Payload) -> Result<u8, Error> {
    match serde_json::from_slice(&result.bytes().map_err(Error::Result)?) {
        Ok(RunEnd::Exited(code)) => Ok(code as u8),
        Ok(RunEnd::Signalled(signal)) => {
            Ok(SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)))
        }
        Ok(RunEnd::NotStarted { reason, is_missing }) => {
            crate::terminal::complain(reason);
            Ok(if is_missing { 127 } else { 126 })
        }
        Err(_) => Err(client::Error::UnexpectedReply.into()),
    }
}

fn not_ok(outcome: Outcome) -> Error {
    Error::NotOk { subject: RUN_FUNCTION.to_owned(), outcome }
}

/// The environment, `--`, and the command, as the function takes them.
fn words(command: &[OsString]) -> impl Iterator<Item = Vec<u8>> {
    let variables =
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let command = command.iter().map(|word| word.as_bytes().to_vec());
    variables.chain([b"--".to_vec()]).chain(command)
}

/// What the command gets: directory, standard streams and the end of a pipe; and that pipe's other end.
fn files() -> io::Result<(Vec<OwnedFd>, OwnedFd)> {
    let copy = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), FIRST_FD);
    let (signals, passed_on) = pipe_with(PipeFlags::CLOEXEC)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let files = vec![
        rustix::fs::open(".", directory, Mode::empty())?,
        copy(&io::stdin())?,
        copy(&io::stdout())?,
        copy(&io::stderr())?,
        signals,
    ];
    Ok((files, passed_on))
}

/// From here on signals go to the command, and are told.
fn pass_signals_on(passed_on: OwnedFd, event_to: mpsc::Sender<Event>) -> io::Result<()> {
    let passed = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
    let mut signals = signal_hook::iterator::Signals::new(passed)?;
    thread::spawn(move || {
        for signal in signals.forever() {
            // Their numbers are below 32.
            let number = signal as u8;
            // A command that is gone needs no signal; its end is on its way here.
            let _ = rustix::io::write(&passed_on, &[number]);
            // Nobody hears it once the command has ended, and then this process ends.
            let _ = event_to.send(Event::Signal(number));
        }
    });
    Ok(())
}

/// Tells all that the daemon says.
fn pass_replies_on(mut receiver: Receiver, event_to: mpsc::Sender<Event>) {
    thread::spawn(move || {
        loop {
            let reply = receiver.receive();
            let is_last = reply.is_err();
            if event_to.send(Event::Reply(reply)).is_err() || is_last {
                return;
            }
        }
    });
}
