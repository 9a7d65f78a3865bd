//! Contract 11, as far as it can be asked for: what the supervisor tells of itself agrees with the facts.

use poold::id::TaskId;
use poold::message::status::{TaskState, WorkerState};
use poold::supervisor::Supervisor;
use poold::task::OutcomeKind;

use super::bounds::result_bytes;
use super::{Checker, Verdict, demand};
use crate::history::{History, Stage, State, Task, Worker};
use crate::trial::Step;

/// The listings are compared in one of so many steps, for they cost more than the rest together.
const LISTING_STEPS: u64 = 8;

/// Compares what is told with what is.
pub struct Status;

impl Checker for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn settled(&mut self, history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
        let phase = supervisor.phase();
        demand(history.phases().contains(&phase), || format!("the phase is {phase:?}"))?;
        counts(history, supervisor)?;
        demand(supervisor.refusals() == history.refusals, || {
            format!("{} refusals are told of {}", supervisor.refusals(), history.refusals)
        })?;
        if history.step.is_multiple_of(LISTING_STEPS) && history.exit.is_none() {
            outcomes(history, supervisor)?;
            pools(history, supervisor)?;
            workers(history, step, supervisor)?;
            tasks(history, step, supervisor)?;
            functions(history, supervisor)?;
        }
        Ok(())
    }
}

fn counts(history: &History, supervisor: &Supervisor) -> Verdict {
    let told = supervisor.task_counts();
    let (mut waiting, mut delayed, mut running, mut bytes) = (0, 0, 0, 0);
    for task in history.live_tasks() {
        bytes += task.argument_bytes();
        match &task.state {
            State::Delayed { until, .. } => {
                waiting += 1;
                delayed += u64::from(*until > history.now);
            }
            State::Pending => waiting += 1,
            State::Sent => running += 1,
            State::Judged(_) | State::Done(_) => {}
        }
    }
    let (mut held, mut held_bytes) = (0, 0);
    for submission in history.held_submissions() {
        held += 1;
        held_bytes += submission.args.len();
    }
    let waits = (waiting..=waiting + held).contains(&(told.delayed + told.pending));
    let holds = (bytes..=bytes + held_bytes).contains(&told.argument_bytes);
    let kept_bytes: u64 = history.kept.iter().map(|id| result_bytes(history, id)).sum();
    demand(
        waits
            && holds
            && told.delayed >= delayed
            && told.running == running
            && told.kept == history.kept.len() as u64
            && told.result_bytes == kept_bytes,
        || {
            format!(
                "{told:?} is told of {waiting} waiting ({delayed} delayed), {held} held, {running} running, {} kept, \
                 {bytes} bytes of arguments, {kept_bytes} bytes of results",
                history.kept.len()
            )
        },
    )
}

fn outcomes(history: &History, supervisor: &Supervisor) -> Verdict {
    let told = supervisor.outcomes();
    for kind in OutcomeKind::ALL {
        let (told, truth) = (told.get(&kind).copied(), history.outcomes.get(&kind).copied());
        demand(told.unwrap_or_default() == truth.unwrap_or_default(), || {
            format!("{told:?} outcomes {kind} are told of {truth:?}")
        })?;
    }
    Ok(())
}

fn pools(history: &History, supervisor: &Supervisor) -> Verdict {
    let told = supervisor.pools();
    let names: Vec<_> = told.iter().map(|pool| &pool.name).collect();
    let in_force: Vec<_> = history.policy.pools.iter().map(|pool| &pool.name).collect();
    demand(names.starts_with(&in_force), || format!("the pools {names:?} are told of {in_force:?}"))?;
    for (told, policy) in told.iter().zip(&history.policy.pools) {
        let workers = || history.workers.values().filter(|worker| worker.pool == policy.name);
        let ready = workers().filter(|worker| is_well(worker)).count() as u32;
        let ready_most = workers().filter(|worker| matches!(worker.stage, Stage::Ready(_))).count() as u32;
        let busy = workers().filter(|worker| is_well(worker) && is_busy(history, worker)).count() as u32;
        let busy_most = workers().filter(|worker| !worker.holds.is_empty()).count() as u32;
        let stays = workers().filter(|worker| is_well(worker) && !worker.may_leave).count() as u32;
        let is_served = told.ready >= policy.workers.min(stays) && told.standby <= policy.standby;
        demand(
            told.workers == policy.workers
                && (ready..=ready_most).contains(&(told.ready + told.standby))
                && (is_served || !history.stopped_at.is_empty())
                && (busy..=busy_most).contains(&told.busy),
            || format!("{told:?} is told of {} workers, {ready} ready, {busy} busy", policy.workers),
        )?;
        let waiting = |task: &&Task| matches!(task.state, State::Pending | State::Delayed { .. });
        let ours = |task: &&Task| task.pool.as_ref().is_none_or(|pool| *pool == policy.name);
        let most =
            history.live_tasks().filter(waiting).filter(ours).count() + history.held_submissions().count();
        let least = history
            .live_tasks()
            .filter(|task| task.state == State::Pending && task.pool.as_ref() == Some(&policy.name))
            .count();
        demand((least as u64..=most as u64).contains(&told.pending), || {
            format!("{told:?} is told and {least} to {most} tasks wait for the pool")
        })?;
    }
    let all_known = history.policy.pools.iter().all(|pool| history.announced.contains_key(&pool.name));
    demand(supervisor.is_ready() == all_known || !history.is_serving(), || {
        format!("every pool has had a ready worker: {all_known}, and told is {}", supervisor.is_ready())
    })
}

