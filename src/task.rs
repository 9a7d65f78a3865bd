//! What a client submits, and the ways it can end.
//!
//! ```text
//!              delay over                 sent to a worker
//!   delayed ──────────────> pending ────────────────────────> running ───> done(outcome)
//!      ^                      │  ^                               │            ^
//!      │                      │  └── recalled before it started ─┤            │
//!      │                      └── cancelled, deadline ───────────┼────────────┤
//!      └── retry, after a backoff ───────────────────────────────┘            │
//!      └── cancelled, deadline ───────────────────────────────────────────────┘
//! ```
//!
//! `done` is final, and reached exactly once.

mod payloads;

pub use payloads::{Iter, Payloads, PayloadsMut, Unread};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptors;
use crate::id::{FunctionName, PoolName};
use crate::inline::InlineBytes;
use crate::memory::SealedMemory;

/// How the bytes of a payload are to be read. Nobody but a function and its caller reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// Texts from a command line: the bytes of each argument, then one zero byte.
    Args,
    /// JSON: for arguments an array of them, for a result the value.
    Json,
    /// `bincode` 2, standard configuration: for arguments the function's input type, for a result its output.
    Bincode,
    /// Bytes without a structure.
    #[default]
    Bytes,
    /// A Python pickle.
    Pickle,
}

/// Where the bytes of a payload are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Behind a frame's head, as they are; never part of it.
    Inline(#[serde(skip)] InlineBytes),
    /// In memory whose descriptor goes with the frame, before those of open files. The head says how many.
    Shared(SealedMemory),
}

/// Arguments or a result: bytes that only a function and its caller understand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// How to read the bytes.
    pub encoding: Encoding,
    /// The bytes.
    pub content: Content,
    /// Open files that go with them. A frame's head says how many.
    pub descriptors: Descriptors,
}

impl Content {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Shared(memory) => memory.bytes(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that they are in, if that is shared.
    pub fn memory(&self) -> Option<&SealedMemory> {
        match self {
            Content::Inline(_) => None,
            Content::Shared(memory) => Some(memory),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Content::Inline(InlineBytes::new())
    }
}

impl Payload {
    /// `bytes`, and no open files.
    pub fn new(encoding: Encoding, bytes: impl Into<InlineBytes>) -> Self {
        Payload { encoding, content: Content::Inline(bytes.into()), descriptors: Descriptors::default() }
    }

    /// What is in `memory`, and no open files.
    pub fn shared(encoding: Encoding, memory: SealedMemory) -> Self {
        Payload { encoding, content: Content::Shared(memory), descriptors: Descriptors::default() }
    }

    /// How many bytes there are, wherever they are.
    pub fn len(&self) -> u64 {
        self.content.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Its bytes, if they travel inside a frame and no open files go with them.
    pub fn inline(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Inline(bytes) if self.descriptors.count() == 0 => Some(bytes),
            Content::Inline(_) | Content::Shared(_) => None,
        }
    }

    /// Descriptors that its shared memory takes: one, if it is in any.
    pub fn memory_descriptors(&self) -> u64 {
        u64::from(self.content.memory().is_some())
    }

    /// Command-line arguments, as they are.
    ///
    /// An argument holds no zero byte: the system passes none on a command line.
    pub fn from_args<A: AsRef<[u8]>>(args: impl IntoIterator<Item = A>) -> Self {
        let mut bytes = Vec::new();
        for arg in args {
            bytes.extend_from_slice(arg.as_ref());
            bytes.push(0);
        }
        Payload::new(Encoding::Args, bytes)
    }
}

/// When a task must be done, whatever it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// So long after its submission reached the daemon.
    After(Duration),
    /// An instant of the wall clock, since the Unix epoch.
    At(Duration),
}

/// Whether a task ends with the connection that submitted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attachment {
    /// It belongs to the connection: its outcome is sent there, and the end of the connection cancels it.
    #[default]
    Attached,
    /// It belongs to the user: it goes on, and its result is kept until it expires.
    Detached,
}

