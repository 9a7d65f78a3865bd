//! Standard output: where results go, and nothing else does.
//!
//! Rust programs ignore SIGPIPE, so a closed pipe shows as an error of a write. Every write goes through
//! here, and that error has a name of its own.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::error::Error;
use crate::terminal;

/// Standard output, held for as long as the command runs. Written out at the latest by [`Output::flush`].
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl Output {
    /// Standard output.
    pub(crate) fn open() -> Self {
        let stdout = io::stdout().lock();
        Output { is_terminal: stdout.is_terminal(), stdout: BufWriter::new(stdout) }
    }

    /// Writes `bytes` as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.is_terminal {
            terminal::clear();
        }
        self.stdout.write_all(bytes).map_err(from_write_error)
    }

    /// Writes `text` and ends the line.
    pub(crate) fn write_line(&mut self, text: impl AsRef<[u8]>) -> Result<(), Error> {
        self.write(text.as_ref())?;
        self.write(b"\n")
    }

    /// Makes all that was written visible.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.stdout.flush().map_err(from_write_error)
    }
}

/// Writes all of `text` and makes it visible.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut output = Output::open();
    output.write(text.as_ref())?;
    output.flush()
}

/// `value` as JSON on one line.
pub(crate) fn json(value: &impl Serialize) -> String {
    // Fails on maps whose keys are no strings, and the rows of listings have none.
    let json = serde_json::to_string(value).expect("a row of a listing can be written as JSON");
    json + "\n"
}

fn from_write_error(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe { Error::OutputClosed } else { Error::Output(error) }
}
