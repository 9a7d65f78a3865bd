//! What is taken and what is refused: each refusal is true, nothing is taken over a cap, of all or of one
//! user, or of someone who may not run it, and a submission of an unknown function waits until the pools are known, at most the start timeout.

use std::time::Duration;

use poold::id::{ConnectionId, RequestId, Uid};
use poold::limits::RETRIES_MAX;
use poold::message::client::{Refusal, ReplyBody};
use poold::supervisor::{Action, Event, Supervisor, WhenDegraded};
use poold::task::{Attachment, Payload};
use poold::time::Time;

use super::{Checker, Verdict, demand};
use crate::history::{History, Request, Submission, Task, is_privileged};
use crate::trial::Step;

/// Watches the door.
pub struct Admission;

impl Checker for Admission {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn action(&mut self, history: &History, action: &Action) -> Verdict {
        let Action::Reply { client, reply } = action else { return Ok(()) };
        let Some(request) = reply.request else { return Ok(()) };
        let Some(submission) = submission(history, *client, request) else { return Ok(()) };
        match &reply.body {
            ReplyBody::Accepted { task } => may_be_accepted(history, *client, submission)
                .map_err(|reason| format!("task {task} is accepted although {reason}")),
            ReplyBody::Refused(refusal) => demand(is_true(history, *client, submission, refusal), || {
                format!("{submission:?} is refused without a reason: {refusal}")
            }),
            _ => Ok(()),
        }
    }

    fn settled(&mut self, history: &History, step: &Step, _supervisor: &Supervisor) -> Verdict {
        match &step.event {
            Event::Submitted { client, request, .. } => fits(history, step, *client, *request),
            Event::TimePassed => is_not_held_too_long(history, step),
            _ => Ok(()),
        }
    }
}

/// Whatever is not refused fits into the queue, together with what waits to be placed. A function that is heard no
/// more takes nothing.
fn fits(history: &History, step: &Step, client: ConnectionId, request: RequestId) -> Verdict {
    if !history.clients.contains_key(&client) {
        return Ok(());
    }
    let is_refused = step.actions.iter().any(|action| match action {
        Action::Reply { client: told, reply } => {
            *told == client && reply.request == Some(request) && matches!(reply.body, ReplyBody::Refused(_))
        }
        _ => false,
    });
    let takes_descriptor =
        submission(history, client, request).is_some_and(|it| it.args.memory_descriptors() > 0);
    let fits = |demand: &Demand, max: &Demand| {
        let has_descriptors = !takes_descriptor || demand.descriptors <= max.descriptors;
        demand.tasks <= max.tasks && demand.bytes <= max.bytes && has_descriptors
    };
    let policy = &history.policy;
    let (queued, max) = (
        queued(history),
        Demand {
            tasks: policy.queue_tasks_max,
            bytes: policy.queue_bytes_max,
            descriptors: policy.descriptors.arguments_max,
        },
    );
    demand(is_refused || fits(&queued, &max), || {
        format!("a task is taken into a full queue: {queued:?} of {max:?}")
    })?;
    let Some(user) = user(history, client).filter(|user| !is_privileged(*user)) else { return Ok(()) };
    let (of_user, max) = (
        queued_of(history, user),
        Demand {
            tasks: policy.user_tasks_max,
            bytes: policy.user_bytes_max,
            descriptors: policy.descriptors.user_arguments_max,
        },
    );
    demand(is_refused || fits(&of_user, &max), || {
        format!("a task is taken of {user:?}, who has {of_user:?} of {max:?}")
    })
}

fn is_not_held_too_long(history: &History, step: &Step) -> Verdict {
    let pools = history.policy.pools.iter().chain(history.former_pools.values());
    let longest = pools.map(|pool| pool.start_timeout).max().unwrap_or_default();
    let late = history.held_submissions().find(|held| held.at + longest <= step.now);
    demand(late.is_none(), || format!("a submission is held longer than {longest:?}: {late:?}"))
}

