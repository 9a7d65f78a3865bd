//! `poolctl wait`: the results of tasks, once they are done.

use clap::Args;
use poold::client::Connection;
use poold::id::TaskId;

use crate::error::Error;
use crate::result;

/// Wait until tasks are done and print their results, in the order given
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The tasks, as `submit --detach` printed them
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<TaskId>,
    /// Print an object per task: {id, outcome, result | error}
    #[arg(long)]
    json: bool,
}

impl Wait {
    pub(crate) fn run(self, connection: Connection) -> Result<u8, Error> {
        result::print_each(connection, &self.tasks, true, self.json)
    }
}
