//! The template: a process that was executed once, has done nothing yet, and makes copies of itself.
//!
//! ```text
//!   spawner ──Common: filter──────────────────> template: is filtered, for all its copies
//!      │
//!      └──────Copy: title, environment, files──> template ──fork──> copy: goes on in `main` as if executed
//!      ^                                            │                  │
//!      └───────────Copied: process id───────────────┘                  └── a child of the daemon, like the template
//! ```
//!
//! To execute a program costs several times what a copy does: the dynamic linker and the C library start
//! from nothing, and on a virtual machine each of their questions about the processor is a trap to its host. What makes
//! fork(2) dangerous is not here: the template has one thread, opens nothing but its socket, and has run none of the
//! program's code but what stands in `main` before it. A copy is told all that execve(2) would be, and hardens itself
//! as any worker does. It is a child of the daemon (CLONE_PARENT of clone(2)), which alone watches and reaps it.
//!
//! The template has the filter of system calls in force that is the same for every worker that is shut in, and copies
//! inherit it: to check and translate it takes the kernel longer than the copy. The spawner makes its program while the
//! template starts. So workers that are not shut in are executed; so is what executes another program, and every worker
//! where there is no template, or it fails.
//!
//! Copies have their addresses in common, which executed processes draw at random each for itself; and the limits and
//! processors that the template was started with, whatever the daemon's are by then.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;

use super::guard::Records;
use crate::id::Pid;
use crate::limits::{POOL_NAME_BYTES_MAX, TEMPLATE_PATIENCE};
use crate::message::Message;
use crate::message::template::{Common, Copied, Copy};
use crate::os::fork::{Forked, Forker, Title};
use crate::os::pidfd::Child;
use crate::os::{descriptor, environment, landlock, process as own, seccomp, signal};
use crate::task::Payload;
use crate::wire::{Inbox, Outbox, ReceiveError, WireError};

/// Says to a process that it is the template, by the daemon's process id. Its socket is standard input.
const DAEMON_PID: &str = "POOLD_TEMPLATE";

/// The descriptor of the guard's pipe, which copies inherit.
const GUARD_FD: &str = "POOLD_TEMPLATE_GUARD";

/// Says to a copy that a part of what shuts it in was done by the template (src/worker/setup.rs).
const PREPARED: &str = "POOLD_WORKER_PREPARED";

/// What process listings show.
const TITLE: &str = "poold: template";

/// Room for the titles of copies: `poold: worker 4294967295.4294967295 (NAME)`.
const TITLE_BYTES: usize = POOL_NAME_BYTES_MAX + 64;

/// Variables that the dynamic linker and the C library heed when a program is executed, by how they start: with one of
/// these, a copy would not be what an executed process is.
const LOADER_VARIABLES: [&str; 3] = ["LD_", "GLIBC_", "MALLOC_"];

/// What a process is started with: all its variables.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// The template, from the thread that starts it.
#[derive(Debug)]
pub(super) struct Template {
    program: PathBuf,
    records: Records,
    state: State,
}

#[derive(Debug)]
enum State {
    /// None is there now.
    Absent,
    Present(Running),
    /// The first one did not make a single copy: there is something that it needs and does not find.
    Impossible,
}

/// A template's process.
#[derive(Debug)]
struct Running {
    process: Child,
    socket: UnixStream,
    has_copied: bool,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    /// The order is larger than a frame may be.
    #[error(transparent)]
    Unsaid(#[from] WireError),
    /// As many descriptors of this user are on their way as may be (unix(7)).
    #[error("too many descriptors are on their way")]
    TooManyFiles,
    #[error("it cannot be told: {0}")]
    Unsent(Errno),
    #[error("it does not take what it is told")]
    Untaken,
    #[error(transparent)]
    Unanswered(#[from] ReceiveError),
}

impl Template {
    /// One that will execute `program`, and whose copies inherit `records`. It is not started.
    pub(super) fn new(program: PathBuf, records: Records) -> Self {
        Template { program, records, state: State::Absent }
    }

    /// Its process, if there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Present(running) => Some(running.process.pid()),
            State::Absent | State::Impossible => None,
        }
    }

