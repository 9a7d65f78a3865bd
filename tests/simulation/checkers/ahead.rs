//! What is sent ahead waits in a worker no longer than it would in line: not behind an attempt that is known to
//! run while another worker is idle, and not before a more urgent task that waits. A worker that does nothing is
//! ended in time, whether it still holds what it was sent or all of it was taken back; till then it is sent no more
//! than it would hold.

use std::time::Duration;

use poold::limits::ATTEMPTS_APART_MAX;
use poold::supervisor::{Action, Supervisor};

use super::order::waits_for;
use super::utilization::{has_room, may_stand_by};
use super::{Checker, Verdict, demand};
use crate::history::{Attempt, History, Task, Worker};
use crate::trial::Step;

/// How long two looks at a worker may take, with what a clock may be late.
const TWO_LOOKS: Duration = Duration::from_millis(150);

/// Watches what waits in workers.
pub struct Ahead;

impl Checker for Ahead {
    fn name(&self) -> &'static str {
        "ahead"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::SendAttempt { worker: id, attempt, .. } = action else { return Ok(()) };
        let Some(worker) = history.workers.get(id) else { return Ok(()) };
        let Some(first) = worker.taken_back.first() else { return Ok(()) };
        demand(!worker.holds.is_empty() && attempt.0 - first.0 <= ATTEMPTS_APART_MAX, || {
            format!("worker {id} is sent more, and has yet to pass over {}", first.0)
        })
    }

    fn settled(&mut self, history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        if !history.stopped_at.is_empty() {
            return Ok(());
        }
        let ahead = history.workers.iter().filter(|(_, worker)| worker.ahead > worker.capacity);
        for (id, worker) in ahead.filter(|(_, worker)| worker.is_ready()) {
            let held = || worker.holds.iter().filter_map(|(attempt, _)| history.attempt(*id, *attempt));
            let has_begun = held().any(|(_, held)| held.started_at.is_some());
            let is_waiting = |held: &Attempt| held.started_at.is_none() && held.recall_at.is_none();
            let waiting = || held().filter(|(_, held)| is_waiting(held)).map(|(task, _)| task);
            let is_forgotten = worker.is_silent_since(history.now, worker.start_timeout + TWO_LOOKS);
            let has_to_act = waiting().next().is_some() || !worker.taken_back.is_empty();
            demand(!is_forgotten || has_begun || worker.is_harmful() || !has_to_act, || {
                format!("worker {id} does nothing with what it was sent, and nothing follows from that")
            })?;
            if is_relieved(history, worker) {
                continue;
            }
            for task in waiting() {
                demand(!has_begun || !is_idle_beside(history, worker), || {
                    format!("task {} waits in {id} behind another, and another worker is idle", task.id)
                })?;
                let urgent = history.live_tasks().find(|other| is_kept_waiting(history, other, task, worker));
                let urgent = urgent.map(|task| task.id);
                demand(urgent.is_none(), || {
                    format!("task {} is sent ahead to {id}, and {urgent:?} is more urgent", task.id)
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a worker of the same pool has nothing to do, and is sure to be in service.
fn is_idle_beside(history: &History, worker: &Worker) -> bool {
    let others = history.workers.values().filter(|other| other.pool == worker.pool);
    let mut idle = others.filter(|other| has_room(history, other));
    !may_stand_by(history, &worker.pool) && idle.next().is_some()
}

/// Whether some worker of the same pool is just being relieved of an attempt.
fn is_relieved(history: &History, worker: &Worker) -> bool {
    let workers = history.workers.iter().filter(|(_, other)| other.pool == worker.pool);
    let mut held = workers.flat_map(|(id, other)| other.holds.iter().map(|(attempt, _)| (*id, *attempt)));
    held.any(|(id, attempt)| {
        history.attempt(id, attempt).is_some_and(|(_, attempt)| attempt.recall_at.is_some())
    })
}

fn is_kept_waiting(history: &History, other: &Task, task: &Task, worker: &Worker) -> bool {
    let (mine, others) = (task.submission.spec.priority, other.submission.spec.priority);
    others > mine && waits_for(history, other, worker)
}
