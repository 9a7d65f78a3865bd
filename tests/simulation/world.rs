//! The fake world around the supervisor: a clock, clients, processes and an operator, all drawn from one
//! seed. Nothing here knows how the supervisor works.
//!
//! ```text
//!   agenda (time, sequence) ──> what happens ──> Event ──> Trial ──> Action ──> agenda
//! ```
//!
//! A run has faults for a while, then heals and demands that everything ends well, and at last is
//! drained or stopped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use poold::id::{AttemptId, ConnectionId, PoolName, RequestId, TaskId, WorkerId};
use poold::message::client::{Refusal, Reply, ReplyBody};
use poold::message::worker::ToWorker;
use poold::supervisor::{Action, Event, Notice, Signal, Wear};
use poold::task::{Exit, TaskSpec};
use poold::time::Time;

use crate::clients::Clients;
use crate::faults::{Fault, Odds, Tally};
use crate::functions::Functions;
use crate::gather::gather;
use crate::history::State;
use crate::policies::{self, Breed};
use crate::processes::Process;
use crate::trace::Trace;
use crate::trial::{Trial, Violation};

/// How long after the healing everything must have ended.
const LIVENESS_BOUND: Duration = Duration::from_secs(120);

/// More steps than any run takes: a run that gets here goes round in circles.
const STEPS_MAX: u64 = 50_000;

/// Things that may still happen to a daemon that has exited, to see that it stays silent.
const STEPS_AFTER_EXIT: u64 = 10;

/// Something on the agenda.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A client does something.
    ClientActs(usize),
    /// The supervisor is told something.
    Told(Event),
    /// A process was started, or could not be.
    SpawnEnds(WorkerId),
    /// A worker is done with its preparations.
    Prepared(WorkerId),
    /// A message reaches a worker.
    Arrives(WorkerId, ToWorker),
    /// A signal reaches a process.
    Signalled(WorkerId, Signal),
    /// The daemon reads that there is something on a worker's page.
    LooksAt(WorkerId),
    /// A worker looks for an attempt to start.
    Begins(WorkerId),
    /// A function submits tasks of its own.
    FunctionSubmits(WorkerId, AttemptId),
    /// What a function submits is read.
    Asked(WorkerId, AttemptId, RequestId, Box<TaskSpec>),
    /// A function returns.
    FunctionEnds(WorkerId, AttemptId),
    /// A process ends.
    Dies(WorkerId, Exit),
    /// A stopped process goes on.
    Thaws(WorkerId),
    /// Something is heard from a worker that is gone.
    LateMessage,
    /// The configuration is read again.
    Reloads,
    /// An operator asks to drain.
    Drains,
    /// An operator lifts a quarantine.
    Releases,
    /// The daemon is told to stop.
    Stops,
    /// From here on nothing goes wrong.
    Heals,
}

