//! `poolctl submit`: one task, and its result.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use poold::client::{self, Connection};
use poold::id::{FunctionName, TaskId};
use poold::message::client::{ReplyBody, RequestBody};
use poold::task::{Outcome, Payload, Started};

use crate::error::{Error, OK};
use crate::outcome;
use crate::output;
use crate::submission::Submission;

/// Run a function and print its result
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// What to run; `poolctl functions` lists what there is
    function: FunctionName,
    /// Its arguments; after `--` whatever they look like
    #[arg(value_name = "ARG", allow_negative_numbers = true)]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) submission: Submission,
    /// Print an object: {id, outcome, result | error}
    #[arg(long)]
    json: bool,
}

impl Submit {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let spec = self.submission.task(self.function.clone());
        let args = Payload::from_args(self.args.iter().map(|arg| arg.as_bytes()));
        let ReplyBody::Accepted { task } =
            connection.call(RequestBody::Submit { spec: spec.into(), args })?
        else {
            return Err(client::Error::UnexpectedReply.into());
        };
        if self.submission.detach {
            output::print(if self.json { format!("{{\"id\":\"{task}\"}}\n") } else { format!("{task}\n") })?;
            return Ok(OK);
        }
        let outcome = match connection.receive() {
            Ok(ReplyBody::Done { outcome, .. }) => outcome,
            Ok(_) => return Err(client::Error::UnexpectedReply.into()),
            Err(client::Error::Gone) => Outcome::Lost { started: Started::Unknown },
            Err(error) => return Err(error.into()),
        };
        report(self.function.to_string(), task, outcome, self.json)
    }
}

/// Prints how a task ended: its result, or as JSON whatever came of it.
///
/// # Errors
/// [`Error::NotOk`] with `subject` where that was not said on standard output.
pub(crate) fn report(subject: String, task: TaskId, outcome: Outcome, json: bool) -> Result<u8, Error> {
    if json {
        output::print(outcome::as_json(None, task, &outcome)? + "\n")?;
        return Ok(crate::error::outcome_status(&outcome));
    }
    match outcome {
        Outcome::Ok(result) => {
            output::print(outcome::as_is(&result)?)?;
            Ok(OK)
        }
        outcome => Err(Error::NotOk { subject, outcome }),
    }
}
