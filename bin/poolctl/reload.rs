//! `poolctl reload`: the daemon reads its configuration again.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};

use crate::error::{Error, OK};
use crate::output::Output;

/// Have the daemon read its configuration again; returns when it is in force, and prints what changed
#[derive(Debug, Args)]
pub(crate) struct Reload {}

impl Reload {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let ReplyBody::Reloaded { changes } = connection.call(RequestBody::Reload)? else {
            return Err(client::Error::UnexpectedReply.into());
        };
        let mut output = Output::open();
        for change in &changes {
            output.write_line(change)?;
        }
        if changes.is_empty() {
            output.write_line("nothing changed")?;
        }
        output.flush()?;
        Ok(OK)
    }
}
