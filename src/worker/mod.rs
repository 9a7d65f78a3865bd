//! The runtime inside a worker process: it runs what the daemon sends, one attempt at a time or, in a pool
//! of threads, several.
//!
//! ```text
//!   daemon starts a process
//!        │
//!        v              a pool's `command`
//!      setup ───────────────────────────────> exec it, with the socket on POOLD_WORKER_FD
//!        │ built-in functions                       │ a program that registers its own functions
//!        v                                          v
//!     session: hello, answer, Setup <───────────────┘
//!        │
//!        v
//!     attempts: Attempt ──> Started ──> Functions::call ──> Finished ──┐   threads: the same, on each
//!        ^                                  (panics caught)            │   of several threads
//!        └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! A function's standard output and error are its own: the daemon logs them, and the protocol has its own
//! socket. When that socket ends, the worker does too: at once and by itself when it is idle, by SIGKILL
//! to its process group while a function runs.
//!
//! | file | its noun |
//! | --- | --- |
//! | `setup`, `session`, `hangup` | the first lines of the process; its socket; that socket's end |
//! | `attempts`, `registry`, `call` | what was sent; what can be called; calling it |
//! | `reports` | what has begun and ended, on the page that the daemon shares |
//! | `arguments`, `signature`, `result` | what a function takes; in words; what it gives |
//! | `command`, `run` | functions that run a command; the one that runs any |
//! | `process`, `termination` | a command's processes; asking them to end |
//! | `sandbox`, `confinement`, `strays` | what the worker may not do; what an attempt may use; what it leaves behind |
//! | `builtin` | the functions that every `poold` has |
//!
//! # Functions of your own
//!
//! A program that registers functions is a worker when a pool names it as its `command`:
//!
//! ```no_run
//! use poold::worker::Registry;
//!
//! fn divide(dividend: u64, divisor: u64) -> Result<u64, String> {
//!     dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} cannot be divided by zero"))
//! }
//!
//! fn functions() -> Registry {
//!     Registry::built_in().register(
//!         "divide",
//!         &["DIVIDEND", "DIVISOR"],
//!         "The whole part of a quotient.",
//!         |(dividend, divisor)| divide(dividend, divisor),
//!     )
//! }
//!
//! poold::init(functions);
//! eprintln!("this program is a worker: name it as the `command` of a pool in poold's configuration");
//! ```

mod arguments;
mod asking;
mod attempts;
mod builtin;
mod call;
mod command;
mod confinement;
mod hangup;
mod process;
mod receiver;
mod registry;
mod reports;
mod result;
mod run;
mod sandbox;
mod session;
mod setup;
mod signature;
mod strays;
mod termination;
mod threads;
mod waiting;

pub use registry::{Functions, RegisterError, Registry, Returns};

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use attempts::Workplace;
use confinement::Confinement;
use hangup::Hangup;
use reports::Reports;
use session::{Broken, Session};
use setup::Stage;
use strays::Strays;

use crate::limits;
use crate::line;
use crate::message::worker::FromWorker;
use crate::task::Outcome;

/// How a worker process ends by itself.
#[derive(Clone, Copy)]
enum ExitStatus {
    /// Its socket ended, or it was told to stop.
    Ended = 0,
    /// It could not become ready, or the daemon said something that is not in the protocol.
    Failed = 1,
    /// What it was started with is not what the daemon gives its workers.
    BadStart = 2,
}

/// Becomes a worker if the daemon started this process as one, and then does not return; otherwise
/// returns at once. Programs call [`init`](crate::init), which does more.
///
/// To be called before anything opens a file or starts a thread: it closes what the process inherited and
/// takes the daemon's variables out of the environment. `registry` is called in a worker alone.
pub(crate) fn run_if_started_as_worker(registry: impl FnOnce() -> Registry) {
    let status = match setup::enter() {
        Ok(Stage::NotAWorker) => return,
        Ok(Stage::Worker(socket)) => {
            line::this_process_is_a_worker();
            converse(socket, Ok(registry))
        }
        Ok(Stage::Unable { socket, reason }) => converse(socket, Err::<fn() -> Registry, _>(reason)),
        Err(error) => {
            complain(&error);
            ExitStatus::BadStart
        }
    };
    std::process::exit(status as i32)
}