    /// Starts it, unless it runs or is of no use.
    pub(super) fn keep_running(&mut self) {
        match &self.state {
            State::Absent => match self.start() {
                Ok(running) => self.state = State::Present(running),
                Err(error) => log::debug!("the template cannot be started: {error}"),
            },
            State::Present(_) | State::Impossible => {}
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(TEMPLATE_PATIENCE))?;
        ours.set_write_timeout(Some(TEMPLATE_PATIENCE))?;
        let mut command = Command::new(&self.program);
        command
            .arg0(format!("{TITLE:<TITLE_BYTES$}"))
            .env_clear()
            .env(DAEMON_PID, process::id().to_string())
            .env(GUARD_FD, self.records.fd().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut process = command.spawn()?;
        let child = Child::hold(Pid(process.id())).inspect_err(|_| {
            // Nobody else knows of it. Failing, it would be because it has ended.
            let _ = process.kill().and_then(|()| process.wait());
        })?;
        let running = Running { process: child, socket: ours, has_copied: false };
        // While it starts. What cannot be said is found out with the first copy.
        let _ = running.tell_in_common();
        Ok(running)
    }

    /// A copy of it that goes on with this title, this environment and these three files; nothing if the program is to
    /// be executed instead, with other files: there may be a copy that has these and was not heard of.
    pub(super) fn copy(&mut self, title: &str, variables: &Environment, files: [OwnedFd; 3]) -> Option<Pid> {
        let State::Present(running) = &mut self.state else { return None };
        match running.copy(title, variables, files) {
            Ok(Copied(Ok(pid))) => {
                running.has_copied = true;
                Some(pid)
            }
            // To execute the program will say the same, if there is no process to be had.
            Ok(Copied(Err(_))) => None,
            Err(error @ (CopyError::Unsaid(_) | CopyError::TooManyFiles)) => {
                log::debug!("a worker is executed, and no copy: {error}");
                None
            }
            Err(error @ (CopyError::Unsent(_) | CopyError::Untaken | CopyError::Unanswered(_))) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// Reaps it if it has ended.
    pub(super) fn reap_if_ended(&mut self) {
        if let State::Present(running) = &self.state
            && running.process.has_ended()
        {
            self.give_up(&"it has ended");
        }
    }

    /// Ends a template that failed. If it has ever worked, another is started with the next worker.
    fn give_up(&mut self, error: &dyn Display) {
        let State::Present(running) = mem::replace(&mut self.state, State::Absent) else { return };
        running.process.kill_group();
        let exit = running.process.reap().map_or_else(|error| error.to_string(), |exit| exit.to_string());
        if running.has_copied {
            log::warn!("the template failed ({error}; {exit}); another is started with the next worker");
        } else {
            log::info!("workers are executed one by one: the template failed ({error}; {exit})");
            self.state = State::Impossible;
        }
    }
}

/// Whether a process with this environment can be a copy: there is no variable that only execve(2) could give it, such
/// as one whose name has a `=`, and none that is heeded when a program is executed.
pub(super) fn can_be_copy(variables: &Environment) -> bool {
    let is_heeded =
        |name: &OsStr| LOADER_VARIABLES.iter().any(|start| name.as_bytes().starts_with(start.as_bytes()));
    variables.iter().all(|(name, value)| environment::can_be_set(name, value) && !is_heeded(name))
}

impl Running {
    /// Says what all its copies have in common. The daemon has started all its threads by now.
    fn tell_in_common(&self) -> Result<(), CopyError> {
        // Where there is no filter, each copy says why.
        let filter = seccomp::program(Pid(process::id()), Some(self.process.pid())).unwrap_or_default();
        self.say(&Common { filter })
    }

    fn copy(
        &mut self,
        title: &str,
        variables: &Environment,
        files: [OwnedFd; 3],
    ) -> Result<Copied, CopyError> {
        let variables = variables.iter().cloned();
        let environment = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
        let files = Payload { descriptors: Vec::from(files).into(), ..Payload::default() };
        self.say(&Copy { title: title.to_owned(), environment: environment.collect(), files })?;
        Ok(Inbox::default().receive_from(&self.socket)?)
    }

    fn say<M: Message>(&self, message: &M) -> Result<(), CopyError> {
        let mut outbox = Outbox::default();
        outbox.push(message)?;
        outbox.send(&self.socket).map_err(|error| match error {
            Errno::TOOMANYREFS => CopyError::TooManyFiles,
            error => CopyError::Unsent(error),
        })?;
        if outbox.is_empty() { Ok(()) } else { Err(CopyError::Untaken) }
    }
}

/// Becomes the template if the daemon started this process as that. Returns in the copies of it, each of which is
/// from then on what its environment says; otherwise at once.
///
/// To be called first in `main`: it closes what the process inherited. Programs call [`init`](crate::init).
pub(crate) fn run_if_started_as_template() {
    let Some(daemon) = env::var_os(DAEMON_PID) else { return };
    let daemon = daemon.to_str().and_then(|text| text.parse().ok()).map(Pid);
    if daemon.ok_or(io::ErrorKind::InvalidInput.into()).and_then(make_copies).is_err() {
        // Whoever waits for a copy sees the end of the socket, and knows what to do.
        process::exit(1);
    }
}

/// Makes the copies that are asked for. Returns in a copy.
fn make_copies(daemon: Pid) -> io::Result<()> {
    own::die_with_parent()?;
    if parent_id() != daemon.0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    signal::block_all()?;
    let guard = env::var(GUARD_FD).ok().and_then(|text| text.parse().ok());
    descriptor::close_inherited(guard)?;
    own::name_thread(c"poold-template")?;
    let title = Title::own();
    title.set(TITLE);
    let forker = Forker::new()?;
    own::forbid_new_privileges()?;
    if landlock::reach().is_none() {
        own::forbid_looking_in()?;
    }
    own::drop_bounding_set();
    let socket = UnixStream::from(descriptor::move_standard_input()?);
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    let Common { filter } = hear(&mut inbox, &socket)?;
    // A copy that is not filtered tries again, and says why it cannot be.
    let is_prepared = seccomp::filter(&filter).is_ok();
    loop {
        let order: Copy = hear(&mut inbox, &socket)?;
        let copied = match forker.fork() {
            Ok(Forked::Copy) => {
                drop(socket);
                return go_on_as(order, &title, is_prepared);
            }
            Ok(Forked::Original(pid)) => Copied(Ok(pid)),
            Err(error) => Copied(Err(error.raw_os_error().unwrap_or(0))),
        };
        outbox.push(&copied).map_err(|_| io::ErrorKind::InvalidData)?;
        outbox.send_all(&socket)?;
    }
}

fn hear<M: Message>(inbox: &mut Inbox, socket: &UnixStream) -> io::Result<M> {
    inbox.receive_from(socket).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Makes of this copy what exec would have made of it.
fn go_on_as(Copy { title, environment, files }: Copy, room: &Title, is_prepared: bool) -> io::Result<()> {
    let files: Option<[OwnedFd; 3]> = files.descriptors.into_files().and_then(|files| files.try_into().ok());
    descriptor::replace_standard_streams(files.ok_or(io::ErrorKind::InvalidInput)?)?;
    own::lead_group()?;
    // As exec has it. The sandbox forbids it again, but for a worker that may leave a core dump.
    own::allow_looking_in()?;
    room.set(&title);
    let text = OsString::from_vec;
    let variables = environment.into_iter().map(|(name, value)| (text(name), text(value)));
    environment::replace(variables.chain(is_prepared.then(|| (PREPARED.into(), "1".into()))));
    Ok(())
}
