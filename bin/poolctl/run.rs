//! `poolctl run`: a command in a worker, as if it ran here.
//!
//! The command gets this process's own directory, environment and standard streams, whose descriptors
//! travel with the task: what it reads and writes passes through nobody. Signals are passed on by a pipe
//! that travels with them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use poold::client::{self, Connection};
use poold::id::{FunctionName, PoolName, RUN_FUNCTION};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::command::RunEnd;
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
/// cannot be executed, 124 if it timed out, 125 if poolctl or the daemon failed. Signals are passed on; when
/// the command ends, all that it started does. For root, the user that poold runs as, and those whom access.run
/// of the configuration names for `run`.
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
        let mut connection = connect()?;
        let (descriptors, signals) = files().map_err(Error::Files)?;
        let has_started = pass_signals_on(signals).map_err(Error::Files)?;
        let mut args = Payload::from_args(words(&self.command));
        args.descriptors = descriptors.into();
        // It is a valid name: the constant has letters alone.
        let function = FunctionName::new(RUN_FUNCTION).expect("a constant name is valid");
        let spec = TaskSpec {
            pool: self.pool,
            priority: self.priority,
            timeout: self.timeout,
            report_start: true,
            ..TaskSpec::new(function)
        };
        let ReplyBody::Accepted { .. } = connection.call(RequestBody::Submit { spec, args })? else {
            return Err(client::Error::UnexpectedReply.into());
        };
        loop {
            match connection.receive() {
                Ok(ReplyBody::Started { .. }) => has_started.store(true, Ordering::SeqCst),
                Ok(ReplyBody::Done { outcome: Outcome::Ok(result), .. }) => return ended(&result),
                Ok(ReplyBody::Done { outcome, .. }) => return Err(not_ok(outcome)),
                Ok(_) => return Err(client::Error::UnexpectedReply.into()),
                Err(client::Error::Gone) => return Err(not_ok(Outcome::Lost { started: Started::Unknown })),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The exit status that says how the command ended.
fn ended(result: &Payload) -> Result<u8, Error> {
    match serde_json::from_slice(&result.bytes) {
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

/// How long word of a start may be on its way: a command can begin, and be seen to, before it is here.
const START_NEWS_GRACE: Duration = Duration::from_millis(200);

/// From here on signals go to the command. If it has not started by then, as the returned switch says, they
/// end this process, and with the connection the task.
fn pass_signals_on(passed_on: OwnedFd) -> io::Result<Arc<AtomicBool>> {
    let passed = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
    let mut signals = signal_hook::iterator::Signals::new(passed)?;
    let has_started = Arc::new(AtomicBool::new(false));
    let started = Arc::clone(&has_started);
    thread::spawn(move || {
        for signal in signals.forever() {
            // Their numbers are below 32.
            let number = signal as u8;
            // A command that is gone needs no signal; its end is on its way here.
            let _ = rustix::io::write(&passed_on, &[number]);
            if !started.load(Ordering::SeqCst) {
                thread::sleep(START_NEWS_GRACE);
            }
            if !started.load(Ordering::SeqCst) {
                std::process::exit((SIGNALLED + number).into());
            }
        }
    });
    Ok(has_started)
}
