//! Starting a private supervisor, from the program's side.

use std::env;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::error::{MISSING_INIT, PrivateError};
use super::pools::{self, PoolOptions};
use super::supervisor::MARK;
use crate::client::{self, Connection, Executor};
use crate::limits::START_TIMEOUT;
use crate::os::process::own_program;

impl Executor {
    /// An executor of the program's own: it starts this executable again as a supervisor with these
    /// pools, which starts it once more for each worker. No daemon is needed, and none of it outlives the
    /// program or the executor.
    ///
    /// The program must call [`init`](crate::init) first in `main`. Where it does not, it would find
    /// itself here again in the process it has started: that process ends with exit status 1.
    ///
    /// # Errors
    /// [`PrivateError`]; in particular [`PrivateError::Ended`] where the call of [`init`](crate::init) is missing.
    pub fn private(pools: impl IntoIterator<Item = PoolOptions>) -> Result<Self, PrivateError> {
        if env::var_os(MARK).is_some() {
            // Nobody may be left to read it, and then nothing is to be done but to end.
            let _ = writeln!(
                io::stderr(),
                "poold: this program was started as its own supervisor and runs `main`; {MISSING_INIT}"
            );
            std::process::exit(1);
        }
        Ok(Executor::over(connect(pools.into_iter().collect())?))
    }
}

fn connect(options: Vec<PoolOptions>) -> Result<Connection, PrivateError> {
    let mark = serde_json::to_string(&options).map_err(|error| PrivateError::NotStarted(error.into()))?;
    pools::config(options)?;
    let (ours, theirs) = UnixStream::pair().map_err(PrivateError::NotStarted)?;
    let child = start(&mark, theirs).map_err(PrivateError::NotStarted)?;
    match greet(ours) {
        Ok(connection) => {
            reap(child);
            Ok(connection)
        }
        Err(error) => Err(give_up(child, error)),
    }
}

/// In a process group of its own: Ctrl-C is for the program, which may have more to say before it ends.
fn start(mark: &str, socket: UnixStream) -> io::Result<Child> {
    Command::new(own_program()?)
        .arg0(format!("poold: private supervisor of {}", std::process::id()))
        .env(MARK, mark)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Shakes hands, in the time that a start may take: a `main` without the call of `init` may do anything.
fn greet(socket: UnixStream) -> Result<Connection, client::Error> {
    let timed = socket.try_clone()?;
    timed.set_read_timeout(Some(START_TIMEOUT))?;
    let connection = Connection::over_socket(socket.into(), Path::new("the private supervisor's socket"))?;
    timed.set_read_timeout(None)?;
    Ok(connection)
}

/// Sees to it that the process leaves no zombie when it ends, which is after the connection has.
fn reap(mut child: Child) {
    let reaper = thread::Builder::new().name("reaper".to_owned());
    let reaping = reaper.spawn(move || {
        if let Err(error) = child.wait() {
            log::warn!("how the private supervisor ended is unknown: {error}");
        }
    });
    if let Err(error) = reaping {
        log::warn!("the private supervisor will not be reaped: {error}");
    }
}

/// Ends a process that is no supervisor.
fn give_up(mut child: Child, error: client::Error) -> PrivateError {
    // It may have ended by itself, and then its status is that.
    let _ = child.kill();
    match child.wait() {
        Ok(status) => PrivateError::Ended { status },
        Err(_) => error.into(),
    }
}
