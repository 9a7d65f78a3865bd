//! The function `run`: any command, on the caller's own files. What `poolctl run` calls.
//!
//! ```text
//!   caller's directory, standard input, output, error ──descriptors──> command    nothing is copied here
//!   caller's signals ──pipe, a byte each──> this attempt ──> the command's group
//! ```
//!
//! Who may call it is the supervisor's affair. Its arguments are texts: `NAME=VALUE` for each variable of
//! the environment, then `--`, then the command's words. Its result says how the command ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::event::{PollFd, PollFlags, poll};

use super::arguments;
use super::process::Process;
use super::termination::{self, Termination};
use crate::message::command::RunEnd;
use crate::message::resources::AttemptLimits;
use crate::os::execution::Execution;
use crate::task::{Encoding, Exit, Failure, FailureKind, Payload};

/// What listings show.
pub(super) const SIGNATURE: &str = "run(NAME=VALUE..., --, COMMAND, ARG...)";

/// What it does.
pub(super) const SUMMARY: &str = "Runs a command on the caller's files, for `poolctl run`.";

/// A command line and an environment.
struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    /// One for each name, the last: programs differ in which of several they take.
    variables: BTreeMap<OsString, OsString>,
}

/// The open files that come with the arguments, in their order.
struct Files {
    directory: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// Numbers of signals for the command, a byte each.
    signals: OwnedFd,
}

/// Runs the command until it has ended.
pub(super) fn run(args: Payload) -> Result<Payload, Failure> {
    let (command, files) = read(args).ok_or_else(|| Failure {
        kind: FailureKind::BadArguments,
        message: "run takes what `poolctl run` sends: call that, or see docs/PROTOCOL.md".to_owned(),
        location: None,
    })?;
    let end = follow(command, files).map_err(|error| Failure {
        kind: FailureKind::Error,
        message: format!("cannot follow the command: {error}"),
        location: None,
    })?;
    let json = serde_json::to_string(&end).map_err(|error| Failure {
        kind: FailureKind::Error,
        message: error.to_string(),
        location: None,
    })?;
    Ok(Payload::new(Encoding::Json, json))
}

/// The command and its files; nothing if the arguments are none.
fn read(args: Payload) -> Option<(Command, Files)> {
    let bytes = args.bytes().ok()?;
    let texts = match args.encoding {
        Encoding::Args => arguments::split(&bytes).ok()?,
        Encoding::Json | Encoding::Bincode | Encoding::Bytes | Encoding::Pickle => return None,
    };
    let mut texts = texts.into_iter();
    let variables = texts.by_ref().take_while(|text| *text != b"--").map(variable).collect::<Option<_>>()?;
    let program = text(texts.next()?);
    let command = Command { program, arguments: texts.map(text).collect(), variables };
    let files: [OwnedFd; 5] = args.descriptors.into_files()?.try_into().ok()?;
    let [directory, stdin, stdout, stderr, signals] = files;
    Some((command, Files { directory, stdin, stdout, stderr, signals }))
}

/// A name, which has one byte at least and may begin with `=`, and its value.
fn variable(bytes: &[u8]) -> Option<(OsString, OsString)> {
    let equals = 1 + bytes.iter().skip(1).position(|byte| *byte == b'=')?;
    Some((text(&bytes[..equals]), text(&bytes[equals + 1..])))
}

fn text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Starts the command on `files`, passes signals on, and says how it ended.
fn follow(command: Command, files: Files) -> io::Result<RunEnd> {
    let Files { directory, stdin, stdout, stderr, signals } = files;
    let Command { program, arguments, variables } = command;
    let shown = program.to_string_lossy().into_owned();
    let termination = Termination::heed()?;
    let started = Process::start(Execution {
        program,
        arguments,
        variables: variables.into_iter().collect(),
        directory: Some(directory.as_fd()),
        files: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        limits: AttemptLimits::default(),
        guard: None,
    });
    // What the command closes is closed for everyone.
    drop((directory, stdin, stdout, stderr));
    let process = match started {
        Ok(process) => process,
        Err(error) => {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let reason = format!("cannot run {shown}: {error}");
            return Ok(RunEnd::NotStarted { reason, is_missing });
        }
    };
    let mut signals = Some(signals);
    let mut is_terminated = false;
    while !process.has_ended() {
        wait(&process, &termination, signals.as_ref())?;
        if termination.has_come() {
            is_terminated = true;
            process.terminate();
        }
        pass_on(&process, &mut signals)?;
    }
    let exit = process.end();
    drop(termination);
    termination::obey(is_terminated);
    Ok(match exit? {
        Exit::Code(code) => RunEnd::Exited(code),
        Exit::Signal(signal) => RunEnd::Signalled(signal),
        // No wait(2) tells it so.
        Exit::OutOfMemory { .. } => RunEnd::Signalled(9),
    })
}

fn wait(process: &Process, termination: &Termination, signals: Option<&OwnedFd>) -> io::Result<()> {
    let mut polled = vec![PollFd::from_borrowed_fd(termination.signal(), PollFlags::IN)];
    polled.extend(process.exit().map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::IN)));
    polled.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    Ok(())
}

/// Sends the command's group the signals that are there. A caller who is gone sends no more: that its task
/// is cancelled is heard in another way.
fn pass_on(process: &Process, signals: &mut Option<OwnedFd>) -> io::Result<()> {
    let Some(pipe) = signals else { return Ok(()) };
    if !crate::os::descriptor::is_readable(pipe.as_fd())? {
        return Ok(());
    }
    let mut numbers = [0; 64];
    match rustix::io::retry_on_intr(|| rustix::io::read(&*pipe, &mut numbers)) {
        Ok(0) | Err(_) => *signals = None,
        Ok(count) => numbers[..count].iter().for_each(|number| process.signal((*number).into())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// The environment of a command with these arguments.
    fn variables(args: &[&str]) -> Option<Vec<(String, String)>> {
        let null = || OwnedFd::from(File::open("/dev/null").expect("every system has it"));
        let mut args = Payload::from_args(args);
        args.descriptors = vec![null(), null(), null(), null(), null()].into();
        let (command, _) = read(args)?;
        let shown = |text: OsString| text.to_string_lossy().into_owned();
        Some(command.variables.into_iter().map(|(name, value)| (shown(name), shown(value))).collect())
    }

    #[test]
    fn name_that_is_given_twice_has_its_last_value() {
        let variables = variables(&["PATH=/first", "A=", "PATH=/last", "--", "PATH=/word"]);
        let expected = [("A", ""), ("PATH", "/last")];
        assert_eq!(variables, Some(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()));
    }

    #[test]
    fn name_may_begin_with_the_sign_that_ends_it_and_is_never_empty() {
        let expected = [("=a", "1"), ("=b", "=2")];
        assert_eq!(
            variables(&["=a=1", "=b==2", "--", "id"]),
            Some(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
        );
        for wrong in ["", "=", "=a", "a"] {
            assert_eq!(variables(&[wrong, "--", "id"]), None, "{wrong:?}");
        }
    }
}