fn submission(history: &History, client: ConnectionId, request: RequestId) -> Option<&Submission> {
    match history.requests.get(&(client, request))? {
        Request::Submit(submission) => Some(submission),
        Request::Cancel(_) | Request::Result { .. } | Request::Drain | Request::Release => None,
    }
}

fn user(history: &History, client: ConnectionId) -> Option<Uid> {
    history.clients.get(&client).map(|client| client.peer.user)
}

fn may_run(history: &History, client: ConnectionId, submission: &Submission) -> bool {
    let client = history.clients.get(&client);
    client.is_some_and(|client| history.may_run(&client.peer, &submission.spec.function))
}

fn may_be_accepted(
    history: &History,
    client: ConnectionId,
    submission: &Submission,
) -> Result<(), &'static str> {
    let policy = &history.policy;
    let bytes = submission.args.len();
    let was_held = submission.step < history.step;
    let is_taken = history.is_serving() || (was_held && history.stopped_at.is_empty());
    // Out of time, it ends as it would anywhere else, wherever it would have gone.
    let is_late = submission.deadline.is_some_and(|deadline| deadline <= history.now);
    match () {
        () if !is_taken => Err("nothing new is taken"),
        () if !is_late && history.pool_for(&submission.spec).is_none() => Err("no pool has its function"),
        () if !is_late && waits_for_itself(history, client, submission) => Err("it could wait for itself"),
        () if !is_late && history.quarantined.contains(&submission.spec.function) => {
            Err("its function is quarantined")
        }
        () if !is_late && is_refused_while_degraded(history, submission) => Err("its pool is degraded"),
        () if !may_run(history, client, submission) => Err("its user may not run its function"),
        () if bytes > policy.payload_bytes_max => Err("its arguments are too large"),
        () if submission.spec.retries > RETRIES_MAX => Err("it asks for too many retries"),
        () => Ok(()),
    }
}

/// Whether a task that would wait for this one is in the very pool that this one belongs to.
fn waits_for_itself(history: &History, client: ConnectionId, submission: &Submission) -> bool {
    let pool = history.pool_for(&submission.spec).map(|pool| &pool.name);
    submission.spec.attachment == Attachment::Attached
        && history.ancestors(client).any(|ancestor| ancestor.pool.is_some() && ancestor.pool.as_ref() == pool)
}

fn is_true(history: &History, client: ConnectionId, submission: &Submission, refusal: &Refusal) -> bool {
    let (policy, spec) = (&history.policy, &submission.spec);
    let bytes = submission.args.len();
    let queued = queued(history);
    let of_user = user(history, client).filter(|user| !is_privileged(*user));
    let of_user = of_user.map_or(Demand::default(), |user| queued_of(history, user));
    let takes_descriptor = submission.args.memory_descriptors() > 0;
    match refusal {
        Refusal::Draining => !history.is_serving(),
        Refusal::UnknownFunction { function, .. } => {
            *function == spec.function && history.pool_for(spec).is_none() && has_waited(history, submission)
        }
        Refusal::NotInPool { pool, function } => {
            *function == spec.function
                && spec.pool.as_ref() == Some(pool)
                && history.pool_for(spec).is_none()
                && has_waited(history, submission)
        }
        Refusal::NoWorker { pool, .. } => {
            spec.pool.as_ref().is_none_or(|asked_for| asked_for == pool)
                && history.pool_for(spec).is_none()
                && has_waited(history, submission)
        }
        Refusal::QueueFull { tasks_max } => *tasks_max == policy.queue_tasks_max && queued.tasks > *tasks_max,
        Refusal::QueueBytesFull { bytes_max } => {
            *bytes_max == policy.queue_bytes_max && queued.bytes > *bytes_max
        }
        Refusal::QueueDescriptorsFull { descriptors_max } => {
            *descriptors_max == policy.descriptors.arguments_max
                && takes_descriptor
                && queued.descriptors > *descriptors_max
        }
        Refusal::UserQueueFull { tasks_max } => {
            *tasks_max == policy.user_tasks_max && of_user.tasks > *tasks_max
        }
        Refusal::UserQueueBytesFull { bytes_max } => {
            *bytes_max == policy.user_bytes_max && of_user.bytes > *bytes_max
        }
        Refusal::UserQueueDescriptorsFull { descriptors_max } => {
            *descriptors_max == policy.descriptors.user_arguments_max
                && takes_descriptor
                && of_user.descriptors > *descriptors_max
        }
        Refusal::NotAllowed(_) => !may_run(history, client, submission),
        Refusal::PayloadTooLarge { bytes: told, bytes_max } => {
            *told == bytes && *bytes_max == policy.payload_bytes_max && bytes > *bytes_max
        }
        Refusal::WouldDeadlock { pool, ancestor } => {
            let may_be_there = |task: &Task| {
                task.id == *ancestor && task.pool.as_ref().is_none_or(|ancestors| ancestors == pool)
            };
            spec.attachment == Attachment::Attached
                && history.pool_for(spec).is_some_and(|found| found.name == *pool)
                && history.ancestors(client).any(may_be_there)
        }
        Refusal::Quarantined { function } => {
            *function == spec.function && history.quarantined.contains(function)
        }
        Refusal::Degraded { pool, .. } => {
            history.pool_for(spec).is_some_and(|policy| policy.name == *pool)
                && is_refused_while_degraded(history, submission)
        }
        Refusal::BadOption(_) => {
            spec.retries > RETRIES_MAX
                || spec.timeout == Some(Duration::ZERO)
                || submission.deadline.is_some_and(|deadline| deadline <= history.now)
        }
        _ => false,
    }
}

