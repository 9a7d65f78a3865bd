//! Taking tasks in: caps, the choice of a pool, acceptance.

use std::time::Duration;

use super::accounts::Sum;
use super::clients::Client;
use super::policy::{Policy, WhenDegraded};
use super::pools::{Knowledge, Pool, PoolId};
use super::queue::Ticket;
use super::tasks::{Arguments, Extras, State, Task, TaskKey, Watcher};
use super::timers::Timer;
use super::unplaced::{Demand, Submission};
use super::{Action, Notice, Supervisor};
use crate::descriptor::Watch;
use crate::id::{FunctionName, RUN_FUNCTION, TaskId, Uid};
use crate::limits::{DESCRIPTORS_PER_CLIENT_MAX, RETRIES_MAX};
use crate::message::client::{Refusal, Reply, ReplyBody};
use crate::message::status::Phase;
use crate::task::{Attachment, Limit, Outcome, Payload, Payloads, SharedSpec, TaskSpec};
use crate::time::Time;

/// How many edits away a name may be to be suggested for another.
const NEAREST_DISTANCE_MAX: usize = 3;

/// Where a submission can go.
enum Placement {
    /// There; with the function's name as the pool has it, so that all its tasks share that.
    Pool(PoolId, FunctionName),
    /// Nowhere yet: some pool may still say that it has the function, within this time.
    Wait(Duration),
    Refused(Refusal),
}

/// Whether a submission's arguments are in shared memory.
fn takes_descriptor(submission: &Submission) -> bool {
    submission.args.memory_descriptors() > 0
}

impl Supervisor {
    pub(super) fn submitted(
        &mut self,
        submitter: Watcher,
        spec: SharedSpec,
        deadline: Option<Time>,
        args: Payload,
    ) {
        if let Err(refusal) = self.take_in(submitter, spec, deadline, Arguments::One(args)) {
            self.refuse(submitter, refusal);
        }
    }

    /// Takes a run in: as one, or each of its tasks by itself, if they have times of their own or there is not room for
    /// all of them.
    pub(super) fn submitted_all(
        &mut self,
        submitter: Watcher,
        spec: SharedSpec,
        deadline: Option<Time>,
        args: Payloads,
    ) {
        let has_no_time = deadline.is_none() && spec.delay.is_none();
        if has_no_time && spec.attachment == Attachment::Attached {
            match self.take_in(submitter, SharedSpec::clone(&spec), None, args.clone().into()) {
                Err(refusal) if refusal.is_of_amount() => {}
                Err(refusal) => return self.refuse_all(submitter, args.count(), refusal),
                Ok(()) => return,
            }
        }
        let mut refused: Vec<(Watcher, Refusal)> = Vec::new();
        for (place, args) in (0..).zip(args.each()) {
            let submitter = Watcher { request: submitter.request.plus(place), ..submitter };
            if let Err(refusal) =
                self.take_in(submitter, SharedSpec::clone(&spec), deadline, Arguments::One(args))
            {
                refused.push((submitter, refusal));
            }
        }
        let follows = |(before, refusal): &(Watcher, Refusal), (next, others): &(Watcher, Refusal)| {
            next.request == before.request.plus(1) && refusal == others
        };
        for alike in refused.chunk_by(follows) {
            if let Some((first, refusal)) = alike.first() {
                self.refuse_all(*first, alike.len() as u32, refusal.clone());
            }
        }
    }

    /// Takes a submission in, if it is not refused: to a pool, or to wait for one.
    fn take_in(
        &mut self,
        submitter: Watcher,
        spec: SharedSpec,
        deadline: Option<Time>,
        args: Arguments,
    ) -> Result<(), Refusal> {
        // A function that nobody waits for any more is not heard.
        let Some(client) = self.clients.get(&submitter.client) else { return Ok(()) };
        let (user, parent) = (client.peer.user, client.parent);
        let submission = Submission { submitter, user, parent, spec, deadline, args };
        self.check(&submission, client)?;
        self.count_files(&submission);
        match self.place(&submission) {
            Placement::Pool(pool, function) => self.accept(submission, pool, function),
            Placement::Refused(refusal) => return Err(refusal),
            Placement::Wait(wait) => {
                let over = submission.deadline.map_or(self.now + wait, |at| at.min(self.now + wait));
                let number = self.unplaced.insert(submission);
                self.timers.arm(Timer::Placement(number), over);
            }
        }
        Ok(())
    }

