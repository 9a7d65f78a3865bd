//! Contract 7, what is kept: results of detached tasks stay within their number, bytes and age, and
//! none is given up before one of the three makes it necessary.

use poold::id::TaskId;
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::Outcome;

use super::{Checker, Verdict, demand};
use crate::history::History;
use crate::trial::Step;

/// Watches what is kept.
pub struct Bounds;

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::Notice(Notice::ResultExpired { task }) => demand(history.kept.contains(task), || {
                format!("the result of {task} expires and is not kept")
            }),
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        let policy = &history.policy;
        let (kept, bytes) = (history.kept.len() as u64, kept_bytes(history));
        demand(kept <= policy.results_max, || {
            format!("{kept} results are kept of at most {}", policy.results_max)
        })?;
        demand(bytes <= policy.result_bytes_max, || {
            format!("{bytes} bytes of results are kept of at most {}", policy.result_bytes_max)
        })?;
        let is_old = |id: &TaskId| {
            let done_at = history.tasks.get(id).and_then(|task| task.done_at);
            done_at.is_some_and(|done_at| done_at + policy.result_age_max <= step.now)
        };
        if matches!(step.event, Event::TimePassed) {
            let old = history.kept.iter().find(|id| is_old(id));
            demand(old.is_none(), || format!("the result of {old:?} is kept beyond its age"))?;
        }
        let evicted: Vec<TaskId> = step
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Notice(Notice::ResultExpired { task }) => Some(*task),
                _ => None,
            })
            .filter(|id| !is_old(id))
            .collect();
        let evicted_bytes: u64 = evicted.iter().map(|id| result_bytes(history, id)).sum();
        let is_needed = evicted.is_empty()
            || kept + evicted.len() as u64 > policy.results_max
            || bytes + evicted_bytes > policy.result_bytes_max;
        demand(is_needed, || format!("the results of {evicted:?} expired without need"))
    }
}

fn kept_bytes(history: &History) -> u64 {
    history.kept.iter().map(|id| result_bytes(history, id)).sum()
}

/// Bytes of a task's result.
pub fn result_bytes(history: &History, id: &TaskId) -> u64 {
    history.tasks.get(id).and_then(|task| task.outcome()).map_or(0, Outcome::payload_bytes) as u64
}
