//! `poolctl result`: the results of tasks that are done. What `wait` shares with it is here.

use clap::Args;
use poold::client::{self, Connection};
use poold::id::TaskId;
use poold::message::client::{ReplyBody, RequestBody};

use crate::error::{Error, OK};
use crate::{output, submit, tasks};

/// Print the results of tasks that are done; status 4 where one is not
#[derive(Debug, Args)]
pub(crate) struct Results {
    /// The tasks, as `submit --detach` printed them
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<TaskId>,
    /// Print an object per task: {id, outcome, result | error}, or {id, state} of one that is not done
    #[arg(long)]
    json: bool,
}

impl Results {
    pub(crate) fn run(self, connection: Connection) -> Result<u8, Error> {
        print_each(connection, &self.tasks, false, self.json)
    }
}

/// Asks for one result after the other and prints each in the order asked for. A task that is not ok is
/// complained of, and the next one follows.
///
/// # Returns
/// The exit status for the first that is not ok.
pub(crate) fn print_each(
    mut connection: Connection,
    tasks: &[TaskId],
    wait: bool,
    json: bool,
) -> Result<u8, Error> {
    let mut status = OK;
    for &task in tasks {
        let this = match print_one(&mut connection, task, wait, json) {
            Ok(this) => this,
            Err(
                error @ (Error::NotOk { .. }
                | Error::NotDone { .. }
                | Error::Client(client::Error::Refused(_))),
            ) => {
                error.complain();
                error.status()
            }
            Err(error) => return Err(error),
        };
        if status == OK {
            status = this;
        }
    }
    Ok(status)
}

fn print_one(connection: &mut Connection, task: TaskId, wait: bool, json: bool) -> Result<u8, Error> {
    match connection.call(RequestBody::Result { task, wait })? {
        ReplyBody::Done { outcome, .. } => submit::report(task.to_string(), task, outcome, json),
        ReplyBody::NotDone { state, .. } => {
            let state = tasks::state_word(state);
            let error = Error::NotDone { task, state };
            if !json {
                return Err(error);
            }
            output::print(format!("{{\"id\":\"{task}\",\"state\":\"{state}\"}}\n"))?;
            Ok(error.status())
        }
        _ => Err(client::Error::UnexpectedReply.into()),
    }
}
