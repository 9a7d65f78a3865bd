//! Starts worker processes, on a thread of its own since starting one blocks its caller.
//!
//! ```text
//!   loop ──Order──> (channel) ──> thread: control group, socketpair, pipes, then a copy of the template
//!                                      or posix_spawn, pidfd
//!   loop <──Answer── (channel, then a wake of the poller) <──┘
//!   loop ──Remains──> (channel) ──> thread: strays, control group
//! ```
//!
//! The same thread clears away what ended workers leave, because it alone knows which children it started.
//!
//! The thread lives as long as the [`Spawner`]: a worker asks the kernel to be killed when the *thread* ends whose
//! child it is (PR_SET_PDEATHSIG). That is this one, or, of copies of the template that was forked, the one that
//! forked it.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Waker};
use rustix::pipe::{PipeFlags, pipe_with};

use super::cgroup::{self, Confinement, WorkerGroup};
use super::config::{EnvironmentPass, Pool, PoolLimits};
use super::connection::Connection;
use super::guard::{Guard, Records};
use super::output::Output;
use super::page::Page;
use super::strays::{Children, Kind};
use super::template::{Environment, ForkedTemplate, Template, can_be_copy};
use super::token::{OutputStream, Token};
use crate::id::{Pid, PoolName, SlotId, WorkerId};
use crate::limits::{SPAWNS_AHEAD, SUCCESSION};
use crate::message::command::CommandSpec;
use crate::message::guard::Record;
use crate::message::resources::WorkLimits;
use crate::os::children;
use crate::os::pidfd::Child;
use crate::time::Time;
use crate::wire::Role;

/// A process to be started.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Its address.
    pub(super) worker: WorkerId,
    /// Its pool.
    pub(super) pool: PoolName,
    /// What its first stage executes; without, it runs the built-in functions.
    pub(super) command: Option<Vec<String>>,
    /// The variables that it inherits.
    pub(super) env_pass: EnvironmentPass,
    /// Variables added to its environment.
    pub(super) env: BTreeMap<String, String>,
    /// Whether functions that show faults may be announced.
    pub(super) allow_fault_injection: bool,
    /// How many attempts it is to run at a time.
    pub(super) threads: u32,
    /// Functions that run a command.
    pub(super) commands: Arc<[CommandSpec]>,
    /// What it may use, with all that it starts.
    pub(super) limits: PoolLimits,
    /// Whether it is shut in.
    pub(super) sandbox: bool,
    /// What its attempts may use.
    pub(super) work_limits: WorkLimits,
    /// Bytes in the largest result that it may return.
    pub(super) payload_bytes_max: u64,
}

/// A process that was started, with the daemon's ends of all that it holds.
#[derive(Debug)]
pub(super) struct Started {
    /// What it was started for.
    pub(super) order: Order,
    /// The process, not reaped.
    pub(super) child: Child,
    /// Its control group, where there is one.
    pub(super) group: Option<WorkerGroup>,
    /// Its socket.
    pub(super) connection: Connection,
    /// Its standard output and error.
    pub(super) outputs: [Output; 2],
    /// The page that it is to share.
    pub(super) page: Option<Page>,
}

/// What became of an order.
pub(super) type Answer = Result<Box<Started>, Failed>;

/// Why an order came to nothing.
#[derive(Debug)]
pub(super) struct Failed {
    /// Which worker's.
    pub(super) worker: WorkerId,
    /// Why, in one line.
    pub(super) message: String,
}

/// What is left of a worker whose process is reaped.
#[derive(Debug)]
pub(super) struct Remains {
    /// The process that it was.
    pub(super) pid: Pid,
    /// Its control group, killed.
    pub(super) group: Option<WorkerGroup>,
}

/// Something for the thread to do.
#[derive(Debug)]
enum Errand {
    /// Have the template ready, since there will be workers that can be copies of it.
    Prepare,
    /// End the one that was forked: there will be none.
    Dismiss,
    /// Start a worker.
    Start(Box<Order>),
    /// Clear away what is left of one.
    ClearAway(Remains),
    /// Look for strays.
    SweepStrays,
}

