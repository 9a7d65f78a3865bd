//! `poolctl`: the thin client. Parses a command line, calls the command, turns its end into an exit status.
//!
//! One file per command, of the same name; the other files are what commands share. Results go to
//! standard output and nothing else does; every error is one line on standard error.

mod cancel;
mod completions;
mod drain;
mod error;
mod functions;
mod map;
mod outcome;
mod output;
mod pages;
mod release;
mod reload;
mod result;
mod run;
mod status;
mod submission;
mod submit;
mod table;
mod tasks;
mod terminal;
#[path = "../usage.rs"]
mod usage;
mod wait;
mod workers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use poold::client::{self, Connection};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;

use crate::error::Error;
use crate::usage::usage_line;

/// What `poolctl --help` says of how commands end.
const EXIT_STATUSES: &str = "\
Exit status:
  0      ok
  1      the function failed
  2      usage, or a standard stream that cannot be read or written
  3      no daemon to talk to
  4      the daemon refused (unknown function, queue full, not allowed);
         for `result`, also that a task is not done
  124    timed out
  125    cancelled
  126    lost: the daemon that had accepted the task stopped
  127    the worker exited by itself
  128+N  the worker died of signal N
  130    interrupted: what was submitted is cancelled, unless detached
  141    standard output was closed: the rest is cancelled
`run` ends with the status of its command; see `poolctl run --help`.
`map`, `wait` and `result` end with the status of the first line or task that is not ok.";

/// Between two tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Submits tasks to a pool of worker processes, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, after_help = EXIT_STATUSES, arg_required_else_help = false)]
struct Cli {
    /// The daemon's socket, instead of $POOLD_SOCKET, else $XDG_RUNTIME_DIR/poold.sock, else /run/poold/poold.sock
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where nobody listens, go on trying for so long: 10s
    #[arg(long, global = true, value_name = "DURATION", value_parser = submission::parse_duration, default_value = "0s")]
    connect_timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Submit),
    Map(map::Map),
    Run(run::Run),
    Result(result::Results),
    Wait(wait::Wait),
    Cancel(cancel::Cancel),
    Status(status::StatusCommand),
    Tasks(tasks::Tasks),
    Workers(workers::Workers),
    Functions(functions::Functions),
    Reload(reload::Reload),
    Drain(drain::Drain),
    Release(release::Release),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return finish(not_a_command(&error, &arguments)),
    };
    match cli.command {
        // Its command gets them.
        Command::Run(_) => {}
        Command::Map(_) => clear_and_exit_on_signals(),
        _ => exit_on_signals(),
    }
    finish(run(cli))
}

/// Runs the command: its exit status where it has said all there is to say.
fn run(cli: Cli) -> Result<u8, Error> {
    let connect = || connect(cli.socket.as_deref(), cli.connect_timeout);
    match cli.command {
        Command::Submit(command) => command.run(connect()?),
        Command::Map(command) => command.run(connect()?),
        Command::Run(command) => Ok(command.run(connect)),
        Command::Result(command) => command.run(connect()?),
        Command::Wait(command) => command.run(connect()?),
        Command::Cancel(command) => command.run(connect()?),
        Command::Status(command) => command.run(connect()?),
        Command::Tasks(command) => command.run(connect()?),
        Command::Workers(command) => command.run(connect()?),
        Command::Functions(command) => command.run(connect()?),
        Command::Reload(command) => command.run(connect()?),
        Command::Drain(command) => command.run(connect()?),
        Command::Release(command) => command.run(connect()?),
        Command::Completions(command) => command.run(Cli::command()),
    }
}

/// Connects to the daemon, again and again for `patience` where nobody listens: nothing tells when
/// somebody begins to.
fn connect(socket: Option<&Path>, patience: Duration) -> Result<Connection, client::Error> {
    let give_up = Instant::now() + patience;
    loop {
        match Connection::open(socket) {
            Err(client::Error::NoDaemon { .. }) if Instant::now() < give_up => thread::sleep(CONNECT_PAUSE),
            connected => return connected,
        }
    }
}

