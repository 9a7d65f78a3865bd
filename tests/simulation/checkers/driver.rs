//! Orders that can be carried out: workers are sent attempts, messages and signals only while they can
//! take them, and only clients that are there are spoken to.

use poold::id::{AttemptId, WorkerId};
use poold::supervisor::Action;

use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, Worker};

/// Watches what the driver is asked to do.
pub struct Driver;

impl Checker for Driver {
    fn name(&self) -> &'static str {
        "driver"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::SpawnWorker { worker, pool } => {
                let is_new = !history.workers.contains_key(worker) && !history.gone.contains_key(worker);
                demand(is_new, || format!("worker {worker} was spawned before"))?;
                demand(history.pool_ever(pool).is_some(), || {
                    format!("there is no pool {pool} to spawn {worker} in")
                })
            }
            Action::SendAttempt { worker, attempt, task, function, args } => {
                let receiver = known(history, *worker)?;
                demand(receiver.is_ready(), || {
                    format!("worker {worker} is sent an attempt and is not ready")
                })?;
                demand(receiver.holds.len() < receiver.ahead as usize, || {
                    format!("worker {worker} holds {} attempts and is sent one more", receiver.holds.len())
                })?;
                demand(*attempt == AttemptId(receiver.sent + 1), || {
                    format!("attempt {} of worker {worker} follows on {}", attempt.0, receiver.sent)
                })?;
                demand(receiver.functions.contains(function), || {
                    format!("worker {worker} does not have {function}")
                })?;
                let Some(task) = history.tasks.get(task) else {
                    return Err(format!("task {task} was never accepted and is sent to {worker}"));
                };
                demand(!task.is_done(), || format!("task {} is done and is sent to {worker}", task.id))?;
                let submission = &task.submission;
                demand(submission.spec.function == *function && submission.args == *args, || {
                    format!("task {} is sent as something else than was submitted", task.id)
                })
            }
            Action::RecallAttempts { worker, attempt, .. } => match history.attempt(*worker, *attempt) {
                Some((_, held)) => demand(held.started_at.is_none() && held.recall_at.is_none(), || {
                    format!("attempt {} of {worker} is recalled twice or after its start", attempt.0)
                }),
                None => Err(format!("attempt {} of {worker} is recalled and not there", attempt.0)),
            },
            Action::LookAt { worker } => {
                let looked_at = known(history, *worker)?;
                demand(looked_at.ahead > looked_at.capacity, || {
                    format!("worker {worker} is looked at and must be asked")
                })
            }
            Action::StopWorker { worker } => {
                let stopped = known(history, *worker)?;
                demand(stopped.stage != Stage::Asked, || {
                    format!("worker {worker} is stopped before it exists")
                })?;
                demand(stopped.stop_at.is_none(), || format!("worker {worker} is stopped twice"))
            }
            Action::SignalWorker { worker, signal } => {
                let signalled = known(history, *worker)?;
                demand(signalled.stage != Stage::Asked, || {
                    format!("worker {worker} is sent {signal:?} before it exists")
                })
            }
            Action::Reply { client, .. } => demand(history.clients.contains_key(client), || {
                format!("connection {} is spoken to and gone", client.0)
            }),
            // Judged one by one.
            Action::SendAttempts { .. } | Action::Notice(_) | Action::Exit { .. } => Ok(()),
        }
    }
}

fn known(history: &History, worker: WorkerId) -> Result<&Worker, String> {
    history.workers.get(&worker).ok_or_else(|| format!("worker {worker} is gone or never was"))
}
