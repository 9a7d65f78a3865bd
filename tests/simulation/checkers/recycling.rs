//! Recycling: a worker is worn when it has done, lived or grown as much as its pool lets it, and not much
//! before; from then on it gets nothing new.

use poold::id::WorkerId;
use poold::limits::RECYCLING_JITTER;
use poold::supervisor::{Action, Event, Notice, Supervisor, Wear};

use super::{Checker, Verdict, demand};
use crate::history::History;
use crate::trial::Step;

/// Watches what wears workers.
pub struct Recycling;

impl Checker for Recycling {
    fn name(&self) -> &'static str {
        "recycling"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        match action {
            Action::Notice(Notice::WorkerWorn { worker, wear, .. }) => is_true(history, *worker, *wear),
            Action::SendAttempt { worker: id, .. } => match history.workers.get(id) {
                Some(worker) => {
                    demand(worker.worn_at.is_none(), || format!("worker {id} is worn: {worker:?}"))
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        for (id, worker) in &history.workers {
            let Some(pool) = history.pool(&worker.pool).filter(|_| worker.is_ready()) else { continue };
            let has_sent_all = pool.max_attempts.is_some_and(|most| worker.taken() >= most);
            let is_old = pool.max_lifetime.is_some_and(|most| {
                worker.ready_at.is_some_and(|since| since + most <= step.now)
                    && matches!(step.event, Event::TimePassed)
            });
            let has_grown = match &step.event {
                Event::WorkerMeasured { worker, rss_bytes } => {
                    worker == id && pool.max_rss_bytes.is_some_and(|most| *rss_bytes > most)
                }
                _ => false,
            };
            let may_go_on = worker.worn_at.is_some() || worker.is_harmful();
            demand(may_go_on || !(has_sent_all || is_old || has_grown), || {
                format!("worker {id} should be worn: {worker:?}")
            })?;
        }
        Ok(())
    }
}

fn is_true(history: &History, id: WorkerId, wear: Wear) -> Verdict {
    let Some(worker) = history.workers.get(&id) else { return Err(format!("worker {id} is not there")) };
    let pool = history.pool_ever(&worker.pool);
    let least = 1.0 - RECYCLING_JITTER;
    let holds = match wear {
        Wear::Attempts(sent) => {
            let most = pool.and_then(|pool| pool.max_attempts);
            sent == worker.taken() && most.is_some_and(|most| sent as f64 >= (most as f64 * least).floor())
        }
        Wear::Lifetime(lifetime) => {
            let most = pool.and_then(|pool| pool.max_lifetime);
            let lived = worker.ready_at.map(|since| history.now.since(since));
            lived == Some(lifetime) && most.is_some_and(|most| lifetime >= most.mul_f64(least))
        }
        Wear::Memory(bytes) => pool.and_then(|pool| pool.max_rss_bytes).is_some_and(|most| bytes > most),
    };
    demand(holds && worker.worn_at.is_none(), || format!("worker {id} is not worn by {wear}: {worker:?}"))
}