fn finish(end: Result<u8, Error>) -> ExitCode {
    let status = end.unwrap_or_else(|error| {
        error.complain();
        error.status()
    });
    ExitCode::from(status)
}

/// Prints help and version where those were asked for; anything else is a mistake, told in one line.
fn not_a_command(error: &clap::Error, arguments: &[OsString]) -> Result<u8, Error> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(error.to_string())?;
            Ok(error::OK)
        }
        _ => Err(Error::Usage(usage_line(error, &command_of(arguments)))),
    }
}

/// The command that `arguments` are for, with its subcommand if they name one.
fn command_of(arguments: &[OsString]) -> String {
    let cli = Cli::command();
    let subcommand = arguments.iter().skip(1).find_map(|argument| cli.find_subcommand(argument));
    subcommand.map_or("poolctl".to_owned(), |subcommand| format!("poolctl {}", subcommand.get_name()))
}

/// Ends the program on Ctrl-C or SIGTERM. The end of the connection cancels what was submitted.
fn exit_on_signals() {
    for signal in [SIGINT, SIGTERM] {
        let always = Arc::new(AtomicBool::new(true));
        // Without it the system's own way remains: the signal ends the program, and so the connection.
        let _ = register_conditional_shutdown(signal, error::INTERRUPTED.into(), always);
    }
}

/// The same, for a command that shows progress.
fn clear_and_exit_on_signals() {
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) else { return };
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            terminal::clear_before_exit();
            std::process::exit(error::INTERRUPTED.into());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from(arguments).expect_err("should be refused");
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        usage_line(&error, &command_of(&arguments))
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_error_is_one_line_with_what_may_be_meant() {
        let line = usage(&["poolctl", "submit", "--retrys", "3", "is_prime"]);
        assert!(!line.contains('\n'), "{line}");
        assert!(line.starts_with("unexpected argument '--retrys' found; "), "{line}");
        assert!(line.contains("'--retries'"), "{line}");
    }

    #[test]
    fn usage_error_names_the_command_whose_help_says_more() {
        for (arguments, command) in [
            (&["poolctl", "submit", "f", "--delay", "x"][..], "poolctl submit"),
            (&["poolctl", "--socket", "/s", "run"], "poolctl run"),
            (&["poolctl", "sbmit"], "poolctl"),
        ] {
            let line = usage(arguments);
            assert!(line.ends_with(&format!("; `{command} --help` says more")), "{line}");
        }
    }

    #[test]
    fn submission_negative_numbers_are_arguments() {
        let cli = Cli::try_parse_from(["poolctl", "submit", "abs", "-5", "--priority", "-3", "-1.5"]);
        let Command::Submit(submit) = cli.expect("should parse").command else { panic!("another command") };
        assert_eq!(submit.args, ["-5", "-1.5"]);
        assert_eq!(submit.submission.priority, -3);
    }

    #[test]
    fn submission_what_follows_two_dashes_is_an_argument() {
        let cli = Cli::try_parse_from(["poolctl", "submit", "echo", "--", "--detach", "--", "-x"]);
        let Command::Submit(submit) = cli.expect("should parse").command else { panic!("another command") };
        assert_eq!(submit.args, ["--detach", "--", "-x"]);
        assert!(!submit.submission.detach);
    }

    #[test]
    fn submission_options_after_the_arguments_are_options() {
        let cli = Cli::try_parse_from(["poolctl", "submit", "sleep", "10", "--detach", "--socket", "/s"]);
        let cli = cli.expect("should parse");
        assert_eq!(cli.socket, Some(PathBuf::from("/s")));
        let Command::Submit(submit) = cli.command else { panic!("another command") };
        assert!(submit.submission.detach);
        assert_eq!(submit.args, ["10"]);
    }
}
