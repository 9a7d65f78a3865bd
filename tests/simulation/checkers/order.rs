//! Contract 6: priorities are strict. Within one, turns go round users, then connections; within a
//! connection, first in, first out. An own model of the lines says who may be next.
//!
//! Turns are judged by what any round has in common: while somebody waits, nobody else has two turns.
//! A task that a worker gave back had no turn.

use std::collections::BTreeMap;

use poold::id::{ConnectionId, PoolName, Uid};
use poold::supervisor::{Action, Event, Supervisor};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, State, Task, Worker};
use crate::trial::Step;

/// Watches who is next.
#[derive(Default)]
pub struct Order {
    users: BTreeMap<(PoolName, i16, Uid), BTreeMap<Uid, i32>>,
    connections: BTreeMap<(PoolName, i16, Uid, ConnectionId), BTreeMap<ConnectionId, i32>>,
}

impl Checker for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn event(&mut self, history: &History, _now: Time, event: &Event) -> Verdict {
        match event {
            Event::AttemptsRecalled { worker, attempt, .. } => {
                if let Some((task, held)) = history.attempt(*worker, *attempt)
                    && held.started_at.is_none()
                {
                    self.give_back(history, task);
                }
            }
            Event::WorkerExited { worker, .. } => {
                let holds = history.workers.get(worker).map(|worker| worker.holds.as_slice());
                for (attempt, _) in holds.unwrap_or_default() {
                    if let Some((task, held)) = history.attempt(*worker, *attempt)
                        && held.started_at.is_none()
                    {
                        self.give_back(history, task);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::SendAttempt { worker: id, task, .. } = action else { return Ok(()) };
        let (Some(worker), Some(task)) = (history.workers.get(id), history.tasks.get(task)) else {
            return Ok(());
        };
        may_go_there(history, task, worker)?;
        for other in
            history.live_tasks().filter(|other| other.id != task.id && waits_for(history, other, worker))
        {
            is_not_before(history, task, other)?;
        }
        self.take_turn(history, task, worker)
    }

    fn settled(&mut self, history: &History, _step: &Step, _supervisor: &Supervisor) -> Verdict {
        let waits = |pool: &PoolName, priority: i16, is_whose: &dyn Fn(&Task) -> bool| {
            history.live_tasks().any(|task| {
                is_whose(task)
                    && task.submission.spec.priority == priority
                    && task.pool.as_ref() == Some(pool)
                    && is_eligible(history, task)
            })
        };
        self.users
            .retain(|(pool, priority, user), _| waits(pool, *priority, &|task| task.owner.user == *user));
        self.connections
            .retain(|(pool, priority, _, client), _| waits(pool, *priority, &|task| task.client == *client));
        Ok(())
    }
}

impl Order {
    /// Counts a turn against everyone who waits at the same level.
    fn take_turn(&mut self, history: &History, task: &Task, worker: &Worker) -> Verdict {
        let priority = task.submission.spec.priority;
        let pool = &worker.pool;
        self.users.remove(&(pool.clone(), priority, task.owner.user));
        self.connections.remove(&(pool.clone(), priority, task.owner.user, task.client));
        let mut users: Vec<Uid> = Vec::new();
        let mut connections: Vec<ConnectionId> = Vec::new();
        for other in history.live_tasks() {
            if other.submission.spec.priority != priority || !waits_for(history, other, worker) {
                continue;
            }
            if other.owner.user != task.owner.user && !users.contains(&other.owner.user) {
                users.push(other.owner.user);
                let turns = self.users.entry((pool.clone(), priority, other.owner.user)).or_default();
                let turns = turns.entry(task.owner.user).or_default();
                *turns += 1;
                demand(*turns <= 1, || {
                    format!(
                        "user {} has its second turn (task {}) while user {} waits",
                        task.owner.user.0, task.id, other.owner.user.0
                    )
                })?;
            }
            if other.owner.user == task.owner.user
                && other.client != task.client
                && !connections.contains(&other.client)
            {
                connections.push(other.client);
                let key = (pool.clone(), priority, other.owner.user, other.client);
                let turns = self.connections.entry(key).or_default().entry(task.client).or_default();
                *turns += 1;
                demand(*turns <= 1, || {
                    format!(
                        "connection {} has its second turn (task {}) while connection {} waits",
                        task.client.0, task.id, other.client.0
                    )
                })?;
            }
        }
        Ok(())
    }

    /// A task comes back unstarted: its turn is undone.
    fn give_back(&mut self, history: &History, task: &Task) {
        let Some(worker) = task.attempts.last().and_then(|last| history.workers.get(&last.worker)) else {
            return;
        };
        let priority = task.submission.spec.priority;
        for ((pool, level, _), turns) in &mut self.users {
            if *pool == worker.pool && *level == priority {
                *turns.entry(task.owner.user).or_default() -= 1;
            }
        }
        for ((pool, level, user, _), turns) in &mut self.connections {
            if *pool == worker.pool && *level == priority && *user == task.owner.user {
                *turns.entry(task.client).or_default() -= 1;
            }
        }
    }
}

/// Whether a task may be started now, wherever.
pub fn is_eligible(history: &History, task: &Task) -> bool {
    task.state == State::Pending
        && task.submission.deadline.is_none_or(|deadline| deadline > history.now)
        && history.clients.get(&task.client).is_none_or(|client| client.blocked_at.is_none())
        && (task.is_detached() || history.clients.contains_key(&task.client))
}

/// Whether a task waits for a worker like this one.
pub fn waits_for(history: &History, task: &Task, worker: &Worker) -> bool {
    task.pool.as_ref() == Some(&worker.pool)
        && is_eligible(history, task)
        && worker.functions.contains(&task.submission.spec.function)
}

fn may_go_there(history: &History, task: &Task, worker: &Worker) -> Verdict {
    let named = task.pool.as_ref().or(task.submission.spec.pool.as_ref());
    demand(named.is_none_or(|pool| *pool == worker.pool), || {
        format!("task {} belongs to pool {named:?} and is sent to pool {}", task.id, worker.pool)
    })?;
    let is_held_back = !task.is_detached()
        && history.clients.get(&task.client).is_none_or(|client| client.blocked_at.is_some());
    demand(!is_held_back, || format!("task {} is sent and its client does not read", task.id))
}

/// Whether `task` may go before `other`, which waits for the same worker.
fn is_not_before(history: &History, task: &Task, other: &Task) -> Verdict {
    let (mine, others) = (task.submission.spec.priority, other.submission.spec.priority);
    demand(mine >= others, || {
        format!("task {} of priority {mine} goes before {} of priority {others}", task.id, other.id)
    })?;
    if mine != others || task.client != other.client {
        return Ok(());
    }
    let earliest = match task.state {
        State::Delayed { since_step, .. } => since_step.unwrap_or(history.step),
        State::Pending | State::Sent | State::Judged(_) | State::Done(_) => task.place.earliest,
    };
    demand(other.place.latest >= earliest, || {
        format!("task {} goes before {}, which joined the line before it", task.id, other.id)
    })
}
