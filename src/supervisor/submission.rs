//! Taking tasks in: caps, the choice of a pool, acceptance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::policy::{Policy, WhenDegraded};
use super::pools::{Knowledge, Pool, PoolId};
use super::queue::Ticket;
use super::tasks::{State, Task, TaskKey, Watcher};
use super::timers::Timer;
use super::{Action, Notice, Supervisor};
use crate::descriptor::Watch;
use crate::id::{ConnectionId, Credentials, FunctionName, RUN_FUNCTION, TaskId, Uid};
use crate::limits::{DESCRIPTORS_PER_CLIENT_MAX, RETRIES_MAX};
use crate::message::client::{Refusal, Reply, ReplyBody};
use crate::message::status::Phase;
use crate::task::{Attachment, Limit, Outcome, Payload, TaskSpec};
use crate::time::Time;

/// How many edits away a name may be to be suggested for another.
const NEAREST_DISTANCE_MAX: usize = 3;

/// What a client submitted.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) submitter: Watcher,
    pub(super) owner: Credentials,
    pub(super) spec: TaskSpec,
    pub(super) deadline: Option<Time>,
    pub(super) args: Payload,
}

/// Submissions that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    submissions: BTreeMap<u64, Submission>,
    /// The same by client: that one leaves must not cost what all others wait for.
    by_client: BTreeSet<(ConnectionId, u64)>,
    /// How many tasks and bytes of arguments they are, by user.
    by_user: BTreeMap<Uid, Demand>,
    last_number: u64,
    /// What they all are.
    demand: Demand,
}

/// What submissions take of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Demand {
    tasks: u64,
    bytes: u64,
    /// Of the memory that their arguments are in.
    descriptors: u64,
}

impl Demand {
    fn of(args: &Payload) -> Self {
        Demand { tasks: 1, bytes: args.len(), descriptors: args.memory_descriptors() }
    }

    fn plus(self, more: Demand) -> Self {
        Demand {
            tasks: self.tasks + more.tasks,
            bytes: self.bytes + more.bytes,
            descriptors: self.descriptors + more.descriptors,
        }
    }

    fn minus(self, less: Demand) -> Self {
        Demand {
            tasks: self.tasks - less.tasks,
            bytes: self.bytes - less.bytes,
            descriptors: self.descriptors - less.descriptors,
        }
    }
}

impl Unplaced {
    fn insert(&mut self, submission: Submission) -> u64 {
        self.last_number += 1;
        let demand = Demand::of(&submission.args);
        self.demand = self.demand.plus(demand);
        let of_user = self.demand_of(submission.owner.user).plus(demand);
        self.by_user.insert(submission.owner.user, of_user);
        self.by_client.insert((submission.submitter.client, self.last_number));
        self.submissions.insert(self.last_number, submission);
        self.last_number
    }

    fn remove(&mut self, number: u64) -> Option<Submission> {
        let submission = self.submissions.remove(&number)?;
        let demand = Demand::of(&submission.args);
        self.demand = self.demand.minus(demand);
        let user = submission.owner.user;
        let of_user = self.demand_of(user).minus(demand);
        match of_user.tasks {
            0 => _ = self.by_user.remove(&user),
            _ => _ = self.by_user.insert(user, of_user),
        }
        self.by_client.remove(&(submission.submitter.client, number));
        Some(submission)
    }

    fn demand_of(&self, user: Uid) -> Demand {
        self.by_user.get(&user).copied().unwrap_or_default()
    }

    /// The numbers of a client's submissions.
    pub(super) fn of_client(&self, client: ConnectionId) -> Vec<u64> {
        self.by_client.range((client, 0)..=(client, u64::MAX)).map(|(_, number)| *number).collect()
    }
}

/// Where a submission can go.
enum Placement {
    Pool(PoolId),
    /// Nowhere yet: some pool may still say that it has the function, within this time.
    Wait(Duration),
    Refused(Refusal),
}

/// Whether a submission's arguments are in shared memory.
fn takes_descriptor(submission: &Submission) -> bool {
    submission.args.memory_descriptors() > 0
}

impl Supervisor {
    pub(super) fn submitted(&mut self, submission: Submission) {
        // A function that nobody waits for any more is not heard.
        if !self.clients.contains_key(&submission.submitter.client) {
            return;
        }
        if let Err(refusal) = self.check(&submission) {
            return self.refuse(submission.submitter, refusal);
        }
        self.count_files(&submission);
        match self.place(&submission) {
            Placement::Pool(pool) => self.accept(submission, pool),
            Placement::Refused(refusal) => self.refuse(submission.submitter, refusal),
            Placement::Wait(wait) => {
                let over = submission.deadline.map_or(self.now + wait, |at| at.min(self.now + wait));
                let number = self.unplaced.insert(submission);
                self.timers.arm(Timer::Placement(number), over);
            }
        }
    }