/// Talks to the daemon until one of the two ends it.
fn converse(socket: OwnedFd, registry: Result<impl FnOnce() -> Registry, String>) -> ExitStatus {
    match run(Session::new(socket), registry) {
        Ok(status) => status,
        Err(broken) if broken.is_end() => ExitStatus::Ended,
        Err(broken) => {
            complain(&broken);
            ExitStatus::Failed
        }
    }
}

/// Becomes ready, or says why not, and runs attempts until the daemon says stop.
fn run(
    mut session: Session,
    registry: Result<impl FnOnce() -> Registry, String>,
) -> Result<ExitStatus, Broken> {
    let setup = session.open()?;
    let hangup = Hangup::default();
    let functions = registry
        .and_then(|registry| registry().with_commands(setup.commands))
        .and_then(|registry| registry.finish(setup.allow_fault_injection).map_err(|error| error.to_string()))
        .and_then(|functions| match hangup.watch(session.socket()) {
            Ok(()) => Ok(functions),
            Err(error) => Err(format!("cannot watch the daemon's socket: {error}")),
        });
    process::limit_commands(setup.limits.each);
    let workplace = functions.and_then(|functions| {
        let confinement = Confinement::new(setup.limits, setup.threads)?;
        let no_strays = |error| format!("cannot adopt what attempts leave behind: {error}");
        let mut strays = Strays::adopt().map_err(no_strays)?;
        let functions = initialize(functions, &hangup)?;
        strays.spare_present().map_err(no_strays)?;
        let payload_bytes_max = setup.payload_bytes_max;
        Ok(Workplace { functions, hangup, confinement, strays: Some(strays), payload_bytes_max })
    });
    match workplace {
        Ok(workplace) => {
            let functions = workplace.functions.infos();
            // Without the page it is sent one attempt at a time.
            let reports = setup.page.and_then(|page| Reports::on(page).ok());
            let uses_page = reports.is_some();
            let sentinel = Some(workplace.hangup.watcher());
            let capacity = setup.threads;
            session.sender.say(&FromWorker::Ready { functions, capacity, uses_page, sentinel })?;
            match setup.threads {
                1 => attempts::run(&mut session, &workplace, reports)?,
                threads => threads::run(session, threads, &workplace)?,
            }
            Ok(ExitStatus::Ended)
        }
        Err(message) => {
            session.sender.say(&FromWorker::NotReady { message: cut_message(message) })?;
            Ok(ExitStatus::Failed)
        }
    }
}

/// Does what the program wants done once in each worker.
fn initialize(mut functions: Functions, hangup: &Hangup) -> Result<Functions, String> {
    hangup.call_begins();
    let initialized = functions.initialize();
    hangup.call_ended();
    match initialized {
        Ok(()) => Ok(functions),
        Err(failure) => Err(format!("its initializer {}", Outcome::Failed(failure))),
    }
}

/// `message`, cut to what may be sent of one.
fn cut_message(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(limits::MESSAGE_BYTES_MAX));
    message
}

/// One line on standard error, which the daemon logs. It may be gone: then nobody is left to tell.
fn complain(error: &dyn Display) {
    let _ = writeln!(io::stderr(), "poold worker: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_over_the_cap_is_cut_between_characters() {
        let message = "é".repeat(limits::MESSAGE_BYTES_MAX);
        let cut = cut_message(format!("x{message}"));
        assert_eq!(cut.len(), limits::MESSAGE_BYTES_MAX - 1);
        assert!(cut.ends_with('é'));
    }

    #[test]
    fn message_at_the_cap_is_whole() {
        let message = "x".repeat(limits::MESSAGE_BYTES_MAX);
        assert_eq!(cut_message(message.clone()), message);
    }
}
