//! Telling the tasks of a run apart.
//!
//! ```text
//!   row 17..24 ──single_out(20)──> row 17..19, row 20, row 21..24      in the table, in line, in its worker
//! ```
//!
//! All that is done to single tasks is done to rows of one. A run stays one row as long as it is only passed on:
//! submitted, queued, sent, taken back, and finished from its front.

use super::Supervisor;
use super::queue::Cut;
use super::tasks::{State, TaskKey};
use crate::id::{AttemptId, WorkerId};

impl Supervisor {
    /// The row of the task of that number, of it alone.
    pub(super) fn single_out(&mut self, number: u64) -> Option<TaskKey> {
        let key = self.tasks.key(number)?;
        // Less than the row has tasks.
        let before = (number - self.tasks.get(key).id.number) as u32;
        if before > 0 {
            self.split(key, before);
        }
        Some(if self.tasks.get(key).count() > 1 { self.split(key, 1) } else { key })
    }

    /// Gives each task of a row one of its own.
    pub(super) fn take_apart(&mut self, key: TaskKey) -> Vec<TaskKey> {
        let mut rows = Vec::new();
        while self.tasks.get(key).count() > 1 {
            rows.push(self.split(key, 1));
        }
        rows.push(key);
        rows
    }

    /// Has an attempt that a worker holds be by itself there, and its task be a row.
    pub(super) fn single_out_attempt(&mut self, worker: WorkerId, attempt: AttemptId) {
        self.part_attempts(worker, attempt);
        self.part_attempts(worker, attempt.plus(1));
    }

    /// Has the run which an attempt is one of, unless it is the first, be two: the second begins with it.
    pub(super) fn part_attempts(&mut self, worker: WorkerId, attempt: AttemptId) {
        let Some(worker) = self.slot_of(worker).and_then(|slot| slot.worker()) else { return };
        let Some(held) = worker.held.get(attempt) else { return };
        if let (Some(key), Some(before @ 1..)) = (held.task, held.place_of(attempt)) {
            self.split(key, before);
        }
    }

    /// Gives the first `count` tasks of a row, of which there are more, one of their own: wherever that row is, the
    /// new one stands before it.
    fn split(&mut self, key: TaskKey, count: u32) -> TaskKey {
        let cut = self.cut(key, count);
        let task = self.tasks.get(cut.first);
        match task.state {
            State::Pending { ticket } => {
                let (pool, place) = (task.pool, task.place(ticket));
                self.pools[pool.0].queue.split(&mut self.tasks.in_line, place, cut);
            }
            State::Running { worker, attempt, .. } => {
                if let Some(worker) = self.slot_of(worker).and_then(|slot| slot.worker_mut()) {
                    worker.held.split(attempt, count, cut.first);
                }
            }
            State::Delayed | State::Reaping { .. } | State::Done { .. } => {}
        }
        cut.first
    }

    /// Gives the first `count` tasks of a row, of which there are more, one of their own, which is in no line and in no
    /// worker.
    pub(super) fn cut(&mut self, key: TaskKey, count: u32) -> Cut {
        let first = self.tasks.split(key, count);
        let (task, ticket_of_rest) = (self.tasks.get(first), self.tasks.get(key).ticket());
        let (client, ticket) = (task.submitter.client, task.ticket());
        if let Some(client) = self.clients.get_mut(&client) {
            client.attached.insert_before(&mut self.tasks.attached, first, key);
        }
        Cut { first, ticket, rest: key, ticket_of_rest }
    }
}