/// Whether the pool that a submission belongs to is degraded and takes nothing new meanwhile.
fn is_refused_while_degraded(history: &History, submission: &Submission) -> bool {
    history.pool_for(&submission.spec).is_some_and(|pool| {
        pool.when_degraded == WhenDegraded::Refuse && history.degraded.contains(&pool.name)
    })
}

/// Whether a submission has waited as long as it must for a pool that may yet turn out to have its
/// function.
fn has_waited(history: &History, submission: &Submission) -> bool {
    let may_have = |functions: &Option<Vec<_>>| {
        functions.as_ref().is_none_or(|functions| functions.contains(&submission.spec.function))
    };
    let due: Option<Time> = history
        .policy
        .pools
        .iter()
        .filter(|pool| submission.spec.pool.as_ref().is_none_or(|name| *name == pool.name))
        .filter(|pool| !history.announced.contains_key(&pool.name) && may_have(&pool.functions))
        .map(|pool| submission.at + pool.start_timeout)
        .min();
    due.is_none_or(|due| due <= history.now)
}

/// What tasks take of the queue.
#[derive(Debug, Default)]
struct Demand {
    tasks: u64,
    bytes: u64,
    descriptors: u64,
}

/// What the queue holds, and what waits to be placed.
fn queued(history: &History) -> Demand {
    let live = history.live_tasks().map(|task| &task.submission.args);
    let held = history.held_submissions().map(|held| &held.args);
    sum(live.chain(held))
}

/// The same of one user.
fn queued_of(history: &History, of_user: Uid) -> Demand {
    let live = history.live_tasks().filter(|task| task.owner.user == of_user);
    let live = live.map(|task| &task.submission.args);
    let requests = history.requests.iter().filter(|((client, _), _)| user(history, *client) == Some(of_user));
    let held = requests.filter_map(|(_, request)| match request {
        Request::Submit(submission) => Some(&submission.args),
        Request::Cancel(_) | Request::Result { .. } | Request::Drain | Request::Release => None,
    });
    sum(live.chain(held))
}

fn sum<'a>(args: impl Iterator<Item = &'a Payload>) -> Demand {
    args.fold(Demand::default(), |sum, args| Demand {
        tasks: sum.tasks + 1,
        bytes: sum.bytes + args.len(),
        descriptors: sum.descriptors + args.memory_descriptors(),
    })
}
