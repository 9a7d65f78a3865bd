//! The template: a process that has done nothing yet, and makes copies of itself.
//!
//! ```text
//!   main ──fork, before anything else──────────> template ─┐ (or, if that one is gone,
//!   spawner ──posix_spawn──────────────────────> template ─┘  its successors)
//!      │
//!      ├──────Common: filter, guard's pipe──────> template: is filtered, for all its copies
//!      ├──────Copy: title, environment, files──> template ──fork──> copy: goes on in `main` as if executed
//!      ^                                            │                  │
//!      └───────────Copied: process id───────────────┘                  └── a child of the daemon, like the template
//! ```
//!
//! To execute a program costs several times what a copy does: the dynamic linker and the C library start
//! from nothing, and on a virtual machine each of their questions about the processor is a trap to its host. So the
//! first template is not executed either: the daemon forks it as soon as it knows that it is one, and before it has read
//! its configuration. What makes fork(2) dangerous is not here: daemon and template have one thread then, the template
//! opens nothing but its socket, has run none of the program's code but what stands in `main` before it, and forgets the
//! daemon's variables. A copy is told all that execve(2) would be, and hardens itself as any worker does. It is a child
//! of the daemon (CLONE_PARENT of clone(2)), which alone watches and reaps it.
//!
//! The template has the filter of system calls in force that is the same for every worker that is shut in, and copies
//! inherit it: to check and translate it takes the kernel longer than the copy. The spawner makes its program while the
//! template starts. So workers that are not shut in are executed; so is what executes another program, and every worker
//! where there is no template, or it fails.
//!
//! Copies have their addresses in common, which executed processes draw at random each for itself, and with the first
//! template they have the daemon's too; and the limits and processors that the template was started with, whatever the
//! daemon's are by then.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;

use super::guard::Records;
use crate::id::Pid;
use crate::limits::{POOL_NAME_BYTES_MAX, TEMPLATE_PATIENCE};
use crate::message::template::{Common, Copied, Copy, Order};
use crate::os::fork::{Forked, Forker, Relation, Title};
use crate::os::pidfd::Child;
use crate::os::{children, descriptor, environment, landlock, process as own, seccomp, signal};
use crate::task::Payload;
use crate::wire::{Inbox, Outbox, ReceiveError, WireError};

/// Says to a process that it is the template, by the daemon's process id. Its socket is standard input.
const DAEMON_PID: &str = "POOLD_TEMPLATE";

/// Says to a worker which descriptor is the guard's pipe (src/worker/setup.rs).
const GUARD_FD: &str = "POOLD_WORKER_GUARD";

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

/// The template, from the thread that starts workers.
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
    /// One was forked when the daemon began, and was told nothing yet.
    Forked(Running),
    Present(Running),
    /// The first one that was executed did not make a single copy: there is something that it needs and does not find.
    Impossible,
}

/// A template that was forked from the daemon itself before that did anything. It ends if it is dropped.
#[derive(Debug)]
pub struct ForkedTemplate {
    running: Running,
    /// Children that this process had before.
    siblings: Vec<Pid>,
}

/// A template's process.
#[derive(Debug)]
struct Running {
    process: Child,
    socket: UnixStream,
    /// Whether a failure says nothing about the next one.
    is_proven: bool,
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
    #[error("no descriptor is left")]
    NoDescriptor,
    #[error("it cannot be told: {0}")]
    Unsent(Errno),
    #[error("it does not take what it is told")]
    Untaken,
    #[error(transparent)]
    Unanswered(#[from] ReceiveError),
}

impl ForkedTemplate {
    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.running.process.pid()
    }

    /// Children that this process had before it.
    pub(super) fn siblings(&self) -> &[Pid] {
        &self.siblings
    }

    /// Has it make a copy that is not confined. Says whether it was told; [`Template::ordered`] says what became of it.
    pub(super) fn order(&self, title: &str, variables: &Environment, files: [OwnedFd; 3]) -> bool {
        self.running.order(title, variables, files).is_ok()
    }
}

impl Template {
    /// One that was forked, if it was, and later ones will execute `program`; their copies inherit `records`.
    pub(super) fn new(program: PathBuf, records: Records, forked: Option<ForkedTemplate>) -> Self {
        let state = forked.map_or(State::Absent, |forked| State::Forked(forked.running));
        Template { program, records, state }
    }

