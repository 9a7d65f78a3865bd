//! `poolctl release`: a quarantined function is taken again.

use clap::Args;
use poold::client::{self, Connection};
use poold::id::FunctionName;
use poold::message::client::{ReplyBody, RequestBody};

use crate::error::{Error, OK};

/// Take new tasks of functions again that were quarantined because they killed too many workers in a row
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The functions; `poolctl status` names those that are quarantined
    #[arg(required = true, value_name = "FUNCTION")]
    functions: Vec<FunctionName>,
}

impl Release {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        for function in self.functions {
            match connection.call(RequestBody::Release { function })? {
                ReplyBody::Released { .. } => {}
                _ => return Err(client::Error::UnexpectedReply.into()),
            }
        }
        Ok(OK)
    }
}
