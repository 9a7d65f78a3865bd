//! What `map` says of each line: on standard output, on standard error, and in its exit status.

use std::fmt::Display;
use std::rc::Rc;

use poold::id::TaskId;
use poold::task::Outcome;

use crate::error::{Error, OK, advice, outcome_status};
use crate::outcome;
use crate::output::Output;
use crate::terminal;

/// How a line ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Its task did.
    Done(TaskId, Outcome),
    /// Its task was accepted and goes on by itself.
    Detached(TaskId),
    /// It is no task, for a reason of its own.
    Refused(Error),
    /// It is no task, for a reason that would meet every further line: `map` ends.
    Stopped(Rc<Error>),
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The result.
    Plain,
    /// The number of the line, a tab, the result.
    Numbered,
    /// An object.
    Json,
}

/// Prints endings in the order they are told.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    style: Style,
    /// The smallest line that is not ok, and its exit status.
    first_failure: Option<(u64, u8)>,
    stopped: bool,
    /// Lines without a result that are to be printed only if a result follows them after all.
    lines_owed: u64,
}

impl Report {
    pub(super) fn new(style: Style) -> Self {
        Report { output: Output::open(), style, first_failure: None, stopped: false, lines_owed: 0 }
    }

    /// The exit status for all that was told.
    pub(super) fn status(&self) -> u8 {
        self.first_failure.map_or(OK, |(_, status)| status)
    }

    /// Makes all that was told visible.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.output.flush()
    }

    /// Prints how `line` ended.
    pub(super) fn tell(&mut self, line: u64, ending: Ending) -> Result<(), Error> {
        match ending {
            Ending::Stopped(error) => self.stop(line, &error),
            Ending::Done(task, outcome) => self.done(line, task, outcome),
            Ending::Detached(task) if self.style == Style::Json => {
                self.line(format!(r#"{{"line":{line},"id":"{task}"}}"#))
            }
            Ending::Detached(task) => self.result(line, task.to_string()),
            Ending::Refused(error) => self.refused(line, &error),
        }
    }

    fn done(&mut self, line: u64, task: TaskId, outcome: Outcome) -> Result<(), Error> {
        self.fail(line, outcome_status(&outcome));
        match outcome {
            outcome if self.style == Style::Json => self.line(outcome::as_json(Some(line), task, &outcome)?),
            Outcome::Ok(result) => self.result(line, outcome::as_line(&result)?),
            outcome => self.no_result(line, &format_args!("{outcome}{}", advice(&outcome))),
        }
    }

    fn refused(&mut self, line: u64, error: &Error) -> Result<(), Error> {
        self.fail(line, error.status());
        if self.style == Style::Json {
            let error = outcome::json_string(&error.to_string());
            return self.line(format!(r#"{{"line":{line},"id":null,"outcome":"refused","error":{error}}}"#));
        }
        self.no_result(line, error)
    }

    /// Says once why `map` ends. A line for this one, and for those after it, would follow the last result.
    fn stop(&mut self, line: u64, error: &Error) -> Result<(), Error> {
        self.fail(line, error.status());
        self.lines_owed += 1;
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        self.flush()?;
        terminal::complain_of_line(line, format_args!("{error}; map ends here"));
        Ok(())
    }

    fn no_result(&mut self, line: u64, complaint: &impl Display) -> Result<(), Error> {
        self.result(line, "")?;
        self.flush()?;
        terminal::complain_of_line(line, complaint);
        Ok(())
    }

    fn result(&mut self, line: u64, text: impl AsRef<[u8]>) -> Result<(), Error> {
        match self.style {
            Style::Numbered => self.output.write(format!("{line}\t").as_bytes())?,
            Style::Plain => {
                for _ in 0..std::mem::take(&mut self.lines_owed) {
                    self.output.write_line("")?;
                }
            }
            Style::Json => {}
        }
        self.line(text)
    }

    fn line(&mut self, text: impl AsRef<[u8]>) -> Result<(), Error> {
        self.output.write_line(text)
    }

    fn fail(&mut self, line: u64, status: u8) {
        if status != OK && self.first_failure.is_none_or(|(first, _)| line < first) {
            self.first_failure = Some((line, status));
        }
    }
}