    /// Its process, if there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Forked(running) | State::Present(running) => Some(running.process.pid()),
            State::Absent | State::Impossible => None,
        }
    }

    /// The copy that was [ordered](ForkedTemplate::order), to be asked for before anything else is done with it; none if
    /// it could not be made, or was not heard of: that one is a stray.
    pub(super) fn ordered(&mut self) -> Option<Pid> {
        let State::Forked(running) = &self.state else { return None };
        match running.answer() {
            Ok(Copied(copied)) => copied.ok(),
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// Sees to it that there is one, unless it is of no use.
    pub(super) fn keep_running(&mut self) {
        let running = match mem::replace(&mut self.state, State::Absent) {
            State::Absent => match self.start() {
                Ok(running) => running,
                Err(error) => return log::debug!("the template cannot be started: {error}"),
            },
            State::Forked(running) => running,
            state @ (State::Present(_) | State::Impossible) => return self.state = state,
        };
        // While it starts. What cannot be said is found out with the first copy.
        let _ = running.tell_in_common(&self.records);
        self.state = State::Present(running);
    }

    /// Ends one that nobody needs.
    pub(super) fn dismiss(&mut self) {
        if let State::Forked(running) = mem::replace(&mut self.state, State::Absent) {
            let _ = running.end();
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command
            .arg0(format!("{TITLE:<TITLE_BYTES$}"))
            .env_clear()
            .env(DAEMON_PID, process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Running::hold(Pid(command.spawn()?.id()), ours, false)
    }

    /// A copy of it that goes on with this title, this environment and these three files; nothing if the program is to
    /// be executed instead, with other files: there may be a copy that has these and was not heard of.
    pub(super) fn copy(&mut self, title: &str, variables: &Environment, files: [OwnedFd; 3]) -> Option<Pid> {
        let State::Present(running) = &mut self.state else { return None };
        match running.copy(title, variables, files) {
            Ok(Copied(Ok(pid))) => {
                running.is_proven = true;
                Some(pid)
            }
            // To execute the program will say the same, if there is no process to be had.
            Ok(Copied(Err(_))) => None,
            Err(error @ (CopyError::Unsaid(_) | CopyError::TooManyFiles | CopyError::NoDescriptor)) => {
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
        if let State::Forked(running) | State::Present(running) = &self.state
            && running.process.has_ended()
        {
            self.give_up(&"it has ended");
        }
    }

    /// Ends a template that failed. If it has ever worked, or was forked, another is started with the next worker.
    fn give_up(&mut self, error: &dyn Display) {
        let (State::Forked(running) | State::Present(running)) = mem::replace(&mut self.state, State::Absent)
        else {
            return;
        };
        let is_proven = running.is_proven;
        let exit = running.end();
        if is_proven {
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
    /// Takes hold of a template that was started.
    fn hold(process: Pid, socket: UnixStream, is_proven: bool) -> io::Result<Self> {
        let child = Child::hold(process).inspect_err(|_| {
            // Nobody else knows of it.
            children::kill(process);
            children::reap(process);
        })?;
        socket.set_read_timeout(Some(TEMPLATE_PATIENCE))?;
        socket.set_write_timeout(Some(TEMPLATE_PATIENCE))?;
        Ok(Running { process: child, socket, is_proven })
    }

    /// Says what all its copies have in common. The daemon has started all its threads by now.
    fn tell_in_common(&self, records: &Records) -> Result<(), CopyError> {
        // Where there is no filter, each copy says why.
        let filter = seccomp::program(Pid(process::id()), Some(self.process.pid())).unwrap_or_default();
        let guard = records.duplicate().map_err(|_| CopyError::NoDescriptor)?;
        let guard = Payload { descriptors: vec![guard].into(), ..Payload::default() };
        self.say(&Order::Confine(Common { filter, guard }))
    }

    /// Ends it; says how it ended.
    fn end(self) -> String {
        self.process.kill_group();
        self.process.reap().map_or_else(|error| error.to_string(), |exit| exit.to_string())
    }

    fn copy(
        &mut self,
        title: &str,
        variables: &Environment,
        files: [OwnedFd; 3],
    ) -> Result<Copied, CopyError> {
        self.order(title, variables, files)?;
        self.answer()
    }

    fn order(&self, title: &str, variables: &Environment, files: [OwnedFd; 3]) -> Result<(), CopyError> {
        let variables = variables.iter().cloned();
        let environment = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
        let files = Payload { descriptors: Vec::from(files).into(), ..Payload::default() };
        self.say(&Order::Copy(Copy { title: title.to_owned(), environment: environment.collect(), files }))
    }

    fn answer(&self) -> Result<Copied, CopyError> {
        Ok(Inbox::default().receive_from(&self.socket)?)
    }

    fn say(&self, message: &Order) -> Result<(), CopyError> {
        let mut outbox = Outbox::default();
        outbox.push(message)?;
        outbox.send(&self.socket).map_err(|error| match error {
            Errno::TOOMANYREFS => CopyError::TooManyFiles,
            error => CopyError::Unsent(error),
        })?;
        if outbox.is_empty() { Ok(()) } else { Err(CopyError::Untaken) }
    }
}

/// What a process is that forks the template.
#[derive(Debug)]
pub(crate) enum Fork {
    /// The one that did, with the template if there could be one.
    Original(Option<ForkedTemplate>),
    /// A copy of the template, which is from then on what its environment says.
    Copy,
}

/// Forks the template from this process, which is about to be the daemon. Returns in each copy of it too.
///
/// This process has one thread, and what it has read is in its copies.
pub(crate) fn fork_template() -> Fork {
    let daemon = Pid(process::id());
    let (Ok(forker), Ok((ours, theirs)), Ok(siblings)) =
        (Forker::new(), UnixStream::pair(), children::present())
    else {
        return Fork::Original(None);
    };
    match forker.fork(Relation::Child) {
        Ok(Forked::Original(process)) => {
            let running = Running::hold(process, ours, true);
            Fork::Original(running.map(|running| ForkedTemplate { running, siblings }).ok())
        }
        Ok(Forked::Copy) => {
            drop(ours);
            be_template(|| {
                let null = || File::options().write(true).open("/dev/null");
                descriptor::replace_standard_streams([theirs.into(), null()?.into(), null()?.into()])?;
                own::lead_group()?;
                make_copies(daemon, forker)
            });
            Fork::Copy
        }
        Err(_) => Fork::Original(None),
    }
}

/// Becomes the template if the daemon started this process as that. Returns in the copies of it, each of which is
/// from then on what its environment says; otherwise at once.
///
/// To be called first in `main`: it closes what the process inherited. Programs call [`init`](crate::init).
pub(crate) fn run_if_started_as_template() {
    let Some(daemon) = env::var_os(DAEMON_PID) else { return };
    be_template(|| {
        let daemon = daemon.to_str().and_then(|text| text.parse().ok()).map(Pid);
        make_copies(daemon.ok_or(io::ErrorKind::InvalidInput)?, Forker::new()?)
    });
}

/// Returns in a copy.
fn be_template(make_copies: impl FnOnce() -> io::Result<()>) {
    if make_copies().is_err() {
        // Whoever waits for a copy sees the end of the socket, and knows what to do.
        process::exit(1);
    }
}

/// Makes the copies that are asked for on standard input. Returns in a copy.
fn make_copies(daemon: Pid, mut forker: Forker) -> io::Result<()> {
    own::die_with_parent()?;
    if parent_id() != daemon.0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    signal::block_all()?;
    descriptor::close_inherited(None)?;
    own::name_thread(c"poold-template")?;
    forker.title().take(&format!("{DAEMON_PID}={}", daemon.0));
    forker.title().set(TITLE);
    own::forbid_new_privileges()?;
    if landlock::reach().is_none() {
        own::forbid_looking_in()?;
    }
    own::drop_bounding_set();
    let socket = UnixStream::from(descriptor::move_standard_input()?);
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    let (mut guard, mut is_prepared) = (None, false);
    loop {
        let order = match hear(&mut inbox, &socket)? {
            Order::Confine(common) => {
                let [pipe] = files_of(common.guard)?;
                guard = Some(pipe);
                // A copy that is not filtered tries again, and says why it cannot be.
                is_prepared = seccomp::filter(&common.filter).is_ok();
                continue;
            }
            Order::Copy(order) => order,
        };
        let copied = match forker.fork(Relation::Sibling) {
            Ok(Forked::Copy) => {
                drop(socket);
                return go_on_as(order, forker.title(), guard, is_prepared);
            }
            Ok(Forked::Original(pid)) => Copied(Ok(pid)),
            Err(error) => Copied(Err(error.raw_os_error().unwrap_or(0))),
        };
        outbox.push(&copied).map_err(|_| io::ErrorKind::InvalidData)?;
        outbox.send_all(&socket)?;
    }
}

fn hear(inbox: &mut Inbox, socket: &UnixStream) -> io::Result<Order> {
    inbox.receive_from(socket).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// So many files, which came without bytes.
fn files_of<const FILES: usize>(payload: Payload) -> io::Result<[OwnedFd; FILES]> {
    let files = payload.descriptors.into_files().and_then(|files| files.try_into().ok());
    files.ok_or(io::ErrorKind::InvalidInput.into())
}

/// Makes of this copy what exec would have made of it.
fn go_on_as(
    Copy { title, environment, files }: Copy,
    room: &Title,
    guard: Option<OwnedFd>,
    is_prepared: bool,
) -> io::Result<()> {
    descriptor::replace_standard_streams(files_of(files)?)?;
    own::lead_group()?;
    // As exec has it. The sandbox forbids it again, but for a worker that may leave a core dump.
    own::allow_looking_in()?;
    room.set(&title);
    let text = OsString::from_vec;
    let variables = environment.into_iter().map(|(name, value)| (text(name), text(value)));
    let guard = guard.map(|guard| (GUARD_FD.into(), guard.into_raw_fd().to_string().into()));
    let prepared = is_prepared.then(|| (PREPARED.into(), "1".into()));
    environment::add(variables.chain(guard).chain(prepared));
    Ok(())
}
