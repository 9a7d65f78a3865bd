//! The template: a process that has done nothing yet, and makes copies of itself (src/daemon/copies.rs).
//!
//! ```text
//!   main ──fork, before it has read anything──> template ─┐ (or, if that one is gone,
//!   spawner ──posix_spawn─────────────────────> template ─┘  its successors)
//!      │
//!      ├──Copy: memory, files──────────────────> template ──fork──> guard
//!      ├──Confine: filter, guard's pipe────────> template: is filtered, for all its copies from here on
//!      ├──Copy: memory, files──────────────────> template ──fork──> worker
//!      ^                                            │                  │ reads in the memory its title and its
//!      └──────────Copied: process id────────────────┘                  │ environment, and goes on in `main` as
//!                                                                      │ if executed
//!                                                                      └── a child of the daemon, like the template
//! ```
//!
//! To execute a program costs several times what a copy does: the dynamic linker and the C library start from nothing,
//! and on a virtual machine each of their questions about the processor is a trap to its host. So the first template
//! is not executed either: the daemon forks it as soon as it knows that it is one, and before it has read its
//! configuration. What makes fork(2) dangerous is not here: daemon and template have one thread then, the template
//! opens nothing but its socket, has run none of the program's code but what stands in `main` before it, and forgets
//! the daemon's variables. A copy is told all that execve(2) would be, and hardens itself as any worker does. It is a
//! child of the daemon (CLONE_PARENT of clone(2)), which alone watches and reaps it.
//!
//! What the template reads, all later copies hold. So it does not read what they are started with: that is in memory
//! whose descriptor it passes on.
//!
//! The template has the filter of system calls in force that is the same for every worker that is shut in, and copies
//! inherit it: to check and translate it takes the kernel longer than the copy. The spawner makes its program while the
//! template starts. So workers that are not shut in are executed; so is what executes another program, and every worker
//! where there is no template, or it fails.
//!
//! Copies have their addresses in common, which executed processes draw at random each for itself, and with the first
//! template they have the daemon's too; and the limits and processors that the template was started with, whatever the
//! daemon's are by then.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;

use super::copies::{DAEMON_PID, TITLE, TITLE_BYTES};
use super::guard::Records;
use crate::id::Pid;
use crate::limits::TEMPLATE_PATIENCE;
use crate::message::template::{Common, Copied, Order, Start};
use crate::os::pidfd::Child;
use crate::os::{environment, seccomp};
use crate::task::{Encoding, Payload};
use crate::wire::{Inbox, Outbox, ReceiveError, WireError, encode_value};

/// Variables that the dynamic linker and the C library heed when a program is executed, by how they start: with one of
/// these, a copy would not be what an executed process is.
const LOADER_VARIABLES: [&[u8]; 3] = [b"LD_", b"GLIBC_", b"MALLOC_"];

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
    /// One is there, and was not told yet what its copies have in common.
    Started(Running),
    /// One was told that.
    Confined(Running),
    /// The first one that was executed did not make a single copy: there is something that it needs and does not find.
    Impossible,
}