/// Everything a client says of a task, its arguments apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// What to run.
    pub function: FunctionName,
    /// Where; by default the first pool that has the function.
    pub pool: Option<PoolName>,
    /// Larger goes first.
    pub priority: i16,
    /// For each attempt, from its start; by default the pool's.
    pub timeout: Option<Duration>,
    /// For the whole task: queueing, retries and delays included.
    pub deadline: Option<Deadline>,
    /// How often an attempt that crashed, timed out or was lost is repeated.
    pub retries: u32,
    /// How long it waits before it is queued.
    pub delay: Option<Duration>,
    /// Whose it is.
    pub attachment: Attachment,
    /// Whether an attached task's connection is told when each attempt starts.
    pub report_start: bool,
}

/// A specification, as many tasks have in common.
pub type SharedSpec = Arc<TaskSpec>;

impl TaskSpec {
    /// A task of `function` with every option at its default.
    pub fn new(function: FunctionName) -> Self {
        TaskSpec {
            function,
            pool: None,
            priority: 0,
            timeout: None,
            deadline: None,
            retries: 0,
            delay: None,
            attachment: Attachment::Attached,
            report_start: false,
        }
    }
}

/// Why a function that ran to its end has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// It returned an error.
    Error,
    /// It panicked, and its worker caught the panic.
    Panic,
    /// It does not accept these arguments.
    BadArguments,
}

/// What a function that failed said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// In the function's words.
    pub message: String,
    /// Where it panicked: `file:line:column`.
    pub location: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed for want of memory, by the kernel's own word.
    OutOfMemory {
        /// The limit that was met; none if not its own was, but that of a group above it or the machine's.
        memory_max_bytes: Option<u64>,
    },
}

/// Which of a task's limits ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// The time for one attempt.
    Timeout,
    /// The time for the whole task.
    Deadline,
}

/// Who or what cancelled a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CancelReason {
    /// A client asked for it.
    Client,
    /// The connection that it belonged to ended.
    ClientGone,
    /// The daemon stops.
    Shutdown,
    /// A task that it depends on did not end well.
    Dependency,
}

/// Whether the attempt of a lost task had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Started {
    /// It had.
    Yes,
    /// It had not.
    No,
    /// Nobody can tell.
    Unknown,
}

/// How a task ended. Every accepted task has exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The function returned this.
    Ok(Payload),
    /// The function ran and failed, or did not accept the arguments.
    Failed(Failure),
    /// The worker died under it.
    Crashed(Exit),
    /// A limit ran out.
    TimedOut(Limit),
    /// It was cancelled.
    Cancelled(CancelReason),
    /// The daemon died or was forced to stop first.
    Lost {
        /// Whether an attempt had started.
        started: Started,
    },
}

/// The kinds of [`Outcome`], for counting and listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// [`Outcome::Ok`]
    Ok,
    /// [`Outcome::Failed`]
    Failed,
    /// [`Outcome::Crashed`]
    Crashed,
    /// [`Outcome::TimedOut`]
    TimedOut,
    /// [`Outcome::Cancelled`]
    Cancelled,
    /// [`Outcome::Lost`]
    Lost,
}

impl OutcomeKind {
    /// Every kind, in the order they are listed.
    pub const ALL: [OutcomeKind; 6] = [
        OutcomeKind::Ok,
        OutcomeKind::Failed,
        OutcomeKind::Crashed,
        OutcomeKind::TimedOut,
        OutcomeKind::Cancelled,
        OutcomeKind::Lost,
    ];