fn workers(history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
    let (rows, more) = supervisor.workers(step.now, 0, usize::MAX);
    demand(!more, || "more workers are told of than were asked for".to_owned())?;
    demand(rows.is_sorted_by_key(|row| row.slot), || "the workers are not told by slot".to_owned())?;
    for (id, worker) in &history.workers {
        let Some(row) = rows.iter().find(|row| row.slot == id.slot) else {
            return Err(format!("worker {id} is there and not told of"));
        };
        let state = match row.state {
            WorkerState::Starting => !matches!(worker.stage, Stage::Ready(_)),
            WorkerState::Idle | WorkerState::Standby => worker.is_ready() && !is_busy(history, worker),
            WorkerState::Busy => matches!(worker.stage, Stage::Ready(_)) && !worker.holds.is_empty(),
            WorkerState::Stopping => {
                worker.is_ending() || worker.spoiled_at.is_some() || worker.stage == Stage::Asked
            }
            WorkerState::Down => false,
        };
        demand(
            state && row.pid == worker.pid() && row.generation == id.generation && row.pool == worker.pool,
            || format!("{row:?} is told of {id}: {worker:?}"),
        )?;
    }
    let unreal =
        rows.iter().find(|row| row.pid.is_some() && !history.workers.keys().any(|id| id.slot == row.slot));
    demand(unreal.is_none(), || format!("{unreal:?} is told and no process is there"))
}

fn tasks(history: &History, step: &Step, supervisor: &Supervisor) -> Verdict {
    let (rows, more) = supervisor.tasks(step.now, 0, usize::MAX);
    demand(!more, || "more tasks are told of than were asked for".to_owned())?;
    demand(rows.is_sorted_by_key(|row| row.id.number), || "the tasks are not told by number".to_owned())?;
    let told: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
    let mut truth: Vec<TaskId> = history.live.iter().chain(&history.kept).copied().collect();
    truth.sort();
    demand(told == truth, || format!("the tasks {told:?} are told of {truth:?}"))?;
    for (row, task) in rows.iter().zip(truth.iter().filter_map(|id| history.tasks.get(id))) {
        let state = match (&task.state, row.state) {
            (State::Delayed { .. }, TaskState::Delayed | TaskState::Pending)
            | (State::Pending, TaskState::Pending)
            | (State::Sent, TaskState::Running) => true,
            (State::Done(outcome), TaskState::Done(kind)) => outcome.kind() == kind,
            _ => false,
        };
        demand(
            state
                && row.user == task.owner.user
                && row.attempts == task.starts
                && row.detached == task.is_detached()
                && task.pool.as_ref().is_none_or(|pool| *pool == row.pool),
            || format!("{row:?} is told of {task:?}"),
        )?;
    }
    Ok(())
}

fn functions(history: &History, supervisor: &Supervisor) -> Verdict {
    for told in supervisor.functions(0, usize::MAX).0 {
        let truth: Vec<_> = history
            .policy
            .pools
            .iter()
            .filter(|pool| history.pool_has(pool, &told.name))
            .map(|pool| pool.name.clone())
            .collect();
        let quarantined = history.quarantined.contains(&told.name);
        demand(told.pools == truth && told.quarantined == quarantined, || {
            format!("{told:?} is told and {truth:?} have it, quarantined: {quarantined}")
        })?;
    }
    Ok(())
}

/// Whether there is no reason to end a worker.
fn is_well(worker: &Worker) -> bool {
    worker.is_ready() && worker.spoiled_at.is_none()
}

fn is_busy(history: &History, worker: &Worker) -> bool {
    worker.holds.iter().any(|(_, task)| history.live.contains(task))
}
