//! Copies of the daemon's process, or of the template's: what the template itself does, and what a copy does until it
//! is what it was made for (src/daemon/template.rs).

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::process;

use super::template::{ForkedTemplate, is_heeded};
use crate::id::Pid;
use crate::limits::POOL_NAME_BYTES_MAX;
use crate::message::template::{Copied, Order, Start};
use crate::os::fork::{Forked, Forker, Relation, Title};
use crate::os::{descriptor, environment, landlock, process as own, seccomp, signal};
use crate::task::Payload;
use crate::wire::{Inbox, Outbox, decode_value};

/// Says to a process that it is the template, by the daemon's process id. Its socket is standard input.
pub(super) const DAEMON_PID: &str = "POOLD_TEMPLATE";

/// Says to a worker which descriptor is the guard's pipe (src/worker/setup.rs).
const GUARD_FD: &str = "POOLD_WORKER_GUARD";

/// Says to a copy that a part of what shuts it in was done by the template (src/worker/setup.rs).
const PREPARED: &str = "POOLD_WORKER_PREPARED";

/// What process listings show.
pub(super) const TITLE: &str = "poold: template";

/// Room for the titles of copies: `poold: worker 4294967295.4294967295 (NAME)`.
pub(super) const TITLE_BYTES: usize = POOL_NAME_BYTES_MAX + 64;

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
    // What was done to this process when it was executed is done to its copies.
    if environment::has(is_heeded) {
        return Fork::Original(None);
    }
    let (Ok(forker), Ok((ours, theirs))) = (Forker::new(), UnixStream::pair()) else {
        return Fork::Original(None);
    };
    // One that is executed is given the room.
    if !forker.title().has_room(TITLE_BYTES, &mark(daemon)) {
        return Fork::Original(None);
    }
    match forker.fork(Relation::Child) {
        Ok(Forked::Original(process)) => Fork::Original(ForkedTemplate::hold(process, ours).ok()),
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

/// The variable by which the template of that daemon is known.
fn mark(daemon: Pid) -> String {
    format!("{DAEMON_PID}={}", daemon.0)
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
    forker.title_mut().take(&mark(daemon));
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
        let start = match hear(&mut inbox, &socket)? {
            Order::Confine(common) => {
                let [pipe] = files_of(common.guard)?;
                guard = Some(pipe);
                // A copy that is not filtered tries again, and says why it cannot be.
                is_prepared = seccomp::filter(&common.filter).is_ok();
                continue;
            }
            Order::Copy(start) => start,
        };
        let copied = match forker.fork(Relation::Sibling) {
            Ok(Forked::Copy) => {
                drop(socket);
                return go_on_as(start, forker.title(), guard, is_prepared);
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

/// The open files of a payload, which are so many.
fn files_of<const FILES: usize>(payload: Payload) -> io::Result<[OwnedFd; FILES]> {
    let files = payload.descriptors.into_files().and_then(|files| files.try_into().ok());
    files.ok_or(io::ErrorKind::InvalidInput.into())
}

/// Makes of this copy what exec would have made of it.
fn go_on_as(start: Payload, room: &Title, guard: Option<OwnedFd>, is_prepared: bool) -> io::Result<()> {
    let Start { title, environment } = decode_value(start.as_slice()?).map_err(io::Error::other)?;
    descriptor::replace_standard_streams(files_of(start)?)?;
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
