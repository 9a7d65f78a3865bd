//! `poolctl functions`: what can be run.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::FunctionStatus;

use crate::error::{Error, OK};
use crate::table::Table;
use crate::{output, pages};

/// List the functions that can be run, and the pools that have them
#[derive(Debug, Args)]
pub(crate) struct Functions {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl Functions {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let functions = pages::all(|rows: &[FunctionStatus]| {
            match connection.call(RequestBody::Functions { skip: rows.len() as u32 })? {
                ReplyBody::Functions { rows, more } => Ok((rows, more)),
                _ => Err(client::Error::UnexpectedReply.into()),
            }
        })?;
        output::print(if self.json { output::json(&functions) } else { render(&functions) })?;
        Ok(OK)
    }
}

fn render(functions: &[FunctionStatus]) -> String {
    let mut table = Table::new(&["FUNCTION", "POOLS", "WHAT IT DOES"]);
    for function in functions {
        let pools: Vec<&str> = function.pools.iter().map(|pool| pool.as_str()).collect();
        let summary = match function.quarantined {
            true => format!("(quarantined) {}", function.summary),
            false => function.summary.clone(),
        };
        table.push([function.signature.clone(), pools.join(","), summary]);
    }
    table.render()
}
