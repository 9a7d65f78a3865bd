//! Fake worker processes: they become ready or not, run attempts for a random time, and die, freeze and
//! misbehave wherever a real one could. What one wrote before its end is read before its end is told.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use poold::id::{AttemptId, Pid, PoolName, WorkerId};
use poold::message::status::FunctionInfo;
use poold::message::worker::{Report, ToWorker};
use poold::supervisor::{Event, Signal};
use poold::task::{Encoding, Exit, Failure, FailureKind, Payload};
use poold::time::Time;

use crate::faults::Fault;
use crate::history::Fact;
use crate::policies::{self, Breed, RSS_BYTES_MAX, ms};
use crate::trial::Violation;
use crate::world::{Happening, World};

/// A worker process.
#[derive(Debug)]
pub struct Process {
    breed: Breed,
    is_alive: bool,
    is_ready: bool,
    /// Whether it is stopped (as by SIGSTOP).
    pub is_frozen: bool,
    /// Whether TERM ends it.
    pub heeds_terminate: bool,
    /// Whether TERM waits for a stopped process to go on.
    pub is_terminated: bool,
    is_stopping: bool,
    /// Whether what it writes can be read.
    pub is_connected: bool,
    /// Attempts that it was sent and has not started.
    queue: VecDeque<AttemptId>,
    /// Attempts whose functions run.
    running: Vec<AttemptId>,
    /// Attempts that it reported.
    pub reported: Vec<AttemptId>,
    /// The page that it shares with the daemon, if it does.
    page: Option<Page>,
    /// What it would have done while it was stopped.
    pub parked: Vec<Happening>,
    /// When the last message to it arrives: the next one comes no earlier.
    pub arrives_at: Time,
    /// When the last message from it is read: the next one is read no earlier.
    read_at: Time,
}

/// What a worker and the daemon know of each other without a word.
#[derive(Debug, Default)]
pub struct Page {
    /// Attempts that it was sent and may not begin any more.
    taken_back: BTreeSet<AttemptId>,
    /// Those that it began, of which the daemon does not know yet.
    begun: BTreeSet<AttemptId>,
    /// Those of what was taken back that it has passed over, of which the daemon does not know yet.
    passed_over: Vec<AttemptId>,
    /// How attempts ended, as far as the daemon has not taken that.
    published: Vec<Event>,
}

impl Process {
    /// Whether the function of an attempt runs.
    pub fn runs(&self, attempt: AttemptId) -> bool {
        self.running.contains(&attempt)
    }
}

impl World {
    /// Starts a process, sooner or later.
    pub fn spawn(&mut self, worker: WorkerId, pool: PoolName) {
        self.spawning.insert(worker, pool);
        let wait = if self.strike(Fault::SpawnSlow) { ms(self.rng.u64(50..300)) } else { self.delay(5) };
        self.schedule(wait, Happening::SpawnEnds(worker));
    }

    /// A process is there, or not.
    pub fn spawn_ends(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(pool) = self.spawning.remove(&worker) else { return Ok(()) };
        if self.strike(Fault::SpawnFails) {
            return self.tell(Event::SpawnFailed { worker, message: "no memory".to_owned() });
        }
        let breed = self.breeds[&pool].clone();
        let now = self.now();
        let process = Process {
            breed,
            is_alive: true,
            is_ready: false,
            is_frozen: false,
            heeds_terminate: !self.strike(Fault::IgnoresTerminate),
            is_terminated: false,
            is_stopping: false,
            is_connected: true,
            queue: VecDeque::new(),
            running: Vec::new(),
            reported: Vec::new(),
            page: None,
            parked: Vec::new(),
            arrives_at: now,
            read_at: now,
        };
        self.processes.insert(worker, process);
        self.last_pid += 1;
        if !self.strike(Fault::NeverReady) {
            let wait = self.delay(20);
            self.schedule(wait, Happening::Prepared(worker));
        }
        self.tell(Event::WorkerSpawned { worker, pid: Pid(self.last_pid) })
    }

    /// Puts a message on its way to a worker, behind those before it.
    pub fn send(&mut self, worker: WorkerId, message: ToWorker) {
        let at = self.now() + self.delay(3);
        if let Some(process) = self.processes.get_mut(&worker) {
            process.arrives_at = process.arrives_at.max(at);
            let at = process.arrives_at;
            self.schedule_at(at, Happening::Arrives(worker, message));
        }
    }