/// A template that was forked from the daemon itself before that did anything. It ends if it is dropped.
#[derive(Debug)]
pub struct ForkedTemplate(Running);

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
    #[error(transparent)]
    Unsaid(#[from] WireError),
    #[error("there is no memory to tell it by: {0}")]
    NoMemory(#[source] io::Error),
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
    /// Takes hold of the one that this process has forked, which listens at the other end of `socket`.
    pub(super) fn hold(process: Pid, socket: UnixStream) -> io::Result<Self> {
        Running::hold(process, socket, true).map(ForkedTemplate)
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        self.0.process.pid()
    }

    /// Has it make a copy that is not confined. Says whether it was told; [`Template::ordered`] says what became of it.
    pub(super) fn order(&self, title: &str, variables: &Environment, files: [OwnedFd; 3]) -> bool {
        self.0.order(title, variables, files).is_ok()
    }
}

impl Template {
    /// One that was forked, if it was, and later ones will execute `program`; their copies inherit `records`.
    pub(super) fn new(program: PathBuf, records: Records, forked: Option<ForkedTemplate>) -> Self {
        let state = forked.map_or(State::Absent, |forked| State::Started(forked.0));
        Template { program, records, state }
    }

    /// Its process, if there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Started(running) | State::Confined(running) => Some(running.process.pid()),
            State::Absent | State::Impossible => None,
        }
    }

    /// The copy that was [ordered](ForkedTemplate::order), to be asked for before anything else is done with the
    /// template; none if it could not be made, or was not heard of: that one is a stray.
    pub(super) fn ordered(&mut self) -> Option<Pid> {
        let State::Started(running) = &self.state else { return None };
        match running.answer() {
            Ok(Copied(copied)) => copied.ok(),
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// Sees to it that there is one, unless it is of no use. What copies are made of is to be
    /// [confined](Self::confine).
    pub(super) fn keep_running(&mut self) {
        if let State::Absent = self.state {
            match self.start() {
                Ok(running) => self.state = State::Started(running),
                Err(error) => log::debug!("the template cannot be started: {error}"),
            }
        }
    }

    /// Shuts in one that is not, while it starts. Its copies cannot signal the `guard`, if that is there.
    pub(super) fn confine(&mut self, guard: Option<Pid>) {
        self.state = match mem::replace(&mut self.state, State::Absent) {
            State::Started(running) => {
                // What cannot be said is found out with the first copy.
                let _ = running.tell_in_common(&self.records, guard);
                State::Confined(running)
            }
            state @ (State::Absent | State::Confined(_) | State::Impossible) => state,
        };
    }

    /// Ends one that nobody needs.
    pub(super) fn dismiss(&mut self) {
        match mem::replace(&mut self.state, State::Absent) {
            State::Started(running) | State::Confined(running) => _ = running.end(),
            state @ (State::Absent | State::Impossible) => self.state = state,
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
        let State::Confined(running) = &mut self.state else { return None };
        match running.copy(title, variables, files) {
            Ok(Copied(Ok(pid))) => {
                running.is_proven = true;
                Some(pid)
            }
            // To execute the program will say the same, if there is no process to be had.
            Ok(Copied(Err(_))) => None,
            Err(
                error @ (CopyError::Unsaid(_)
                | CopyError::NoMemory(_)
                | CopyError::TooManyFiles
                | CopyError::NoDescriptor),
            ) => {
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
        if let State::Started(running) | State::Confined(running) = &self.state
            && running.process.has_ended()
        {
            self.give_up(&"it has ended");
        }
    }

    /// Ends a template that failed. If it has ever worked, or was forked, another is started with the next worker.
    fn give_up(&mut self, error: &dyn Display) {
        let (State::Started(running) | State::Confined(running)) =
            mem::replace(&mut self.state, State::Absent)
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
    variables.iter().all(|(name, value)| environment::can_be_set(name, value) && !is_heeded(name.as_bytes()))
}

/// Whether the variable of that name is one that is heeded when a program is executed.
pub(super) fn is_heeded(name: &[u8]) -> bool {
    LOADER_VARIABLES.iter().any(|start| name.starts_with(start))
}

impl Running {
    /// Takes hold of a template that was started.
    fn hold(process: Pid, socket: UnixStream, is_proven: bool) -> io::Result<Self> {
        let child = Child::hold_or_end(process)?;
        socket.set_read_timeout(Some(TEMPLATE_PATIENCE))?;
        socket.set_write_timeout(Some(TEMPLATE_PATIENCE))?;
        Ok(Running { process: child, socket, is_proven })
    }

    /// Says what all its copies have in common. The daemon has started all its threads by now.
    fn tell_in_common(&self, records: &Records, guard: Option<Pid>) -> Result<(), CopyError> {
        let others = [self.process.pid()].into_iter().chain(guard);
        // Where there is no filter, each copy says why.
        let filter = seccomp::program(Pid(process::id()), others).unwrap_or_default();
        let guard = records.duplicate().map_err(|_| CopyError::NoDescriptor)?;
        let guard = Payload { descriptors: vec![guard].into(), ..Payload::default() };
        self.say(&Order::Confine(Common { filter, guard }))
    }

    /// Ends it alone, since a copy that it has just made may still be in its group; says how it ended.
    fn end(self) -> String {
        self.process.kill();
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
        let start = encode_value(&Start { title: title.to_owned(), environment: environment.collect() })?;
        let start =
            Payload { descriptors: Vec::from(files).into(), ..Payload::new(Encoding::Bincode, start) };
        self.say(&Order::Copy(start.to_shared().map_err(CopyError::NoMemory)?))
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child as Process, Command};

    use super::*;
    use crate::task::Exit;

    /// A process that is in the group of another, or leads one if that is 0.
    fn sleeper(group: u32) -> Process {
        Command::new("sleep").arg("1000").process_group(group as i32).spawn().expect("sleep starts")
    }

    #[expect(clippy::zombie_processes, reason = "`Running` reaps the template")]
    #[test]
    fn copy_that_is_still_in_the_templates_group_outlives_it() {
        let template = sleeper(0);
        let mut copy = sleeper(template.id());
        let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
        let running = Running::hold(Pid(template.id()), ours, true).expect("a child can be held");
        assert_eq!(running.end(), Exit::Signal(9).to_string());
        // Had it been killed, it would not end by this.
        let copy_id = rustix::process::Pid::from_child(&copy);
        rustix::process::kill_process(copy_id, rustix::process::Signal::TERM).expect("it is there");
        assert_eq!(copy.wait().expect("it is our child").signal(), Some(15));
    }
}
