//! The part that does: one event loop that owns every socket and every process.
//!
//! ```text
//!            ┌──────────────────────── one turn ─────────────────────────────────────┐
//!  poller ──>│ note what is ready ──> serve it ──> pass the time ──> flush outboxes  │──> poller
//!            │                          │ Event         │ TimePassed                 │
//!            │                          v               v                            │
//!            │                     supervisor ──Action──> dispatch                   │
//!            └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The daemon decides nothing about tasks and workers: it turns what it reads into events and carries
//! out the actions. All that is readable is stepped before the time is, so that a result that is there
//! beats its deadline. Nothing on this thread waits, except for the poller; what can block (starting
//! processes, writing the log) has a thread of its own.
//!
//! | file | its noun |
//! | --- | --- |
//! | `connection` | a socket with its two buffers |
//! | `clients`, `requests` | who is connected; what their requests mean |
//! | `access`, `descent` | who is let in, who stays, who may administer; who comes from a worker |
//! | `functions` | functions that run and are clients themselves |
//! | `workers`, `sent` | the processes; what each was sent |
//! | `page`, `results`, `caps` | what a worker has put on its page; what it returns; what of that is passed on |
//! | `output`, `spawner`, `memory` | what they print; how they are started; what they take |
//! | `sandbox` | what shuts workers in, in words |
//! | `cgroup`, `strays` | each worker's control group; children that nobody started |
//! | `closer` | where big payloads end |
//! | `template`, `copies` | the process that others are copies of; what they do themselves |
//! | `guard` | the process that ends what a killed daemon leaves |
//! | `serve` | what is ready, turned into events |
//! | `dispatch` | the supervisor's actions, carried out |
//! | `door`, `listener` | how clients come in |
//! | `alarm`, `clock` | when something is due; what time it is |
//! | `signals`, `notify`, `logging` | the other ways to the world |

mod access;
mod alarm;
mod caps;
mod cgroup;
mod clients;
mod clock;
mod closer;
pub mod config;
mod connection;
mod copies;
mod descent;
mod dispatch;
mod door;
mod error;
mod functions;
mod guard;
mod listener;
mod logging;
mod memory;
mod notify;
mod output;
mod page;
mod requests;
mod results;
mod sandbox;
mod sent;
mod serve;
mod signals;
mod spawner;
mod strays;
mod template;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod worker_tests;
mod workers;

pub(crate) use copies::{Fork, fork_template, run_if_started_as_template};
pub use door::Audience;
pub use error::Error;
pub(crate) use guard::run_if_started_as_guard;
pub use template::ForkedTemplate;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use self::alarm::Alarm;
use self::cgroup::Confinement;
use self::clients::Clients;
use self::clock::Clock;
use self::closer::Closer;
use self::config::Config;
use self::door::Door;
use self::functions::Functions;
use self::guard::Guard;
use self::logging::{Filter, Logging};
use self::notify::Notifier;
use self::serve::memory_descriptors;
use self::signals::Signals;
use self::spawner::Spawner;
use self::strays::Children;
use self::token::{Token, Tokens};
use self::workers::Workers;
use crate::id::{Epoch, Pid, Uid};
use crate::limits::FAREWELL_TIMEOUT;
use crate::message::client::Welcome;
use crate::os::process::own_program;
use crate::supervisor::{DescriptorPolicy, Event, Policy, Supervisor};
use crate::time::Time;

/// The log target of the daemon's own records.
const LOG_TARGET: &str = "poold";

/// Events of the supervisor in one turn from which on much happens.
const STEPS_OF_LOAD: u32 = 32;

/// How long the loop stays awake after a turn in which much happened.
const LINGER: Duration = Duration::from_micros(50);

/// Readiness events taken from the poller in one turn.
const EVENTS_PER_TURN: usize = 4096;

/// Reads the configuration again, given the one in force: gives the new one and what it changes, a line
/// each, or why it cannot be, in one line.
pub type Reload = Box<dyn FnMut(&Config) -> Result<(Config, Vec<String>), String>>;