    /// A worker is ready, or says that it cannot be, or dies before.
    pub fn prepared(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(process) = self.awake(worker, Happening::Prepared(worker)) else { return Ok(()) };
        if process.is_stopping {
            return Ok(());
        }
        let breed = process.breed.clone();
        if self.odds.strike(&mut self.rng, Fault::DiesBeforeReady) {
            return self.dies(worker, Exit::Code(1));
        }
        if self.strike(Fault::NotReady) {
            self.write(worker, Event::WorkerNotReady { worker, message: "no such library".to_owned() });
            let wait = self.delay(20);
            self.schedule(wait, Happening::Dies(worker, Exit::Code(1)));
            return Ok(());
        }
        if let Some(process) = self.processes.get_mut(&worker) {
            process.is_ready = true;
            process.page = (breed.ahead > breed.capacity).then(Page::default);
        }
        let functions = breed.functions.iter().map(|name| FunctionInfo {
            name: name.clone(),
            signature: format!("{name}()"),
            summary: String::new(),
        });
        let Breed { capacity, ahead, .. } = breed;
        let ready = Event::WorkerReady { worker, functions: functions.collect(), capacity, ahead };
        for word in self.contradict(worker, ready) {
            self.write(worker, word);
        }
        self.may_die_idle(worker);
        Ok(())
    }

    /// A worker reads a message.
    pub fn arrives(&mut self, worker: WorkerId, message: ToWorker) -> Result<(), Violation> {
        if self.processes.get(&worker).is_some_and(|process| process.is_alive && !process.is_frozen)
            && self.strike(Fault::Freezes)
        {
            self.freezes(worker);
        }
        let Some(process) = self.awake(worker, Happening::Arrives(worker, message.clone())) else {
            return Ok(());
        };
        if !process.is_connected {
            return Ok(());
        }
        match message {
            ToWorker::Setup(_) | ToWorker::Attempts { .. } => {}
            ToWorker::Answer { attempt, reply } => self.answered(worker, attempt, *reply),
            ToWorker::Attempt { attempt, .. } => {
                process.queue.push_back(attempt);
                let wait = self.delay(2);
                self.schedule(wait, Happening::Begins(worker));
            }
            ToWorker::Recall { attempt } => match process.queue.iter().position(|held| *held == attempt) {
                Some(index) => {
                    process.queue.remove(index);
                    self.tally.count(Fault::RecallAnswered);
                    self.write(worker, Event::AttemptsRecalled { worker, attempt, count: 1 });
                }
                None => self.tally.count(Fault::RecallCrossesStart),
            },
            ToWorker::Stop => {
                process.is_stopping = true;
                self.may_exit(worker);
            }
        }
        Ok(())
    }

    /// A process gets a signal.
    pub fn signalled(&mut self, worker: WorkerId, signal: Signal) -> Result<(), Violation> {
        let Some(process) = self.processes.get_mut(&worker) else { return Ok(()) };
        match signal {
            Signal::Kill => self.dies(worker, Exit::Signal(9)),
            Signal::Terminate if process.is_frozen => {
                process.is_terminated = true;
                Ok(())
            }
            Signal::Terminate if process.heeds_terminate => self.dies(worker, Exit::Signal(15)),
            Signal::Terminate => Ok(()),
        }
    }

    /// A worker starts the next attempt that it holds.
    pub fn begins(&mut self, worker: WorkerId) -> Result<(), Violation> {
        let Some(process) = self.awake(worker, Happening::Begins(worker)) else { return Ok(()) };
        let has_room = process.running.len() < process.breed.threads;
        if !has_room || process.is_stopping || !process.is_connected || process.queue.is_empty() {
            return Ok(());
        }
        if self.odds.strike(&mut self.rng, Fault::DiesUnstarted) {
            return self.dies(worker, Exit::Signal(6));
        }
        self.passes_over(worker);
        let Some(attempt) = self.processes.get_mut(&worker).and_then(|process| process.queue.pop_front())
        else {
            return Ok(());
        };
        self.trial.fact(Fact::FunctionCalled(worker, attempt))?;
        if self.is_over_at_once(worker) {
            self.report(worker, attempt)?;
            return Ok(());
        }
        if let Some(process) = self.processes.get_mut(&worker) {
            process.running.push(attempt);
        }
        if !self.begins_on_page(worker, attempt) {
            self.write(worker, Event::AttemptStarted { worker, attempt });
        }
        self.speak_out_of_turn(worker);
        let duration = Duration::from_micros(self.rng.u64(50..120_000));
        if self.strike(Fault::NeverEnds) {
            self.endless.insert((worker, attempt));
        } else if !self.may_submit(worker, attempt) {
            self.schedule(duration, Happening::FunctionEnds(worker, attempt));
        }
        if self.odds.strike(&mut self.rng, Fault::DiesRunning) {
            let wait = duration.mul_f64(self.rng.f64());
            self.schedule(wait, Happening::Dies(worker, Exit::Signal(11)));
        }
        self.schedule(Duration::ZERO, Happening::Begins(worker));
        Ok(())
    }