    /// A pool has said what its workers can run: whoever waited for that goes there, or on waiting.
    pub(super) fn place_waiting(&mut self) {
        for number in self.unplaced.numbers() {
            let Some(submission) = self.unplaced.get(number) else { continue };
            let decided = match self.place(submission) {
                Placement::Pool(pool, function) => Ok((pool, function)),
                Placement::Refused(refusal) => Err(refusal),
                Placement::Wait(_) => continue,
            };
            let Some(submission) = self.take_unplaced(number) else { continue };
            match decided {
                Ok((pool, function)) => self.accept(submission, pool, function),
                Err(refusal) => self.refuse_submission(submission, refusal),
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
            Some(pool) if is_late => {
                let function = submission.spec.function.clone();
                self.accept(submission, pool, function);
            }
            Some(_) | None => {
                let refusal = self.no_worker(&submission.spec);
                let refusal = refusal.unwrap_or_else(|| self.nowhere(&submission.spec));
                self.refuse_submission(submission, refusal);
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
        for number in self.unplaced.numbers() {
            let Some(submission) = self.unplaced.get(number) else { continue };
            let Some(client) = self.clients.get(&submission.submitter.client) else { continue };
            let Err(refusal) = self.check_function(submission, client) else { continue };
            if let Some(submission) = self.take_unplaced(number) {
                self.refuse_submission(submission, refusal);
            }
        }
    }

    /// Refuses whatever waits to be placed: the daemon takes nothing new.
    pub(super) fn refuse_unplaced(&mut self) {
        for number in self.unplaced.numbers() {
            if let Some(submission) = self.take_unplaced(number) {
                self.refuse_submission(submission, Refusal::Draining);
            }
        }
    }

    pub(super) fn take_unplaced(&mut self, number: u64) -> Option<Submission> {
        self.timers.disarm(Timer::Placement(number));
        self.unplaced.remove(number)
    }

    fn check(&self, submission: &Submission, client: &Client) -> Result<(), Refusal> {
        let bytes = submission.args.largest();
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
        self.check_function(submission, client)?;
        self.check_files(submission, client)?;
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
        let (placed, waiting) = match user {
            Some(user) => (self.tasks.sum_of(user), self.unplaced.demand_of(user)),
            None => (self.tasks.sum(), self.unplaced.demand()),
        };
        let Sum { counts, descriptors } = placed;
        let tasks = counts.delayed + counts.pending + counts.running;
        let placed = Demand { tasks, bytes: counts.argument_bytes, descriptors: descriptors.arguments };
        placed.plus(waiting)
    }

    /// Whether the submitter may run the function.
    fn check_function(&self, submission: &Submission, client: &Client) -> Result<(), Refusal> {
        let function = &submission.spec.function;
        match self.policy.may_run(&client.peer, function) {
            true => Ok(()),
            false => Err(Refusal::NotAllowed(format!(
                "access.run of the configuration does not let you run `{function}`; ask its operator to be added"
            ))),
        }
    }

    /// Whether there is room left for the submitter's user.
    fn check_share(&self, submission: &Submission) -> Result<(), Refusal> {
        let user = submission.user;
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
    fn check_files(&self, submission: &Submission, client: &Client) -> Result<(), Refusal> {
        let Submission { spec, args, .. } = submission;
        let Some(files) = args.files() else { return Ok(()) };
        if spec.function.as_str() != RUN_FUNCTION || spec.attachment == Attachment::Detached {
            let rule = format!("open files can only go with `{RUN_FUNCTION}`, and attached");
            return Err(Refusal::BadOption(rule));
        }
        let held: usize = client.files.iter().map(Watch::held).sum();
        match held + files.count() as usize > DESCRIPTORS_PER_CLIENT_MAX {
            true => Err(Refusal::TooManyDescriptors { descriptors_max: DESCRIPTORS_PER_CLIENT_MAX as u32 }),
            false => Ok(()),
        }
    }

    /// Remembers what open files a client's task holds, for as long as it does.
    fn count_files(&mut self, submission: &Submission) {
        if let Some(files) = submission.args.files()
            && let Some(client) = self.clients.get_mut(&submission.submitter.client)
        {
            client.files.retain(|files| files.held() > 0);
            client.files.push(files.watch());
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
        let has = |id: PoolId| match knows(id) {
            Knowledge::Has(name) => Some((id, name)),
            Knowledge::HasNot | Knowledge::Unknown => None,
        };
        if let Some((id, name)) = self.candidates(spec).find_map(has) {
            return match self.ancestor_in(id, submission) {
                Some(ancestor) => {
                    let pool = self.pool(id).policy.name.clone();
                    Placement::Refused(Refusal::WouldDeadlock { pool, ancestor })
                }
                None => match self.refusal_while_degraded(id) {
                    Some(refusal) => Placement::Refused(refusal),
                    None => Placement::Pool(id, name.clone()),
                },
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
        let parent = submission.parent.and_then(task);
        let mut ancestors = std::iter::successors(parent, |ancestor| ancestor.parent().and_then(task));
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

    fn accept(&mut self, submission: Submission, pool: PoolId, function: FunctionName) {
        let Submission { submitter, user, parent, spec, deadline, args } = submission;
        let Some(client) = self.clients.get_mut(&submitter.client) else { return };
        let (parent, owner) = match spec.attachment {
            Attachment::Attached => (parent, None),
            Attachment::Detached => (None, Some(client.peer.clone())),
        };
        let extras = Extras {
            timeout: spec.timeout,
            has_deadline: deadline.is_some(),
            owner,
            parent,
            retries_max: spec.retries,
            ..Extras::default()
        };
        let count = args.count();
        let id = TaskId { epoch: self.epoch, number: self.tasks.next_number(count) };
        let account = self.tasks.open_account(user);
        let key = self.tasks.insert(Task {
            id,
            function,
            args,
            pool,
            priority: spec.priority,
            user,
            account,
            submitter,
            attachment: spec.attachment,
            report_start: spec.report_start,
            accepted_at: self.now,
            attempts: 0,
            state: State::Delayed,
            extras: (extras != Extras::default()).then(|| Box::new(extras)),
        });
        if spec.attachment == Attachment::Attached {
            client.attached.push(&mut self.tasks.attached, key);
        }
        self.pool_mut(pool).unfinished += u64::from(count);
        self.reply(
            submitter,
            match count {
                1 => ReplyBody::Accepted { task: id },
                count => ReplyBody::AllAccepted { first: id, count },
            },
        );
        if self.tells_of_tasks {
            for place in 0..count {
                let (task, function) = (id.plus(place.into()), self.tasks.get(key).function.clone());
                self.note(Notice::TaskAccepted { task, function, user });
            }
        }

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

    /// Puts what is new, or whose delay or backoff is over, at the end of its line.
    pub(super) fn enqueue(&mut self, key: TaskKey) {
        let count = self.tasks.get(key).count();
        let ticket = Ticket(self.last_ticket.0 + 1);
        self.last_ticket = Ticket(self.last_ticket.0 + u64::from(count));
        self.tasks.set_state(key, State::Pending { ticket });
        let task = self.tasks.get(key);
        let (pool, place) = (task.pool, task.place(ticket));
        self.pools[pool.0].queue.push(&mut self.tasks.in_line, place, key, count);
    }

    /// Puts what was sent to a worker where its ticket says.
    pub(super) fn stand_back_in_line(&mut self, key: TaskKey, ticket: Ticket) {
        self.tasks.set_state(key, State::Pending { ticket });
        let task = self.tasks.get(key);
        self.pools[task.pool.0].queue.put_back(task.place(ticket), key, task.count());
    }

    pub(super) fn reply(&mut self, to: Watcher, body: ReplyBody) {
        let reply = Reply { request: Some(to.request), body };
        self.actions.push_back(Action::Reply { client: to.client, reply });
    }

    pub(super) fn refuse(&mut self, to: Watcher, refusal: Refusal) {
        self.refuse_all(to, 1, refusal);
    }

    /// Refuses so many requests, with numbers that count on.
    fn refuse_all(&mut self, first: Watcher, count: u32, refusal: Refusal) {
        let Some(client) = self.clients.get(&first.client) else { return };
        let user = client.peer.user;
        self.refusals += u64::from(count);
        self.note(Notice::Refused { client: first.client, user, refusal: refusal.clone(), count });
        for place in 0..u64::from(count) {
            let to = Watcher { request: first.request.plus(place), ..first };
            self.reply(to, ReplyBody::Refused(refusal.clone()));
        }
    }

    /// Refuses what was submitted.
    fn refuse_submission(&mut self, submission: Submission, refusal: Refusal) {
        self.refuse_all(submission.submitter, submission.args.count(), refusal);
    }
}
