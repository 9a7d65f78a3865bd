//! `poolctl functions`: what can be run.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::FunctionStatus;

use crate::error::{Error, OK};
use crate::output;
use crate::table::Table;

/// List the functions that can be run, and the pools that have them
#[derive(Debug, Args)]
pub(crate) struct Functions {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl Functions {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let ReplyBody::Functions(functions) = connection.call(RequestBody::Functions)? else {
            return Err(client::Error::UnexpectedReply.into());
        };
        output::print(if self.json { output::json(&functions) } else { render(&functions) })?;
        Ok(OK)
    }
}

fn render(functions: &[FunctionStatus]) -> String {
    let mut table = Table::new(&["FUNCTION", "POOLS", "WHAT IT DOES"]);
    for function in functions {
        let pools: Vec<&str> = function.pools.iter().map(|pool| pool.as_str()).collect();
        table.push([function.signature.clone(), pools.join(","), function.summary.clone()]);
    }
    table.render()
}
