//! `poolctl cancel`: end tasks, waiting or running.

use clap::Args;
use poold::client::{self, Connection};
use poold::id::TaskId;
use poold::message::client::{CancelAnswer, ReplyBody, RequestBody};

use crate::error::{Error, OK};
use crate::output;

/// Cancel tasks, waiting or running; one that has ended before stays as it is
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The tasks, as `submit --detach` or `poolctl tasks` prints them
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<TaskId>,
}

impl Cancel {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let mut status = OK;
        for task in self.tasks {
            match connection.call(RequestBody::Cancel { task }) {
                Ok(ReplyBody::CancelAnswered { answer, .. }) => {
                    let answer = match answer {
                        CancelAnswer::Cancelled => "cancelled",
                        CancelAnswer::AlreadyDone => "already done",
                    };
                    output::print(format!("{task} {answer}\n"))?;
                }
                Ok(_) => return Err(client::Error::UnexpectedReply.into()),
                Err(client::Error::Refused(refusal)) => {
                    let error = Error::from(client::Error::Refused(refusal));
                    error.complain();
                    status = error.status();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(status)
    }
}
