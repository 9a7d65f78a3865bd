//! `poolctl workers`: the slots and their processes.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::{WorkerState, WorkerStatus};

use crate::error::{Error, OK};
use crate::table::{Table, bytes_text, duration_text, or_dash};
use crate::{output, pages};

/// List the workers: what each is doing, and what it has done
#[derive(Debug, Args)]
pub(crate) struct Workers {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl Workers {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let workers = fetch(&mut connection)?;
        output::print(if self.json { output::json(&workers) } else { render(&workers) })?;
        Ok(OK)
    }
}

/// All workers, page by page.
pub(crate) fn fetch(connection: &mut Connection) -> Result<Vec<WorkerStatus>, Error> {
    pages::all(|rows: &[WorkerStatus]| {
        match connection.call(RequestBody::Workers { skip: rows.len() as u32 })? {
            ReplyBody::Workers { rows, more } => Ok((rows, more)),
            _ => Err(client::Error::UnexpectedReply.into()),
        }
    })
}

/// A row for each worker.
pub(crate) fn render(workers: &[WorkerStatus]) -> String {
    let mut table = Table::new(&[
        " SLOT",
        "POOL",
        " PID",
        "STATE",
        "TASK",
        "FUNCTION",
        " RUNNING",
        " CAPACITY",
        " HELD",
        " STUCK",
        " ATTEMPTS",
        " RESTARTS",
        " RSS",
    ]);
    for worker in workers {
        table.push([
            worker.slot.0.to_string(),
            worker.pool.to_string(),
            or_dash(worker.pid.map(|pid| pid.0)),
            state_word(worker.state).to_owned(),
            or_dash(worker.task),
            or_dash(worker.function.as_ref()),
            or_dash(worker.running_ms.map(duration_text)),
            worker.capacity.to_string(),
            worker.held.to_string(),
            worker.stuck.to_string(),
            worker.attempts.to_string(),
            worker.restarts.to_string(),
            or_dash(worker.rss_bytes.map(bytes_text)),
        ]);
    }
    table.render()
}

fn state_word(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Standby => "standby",
        WorkerState::Stopping => "stopping",
        WorkerState::Down => "down",
    }
}