/// What the daemon is started with.
pub struct RunOptions {
    /// What is in force at first.
    pub config: Config,
    /// How it is read again.
    pub reload: Reload,
    /// Whom it serves.
    pub audience: Audience,
    /// What workers will be copies of, if it was [forked](crate::fork_template).
    pub template: Option<ForkedTemplate>,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// All that ran could end.
    Drained,
    /// Running tasks were killed.
    Forced,
}

impl ExitKind {
    /// The exit status of `poold` that goes with it.
    pub const fn exit_status(self) -> u8 {
        match self {
            ExitKind::Drained => 0,
            ExitKind::Forced => 1,
        }
    }
}

/// Runs the daemon in the foreground until it is told to stop.
///
/// # Errors
/// [`Error`] when it cannot start, or the system no longer reports events.
pub fn run(options: RunOptions) -> Result<ExitKind, Error> {
    let filter = match &options.audience {
        Audience::Everyone => Filter::FromEnvironment,
        Audience::Program(_) => Filter::ForProgram,
    };
    let logging = Logging::start(filter).map_err(|source| Error::Setup { what: "start the log", source })?;
    let ended = Daemon::start(options, &logging).and_then(Daemon::run);
    logging.finish();
    ended
}

/// Everything the loop owns.
struct Daemon<'a> {
    clock: Clock,
    /// The time of this turn.
    now: Time,
    supervisor: Supervisor,
    /// Events that came about while actions were carried out.
    events: VecDeque<Event>,
    poll: mio::Poll,
    alarm: Alarm,
    /// What is to be served in the next turn: it became ready, or was not finished with.
    ready: Tokens,
    /// Events that the supervisor was told of in this turn.
    steps: u32,
    /// Room for what is found on a worker's page, used again and again.
    found: Vec<Event>,
    /// Whose outbox is to be written in this turn.
    touched: Tokens,
    clients: Clients,
    functions: Functions,
    workers: Workers,
    closer: Closer,
    spawner: Spawner,
    door: Door,
    signals: Signals,
    notifier: Notifier,
    /// Whether the service manager may have to be told something.
    is_news: bool,
    logging: &'a Logging,
    /// How many descriptors it may have open.
    descriptors_max: u64,
    /// How the limits of workers are kept, in words.
    limits: String,
    /// Whether it can tell by `/proc` whose child a process is.
    sees_processes: bool,
    config: Config,
    /// Whether the rules of `config` were compared with what the pools have.
    are_rules_checked: bool,
    reload: Reload,
    exit: Option<ExitKind>,
}