/// The loop's side of the spawning thread.
#[derive(Debug)]
pub(super) struct Spawner {
    /// What the thread was not handed yet: in a turn at most an order and some remains for each slot.
    backlog: Vec<Errand>,
    /// When the thread is handed it, at the earliest.
    not_before: Time,
    errands: Sender<Errand>,
    answers: Receiver<Answer>,
    records: Records,
    thread: JoinHandle<()>,
}

impl Spawner {
    /// Starts the thread. What it starts executes `program` or is a copy of the `template`, is confined by
    /// `confinement` and registered with `registry`, and has a guard that runs; `nofile` is the limit on descriptors
    /// that workers get back. The `children` that there were before are left alone.
    pub(super) fn start(
        program: PathBuf,
        template: Option<ForkedTemplate>,
        mut children: Children,
        (guard, records): (Guard, Records),
        confinement: Confinement,
        registry: &Registry,
        nofile: u64,
    ) -> io::Result<Self> {
        let waker = Waker::new(registry, Token::Spawner.into())?;
        let registry = registry.try_clone()?;
        children.replace(None, template.as_ref().map(ForkedTemplate::pid));
        let mut starter = Starter {
            template: Template::new(program.clone(), records.clone(), template),
            program,
            nofile,
            registry,
            records: records.clone(),
            guard,
            confinement,
            children,
            leftovers: Vec::new(),
        };
        let (errands, to_do) = channel();
        // When it is full the thread waits for the loop, which never waits for the thread.
        let (done, answers) = sync_channel(SPAWNS_AHEAD);
        let thread = thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            starter.take_up_guard();
            for errand in to_do {
                starter.remove_leftovers();
                match errand {
                    Errand::Prepare => {
                        // What fails here is tried again with the first worker.
                        let _ = starter.keep_template();
                    }
                    Errand::Dismiss => starter.with_template(Template::dismiss),
                    Errand::Start(order) => {
                        let answer = starter.answer(*order);
                        if done.send(answer).is_err() || waker.wake().is_err() {
                            return;
                        }
                    }
                    Errand::ClearAway(remains) => starter.clear_away(remains),
                    Errand::SweepStrays => starter.sweep(),
                }
            }
            starter.finish();
        });
        Ok(Spawner {
            backlog: Vec::new(),
            not_before: Time::ZERO,
            errands,
            answers,
            records,
            thread: thread?,
        })
    }

    /// Says of which pools workers will be started.
    pub(super) fn prepare(&self, pools: &[Pool]) {
        let are_copies = |pool: &Pool| is_as_the_template(pool.command.as_deref(), pool.sandbox);
        self.errand(if pools.iter().any(are_copies) { Errand::Prepare } else { Errand::Dismiss });
    }

    /// Has a process started, once the thread is handed the order. Its answer comes later.
    pub(super) fn order(&mut self, order: Order) {
        self.backlog.push(Errand::Start(Box::new(order)));
    }

    /// Clears away what is left of a worker, as [`order`](Self::order) starts one.
    pub(super) fn clear_away(&mut self, remains: Remains) {
        self.backlog.push(Errand::ClearAway(remains));
    }

    /// Looks for children that nobody has started. To be called whenever a child has ended.
    pub(super) fn sweep_strays(&mut self) {
        self.backlog.push(Errand::SweepStrays);
    }

    /// Waits until all is done that was asked for, and clears the rest away.
    pub(super) fn finish(mut self) {
        self.hand_over(self.not_before);
        let Spawner { errands, answers, thread, .. } = self;
        drop(errands);
        // Nobody is left who would take up what was started: it ends with its socket, which is closed here.
        while answers.recv().is_ok() {}
        if thread.join().is_err() {
            log::error!("the thread that starts workers panicked");
        }
    }

    /// The next answer that is there.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// What the guard is told with.
    pub(super) fn records(&self) -> Records {
        self.records.clone()
    }

    /// Lets a worker begin that has just been put in service: where processors are few, it would wait for one while
    /// the next standby is started. What is to be done by now is not put off again.
    pub(super) fn give_way(&mut self, now: Time) {
        if self.backlog.is_empty() {
            self.not_before = now + SUCCESSION;
        }
    }

    /// When there is something to hand over.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        (!self.backlog.is_empty()).then_some(self.not_before)
    }

    /// Hands the thread what there is to do, if it gives way to nobody. It runs at once, beside the loop: so what
    /// is urgent comes before.
    pub(super) fn hand_over(&mut self, now: Time) {
        if now < self.not_before {
            return;
        }
        for errand in mem::take(&mut self.backlog) {
            self.errand(errand);
        }
    }

    fn errand(&self, errand: Errand) {
        if self.errands.send(errand).is_err() {
            log::error!("the thread that starts workers is gone");
        }
    }
}