    /// A function returns.
    pub fn function_ends(&mut self, worker: WorkerId, attempt: AttemptId) -> Result<(), Violation> {
        let Some(process) = self.awake(worker, Happening::FunctionEnds(worker, attempt)) else {
            return Ok(());
        };
        let Some(index) = process.running.iter().position(|running| *running == attempt) else {
            return Ok(());
        };
        process.running.remove(index);
        self.report(worker, attempt)
    }

    /// A process ends. What it wrote is read before that is told.
    pub fn dies(&mut self, worker: WorkerId, exit: Exit) -> Result<(), Violation> {
        let Some(process) = self.processes.get_mut(&worker) else { return Ok(()) };
        if !process.is_alive {
            return Ok(());
        }
        process.is_alive = false;
        let was_told = matches!(exit, Exit::Signal(9 | 15) | Exit::Code(0));
        let kind = match process {
            Process { is_stopping: true, .. } => Fault::DiesStopping,
            Process { is_ready: false, .. } => Fault::DiesBeforeReady,
            Process { running, .. } if !running.is_empty() => Fault::DiesRunning,
            Process { queue, .. } if !queue.is_empty() => Fault::DiesUnstarted,
            Process { .. } => Fault::DiesIdle,
        };
        if !was_told {
            if self.is_waited_in_worker(worker) {
                self.tally.count(Fault::DiesWaiting);
            }
            self.tally.count(kind);
            if self.trial.history.drained_at.is_some() {
                self.tally.count(Fault::DiesDraining);
            }
        }
        self.trial.fact(Fact::ProcessEnded(worker))?;
        if self.rng.bool() {
            self.write(worker, Event::WorkerHungUp { worker });
        }
        let at = self.now() + self.delay(3);
        let at = self.processes.get(&worker).map_or(at, |process| process.read_at.max(at));
        self.schedule_at(at, Happening::Told(Event::WorkerExited { worker, exit }));
        Ok(())
    }

    /// The process, if it can act; what it was about to do is kept if it is stopped.
    pub fn awake(&mut self, worker: WorkerId, happening: Happening) -> Option<&mut Process> {
        let process = self.processes.get_mut(&worker)?;
        if process.is_alive && process.is_frozen {
            process.parked.push(happening);
            return None;
        }
        process.is_alive.then_some(process)
    }

    /// A worker reports an attempt and looks for the next.
    fn report(&mut self, worker: WorkerId, attempt: AttemptId) -> Result<(), Violation> {
        let report = match self.strike(Fault::FunctionFails) {
            true => Report::Failed(Failure {
                kind: FailureKind::Error,
                message: format!("{worker} cannot do {}", attempt.0),
                location: None,
            }),
            false => result(worker, attempt),
        };
        let is_quick = self.is_quick(worker);
        if self.strike(Fault::Grows) {
            self.say(worker, Event::WorkerMeasured { worker, rss_bytes: RSS_BYTES_MAX + 1 });
        } else if self.rng.u32(0..if is_quick { 32 } else { 2 }) == 0 {
            self.say(worker, Event::WorkerMeasured { worker, rss_bytes: RSS_BYTES_MAX });
        }
        self.say(worker, Event::AttemptFinished { worker, attempt, report });
        if let Some(process) = self.processes.get_mut(&worker) {
            process.reported.push(attempt);
        }
        if self.strike(Fault::DiesAfterResult) {
            return self.dies(worker, Exit::Signal(11));
        }
        self.speak_out_of_turn(worker);
        if self.odds.strike(&mut self.rng, Fault::BreaksProtocol) {
            let reason = "a frame of unknown kind".to_owned();
            self.breaks(worker, Fault::BreaksProtocol, Event::WorkerBroke { worker, reason });
        } else if self.odds.strike(&mut self.rng, Fault::ClosesSocket) {
            self.breaks(worker, Fault::ClosesSocket, Event::WorkerHungUp { worker });
        }
        self.may_exit(worker);
        self.may_die_idle(worker);
        let wait = if is_quick { Duration::ZERO } else { self.delay(1) };
        self.schedule(wait, Happening::Begins(worker));
        Ok(())
    }

    fn is_quick(&self, worker: WorkerId) -> bool {
        self.processes.get(&worker).is_some_and(|process| process.breed.is_quick)
    }

