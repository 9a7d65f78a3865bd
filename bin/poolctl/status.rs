//! `poolctl status`: how the daemon is, on one screen.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::{Phase, PoolStatus, Status, WorkerStatus};
use poold::task::OutcomeKind;
use serde::Serialize;

use crate::error::{Error, OK};
use crate::table::{Table, bytes_text, counted, duration_text};
use crate::{output, workers};

/// Show how the daemon is: pools, workers, queue, and how tasks ended
#[derive(Debug, Args)]
pub(crate) struct StatusCommand {
    /// Print one object
    #[arg(long)]
    json: bool,
}

/// Everything that is shown.
#[derive(Serialize)]
struct Overview {
    #[serde(flatten)]
    status: Status,
    workers: Vec<WorkerStatus>,
}

impl StatusCommand {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let ReplyBody::Status(status) = connection.call(RequestBody::Status)? else {
            return Err(client::Error::UnexpectedReply.into());
        };
        let overview = Overview { status: *status, workers: workers::fetch(&mut connection)? };
        output::print(if self.json { output::json(&overview) } else { render(&overview) })?;
        Ok(OK)
    }
}

fn render(overview: &Overview) -> String {
    let Overview { status, workers } = overview;
    [summary(status), pools(&status.pools), workers::render(workers)].join("\n")
}

fn summary(status: &Status) -> String {
    let phase = match status.phase {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::ShuttingDown => "shutting down",
        Phase::Stopped => "stopped",
    };
    let tasks = status.tasks;
    let outcomes = OutcomeKind::ALL.map(|kind| {
        let count = status.outcomes.get(&kind).copied().unwrap_or(0);
        format!("{count} {kind}")
    });
    let mut text = format!(
        "poold {}, pid {}, up {}, {phase}, {}\n",
        status.version,
        status.pid.0,
        duration_text(status.uptime_ms),
        counted(status.connections, "connection"),
    );
    text += &format!(
        "tasks     {} running, {} pending ({} of arguments), {} delayed\n",
        tasks.running,
        tasks.pending,
        bytes_text(tasks.argument_bytes),
        tasks.delayed,
    );
    text += &format!("outcomes  {}\n", outcomes.join(", "));
    text += &format!("kept      {} ({})\n", counted(tasks.kept, "result"), bytes_text(tasks.result_bytes));
    text += &format!("refused   {}\n", counted(status.refusals, "request"));
    text += &format!("limits    {}\n", status.limits);
    if !status.quarantined.is_empty() {
        let functions: Vec<&str> = status.quarantined.iter().map(|function| function.as_str()).collect();
        text += &format!("blocked   {} (quarantined; `poolctl release` lifts it)\n", functions.join(", "));
    }
    if status.log_lines_dropped > 0 {
        text += &format!("log       {} dropped\n", counted(status.log_lines_dropped, "line"));
    }
    text
}

fn pools(pools: &[PoolStatus]) -> String {
    let mut table =
        Table::new(&["POOL", " WORKERS", " READY", " BUSY", " STANDBY", " PENDING", " RESTARTS", "HEALTH"]);
    for pool in pools {
        let health = match &pool.last_failure {
            None => "ok".to_owned(),
            Some(failure) if pool.degraded => format!("degraded (last failure: {failure})"),
            Some(failure) => format!("failing (last failure: {failure})"),
        };
        table.push([
            pool.name.to_string(),
            pool.workers.to_string(),
            pool.ready.to_string(),
            pool.busy.to_string(),
            pool.standby.to_string(),
            pool.pending.to_string(),
            pool.restarts.to_string(),
            health,
        ]);
    }
    table.render()
}