/// What the thread starts workers with, and knows of those that live.
struct Starter {
    program: PathBuf,
    nofile: u64,
    registry: Registry,
    records: Records,
    guard: Guard,
    template: Template,
    confinement: Confinement,
    children: Children,
    /// Groups whose last processes were still on their way out.
    leftovers: Vec<WorkerGroup>,
}

impl Starter {
    fn answer(&mut self, order: Order) -> Answer {
        let worker = order.worker;
        let is_copy = is_as_the_template(order.command.as_deref(), order.sandbox);
        let is_guarded = if is_copy { self.keep_template() } else { self.keep_guarded() };
        let started = is_guarded.and_then(|()| self.start_in_group(order));
        started.map(Box::new).map_err(|error| Failed { worker, message: error.to_string() })
    }

    /// Sees to it that there is a template, which gets ready while the guard is started, and that it is shut in.
    fn keep_template(&mut self) -> io::Result<()> {
        self.with_template(Template::keep_running);
        let kept = self.keep_guarded();
        let guard = self.guard.pid();
        self.with_template(|template| template.confine(guard));
        kept
    }

    /// Does something by which there may be another template, or none.
    fn with_template<T>(&mut self, act: impl FnOnce(&mut Template) -> T) -> T {
        let former = self.template.pid();
        let done = act(&mut self.template);
        self.children.replace(former, self.template.pid());
        done
    }

    /// Takes hold of a guard that was ordered. One that was made and not heard of is killed: it would read the same
    /// pipe as the one that is executed in its place.
    fn take_up_guard(&mut self) {
        if !self.guard.is_ordered() {
            return;
        }
        let process = self.with_template(Template::ordered);
        self.guard.take_up(process);
        match self.guard.pid() {
            Some(guard) => self.children.add(guard, Kind::Spared),
            None => self.children.kill_all(),
        }
    }

    fn keep_guarded(&mut self) -> io::Result<()> {
        let former = self.guard.pid();
        let kept = self.guard.keep_running();
        self.children.replace(former, self.guard.pid());
        kept
    }

    fn start_in_group(&mut self, order: Order) -> io::Result<Started> {
        let group = self.confinement.make_group(order.worker, &order.limits)?;
        let entrance = group.as_ref().map(WorkerGroup::entrance);
        match self.start(order, entrance) {
            Ok(started) => Ok(Started { group, ..started }),
            Err(error) => {
                self.leftovers.extend(group);
                Err(error)
            }
        }
    }

    fn clear_away(&mut self, Remains { pid, group }: Remains) {
        self.children.remove(pid);
        self.children.sweep();
        self.leftovers.extend(group);
        self.remove_leftovers();
    }

    /// A child has ended, and it may be the template.
    fn sweep(&mut self) {
        self.with_template(Template::reap_if_ended);
        self.children.sweep();
    }

    /// Removes the groups that are empty by now.
    fn remove_leftovers(&mut self) {
        self.leftovers.retain(|group| match group.remove() {
            Ok(()) => false,
            Err(error) => {
                log::debug!("a control group is removed later: {error}");
                true
            }
        });
    }

    fn finish(&mut self) {
        self.remove_leftovers();
        self.confinement.path().into_iter().for_each(cgroup::end_all);
    }

    /// Starts the process of `order` as `src/worker` expects it: see there. It enters the group whose `entrance`
    /// that is.
    fn start(&mut self, order: Order, entrance: Option<PathBuf>) -> io::Result<Started> {
        // Attempts that run side by side are not told apart on it.
        let page = (order.threads == 1)
            .then(|| Page::create(order.worker, order.payload_bytes_max, &self.registry))
            .transpose()?;
        let variables = self.environment(&order, entrance);
        let (pid, ends) = self.start_process(&order, variables)?;
        let kind = if order.command.is_none() { Kind::Worker } else { Kind::OtherWorker };
        self.children.add(pid, kind);
        self.records.tell(Record::WorkerStarted { worker: pid });
        let held = self.take_hold(pid, order.worker.slot, ends);
        let (child, connection, outputs) = held.inspect_err(|_| self.forsake(pid))?;
        Ok(Started { order, child, group: None, connection, outputs, page })
    }

