//! The daemon's command line: flags to a configuration, errors to one line and an exit status.
//!
//! It decides nothing else; [`poold::daemon`] is what runs.

mod usage;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use poold::daemon::config::{Config, ConfigError, Source, reload};
use poold::daemon::{self, Audience, RunOptions};
use poold::limits::WORKERS_PER_POOL_MAX;
use poold::worker::Registry;

/// Exit status of a wrong command line or configuration: starting again would not help.
const WRONG_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
It listens on the first that is set: --socket, `socket` in the configuration, $POOLD_SOCKET, \
$XDG_RUNTIME_DIR/poold.sock, /run/poold/poold.sock. A socket handed over by systemd comes before all of them.

TERM or INT stops it: running tasks may go on for `drain_timeout`; a second one stops it at once. HUP reads the \
configuration again. RUST_LOG sets how much it logs to standard error.

Exit status: 0 drained; 1 forced to stop, or failed; 2 wrong usage or configuration; 3 another poold has the socket.";

/// Keeps worker processes alive and runs tasks in them, in the foreground.
///
/// `poolctl submit FUNCTION [ARG]...` hands it a task. Without a configuration there are two pools: `cpu`, with a
/// worker per available core, and `io`, a worker of 32 threads for `load_url`.
#[derive(Parser)]
#[command(name = "poold", version, after_long_help = AFTER_HELP)]
struct Flags {
    /// Read the configuration (TOML) from FILE; without this flag no file is read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Listen on PATH, whatever the configuration says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Keep N workers, whatever the configuration says: in its only pool or, if it names none, in `cpu`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_PER_POOL_MAX)))]
    workers: Option<u32>,

    /// Check the configuration with the other flags, say whether it is ok, and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    poold::init(Registry::built_in);
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => return answer(&error),
    };
    let source = Source { file: flags.config, socket: flags.socket, workers: flags.workers };
    let done = if flags.check_config { check(&source) } else { run(source) };
    done.unwrap_or_else(|error| fail(WRONG_USAGE, error))
}

fn check(source: &Source) -> Result<ExitCode, ConfigError> {
    source.read()?;
    let name = source.file.as_deref().map_or("no file".into(), Path::to_string_lossy);
    // Standard output may be closed; the exit status says the same.
    let _ = writeln!(io::stdout(), "{name}: ok");
    Ok(ExitCode::SUCCESS)
}

fn run(source: Source) -> Result<ExitCode, ConfigError> {
    // Workers of a pool are not to know the variables of another one.
    let template = poold::fork_template(Registry::built_in);
    let config = source.read()?;
    let reload = Box::new(move |old: &Config| reload(&source, old).map_err(|error| error.to_string()));
    let options = RunOptions { config, reload, audience: Audience::Everyone, template };
    Ok(match daemon::run(options) {
        Ok(exit) => ExitCode::from(exit.exit_status()),
        Err(error) => fail(error.exit_status(), format!("poold: {error}")),
    })
}

fn fail(status: u8, error: impl Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(status)
}

/// What was asked for instead of a run (`--help`, `--version`), or one line about a wrong command line.
fn answer(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Standard output may be closed; there is nobody to tell then.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    fail(WRONG_USAGE, format!("poold: {}", usage::usage_line(error, "poold")))
}