    /// Whether the function that a worker is about to call ends as soon as it begins.
    fn is_over_at_once(&mut self, worker: WorkerId) -> bool {
        let is_rare = self.rng.u32(0..10) == 0;
        self.is_quick(worker) != is_rare
    }

    /// A worker passes over what was taken back on its page, up to what it may begin. The daemon is told that there
    /// is something on the page, or finds it there.
    fn passes_over(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let Some(page) = &mut process.page else { return };
        let is_taken_back = |attempt: &&AttemptId| page.taken_back.contains(*attempt);
        let count = process.queue.iter().take_while(is_taken_back).count();
        page.passed_over.extend(process.queue.drain(..count));
        if !page.passed_over.is_empty() && self.rng.bool() {
            self.write_to_daemon(worker, Happening::LooksAt(worker));
        }
    }

    /// A worker begins an attempt, if it does so on its page.
    fn begins_on_page(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let page = self.processes.get_mut(&worker).and_then(|process| process.page.as_mut());
        page.is_some_and(|page| page.begun.insert(attempt))
    }

    /// A worker says something on its page, of which it tells sooner or later, or by a message.
    fn say(&mut self, worker: WorkerId, event: Event) {
        let page = self.processes.get_mut(&worker).and_then(|process| process.page.as_mut());
        match page {
            Some(page) => {
                page.published.push(event);
                self.write_to_daemon(worker, Happening::LooksAt(worker));
            }
            None => self.write(worker, event),
        }
    }

    /// The daemon takes an attempt back on the page of a worker, if it has one.
    pub fn take_back(&mut self, worker: WorkerId, attempt: AttemptId) -> bool {
        let Some(process) = self.processes.get_mut(&worker) else { return false };
        let Some(page) = &mut process.page else { return false };
        let has_begun = process.running.contains(&attempt) || process.reported.contains(&attempt);
        if has_begun {
            if page.begun.remove(&attempt) {
                self.answers.push_back(Event::AttemptStarted { worker, attempt });
            }
            self.tally.count(Fault::RecallCrossesStart);
        } else {
            page.taken_back.insert(attempt);
            self.answers.push_back(Event::AttemptsRecalled { worker, attempt, count: 1 });
            self.tally.count(Fault::RecallAnswered);
        }
        true
    }

    /// The daemon looks at the page of a worker: what it gets from that.
    pub fn look_at(&mut self, worker: WorkerId) -> Vec<Event> {
        let Some(process) = self.processes.get_mut(&worker) else { return Vec::new() };
        let Some(page) = &mut process.page else { return Vec::new() };
        let mut events = std::mem::take(&mut page.published);
        let begun = std::mem::take(&mut page.begun).into_iter();
        let unfinished = begun.filter(|attempt| !process.reported.contains(attempt));
        events.extend(unfinished.map(|attempt| Event::AttemptStarted { worker, attempt }));
        let passed_over = page.passed_over.drain(..);
        events.extend(passed_over.map(|attempt| Event::AttemptsPassedOver { worker, attempt, count: 1 }));
        events
    }

    /// A worker writes a message; it is read later, in order.
    pub fn write(&mut self, worker: WorkerId, event: Event) {
        self.write_to_daemon(worker, Happening::Told(event));
    }

    /// A worker writes what is read later, in order.
    pub fn write_to_daemon(&mut self, worker: WorkerId, read: Happening) {
        let at = self.now() + self.delay(3);
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if process.is_connected {
            process.read_at = process.read_at.max(at);
            let at = process.read_at;
            self.schedule_at(at, read);
        }
    }

    /// A worker that was told to stop exits once it runs nothing.
    fn may_exit(&mut self, worker: WorkerId) {
        let is_over = self
            .processes
            .get(&worker)
            .is_some_and(|process| process.is_stopping && process.running.is_empty() && process.is_connected);
        if is_over {
            let exit = match self.odds.strike(&mut self.rng, Fault::DiesStopping) {
                true => Exit::Signal(11),
                false => Exit::Code(0),
            };
            let wait = self.delay(2);
            self.schedule(wait, Happening::Dies(worker, exit));
        }
    }
}

/// A good result, different for each attempt; one in eight is in shared memory, and known by its size.
pub fn result(worker: WorkerId, attempt: AttemptId) -> Report {
    if attempt.0.is_multiple_of(8) {
        return Report::Ok(policies::shared(20 + attempt.0 + 7 * u64::from(worker.slot.0)));
    }
    let text = format!("result {} of worker {worker}", attempt.0);
    Report::Ok(Payload::new(Encoding::Bytes, Bytes::from(text)))
}
