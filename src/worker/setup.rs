//! The first lines of a worker process: it hardens itself, then stays or executes the pool's `command`.
//!
//! The daemon executes its own executable, or has the template make a copy of itself (src/daemon/template.rs), and
//! neither prepares anything in between: everything a worker must not inherit is put away here.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;

use rustix::process::Resource;

use super::{process as guarded, sandbox};
use crate::id::Pid;
use crate::os::{descriptor, environment, process, resource, signal};

/// Says that this process is a worker, by the daemon's process id. Its socket is standard input.
const DAEMON_PID: &str = "POOLD_WORKER";

/// The soft limit of open files that the daemon found when it started, and raised for itself.
const OPEN_FILES_MAX: &str = "POOLD_WORKER_NOFILE";

/// The file that this process writes to to enter its control group.
const GROUP: &str = "POOLD_WORKER_CGROUP";

/// What this process and all that it starts may use, and more is never allowed again.
const LIMITS: [(&str, Resource); 4] = [
    ("POOLD_WORKER_MEMORY", Resource::As),
    ("POOLD_WORKER_OPEN_FILES", Resource::Nofile),
    ("POOLD_WORKER_FILE_SIZE", Resource::Fsize),
    ("POOLD_WORKER_CORE", Resource::Core),
];

/// Says that this process is to be shut in.
const SANDBOX: &str = "POOLD_WORKER_SANDBOX";

/// Says that it is a copy of the template, which has entered a part of the sandbox: its system calls are filtered, and
/// it gains no capabilities.
const PREPARED: &str = "POOLD_WORKER_PREPARED";

/// The descriptor on which the guard is told which commands run.
const GUARD_FD: &str = "POOLD_WORKER_GUARD";

/// Says to the program that a pool names as its `command` which descriptor is its socket.
const SOCKET_FD: &str = "POOLD_WORKER_FD";

/// What this process is.
pub(super) enum Stage {
    /// Not a worker.
    NotAWorker,
    /// A worker, hardened, with its socket.
    Worker(OwnedFd),
    /// A worker that cannot do what it was started for.
    Unable {
        /// Where to say so.
        socket: OwnedFd,
        /// What to say.
        reason: String,
    },
}

/// What this process was started with is not what the daemon gives its workers.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error("{name} is {value:?}, which is not a number; only poold sets it")]
    NotANumber { name: &'static str, value: OsString },
    #[error("{DAEMON_PID} says that process {daemon} starts this worker, but process {parent} did")]
    AnotherParent { daemon: u32, parent: u32 },
    #[error("{variable} is set, but {fd} is not a worker's socket; only poold sets it")]
    NoSocket { variable: &'static str, fd: String },
    #[error("cannot {what}: {error}")]
    System { what: &'static str, error: io::Error },
}

/// Finds out what this process is and, if a worker, hardens it.
pub(super) fn enter() -> Result<Stage, SetupError> {
    if let Some(daemon) = number(DAEMON_PID)? {
        return first_stage(daemon);
    }
    match number(SOCKET_FD)? {
        Some(fd) => command_stage(fd).map(Stage::Worker),
        None => Ok(Stage::NotAWorker),
    }
}

/// What the daemon started.
fn first_stage(daemon: u32) -> Result<Stage, SetupError> {
    process::die_with_parent().map_err(failed_to("have the kernel end this worker with its daemon"))?;
    let parent = parent_id();
    if parent != daemon {
        return Err(SetupError::AnotherParent { daemon, parent });
    }
    if let Some(group) = env::var_os(GROUP) {
        process::enter_group(group.as_ref()).map_err(failed_to("enter its control group"))?;
    }
    if !descriptor::is_unix_stream(io::stdin()) {
        return Err(SetupError::NoSocket { variable: DAEMON_PID, fd: "standard input".to_owned() });
    }
    let mut command = env::args_os().skip(1).peekable();
    // A program of the operator's runs no commands of ours, and must not hold the guard's pipe open.
    let guard = if command.peek().is_none() { number(GUARD_FD)? } else { None };
    descriptor::close_inherited(guard).map_err(failed_to("close what was inherited"))?;
    if let Some(guard) = guard {
        guarded::keep_guard(descriptor::adopt(guard).map_err(failed_to("keep the guard's pipe"))?);
    }
    let socket =
        descriptor::move_standard_input().map_err(failed_to("move the socket from standard input"))?;
    signal::restore_inherited().map_err(failed_to("restore the signals"))?;
    process::forbid_new_privileges().map_err(failed_to("forbid new privileges"))?;
    if let Some(files) = number(OPEN_FILES_MAX)? {
        process::set_open_files_max(files).map_err(failed_to("restore the limit of open files"))?;
    }
    for (variable, resource) in LIMITS {
        if let Some(amount) = number(variable)? {
            resource::limit(resource, amount).map_err(failed_to("limit this worker"))?;
        }
    }
    process::name_thread(c"poold-worker").map_err(failed_to("name the process"))?;
    if env::var_os(SANDBOX).is_some() {
        sandbox::enter(Pid(daemon), env::var_os(PREPARED).is_some());
    }
    environment::remove_the_daemons();

    match command.next() {
        None => Ok(Stage::Worker(socket)),
        Some(program) => Ok(execute(&program, command, socket)),
    }
}

/// What the first stage executed: a program with functions of its own.
fn command_stage(fd: i32) -> Result<OwnedFd, SetupError> {
    let no_socket = || SetupError::NoSocket { variable: SOCKET_FD, fd: format!("descriptor {fd}") };
    let socket = descriptor::adopt(fd).map_err(|_| no_socket())?;
    if !descriptor::is_unix_stream(&socket) {
        return Err(no_socket());
    }
    environment::remove_the_daemons();
    Ok(socket)
}

/// Becomes `program`. Returns only if that fails.
fn execute(program: &OsStr, args: impl Iterator<Item = OsString>, socket: OwnedFd) -> Stage {
    let error = match descriptor::keep_open_on_exec(&socket) {
        Ok(()) => Command::new(program).args(args).env(SOCKET_FD, socket.as_raw_fd().to_string()).exec(),
        Err(error) => error,
    };
    Stage::Unable { socket, reason: format!("cannot run {program:?}, the pool's `command`: {error}") }
}

/// The number in an environment variable, if it is set.
fn number<N: std::str::FromStr>(name: &'static str) -> Result<Option<N>, SetupError> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    match value.to_str().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(SetupError::NotANumber { name, value }),
    }
}

fn failed_to(what: &'static str) -> impl FnOnce(io::Error) -> SetupError {
    move |error| SetupError::System { what, error }
}
