//! The private supervisor's process: the ordinary daemon, for one client that it inherits.
//!
//! It has no parent-death signal, which would fire when the *thread* ends that started it: it stops when
//! the program's end of the socket is closed, by whatever ended the program.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use super::pools::{PoolOptions, config};
use crate::daemon::{self, Audience, Fork, ForkedTemplate, RunOptions};
use crate::os::{descriptor, environment, process, signal};

/// Says that this process is a private supervisor, by its pools in JSON. Its client is standard input.
pub(super) const MARK: &str = "POOLD_PRIVATE";

/// Exit status of a process that was started with what is no private supervisor's.
const BAD_START: i32 = 2;

/// Why the process cannot be a private supervisor.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{MARK} is set, but standard input is not a program's socket; only poold sets it")]
    NoSocket,
    #[error("{MARK} does not hold the options of pools ({0}); only poold sets it")]
    NoOptions(String),
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// Runs the daemon if a program started this process as its private supervisor, and then does not return but in the
/// copies of its template.
pub(super) fn run_if_started_as_one() {
    // Asked without reading it, so that no worker has it: there is what all pools' workers are told.
    if !environment::has(|name| name == MARK.as_bytes()) {
        return;
    }
    // Before anything is opened that a copy would close.
    let closed = descriptor::close_inherited(None).map_err(set_up);
    let Fork::Original(template) = daemon::fork_template() else { return };
    let status = match closed.and_then(|()| prepare(template)) {
        Ok(options) => match daemon::run(options) {
            Ok(exit) => i32::from(exit.exit_status()),
            Err(error) => complain(&error, i32::from(error.exit_status())),
        },
        Err(error) => complain(&error, BAD_START),
    };
    std::process::exit(status)
}

/// Puts away what a daemon must not inherit from an arbitrary program.
fn prepare(template: Option<ForkedTemplate>) -> Result<RunOptions, StartError> {
    if !descriptor::is_unix_stream(io::stdin()) {
        return Err(StartError::NoSocket);
    }
    let bad = |error: &dyn Display| StartError::NoOptions(error.to_string());
    let options = env::var(MARK).map_err(|error| bad(&error))?;
    let pools: Vec<PoolOptions> = serde_json::from_str(&options).map_err(|error| bad(&error))?;
    let config = config(pools).map_err(|error| bad(&error))?;
    let program = take_socket().map_err(set_up)?;
    environment::remove_the_daemons();
    Ok(RunOptions {
        config,
        reload: Box::new(|_| Err("a private supervisor has no configuration to read".to_owned())),
        audience: Audience::Program(program),
        template,
    })
}

fn take_socket() -> io::Result<OwnedFd> {
    let program = descriptor::move_standard_input()?;
    signal::restore_inherited()?;
    process::name_thread(c"poold-private")?;
    Ok(program)
}

fn set_up(source: io::Error) -> StartError {
    StartError::System { what: "set up this process", source }
}

/// One line on standard error, which is the program's. It may be closed: then nobody is left to tell.
fn complain(error: &dyn Display, status: i32) -> i32 {
    let _ = writeln!(io::stderr(), "poold: {error}");
    status
}
