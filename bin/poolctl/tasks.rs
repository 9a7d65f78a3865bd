//! `poolctl tasks`: the tasks that are not done, and the results that are kept.

use clap::Args;
use poold::client::{self, Connection};
use poold::message::client::{ReplyBody, RequestBody};
use poold::message::status::{TaskState, TaskStatus};

use crate::error::{Error, OK};
use crate::table::{Table, duration_text, or_dash};
use crate::{output, pages};

/// List the tasks that are not done, and those whose results are kept
#[derive(Debug, Args)]
pub(crate) struct Tasks {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

impl Tasks {
    pub(crate) fn run(self, mut connection: Connection) -> Result<u8, Error> {
        let tasks = fetch(&mut connection)?;
        output::print(if self.json { output::json(&tasks) } else { render(&tasks) })?;
        Ok(OK)
    }
}

/// All tasks, page by page.
fn fetch(connection: &mut Connection) -> Result<Vec<TaskStatus>, Error> {
    pages::all(|rows: &[TaskStatus]| {
        let after = rows.last().map_or(0, |task| task.id.number);
        match connection.call(RequestBody::Tasks { after })? {
            ReplyBody::Tasks { rows, more } => Ok((rows, more)),
            _ => Err(client::Error::UnexpectedReply.into()),
        }
    })
}

fn render(tasks: &[TaskStatus]) -> String {
    let mut table = Table::new(&[
        "ID",
        "FUNCTION",
        "POOL",
        "STATE",
        " PRIORITY",
        " UID",
        "DETACHED",
        " ATTEMPTS",
        " AGE",
        " SLOT",
    ]);
    for task in tasks {
        table.push([
            task.id.to_string(),
            task.function.to_string(),
            task.pool.to_string(),
            state_word(task.state).to_owned(),
            task.priority.to_string(),
            task.user.0.to_string(),
            if task.detached { "yes" } else { "no" }.to_owned(),
            task.attempts.to_string(),
            duration_text(task.age_ms),
            or_dash(task.slot.map(|slot| slot.0)),
        ]);
    }
    table.render()
}

/// What a task is doing, or how it ended.
pub(crate) fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Delayed => "delayed",
        TaskState::Pending => "pending",
        TaskState::Running => "running",
        TaskState::Done(kind) => kind.as_str(),
    }
}