/// Everything there is.
pub struct World {
    /// Draws everything.
    pub rng: Rng,
    /// How likely faults are.
    pub odds: Odds,
    /// Faults that happened.
    pub tally: Tally,
    /// The supervisor and its judges.
    pub trial: Trial,
    /// Those who submit.
    pub clients: Clients,
    /// Functions that do.
    pub functions: Functions,
    /// Processes that are there.
    pub processes: BTreeMap<WorkerId, Process>,
    /// The pools of workers that were asked for.
    pub spawning: BTreeMap<WorkerId, PoolName>,
    /// What the workers of each pool are like.
    pub breeds: BTreeMap<PoolName, Breed>,
    /// The last process id given.
    pub last_pid: u32,
    /// Functions that return only at the healing.
    pub endless: BTreeSet<(WorkerId, AttemptId)>,
    /// What is told as soon as what was ordered is done.
    pub answers: VecDeque<Event>,
    now: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    /// What the supervisor wants to be woken for, and when that happens.
    wake: Option<(Time, Time)>,
    steps_after_exit: u64,
    /// When all faults were healed.
    pub healed_at: Option<Time>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(seed);
        let breeds = policies::draw_breeds(&mut rng);
        let policy = policies::draw(&mut rng);
        let odds = Odds::draw(&mut rng);
        let now = rng.u64(0..5_000_000_000);
        let trial = Trial::new(Time::from_nanos(now), policy, seed, trace);
        World {
            clients: Clients::draw(&mut rng),
            functions: Functions::default(),
            rng,
            odds,
            tally: Tally::new(),
            trial,
            processes: BTreeMap::new(),
            spawning: BTreeMap::new(),
            breeds,
            last_pid: 100,
            endless: BTreeSet::new(),
            answers: VecDeque::new(),
            now,
            agenda: BTreeMap::new(),
            sequence: 0,
            wake: None,
            steps_after_exit: 0,
            healed_at: None,
        }
    }

    /// Lives through faults, healing and end.
    pub fn run(&mut self) -> Result<(), Violation> {
        let actions = self.trial.begin()?;
        self.carry_out(actions);
        self.plan_faults();
        self.live()?;
        if self.trial.history.exit.is_none() {
            self.demand_health()?;
            self.probe()?;
            self.end()?;
        }
        match self.trial.history.exit {
            Some(_) => Ok(()),
            None => Err(self.complaint("the daemon was told to end and sleeps for ever")),
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.now)
    }

    /// Puts something on the agenda.
    pub fn schedule(&mut self, wait: Duration, happening: Happening) {
        self.schedule_at(self.now() + wait, happening);
    }

    /// Puts something on the agenda.
    pub fn schedule_at(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((at.as_nanos(), self.sequence), happening);
    }

    /// Whether a fault strikes now; if so, it is counted.
    pub fn strike(&mut self, fault: Fault) -> bool {
        let strikes = self.odds.strike(&mut self.rng, fault);
        if strikes {
            self.tally.count(fault);
        }
        strikes
    }

    /// Up to so many milliseconds, often nearly none.
    pub fn delay(&mut self, millis_max: u64) -> Duration {
        let micros_max = if self.rng.u32(0..3) == 0 { 20 } else { millis_max * 1000 };
        Duration::from_micros(self.rng.u64(0..=micros_max))
    }

    /// Tells the supervisor something and does what it orders.
    pub fn tell(&mut self, event: Event) -> Result<(), Violation> {
        let actions = self.trial.step(self.now(), event)?;
        self.carry_out(actions);
        while let Some(answer) = self.answers.pop_front() {
            self.told_of_worker(answer)?;
        }
        Ok(())
    }

    /// Goes on until nothing is left to happen.
    pub fn live(&mut self) -> Result<(), Violation> {
        while self.goes_on()? {
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            match (next, self.wakes_at()) {
                (Some(next), wake) if wake.is_none_or(|wake| next <= wake.as_nanos()) => {
                    let Some((_, happening)) = self.agenda.pop_first() else { break };
                    self.now = self.now.max(next);
                    self.happen(happening)?;
                }
                (_, Some(wake)) => {
                    self.now = self.now.max(wake.as_nanos());
                    self.time_passes()?;
                }
                (_, None) => break,
            }
        }
        Ok(())
    }

    /// Whether there is more to see; the daemon's exit leaves little.
    fn goes_on(&mut self) -> Result<bool, Violation> {
        if self.trial.history.step > STEPS_MAX {
            return Err(self.complaint("the run goes round in circles"));
        }
        if self.healed_at.is_some_and(|at| self.now().since(at) > LIVENESS_BOUND) {
            return Err(self.complaint("things go on long after all faults are healed"));
        }
        self.steps_after_exit += u64::from(self.trial.history.exit.is_some());
        Ok(self.steps_after_exit <= STEPS_AFTER_EXIT)
    }

    fn time_passes(&mut self) -> Result<(), Violation> {
        self.wake = None;
        self.count_deadlines();
        self.tell(Event::TimePassed)?;
        match self.trial.supervisor.poll_deadline() {
            Some(again) if again <= self.now() => {
                Err(self.complaint("time has passed and the supervisor still waits for it"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// When the supervisor is woken: when it wants to be, or a little later.
    fn wakes_at(&mut self) -> Option<Time> {
        let wanted = self.trial.supervisor.poll_deadline()?;
        match self.wake {
            Some((for_deadline, at)) if for_deadline == wanted => Some(at),
            Some(_) | None => {
                let lag = match self.strike(Fault::ClockLags) {
                    true => Duration::from_micros(self.rng.u64(1..3000)),
                    false => Duration::ZERO,
                };
                let at = wanted.max(self.now()) + lag;
                self.wake = Some((wanted, at));
                Some(at)
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::ClientActs(client) => self.client_acts(client),
            Happening::Told(event) => {
                let gone = match &event {
                    Event::WorkerExited { worker, .. } => Some(*worker),
                    _ => None,
                };
                if let Some(worker) = gone {
                    self.looks_at(worker)?;
                }
                self.told_of_worker(event)?;
                if let Some(worker) = gone {
                    self.processes.remove(&worker);
                }
                Ok(())
            }
            Happening::SpawnEnds(worker) => self.spawn_ends(worker),
            Happening::Prepared(worker) => self.prepared(worker),
            Happening::Arrives(worker, message) => self.arrives(worker, message),
            Happening::Signalled(worker, signal) => self.signalled(worker, signal),
            Happening::LooksAt(worker) => self.looks_at(worker),
            Happening::Begins(worker) => self.begins(worker),
            Happening::FunctionSubmits(worker, attempt) => self.function_submits(worker, attempt),
            Happening::Asked(worker, attempt, request, spec) => self.asked(worker, attempt, request, *spec),
            Happening::FunctionEnds(worker, attempt) => self.function_ends(worker, attempt),
            Happening::Dies(worker, exit) => self.dies(worker, exit),
            Happening::Thaws(worker) => {
                self.thaws(worker);
                Ok(())
            }
            Happening::LateMessage => self.late_message(),
            Happening::Reloads => {
                self.tally.count(Fault::Reload);
                let policy = policies::change(&mut self.rng, &self.trial.history.policy);
                self.tell(Event::PolicyChanged { policy: Box::new(policy) })
            }
            Happening::Drains => {
                self.tally.count(Fault::Drain);
                self.operator_drains()
            }
            Happening::Releases => {
                let functions = policies::functions();
                let function = functions[self.rng.usize(0..functions.len())].clone();
                self.operator_releases(function)
            }
            Happening::Stops => self.stops(),
            Happening::Heals => self.heals(),
        }
    }

    /// What stands on a worker's page is told.
    pub fn looks_at(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let seen = self.look_at(worker);
        for event in self.gathered(seen) {
            self.told_of_worker(event)?;
        }
        Ok(())
    }

    /// What is told at a time: events as they are, or those that follow on each other at once.
    fn gathered(&mut self, events: Vec<Event>) -> Vec<Event> {
        if self.rng.u32(0..4) == 0 {
            return events;
        }
        let gathered = gather(events);
        for event in &gathered {
            match event {
                Event::AttemptsFinished { .. } => self.tally.count(Fault::EndTogether),
                Event::AttemptsRecalled { count: 2.., .. } => self.tally.count(Fault::RecalledTogether),
                Event::AttemptsPassedOver { count: 2.., .. } => self.tally.count(Fault::PassedOverTogether),
                _ => {}
            }
        }
        gathered
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SpawnWorker { worker, pool } => self.spawn(worker, pool),
                Action::SendAttempt { worker, attempt, task, function, args } => {
                    self.send(worker, ToWorker::Attempt { attempt, task, function, args });
                }
                Action::LookAt { worker } => {
                    let seen = self.look_at(worker);
                    self.answers.extend(seen);
                }
                Action::RecallAttempts { worker, attempt, .. } => {
                    if !self.take_back(worker, attempt) {
                        self.send(worker, ToWorker::Recall { attempt });
                    }
                }
                Action::StopWorker { worker } => self.send(worker, ToWorker::Stop),
                Action::SignalWorker { worker, signal } => {
                    let wait = self.delay(1);
                    self.schedule(wait, Happening::Signalled(worker, signal));
                }
                Action::Reply { client, reply } => self.replied(client, reply),
                Action::Notice(notice) => self.count_notice(&notice),
                // Those are carried out one by one.
                Action::SendAttempts { .. } => {}
                Action::Exit { .. } => {}
            }
        }
        let answers = self.answers.drain(..).collect();
        self.answers = self.gathered(answers).into();
    }

    /// Counts a result that was given up since its user kept as many as one may.
    fn count_expired(&mut self, task: TaskId) {
        let history = &self.trial.history;
        let user_of = |id: &TaskId| history.tasks.get(id).map(|task| task.owner.user);
        let of_user = history.kept.iter().filter(|id| user_of(id) == user_of(&task)).count() as u64;
        if of_user == history.policy.user_results_max {
            self.tally.count(Fault::UserResultsFull);
        }
    }

    /// Counts what only the supervisor decides.
    fn count_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::ResultExpired { task } => self.count_expired(*task),
            Notice::WorkerWorn { wear: Wear::Attempts(_), .. } => self.tally.count(Fault::WornByAttempts),
            Notice::WorkerWorn { wear: Wear::Lifetime(_), .. } => self.tally.count(Fault::WornByLifetime),
            Notice::StandbyPromoted { .. } => self.tally.count(Fault::StandbyServes),
            Notice::FunctionQuarantined { .. } => self.tally.count(Fault::Quarantined),
            Notice::PoolDegraded { .. } => self.tally.count(Fault::Degraded),
            _ => {}
        }
    }

    /// Notes what a client is told; a function is told it by its worker.
    fn replied(&mut self, client: ConnectionId, reply: Reply) {
        match reply.body {
            ReplyBody::Accepted { task } => self.clients.learn(client, task),
            ReplyBody::Refused(Refusal::Quarantined { .. }) => self.tally.count(Fault::QuarantineRefuses),
            ReplyBody::Refused(Refusal::Degraded { .. }) => self.tally.count(Fault::DegradedRefuses),
            ReplyBody::Refused(Refusal::WouldDeadlock { .. }) => self.tally.count(Fault::WouldDeadlock),
            _ => {}
        }
        if let Some((worker, attempt)) = self.functions.place_of(client) {
            self.send(worker, ToWorker::Answer { attempt, reply: Box::new(reply) });
        }
    }

    /// Counts the tasks over which a deadline or a timeout passes now.
    fn count_deadlines(&mut self) {
        let now = self.now();
        for task in self.trial.history.live_tasks() {
            if task.submission.deadline.is_some_and(|deadline| deadline <= now) {
                self.tally.count(match &task.state {
                    State::Delayed { .. } if task.retried > 0 => Fault::DeadlineRetrying,
                    State::Delayed { .. } => Fault::DeadlineDelayed,
                    State::Pending => Fault::DeadlinePending,
                    State::Sent | State::Judged(_) | State::Done(_) => Fault::DeadlineRunning,
                });
            }
            let running = task.attempts.last().filter(|_| task.state == State::Sent);
            if running.and_then(|running| running.times_out_at()).is_some_and(|due| due <= now) {
                self.tally.count(Fault::Timeout);
            }
        }
    }

    /// Whether the result of a task was written and not read yet.
    pub fn result_is_on_its_way(&self, task: TaskId) -> bool {
        let task = self.trial.history.tasks.get(&task).filter(|task| task.state == State::Sent);
        task.and_then(|task| task.holder()).is_some_and(|(worker, attempt)| {
            self.processes.get(&worker).is_some_and(|process| process.reported.contains(&attempt))
        })
    }

    /// A breach of what every run must come to.
    pub fn complaint(&self, message: &str) -> Violation {
        self.trial.violation("liveness", message.to_owned())
    }
}