    /// A pool has said what its workers can run: whoever waited for that goes there, or on waiting.
    pub(super) fn place_waiting(&mut self) {
        let waiting: Vec<u64> = self.unplaced.submissions.keys().copied().collect();
        for number in waiting {
            let Some(submission) = self.unplaced.submissions.get(&number) else { continue };
            let decided = match self.place(submission) {
                Placement::Pool(pool) => Ok(pool),
                Placement::Refused(refusal) => Err(refusal),
                Placement::Wait(_) => continue,
            };
            let Some(submission) = self.take_unplaced(number) else { continue };
            match decided {
                Ok(pool) => self.accept(submission, pool),
                Err(refusal) => self.refuse(submission.submitter, refusal),
            }
        }
    }

    /// No pool has said in time that it has the function. If it was the task's own deadline that
    /// passed, the task is accepted and timed out, as it would be anywhere else.
    pub(super) fn placement_over(&mut self, number: u64) {
        let Some(submission) = self.take_unplaced(number) else { return };
        let is_late = submission.deadline.is_some_and(|at| at <= self.now);
        let first = self.candidates(&submission.spec).next();
        match first {
            Some(pool) if is_late => self.accept(submission, pool),
            Some(_) | None => {
                let refusal = self.no_worker(&submission.spec);
                let refusal = refusal.unwrap_or_else(|| self.nowhere(&submission.spec));
                self.refuse(submission.submitter, refusal);
            }
        }
    }

    /// That the first pool which might have a task's function fails to start its workers, if one does.
    fn no_worker(&self, spec: &TaskSpec) -> Option<Refusal> {
        let pools = self.candidates(spec).map(|id| self.pool(id));
        let mut unknown = pools.filter(|pool| pool.knows(&spec.function) == Knowledge::Unknown);
        unknown.find_map(|pool| {
            let failure = pool.last_failure.clone()?;
            Some(Refusal::NoWorker { pool: pool.policy.name.clone(), failure })
        })
    }

    /// Refuses what waits to be placed and may not be run any more.
    pub(super) fn refuse_forbidden(&mut self) {
        let forbidden = |(number, submission): (&u64, &Submission)| {
            Some((*number, self.check_function(submission).err()?))
        };
        let forbidden: Vec<(u64, Refusal)> = self.unplaced.submissions.iter().filter_map(forbidden).collect();
        for (number, refusal) in forbidden {
            if let Some(submission) = self.take_unplaced(number) {
                self.refuse(submission.submitter, refusal);
            }
        }
    }

    /// Refuses whatever waits to be placed: the daemon takes nothing new.
    pub(super) fn refuse_unplaced(&mut self) {
        while let Some((&number, _)) = self.unplaced.submissions.first_key_value() {
            if let Some(submission) = self.take_unplaced(number) {
                self.refuse(submission.submitter, Refusal::Draining);
            }
        }
    }

    pub(super) fn take_unplaced(&mut self, number: u64) -> Option<Submission> {
        self.timers.disarm(Timer::Placement(number));
        self.unplaced.remove(number)
    }