    /// Has the loop's poller watch a process that was started, and the daemon's ends of what it holds.
    fn take_hold(
        &self,
        worker: Pid,
        slot: SlotId,
        Ends { socket, stdout, stderr }: Ends,
    ) -> io::Result<(Child, Connection, [Output; 2])> {
        let registry = &self.registry;
        let output = |stream, pipe| Output::open(stream, pipe, Token::WorkerOutput(slot, stream), registry);
        let child = Child::hold(worker)?;
        let outputs = [output(OutputStream::Stdout, stdout)?, output(OutputStream::Stderr, stderr)?];
        let connection = Connection::open(socket.into(), Role::Worker, Token::WorkerSocket(slot), registry)?;
        let exit = Token::WorkerExit(slot);
        registry.register(&mut SourceFd(&child.as_fd().as_raw_fd()), exit.into(), Interest::READABLE)?;
        Ok((child, connection, outputs))
    }

    /// All that is in the environment of a worker.
    fn environment(&self, order: &Order, entrance: Option<PathBuf>) -> Environment {
        let limits = &order.limits;
        let memory_bytes = limits.memory_bytes.filter(|_| !self.confinement.limits_memory());
        let numbers = [
            ("POOLD_WORKER", Some(u64::from(std::process::id()))),
            ("POOLD_WORKER_NOFILE", Some(self.nofile)),
            ("POOLD_WORKER_GUARD", u64::try_from(self.records.fd()).ok()),
            ("POOLD_WORKER_MEMORY", memory_bytes),
            ("POOLD_WORKER_OPEN_FILES", limits.open_files),
            ("POOLD_WORKER_FILE_SIZE", limits.file_size_bytes),
            ("POOLD_WORKER_CORE", Some(limits.core_bytes)),
            ("POOLD_WORKER_SANDBOX", order.sandbox.then_some(1)),
        ];
        let numbers =
            numbers.into_iter().filter_map(|(name, number)| Some((name.into(), number?.to_string().into())));
        let added = order.env.iter().map(|(name, value)| (name.into(), value.into()));
        let inherited = env::vars_os().filter(|(name, _)| order.env_pass.has(name));
        let entrance = entrance.map(|entrance| ("POOLD_WORKER_CGROUP".into(), entrance.into()));
        // The later of two of the same name holds.
        inherited.chain(added).chain(numbers).chain(entrance).collect()
    }

    /// A copy of the template where that will do, else the program, executed.
    fn start_process(&mut self, order: &Order, variables: Environment) -> io::Result<(Pid, Ends)> {
        let title = format!("poold: worker {} ({})", order.worker, order.pool);
        if is_as_the_template(order.command.as_deref(), order.sandbox) && can_be_copy(&variables) {
            let (ends, files) = Ends::make()?;
            if let Some(pid) = self.with_template(|template| template.copy(&title, &variables, files)) {
                return Ok((pid, ends));
            }
        }
        let (ends, [stdin, stdout, stderr]) = Ends::make()?;
        let mut command = Command::new(&self.program);
        command
            .arg0(title)
            .args(order.command.iter().flatten())
            .env_clear()
            .envs(variables)
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0);
        Ok((Pid(command.spawn()?.id()), ends))
    }

    /// Ends a worker that could not be taken hold of, and that nobody else knows of.
    fn forsake(&mut self, worker: Pid) {
        children::kill(worker);
        children::reap(worker);
        self.records.tell(Record::WorkerEnded { worker });
        self.children.remove(worker);
    }
}

/// The daemon's ends of a worker's standard streams.
struct Ends {
    socket: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Ends {
    /// These, and the worker's: its standard input, which is its socket, output and error.
    fn make() -> io::Result<(Self, [OwnedFd; 3])> {
        let (socket, stdin) = UnixStream::pair()?;
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Ends { socket, stdout, stderr }, [stdin.into(), their_stdout, their_stderr]))
    }
}

/// Whether a worker runs this program, shut in.
fn is_as_the_template(command: Option<&[String]>, sandbox: bool) -> bool {
    command.is_none() && sandbox
}
