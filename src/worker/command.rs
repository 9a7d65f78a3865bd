//! Functions that run a command: the configuration's `[function.NAME]`.
//!
//! ```text
//!   arguments ──count, patterns──> words ──> Process ──stdout──> result
//!                                    │          └──stderr──> log, and its end in the failure
//!                                    └── an argument in front of which nothing stands is no option
//! ```
//!
//! No shell has a part in it. An argument is a word, or a part of one, and never two; whatever is in it,
//! it stays as it is.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::Bytes;
use regex_lite::Regex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::value::RawValue;

use super::arguments;
use super::process::Process;
use super::signature::shown as cut;
use super::termination::{self, Termination};
use crate::limits::{COMMAND_ERROR_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::message::command::{CommandSpec, Part, Word};
use crate::message::status::FunctionInfo;
use crate::os::execution::Execution;
use crate::task::{Encoding, Exit, Failure, FailureKind, Payload};

/// Bytes asked for in one read of a command's output.
const READ_BYTES: usize = 16 * 1024;

/// Reads of one pipe before it is the others' turn: together, more than a pipe holds and more than a
/// result may.
const READS_PER_TURN: usize = 64;

/// A function that runs a command, ready to be called.
#[derive(Debug)]
pub(super) struct CommandFunction {
    spec: CommandSpec,
    words: Vec<Word>,
    patterns: Vec<Regex>,
    /// The first argument that has no place of its own.
    rest: u32,
}

impl CommandFunction {
    /// # Errors
    /// What is wrong with `spec`: nothing, unless the daemon did not check it.
    pub(super) fn new(spec: CommandSpec) -> Result<Self, String> {
        let words = spec.words().map_err(|(_, error)| format!("function `{}`: {error}", spec.name))?;
        let patterns = spec.patterns.iter().map(|pattern| whole(pattern));
        let patterns = patterns
            .collect::<Result<_, _>>()
            .map_err(|error: regex_lite::Error| format!("function `{}`: {error}", spec.name))?;
        let rest = spec.named(&words).last().map_or(0, |last| last + 1);
        Ok(CommandFunction { spec, words, patterns, rest })
    }

    /// What there is to say of it: `thumbnail(ARG1, ARG2) -> bytes`.
    pub(super) fn info(&self) -> FunctionInfo {
        let CommandSpec { name, summary, args_min, args_max, .. } = &self.spec;
        let mut parameters: Vec<String> = (1..=*args_min).map(|number| format!("ARG{number}")).collect();
        if args_max > args_min {
            parameters.push("ARG...".to_owned());
        }
        let signature = format!("{name}({}) -> bytes", parameters.join(", "));
        FunctionInfo { name: name.clone(), signature, summary: summary.clone() }
    }

    /// Runs the command with these arguments; its standard output is the result.
    pub(super) fn call(&self, args: Payload) -> Result<Payload, Failure> {
        let args = texts(&args).map_err(|reason| self.refuse(reason))?;
        self.check(&args)?;
        let words = self.fill(&args)?;
        let input = self.spec.stdin.map(|number| Bytes::copy_from_slice(&args[number as usize]));
        self.run(words, input)
    }

    /// Whether the arguments are as many as they should be, and look as they should.
    fn check(&self, args: &[Vec<u8>]) -> Result<(), Failure> {
        let (fewest, most) = (self.spec.args_min as usize, self.spec.args_max as usize);
        if !(fewest..=most).contains(&args.len()) {
            let takes = match (fewest, most) {
                (0, 0) => "no arguments".to_owned(),
                (1, 1) => "1 argument".to_owned(),
                (fewest, most) if fewest == most => format!("{fewest} arguments"),
                (fewest, most) => format!("{fewest} to {most} arguments"),
            };
            return Err(self.bad_arguments(format!("takes {takes}, got {}", args.len())));
        }
        for (number, arg) in args.iter().enumerate() {
            if self.spec.stdin != Some(number as u32) && arg.contains(&0) {
                return Err(self.refuse(format!(
                    "argument {} holds a zero byte, which no command line can",
                    number + 1
                )));
            }
            let Some(pattern) = self.patterns.get(number).or(self.patterns.last()) else { continue };
            if !std::str::from_utf8(arg).is_ok_and(|text| pattern.is_match(text)) {
                let pattern = self.spec.patterns.get(number).or(self.spec.patterns.last());
                return Err(self.bad_arguments(format!(
                    "argument {} is {}, which does not match {}",
                    number + 1,
                    shown(arg),
                    pattern.map_or("", String::as_str),
                )));
            }
        }
        Ok(())
    }

    /// The command line.
    fn fill(&self, args: &[Vec<u8>]) -> Result<Vec<OsString>, Failure> {
        let mut words = Vec::with_capacity(self.words.len());
        let mut options_over = self.spec.options;
        for word in &self.words {
            let from = words.len();
            match word {
                Word::Rest => {
                    words.extend(args.iter().skip(self.rest as usize).cloned().map(OsString::from_vec));
                }
                Word::One(parts) => words.push(OsString::from_vec(filled(parts, args))),
            }
            let is_option = |word: &&OsString| word.as_bytes().starts_with(b"-");
            if let Some(option) = words[from..].iter().find(is_option)
                && word.is_open()
                && !options_over
            {
                return Err(self.bad_arguments(format!(
                    "does not accept {}, which the program could take for an option; put ./ before a file's name",
                    shown(option.as_bytes())
                )));
            }
            // What follows is no option, whatever it looks like (POSIX utility syntax, guideline 10).
            options_over |= word.is_fixed() && words[from..] == ["--"];
        }
        Ok(words)
    }

    fn run(&self, words: Vec<OsString>, input: Option<Bytes>) -> Result<Payload, Failure> {
        let program = words.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        let system = |what: &str, error: io::Error| self.fail(format!("cannot {what} {program}: {error}"));
        let termination = Termination::heed().map_err(|error| system("prepare to run", error))?;
        let mut dialogue = self.start(words, input).map_err(|error| system("run", error))?;
        let ended = dialogue.hold(&termination);
        let Dialogue { process, output, error_end, is_terminated, .. } = dialogue;
        let exit = process.end();
        drop(termination);
        termination::obey(is_terminated);
        match (ended, exit) {
            (Ok(Ended::ByItself), Ok(Exit::Code(0))) => {
                Ok(Payload::new(Encoding::Bytes, output))
            }
            (Ok(Ended::ByItself), Ok(exit)) => {
                let error_end = String::from_utf8_lossy(&error_end);
                let said = error_end.trim();
                let colon = if said.is_empty() { "" } else { ": " };
                Err(self.fail(format!("{program}: {exit}{colon}{said}")))
            }
            (Ok(Ended::TooLarge), _) => Err(self.fail(format!(
                "{program}: its output exceeds {OUTPUT_BYTES_MAX} bytes, the most for a result; have it write to a file"
            ))),
            (Err(error), _) | (_, Err(error)) => Err(system("talk to", error)),
        }
    }

    fn start(&self, words: Vec<OsString>, input: Option<Bytes>) -> io::Result<Dialogue> {
        let mut words = words.into_iter();
        let directory = self.spec.cwd.as_deref().map(open_directory).transpose()?;
        let (their_stdin, stdin) = match &input {
            Some(_) => pipe_with(PipeFlags::CLOEXEC).map(|(theirs, ours)| (theirs, Some(ours)))?,
            None => (File::open("/dev/null")?.into(), None),
        };
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let added = self.spec.env.iter().map(|(name, value)| (name.into(), value.into()));
        let inherited =
            env::vars_os().filter(|(name, _)| !self.spec.env.iter().any(|(added, _)| name == added.as_str()));
        let process = Process::start(Execution {
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            variables: inherited.chain(added).collect(),
            directory: directory.as_ref().map(AsFd::as_fd),
            files: [their_stdin.as_fd(), their_stdout.as_fd(), their_stderr.as_fd()],
            limits: self.spec.limits,
            guard: None,
        })?;
        Dialogue::new(process, Pipes { stdin, stdout, stderr }, [their_stdout, their_stderr], input)
    }

    fn refuse(&self, reason: String) -> Failure {
        self.bad_arguments(format!("does not accept the arguments: {reason}"))
    }

    fn bad_arguments(&self, what: String) -> Failure {
        let message = format!("{} {what}", self.spec.name);
        Failure { kind: FailureKind::BadArguments, message, location: None }
    }

    fn fail(&self, message: String) -> Failure {
        Failure { kind: FailureKind::Error, message, location: None }
    }
}

/// A directory to run in: it need not be readable, and what is none is refused and not waited for.
fn open_directory(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// `pattern`, to match a text as a whole.
fn whole(pattern: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
}

/// The arguments in `payload` as they are: no type is asked for, so none is read.
fn texts(payload: &Payload) -> Result<Vec<Vec<u8>>, String> {
    let bytes = payload.as_slice().map_err(|error| format!("they cannot be read: {error}"))?;
    match payload.encoding {
        Encoding::Args => {
            let texts = arguments::split(bytes).map_err(|mismatch| mismatch.to_string())?;
            Ok(texts.into_iter().map(<[u8]>::to_vec).collect())
        }
        Encoding::Json => {
            let values: Vec<&RawValue> = serde_json::from_slice(bytes)
                .map_err(|error| format!("they are not a JSON array: {error}"))?;
            let text = |value: &RawValue| match serde_json::from_str::<String>(value.get()) {
                Ok(text) => text.into_bytes(),
                Err(_) => value.get().as_bytes().to_vec(),
            };
            Ok(values.into_iter().map(text).collect())
        }
        Encoding::Bytes => Ok(vec![bytes.to_vec()]),
        Encoding::Bincode => Err("they came as bincode; send texts, JSON or bytes".to_owned()),
        Encoding::Pickle => Err("they came as a Python pickle; send texts, JSON or bytes".to_owned()),
    }
}

fn filled(parts: &[Part], args: &[Vec<u8>]) -> Vec<u8> {
    let piece = |part| match part {
        &Part::Argument(number) => args.get(number as usize).map_or(&[][..], Vec::as_slice),
        Part::Text(text) => text.as_bytes(),
    };
    parts.iter().flat_map(piece).copied().collect()
}

/// An argument in a message, cut to what a line can hold.
fn shown(arg: &[u8]) -> String {
    cut(&format!("{:?}", String::from_utf8_lossy(arg)))
}

/// How a dialogue with a command ended.
enum Ended {
    /// The command did.
    ByItself,
    /// It wrote more than may be returned.
    TooLarge,
}

/// The worker's ends of the pipes that a command was given.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// A command that runs, and what was read of it.
struct Dialogue {
    process: Process,
    pipes: Pipes,
    /// The command's ends of its output: as long as they are open here too, its end is told by one thing alone, its
    /// process.
    _others: [OwnedFd; 2],
    /// What it is still to read.
    input: Bytes,
    output: Vec<u8>,
    /// The last of its standard error.
    error_end: Vec<u8>,
    is_terminated: bool,
}

/// What a dialogue waited for.
struct Happened {
    /// The command's first process has ended. What it wrote before is there by now.
    has_ended: bool,
    /// The worker was asked to end.
    is_asked: bool,
}

impl Dialogue {
    fn new(
        process: Process,
        mut pipes: Pipes,
        others: [OwnedFd; 2],
        input: Option<Bytes>,
    ) -> io::Result<Self> {
        for pipe in [&pipes.stdout, &pipes.stderr].into_iter().chain(&pipes.stdin) {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let input = input.unwrap_or_default();
        if input.is_empty() {
            pipes.stdin = None;
        }
        let (output, error_end) = (Vec::new(), Vec::new());
        Ok(Dialogue { process, pipes, _others: others, input, output, error_end, is_terminated: false })
    }

    /// Gives the command its input and takes its output, until its first process has ended. What others
    /// of its group write later is not waited for.
    fn hold(&mut self, termination: &Termination) -> io::Result<Ended> {
        loop {
            let Happened { has_ended, is_asked } = self.wait(termination)?;
            self.write_input()?;
            self.read_error()?;
            if !self.read_output()? {
                return Ok(Ended::TooLarge);
            }
            if has_ended {
                return Ok(Ended::ByItself);
            }
            if is_asked && termination.has_come() {
                self.is_terminated = true;
                self.process.terminate();
            }
        }
    }

    fn wait(&self, termination: &Termination) -> io::Result<Happened> {
        let Pipes { stdin, stdout, stderr } = &self.pipes;
        let mut polled = vec![
            PollFd::from_borrowed_fd(termination.signal(), PollFlags::IN),
            PollFd::new(stdout, PollFlags::IN),
            PollFd::new(stderr, PollFlags::IN),
        ];
        polled.extend(stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        let exit = self.process.exit();
        polled.extend(exit.map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        let has_ended = exit.is_none() || polled.last().is_some_and(|exit| !exit.revents().is_empty());
        Ok(Happened { has_ended, is_asked: !polled[0].revents().is_empty() })
    }

    fn write_input(&mut self) -> io::Result<()> {
        while let Some(pipe) = &self.pipes.stdin {
            match rustix::io::retry_on_intr(|| rustix::io::write(pipe, &self.input)) {
                Ok(bytes) => drop(self.input.split_to(bytes)),
                Err(Errno::AGAIN) => return Ok(()),
                // It does not want the rest.
                Err(Errno::PIPE) => self.input.clear(),
                Err(error) => return Err(error.into()),
            }
            if self.input.is_empty() {
                self.pipes.stdin = None;
            }
        }
        Ok(())
    }

    /// Says whether what it wrote may still be returned.
    fn read_output(&mut self) -> io::Result<bool> {
        let output = &mut self.output;
        read_all(&self.pipes.stdout, |bytes| {
            output.extend_from_slice(bytes);
            output.len() <= OUTPUT_BYTES_MAX
        })
    }

    fn read_error(&mut self) -> io::Result<()> {
        let end = &mut self.error_end;
        read_all(&self.pipes.stderr, |bytes| {
            // The daemon logs it; if it cannot, that is no failure of the command.
            let _ = io::stderr().write_all(bytes);
            end.extend_from_slice(bytes);
            end.drain(..end.len().saturating_sub(COMMAND_ERROR_BYTES_MAX));
            true
        })?;
        Ok(())
    }
}

/// Reads what is in `pipe`, a turn's worth at the most. Says whether `take` would take more.
fn read_all(pipe: &OwnedFd, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut room = [MaybeUninit::uninit(); READ_BYTES];
    for _ in 0..READS_PER_TURN {
        match rustix::io::read(pipe, &mut room) {
            Ok(([], _)) | Err(Errno::AGAIN) => break,
            Ok((bytes, _)) if !take(bytes) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