impl<'a> Daemon<'a> {
    fn start(options: RunOptions, logging: &'a Logging) -> Result<Self, Error> {
        let RunOptions { config, reload, audience, template } = options;
        let setup = |what| move |source| Error::Setup { what, source };
        let (nofile, descriptors_max) = raise_descriptor_limit();
        let clock = Clock::start();
        let now = clock.now();
        let poll = mio::Poll::new().map_err(setup("open a poller"))?;
        let registry = || poll.registry().try_clone().map_err(setup("share the poller"));

        let alarm = Alarm::new(poll.registry()).map_err(setup("make a timer"))?;
        // Caught before the socket is bound, so that a signal from here on still removes it.
        let signals = Signals::catch(poll.registry()).map_err(setup("catch signals"))?;
        let user = Uid(geteuid().as_raw());
        let random = RandomState::new();
        let epoch = Epoch(random.hash_one("epoch") as u32);
        let descriptors = DescriptorPolicy::within(memory_descriptors(&config, descriptors_max));
        let policy = Policy { descriptors, ..config.policy(user, None) };
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Pid(std::process::id()),
            epoch,
            payload_bytes_max: config.limits.payload_bytes,
        };
        // A quarter of them is for results on their way, an eighth for those that clients leave unread.
        let unread_descriptors_max = memory_descriptors(&config, descriptors_max) / 8;
        let mut clients = Clients::new(welcome, unread_descriptors_max as usize, registry()?);
        let door = Door::open(audience, &config, &mut clients, (now, user), poll.registry())?;
        let confinement = Confinement::arrange(template.as_ref().map(ForkedTemplate::pid));
        log::info!(target: LOG_TARGET, "limits of workers: {confinement}");
        let limits = confinement.to_string();
        let program = own_program().map_err(setup("find its own executable"))?;
        if !program.starts_with("/proc") {
            log::warn!(
                target: LOG_TARGET,
                "/proc is not mounted: workers run {}, the memory of workers is not known, and what gets away from \
                 a worker is not found; mount it",
                program.display()
            );
        }
        sandbox::arrange(&config);
        let sees_processes = sandbox::sees_processes();
        // Before the first that it starts, but for the template; those that a program has started stay.
        let children = Children::adopt().map_err(setup("list its children"))?;
        let guard = Guard::new(program.clone(), template.as_ref(), confinement.path());
        let guard = guard.map_err(setup("make a pipe to the guard"))?;
        let closer = Closer::start();
        let spawner =
            Spawner::start(program, template, children, guard, confinement, poll.registry(), nofile);
        let spawner = spawner.map_err(setup("start the spawner"))?;
        // No thread is started after this one: see `Closer::start`.
        spawner.prepare(&config.pools);
        let workers = Workers::new(registry()?, spawner.records());
        let notifier = Notifier::from_environment(now, registry()?);
        let mut supervisor = Supervisor::new(now, policy, epoch, random.hash_one("seed"));
        if !log::log_enabled!(target: LOG_TARGET, log::Level::Debug) {
            supervisor.omit_notices_of_tasks();
        }
        Ok(Daemon {
            clock,
            now,
            supervisor,
            events: VecDeque::new(),
            ready: Tokens::default(),
            steps: 0,
            found: Vec::new(),
            touched: Tokens::default(),
            clients,
            functions: Functions::default(),
            workers,
            closer,
            alarm,
            poll,
            spawner,
            door,
            signals,
            notifier,
            is_news: true,
            logging,
            descriptors_max,
            limits,
            sees_processes,
            config,
            are_rules_checked: false,
            reload,
            exit: None,
        })
    }

    fn run(mut self) -> Result<ExitKind, Error> {
        let mut readiness = mio::Events::with_capacity(EVENTS_PER_TURN);
        self.dispatch();
        self.spawner.hand_over(self.now);
        let exit = loop {
            self.tell_service_manager();
            if let Some(exit) = self.exit {
                break exit;
            }
            self.wait(&mut readiness)?;
            self.turn(&readiness);
        };
        self.say_farewell(&mut readiness)?;
        self.spawner.finish();
        log::info!(target: LOG_TARGET, "stopped");
        Ok(exit)
    }

    /// Waits until something is ready or due. Where much happened, more is about to: to sleep would be to have
    /// oneself woken at once, and on the processor of whoever does.
    fn wait(&mut self, readiness: &mut mio::Events) -> Result<(), Error> {
        if self.steps >= STEPS_OF_LOAD && self.ready.is_empty() {
            let until = self.clock.now() + LINGER;
            while self.clock.now() < until {
                poll(&mut self.poll, readiness, Some(Duration::ZERO))?;
                if !readiness.is_empty() {
                    return Ok(());
                }
                thread::yield_now();
            }
        }
        let timeout = if self.ready.is_empty() {
            let due = [
                self.supervisor.poll_deadline(),
                self.clients.next_timeout(),
                self.door.next_timeout(),
                self.spawner.next_timeout(),
                self.notifier.next_timeout(),
            ];
            if let Some(next) = due.into_iter().flatten().min() {
                self.alarm.ring_by(self.now, || self.clock.now(), next).map_err(Error::Loop)?;
            }
            None
        } else {
            Some(Duration::ZERO)
        };
        poll(&mut self.poll, readiness, timeout)
    }

    fn turn(&mut self, readiness: &mio::Events) {
        self.steps = 0;
        self.now = self.clock.now();
        for event in readiness {
            self.note(event);
        }
        let ready = self.ready.take();
        for token in &ready {
            self.serve(*token);
        }
        self.ready.give_back(ready);
        self.pass_time();
        self.flush();
        self.spawner.hand_over(self.now);
    }

    fn note(&mut self, event: &mio::event::Event) {
        let token = Token::from(event.token());
        match token {
            Token::Client(client) => self.clients.note(client, event),
            Token::WorkerSocket(slot) => self.workers.note(slot, event),
            Token::WorkerOutput(..)
            | Token::WorkerBell(_)
            | Token::WorkerExit(_)
            | Token::Spawner
            | Token::Signals
            | Token::Listener
            | Token::ServiceManager
            | Token::Alarm => {}
        }
        if event.is_writable() {
            self.touched.insert(token);
        }
        self.ready.insert(token);
    }

    /// Does what is due by now, once all that was ready has been served.
    fn pass_time(&mut self) {
        if self.supervisor.is_due(self.now) {
            self.step(Event::TimePassed);
        }
        self.clients.expire(self.now);
        self.touched.extend(self.clients.due(self.now).map(Token::Client));
        if self.door.resume(self.now) {
            self.ready.insert(Token::Listener);
        }
        if self.door.has_lost_its_program(&self.clients) {
            self.logging.hush();
            // Told twice, it waits for nothing.
            self.step(Event::StopRequested);
            self.step(Event::StopRequested);
        }
        self.notifier.feed_watchdog(self.now);
    }

    /// Tells the supervisor what happened. What it makes of all that did is carried out before anything is written.
    fn step(&mut self, event: Event) {
        self.steps += 1;
        self.supervisor.handle(self.now, event);
    }

    fn dispatch(&mut self) {
        loop {
            while let Some(action) = self.supervisor.poll_action() {
                self.perform(action);
            }
            let Some(event) = self.events.pop_front() else { return };
            self.step(event);
        }
    }

    /// Carries out what is decided, and writes to everyone who was told something.
    fn flush(&mut self) {
        self.dispatch();
        while !self.touched.is_empty() {
            let touched = self.touched.take();
            for token in &touched {
                self.flush_to(*token);
            }
            self.touched.give_back(touched);
        }
    }

    /// Writes to one that was told something, and carries out what comes of it.
    fn flush_to(&mut self, token: Token) {
        let is_heard = match token {
            Token::Client(client) => {
                let flushed = self.clients.flush(self.now, client, &self.config.limits);
                if let Some(event) = flushed.event {
                    self.step(event);
                }
                flushed.is_heard
            }
            Token::WorkerSocket(slot) => {
                let flushed = self.workers.flush(slot);
                if let Some((worker, unread_bytes)) = self.workers.unread(slot) {
                    self.heed_unread(worker, unread_bytes);
                }
                flushed
            }
            Token::WorkerOutput(..)
            | Token::WorkerBell(_)
            | Token::WorkerExit(_)
            | Token::Spawner
            | Token::Signals
            | Token::Listener
            | Token::ServiceManager
            | Token::Alarm => false,
        };
        if is_heard {
            self.ready.insert(token);
        }
        self.dispatch();
    }

    /// Gets the last replies out, as far as the clients read them in time.
    fn say_farewell(&mut self, readiness: &mut mio::Events) -> Result<(), Error> {
        let until = self.clock.now() + FAREWELL_TIMEOUT;
        while self.clients.flush_all() {
            let left = until.since(self.clock.now());
            if left.is_zero() {
                log::warn!("some clients did not read their last replies");
                break;
            }
            poll(&mut self.poll, readiness, Some(left))?;
            for event in &*readiness {
                if let Token::Client(client) = Token::from(event.token()) {
                    self.clients.note(client, event);
                }
            }
        }
        Ok(())
    }
}

fn poll(poll: &mut mio::Poll, readiness: &mut mio::Events, timeout: Option<Duration>) -> Result<(), Error> {
    match poll.poll(readiness, timeout) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(Error::Loop(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Allows the daemon as many descriptors as it may have; gives what was allowed before, and what is now.
fn raise_descriptor_limit() -> (u64, u64) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit on descriptors stays at {:?}: {error}", before.current);
    }
    // RLIM_INFINITY, as getrlimit(2) has it.
    let number = |limit: Rlimit| limit.current.unwrap_or(u64::MAX);
    (number(before), number(getrlimit(Resource::Nofile)))
}
