//! Contract 7, what is kept: results of detached tasks stay within their number, bytes and age, and those
//! of one user within that user's number and bytes; none is given up before one of these makes it necessary.

use std::collections::BTreeSet;

use poold::id::{TaskId, Uid};
use poold::supervisor::{Action, Event, Notice, Supervisor};
use poold::task::Outcome;

use super::{Checker, Verdict, demand};
use crate::history::{History, is_privileged};
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
        let (descriptors, descriptors_max) =
            (descriptors_of(history, history.kept.iter()), policy.descriptors.results_max);
        demand(descriptors <= descriptors_max, || {
            format!("kept results take {descriptors} descriptors of at most {descriptors_max}")
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
        let is_too_much = kept + evicted.len() as u64 > policy.results_max
            || bytes + evicted_bytes > policy.result_bytes_max
            || descriptors_of(history, history.kept.iter().chain(&evicted)) > descriptors_max;
        let needless = evicted.iter().find(|id| !is_too_much && !has_too_much(history, &evicted, id));
        demand(needless.is_none(), || format!("the result of {needless:?} expired without need"))?;
        users_keep_their_share(history)
    }
}

fn owner(history: &History, id: &TaskId) -> Option<Uid> {
    history.tasks.get(id).map(|task| task.owner.user).filter(|user| !is_privileged(*user))
}

/// Results of a user among `ids`, and their bytes.
fn of_user<'a>(history: &History, ids: impl Iterator<Item = &'a TaskId>, user: Uid) -> (u64, u64) {
    ids.filter(|id| owner(history, id) == Some(user))
        .fold((0, 0), |(count, bytes), id| (count + 1, bytes + result_bytes(history, id)))
}

/// Whether the owner of a result that is given up had too much before.
fn has_too_much(history: &History, evicted: &[TaskId], id: &TaskId) -> bool {
    owner(history, id).is_some_and(|user| {
        let (count, bytes) = of_user(history, history.kept.iter().chain(evicted), user);
        let of_user = |id: &&TaskId| owner(history, id) == Some(user);
        let descriptors = descriptors_of(history, history.kept.iter().chain(evicted).filter(of_user));
        count > history.policy.user_results_max
            || bytes > history.policy.user_result_bytes_max
            || descriptors > history.policy.descriptors.user_results_max
    })
}

fn users_keep_their_share(history: &History) -> Verdict {
    for user in history.kept.iter().filter_map(|id| owner(history, id)).collect::<BTreeSet<Uid>>() {
        let (count, bytes) = of_user(history, history.kept.iter(), user);
        let (count_max, bytes_max) = (history.policy.user_results_max, history.policy.user_result_bytes_max);
        demand(count <= count_max && bytes <= bytes_max, || {
            format!("{user:?} has {count} results of {count_max}, {bytes} bytes of {bytes_max}")
        })?;
        let of_user = history.kept.iter().filter(|id| owner(history, id) == Some(user));
        let descriptors = descriptors_of(history, of_user);
        demand(descriptors <= history.policy.descriptors.user_results_max, || {
            format!("{user:?} has {descriptors} descriptors in results")
        })?;
    }
    Ok(())
}

fn kept_bytes(history: &History) -> u64 {
    history.kept.iter().map(|id| result_bytes(history, id)).sum()
}

/// Descriptors that the results of `ids` take.
fn descriptors_of<'a>(history: &History, ids: impl Iterator<Item = &'a TaskId>) -> u64 {
    let outcomes = ids.filter_map(|id| history.tasks.get(id)?.outcome());
    outcomes.map(Outcome::memory_descriptors).sum()
}

/// Bytes of a task's result.
pub fn result_bytes(history: &History, id: &TaskId) -> u64 {
    history.tasks.get(id).and_then(|task| task.outcome()).map_or(0, Outcome::payload_bytes)
}
