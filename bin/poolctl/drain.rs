//! `poolctl drain`: the daemon finishes what it accepted, and stops.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};

use crate::error::{Error, OK};

/// Have the daemon take nothing new, finish what it accepted, and stop; returns when all is done
#[derive(Debug, Args)]
pub(crate) struct Drain {}

impl Drain {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        match connection.call(RequestBody::Drain)? {
            ReplyBody::Drained => Ok(OK),
            _ => Err(client::Error::UnexpectedReply.into()),
        }
    }
}