    /// The word for it: `timed_out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Ok => "ok",
            OutcomeKind::Failed => "failed",
            OutcomeKind::Crashed => "crashed",
            OutcomeKind::TimedOut => "timed_out",
            OutcomeKind::Cancelled => "cancelled",
            OutcomeKind::Lost => "lost",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Outcome {
    /// Which kind it is.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Ok(_) => OutcomeKind::Ok,
            Outcome::Failed(_) => OutcomeKind::Failed,
            Outcome::Crashed(_) => OutcomeKind::Crashed,
            Outcome::TimedOut(_) => OutcomeKind::TimedOut,
            Outcome::Cancelled(_) => OutcomeKind::Cancelled,
            Outcome::Lost { .. } => OutcomeKind::Lost,
        }
    }

    /// Descriptors that the shared memory of its result takes.
    pub fn memory_descriptors(&self) -> u64 {
        match self {
            Outcome::Ok(payload) => payload.memory_descriptors(),
            Outcome::Failed(_)
            | Outcome::Crashed(_)
            | Outcome::TimedOut(_)
            | Outcome::Cancelled(_)
            | Outcome::Lost { .. } => 0,
        }
    }

    /// Bytes of result that it carries.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Outcome::Ok(payload) => payload.len(),
            Outcome::Failed(failure) => failure.message.len() as u64,
            Outcome::Crashed(_) | Outcome::TimedOut(_) | Outcome::Cancelled(_) | Outcome::Lost { .. } => 0,
        }
    }
}

impl CancelReason {
    /// The word for it: `client_gone`.
    pub const fn as_str(self) -> &'static str {
        match self {
            CancelReason::Client => "client",
            CancelReason::ClientGone => "client_gone",
            CancelReason::Shutdown => "shutdown",
            CancelReason::Dependency => "dependency",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(formatter, "exit status {code}"),
            Exit::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(formatter, "signal {signal} ({name})"),
                None => write!(formatter, "signal {signal}"),
            },
            Exit::OutOfMemory { memory_max_bytes: Some(bytes) } => {
                write!(formatter, "want of memory (memory = {})", size_text(*bytes))
            }
            Exit::OutOfMemory { memory_max_bytes: None } => {
                formatter.write_str("want of memory, which the machine or a group above it ran out of")
            }
        }
    }
}

/// A number of bytes, in the largest unit that leaves it whole.
fn size_text(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| format!("{bytes} bytes"), |(bits, unit)| format!("{} {unit}", bytes >> bits))
}

/// The name of the signals that end processes (signal(7), x86 and ARM numbering).
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

impl fmt::Display for Outcome {
    /// One line that says how the task ended, without its result.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Ok(_) => formatter.write_str("ok"),
            Outcome::Failed(failure) => match (&failure.kind, &failure.location) {
                (FailureKind::Panic, Some(location)) => {
                    write!(formatter, "failed: panicked at {location}: {}", failure.message)
                }
                (FailureKind::Panic, None) => write!(formatter, "failed: panicked: {}", failure.message),
                (FailureKind::Error | FailureKind::BadArguments, _) => {
                    write!(formatter, "failed: {}", failure.message)
                }
            },
            Outcome::Crashed(exit @ Exit::Signal(_)) => {
                write!(formatter, "crashed: its worker died of {exit}")
            }
            Outcome::Crashed(exit @ Exit::Code(_)) => {
                write!(formatter, "crashed: its worker ended with {exit}")
            }
            Outcome::Crashed(Exit::OutOfMemory { memory_max_bytes: Some(bytes) }) => {
                write!(formatter, "crashed: its worker ran out of memory (memory = {})", size_text(*bytes))
            }
            Outcome::Crashed(Exit::OutOfMemory { memory_max_bytes: None }) => formatter.write_str(
                "crashed: its worker was killed for want of memory, which the machine or a group above it ran out of",
            ),
            Outcome::TimedOut(Limit::Timeout) => formatter.write_str("timed out: an attempt took too long"),
            Outcome::TimedOut(Limit::Deadline) => formatter.write_str("timed out: its deadline passed"),
            Outcome::Cancelled(reason) => write!(formatter, "cancelled ({})", reason.as_str()),
            Outcome::Lost { started } => formatter.write_str(match started {
                Started::Yes => "lost: the daemon stopped while it ran",
                Started::No => "lost: the daemon stopped before it started",
                Started::Unknown => "lost: the daemon that accepted it is gone",
            }),
        }
    }
}