    fn check(&self, submission: &Submission) -> Result<(), Refusal> {
        let bytes = submission.args.len();
        let demand = self.demand(None).plus(Demand::of(&submission.args));

        if self.phase != Phase::Serving {
            return Err(Refusal::Draining);
        }
        if bytes > self.policy.payload_bytes_max {
            return Err(Refusal::PayloadTooLarge { bytes, bytes_max: self.policy.payload_bytes_max });
        }
        if submission.spec.retries > RETRIES_MAX {
            return Err(Refusal::BadOption(format!("at most {RETRIES_MAX} retries can be asked for")));
        }
        if submission.spec.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Refusal::BadOption("a timeout must be longer than nothing".to_owned()));
        }
        self.check_function(submission)?;
        self.check_files(submission)?;
        self.check_share(submission)?;
        let Policy { queue_tasks_max: tasks_max, queue_bytes_max: bytes_max, descriptors, .. } = self.policy;
        let descriptors_max = descriptors.arguments_max;
        match () {
            () if demand.tasks > tasks_max => Err(Refusal::QueueFull { tasks_max }),
            () if demand.bytes > bytes_max => Err(Refusal::QueueBytesFull { bytes_max }),
            () if takes_descriptor(submission) && demand.descriptors > descriptors_max => {
                Err(Refusal::QueueDescriptorsFull { descriptors_max })
            }
            () => Ok(()),
        }
    }

    /// What the tasks that are not done take, those not placed among them: of one user or of all.
    fn demand(&self, user: Option<Uid>) -> Demand {
        let (counts, descriptors, waiting) = match user {
            Some(user) => {
                (self.tasks.counts_of(user), self.tasks.descriptors_of(user), self.unplaced.demand_of(user))
            }
            None => (self.tasks.counts(), self.tasks.descriptors(), self.unplaced.demand),
        };
        let tasks = counts.delayed + counts.pending + counts.running;
        let placed = Demand { tasks, bytes: counts.argument_bytes, descriptors: descriptors.arguments };
        placed.plus(waiting)
    }

    /// Whether the submitter may run the function.
    fn check_function(&self, submission: &Submission) -> Result<(), Refusal> {
        let Submission { owner, spec, .. } = submission;
        match self.policy.may_run(owner, &spec.function) {
            true => Ok(()),
            false => Err(Refusal::NotAllowed(format!(
                "access.run of the configuration does not let you run `{}`; ask its operator to be added",
                spec.function
            ))),
        }
    }

    /// Whether there is room left for the submitter's user.
    fn check_share(&self, submission: &Submission) -> Result<(), Refusal> {
        let user = submission.owner.user;
        if self.policy.is_privileged(user) {
            return Ok(());
        }
        let demand = self.demand(Some(user)).plus(Demand::of(&submission.args));
        let Policy { user_tasks_max: tasks_max, user_bytes_max: bytes_max, descriptors, .. } = self.policy;
        let descriptors_max = descriptors.user_arguments_max;
        match () {
            () if demand.tasks > tasks_max => Err(Refusal::UserQueueFull { tasks_max }),
            () if demand.bytes > bytes_max => Err(Refusal::UserQueueBytesFull { bytes_max }),
            () if takes_descriptor(submission) && demand.descriptors > descriptors_max => {
                Err(Refusal::UserQueueDescriptorsFull { descriptors_max })
            }
            () => Ok(()),
        }
    }

    /// Whether the caller's open files may go with a task.
    fn check_files(&self, submission: &Submission) -> Result<(), Refusal> {
        let Submission { submitter, spec, args, .. } = submission;
        let Some(client) = self.clients.get(&submitter.client) else { return Ok(()) };
        let descriptors = args.descriptors.count();
        if descriptors == 0 {
            return Ok(());
        }
        if spec.function.as_str() != RUN_FUNCTION || spec.attachment == Attachment::Detached {
            let rule = format!("open files can only go with `{RUN_FUNCTION}`, and attached");
            return Err(Refusal::BadOption(rule));
        }
        let held: usize = client.files.iter().map(Watch::held).sum();
        match held + descriptors as usize > DESCRIPTORS_PER_CLIENT_MAX {
            true => Err(Refusal::TooManyDescriptors { descriptors_max: DESCRIPTORS_PER_CLIENT_MAX as u32 }),
            false => Ok(()),
        }
    }

    /// Remembers what open files a client's task holds, for as long as it does.
    fn count_files(&mut self, submission: &Submission) {
        if submission.args.descriptors.count() > 0
            && let Some(client) = self.clients.get_mut(&submission.submitter.client)
        {
            client.files.retain(|files| files.held() > 0);
            client.files.push(submission.args.descriptors.watch());
        }
    }

    /// The pools that a task may go to, the first one first.
    fn candidates(&self, spec: &TaskSpec) -> impl Iterator<Item = PoolId> {
        let asked_for =
            |id: &PoolId| spec.pool.as_ref().is_none_or(|name| *name == self.pool(*id).policy.name);
        self.pool_order.iter().copied().filter(asked_for)
    }

    fn place(&self, submission: &Submission) -> Placement {
        let spec = &submission.spec;
        if self.killers.are(&spec.function) {
            return Placement::Refused(Refusal::Quarantined { function: spec.function.clone() });
        }
        let knows = |id: PoolId| self.pool(id).knows(&spec.function);
        if let Some(id) = self.candidates(spec).find(|id| knows(*id) == Knowledge::Has) {
            return match self.ancestor_in(id, submission) {
                Some(ancestor) => {
                    let pool = self.pool(id).policy.name.clone();
                    Placement::Refused(Refusal::WouldDeadlock { pool, ancestor })
                }
                None => self.refusal_while_degraded(id).map_or(Placement::Pool(id), Placement::Refused),
            };
        }
        let unknown = self.candidates(spec).filter(|id| knows(*id) == Knowledge::Unknown);
        if let Some(wait) = unknown.map(|id| self.pool(id).policy.start_timeout).max() {
            return Placement::Wait(wait);
        }
        Placement::Refused(self.nowhere(spec))
    }

    /// That a pool is degraded and takes nothing new meanwhile, if so.
    fn refusal_while_degraded(&self, id: PoolId) -> Option<Refusal> {
        let Pool { policy, failures, last_failure, .. } = self.pool(id);
        let refuses = failures.are_too_many() && policy.when_degraded == WhenDegraded::Refuse;
        let failure = last_failure.clone().filter(|_| refuses)?;
        Some(Refusal::Degraded { pool: policy.name.clone(), failure })
    }

    /// Why there is no pool for a task.
    fn nowhere(&self, spec: &TaskSpec) -> Refusal {
        match &spec.pool {
            Some(pool) => Refusal::NotInPool { pool: pool.clone(), function: spec.function.clone() },
            None => self.unknown_function(&spec.function),
        }
    }

    /// The task in `pool` that would wait for this one, directly or through others.
    fn ancestor_in(&self, pool: PoolId, submission: &Submission) -> Option<TaskId> {
        if submission.spec.attachment == Attachment::Detached {
            return None;
        }
        let task = |id: TaskId| self.tasks.key(id.number).map(|key| self.tasks.get(key));
        let parent = self.clients.get(&submission.submitter.client)?.parent.and_then(task);
        let mut ancestors = std::iter::successors(parent, |ancestor| ancestor.parent.and_then(task));
        ancestors.find(|ancestor| ancestor.pool == pool).map(|ancestor| ancestor.id)
    }

    fn unknown_function(&self, function: &FunctionName) -> Refusal {
        // A distance is at least the difference of the lengths, and costs their product to compute.
        let near = |name: &&FunctionName| {
            name.as_str().len().abs_diff(function.as_str().len()) <= NEAREST_DISTANCE_MAX
        };
        let served = self.pool_order.iter().flat_map(|id| self.pool(*id).served());
        let names = served.map(|info| &info.name).filter(near);
        let distance = |name: &FunctionName| strsim::damerau_levenshtein(name.as_str(), function.as_str());
        let mut nearest: Vec<(usize, FunctionName)> =
            names.map(|name| (distance(name), name.clone())).collect();
        nearest.retain(|(distance, name)| *distance <= NEAREST_DISTANCE_MAX.min(name.as_str().len() / 2));
        nearest.sort();
        nearest.dedup();
        nearest.truncate(3);
        Refusal::UnknownFunction {
            function: function.clone(),
            nearest: nearest.into_iter().map(|(_, name)| name).collect(),
        }
    }

    fn accept(&mut self, submission: Submission, pool: PoolId) {
        let Submission { submitter, owner, spec, deadline, args } = submission;
        let Some(client) = self.clients.get_mut(&submitter.client) else { return };
        let user = owner.user;
        let parent = client.parent.filter(|_| spec.attachment == Attachment::Attached);
        let id = TaskId { epoch: self.epoch, number: self.tasks.next_number() };
        let function = spec.function.clone();
        let key = self.tasks.insert(Task {
            id,
            function: spec.function,
            args,
            pool,
            priority: spec.priority,
            timeout: spec.timeout,
            owner,
            submitter,
            attachment: spec.attachment,
            parent,
            speaker: None,
            report_start: spec.report_start,
            watchers: Vec::new(),
            accepted_at: self.now,
            retries: 0,
            retries_max: spec.retries,
            attempts: 0,
            state: State::Delayed,
        });
        if spec.attachment == Attachment::Attached {
            client.attached.insert(key);
        }
        self.pool_mut(pool).unfinished += 1;
        self.reply(submitter, ReplyBody::Accepted { task: id });
        self.note(Notice::TaskAccepted { task: id, function, user });

        if let Some(at) = deadline {
            if at <= self.now {
                return self.conclude(key, Outcome::TimedOut(Limit::Deadline));
            }
            self.timers.arm(Timer::TaskDeadline(key), at);
        }
        match spec.delay {
            Some(delay) if !delay.is_zero() => self.timers.arm(Timer::TaskDelay(key), self.now + delay),
            Some(_) | None => self.enqueue(key),
        }
    }

    /// Puts a task whose delay or backoff is over at the end of its line.
    pub(super) fn enqueue(&mut self, key: TaskKey) {
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        self.wait_in_line(key, self.last_ticket);
    }

    /// Puts a task where its ticket says.
    pub(super) fn wait_in_line(&mut self, key: TaskKey, ticket: Ticket) {
        self.tasks.set_state(key, State::Pending { ticket });
        let task = self.tasks.get(key);
        self.pools[task.pool.0].queue.insert(task.place(ticket), key);
    }

    pub(super) fn reply(&mut self, to: Watcher, body: ReplyBody) {
        let reply = Reply { request: Some(to.request), body };
        self.actions.push_back(Action::Reply { client: to.client, reply });
    }

    pub(super) fn refuse(&mut self, to: Watcher, refusal: Refusal) {
        let Some(client) = self.clients.get(&to.client) else { return };
        let user = client.peer.user;
        self.refusals += 1;
        self.note(Notice::Refused { client: to.client, user, refusal: refusal.clone() });
        self.reply(to, ReplyBody::Refused(refusal));
    }
}
