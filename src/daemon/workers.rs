//! The worker processes: each with its socket, its output and its exit.
//!
//! ```text
//!   started ──> Handshake ──hello──> Open ──socket ended, or violation──> Deaf
//!                   └────────────────────────────────────────────────────────^
//!   process ended ──> group killed, rest of output and socket read, reaped ──> (gone)
//! ```
//!
//! A worker leaves only by its process's end: neither the end of its socket or of its sentinel nor an error says
//! that all it reported was read. Messages become events here; what they mean is the supervisor's.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::caps::{cut, within_caps};
use super::cgroup::WorkerGroup;
use super::connection::{Connection, Heard, answer_to, in_words};
use super::functions::Ask;
use super::guard::Records;
use super::output::{Output, Speaker};
use super::page::{Begun, Page};
use super::sent::SentAttempts;
use super::spawner::{Order, Remains, Started};
use super::token::{OutputStream, Token};
use crate::id::{AttemptId, Pid, PoolName, SlotId, TaskId, WorkerId};
use crate::limits::{
    ATTEMPTS_AHEAD_MAX, ATTEMPTS_PER_WORKER_MAX, FUNCTION_TEXT_BYTES_MAX, FUNCTIONS_PER_WORKER_MAX,
    LAST_WORDS_BYTES_MAX, MESSAGE_BYTES_MAX, OUTPUT_BYTES_PER_TURN,
};
use crate::message::guard::Record;
use crate::message::worker::{FromWorker, Setup, ToWorker};
use crate::os::pidfd::{Child, WatchedThread};
use crate::supervisor::{Event, Signal};
use crate::task::{Exit, Payload};
use crate::wire::{Answer, Inbox, Role, Verdict, WireError};

/// Every worker process that is not reaped.
#[derive(Debug)]
pub(super) struct Workers {
    /// A slot has one process at a time.
    by_slot: BTreeMap<SlotId, Worker>,
    registry: Registry,
    guard: Records,
}

#[derive(Debug)]
struct Worker {
    order: Order,
    child: Child,
    /// A thread that ends only with it, if it has named one.
    sentinel: Option<WatchedThread>,
    /// Its control group, where there is one.
    group: Option<WorkerGroup>,
    connection: Connection,
    outputs: [Output; 2],
    /// The page that it shares.
    page: Option<Page>,
    /// How many attempts it holds at a time, by its own word.
    capacity: u32,
    attempts: SentAttempts,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its hello is awaited.
    Handshake,
    /// It is told attempts, and reports.
    Open,
    /// Its socket ended or it broke the protocol, which the supervisor knows. Its exit is awaited.
    Deaf,
}

/// What a worker did.
#[derive(Debug)]
pub(super) enum WorkerDid {
    /// This, for the supervisor.
    Event(Event),
    /// One of its functions asks something.
    Ask(Ask),
    /// It said hello, and was answered.
    Enter,
    /// Nothing more for now.
    Nothing,
    /// There may be more to hear, in the next turn.
    Pause,
}

impl Workers {
    /// None yet; `guard` is told of their ends.
    pub(super) fn new(registry: Registry, guard: Records) -> Self {
        Workers { by_slot: BTreeMap::new(), registry, guard }
    }

    /// Takes up a process that was started.
    pub(super) fn add(&mut self, started: Started) -> (WorkerId, Pid) {
        let Started { order, child, group, connection, outputs, page } = started;
        let (id, pid) = (order.worker, child.pid());
        let (attempts, stage) = (SentAttempts::default(), Stage::Handshake);
        let worker = Worker {
            order,
            child,
            sentinel: None,
            group,
            connection,
            outputs,
            page,
            capacity: 1,
            attempts,
            stage,
        };
        self.by_slot.insert(id.slot, worker);
        (id, pid)
    }

    /// Takes in what the poller reports of a worker's socket.
    pub(super) fn note(&mut self, slot: SlotId, event: &mio::event::Event) {
        if let Some(worker) = self.by_slot.get_mut(&slot) {
            worker.connection.note(event);
        }
    }

    /// Logs what a worker printed. Says whether there may be more.
    pub(super) fn read_output(&mut self, slot: SlotId, stream: OutputStream) -> bool {
        self.by_slot.get_mut(&slot).is_some_and(|worker| worker.read_output(stream, OUTPUT_BYTES_PER_TURN))
    }

    /// The next thing that a worker does; to be called until it does nothing more.
    pub(super) fn hear(&mut self, slot: SlotId, budget_bytes: &mut usize) -> WorkerDid {
        let Some(worker) = self.by_slot.get_mut(&slot) else { return WorkerDid::Nothing };
        match worker.stage {
            Stage::Handshake | Stage::Open => {}
            Stage::Deaf => return WorkerDid::Nothing,
        }
        match worker.connection.hear(budget_bytes, Inbox::next_message) {
            Heard::Silence => WorkerDid::Nothing,
            Heard::Pause => WorkerDid::Pause,
            Heard::Hello(hello) => worker.greet(answer_to(Role::Worker, hello)),
            Heard::Message(message) => worker.take_in(message, &self.registry),
            Heard::Violation(error) => worker.break_off(error.to_string()),
            Heard::End(error) => {
                if let Some(error) = error {
                    log::warn!("reading from worker {} failed: {error}", worker.order.worker);
                }
                worker.stage = Stage::Deaf;
                WorkerDid::Event(Event::WorkerHungUp { worker: worker.order.worker })
            }
        }
    }

    /// If a worker's process has ended: ends its groups, reads all that it left, and reaps it.
    pub(super) fn take_ended(&mut self, slot: SlotId) -> Option<(Vec<Event>, Remains)> {
        let worker = self.by_slot.get_mut(&slot).filter(|worker| worker.child.has_ended())?;
        worker.kill();
        self.guard.tell(Record::WorkerEnded { worker: worker.child.pid() });
        worker.connection.give_up_writing();
        for stream in OutputStream::ALL {
            worker.read_output(stream, LAST_WORDS_BYTES_MAX);
        }
        let mut events = self.hear_out(slot);
        let (exited, remains) = self.by_slot.remove(&slot)?.bury(&self.registry);
        events.push(exited);
        Some((events, remains))
    }

    /// If a worker's sentinel has ended, which is told once, reads all that it has said. A thread of it may still be about
    /// to write what it began to.
    pub(super) fn take_dying(&mut self, slot: SlotId) -> Vec<Event> {
        let Some(worker) = self.by_slot.get_mut(&slot) else { return Vec::new() };
        let Some(sentinel) = worker.sentinel.take_if(|sentinel| sentinel.has_ended()) else {
            return Vec::new();
        };
        forget_readiness(&sentinel, &self.registry);
        let worker = worker.order.worker;
        let mut events = self.hear_out(slot);
        events.push(Event::WorkerHungUp { worker });
        events
    }

    /// Reads all that a worker has said.
    fn hear_out(&mut self, slot: SlotId) -> Vec<Event> {
        let mut events = Vec::new();
        let mut budget_bytes = LAST_WORDS_BYTES_MAX;
        loop {
            match self.hear(slot, &mut budget_bytes) {
                // That is told anyway.
                WorkerDid::Event(Event::WorkerHungUp { .. }) => break,
                WorkerDid::Event(event) => events.push(event),
                // Nobody is left to be answered.
                WorkerDid::Enter | WorkerDid::Ask(_) => {}
                WorkerDid::Nothing | WorkerDid::Pause => break,
            }
        }
        self.look(slot, Begun::All, &mut events);
        events
    }

    /// Puts `message` into a worker's outbox, if it is there and listens.
    ///
    /// # Errors
    /// The message exceeds a cap of the wire.
    pub(super) fn say(&mut self, id: WorkerId, message: &ToWorker) -> Result<(), WireError> {
        let Some(worker) = self.get_mut(id).filter(|worker| worker.stage == Stage::Open) else {
            return Ok(());
        };
        worker.connection.say(message)?;
        let (attempt, task, count) = match message {
            ToWorker::Attempt { attempt, task, .. } => (*attempt, *task, 1),
            ToWorker::Attempts { attempt, task, args, .. } => (*attempt, *task, args.count()),
            ToWorker::Setup(_) | ToWorker::Recall { .. } | ToWorker::Answer { .. } | ToWorker::Stop => {
                return Ok(());
            }
        };
        worker.attempts.push(attempt, task, count);
        if let Some(page) = &worker.page {
            page.offer(attempt, count);
        }
        Ok(())
    }

    /// Asks a worker for attempts back, so many from one on. Of one that keeps to its page it is known at once what comes
    /// of it, and added to `events`.
    ///
    /// # Errors
    /// As [`say`](Self::say).
    pub(super) fn recall(
        &mut self,
        id: WorkerId,
        attempt: AttemptId,
        count: u32,
        events: &mut Vec<Event>,
    ) -> Result<(), WireError> {
        let Some(worker) = self.get_mut(id) else { return Ok(()) };
        let attempts = (0..u64::from(count)).map(|place| attempt.plus(place));
        if let Some(page) = &mut worker.page {
            attempts.for_each(|attempt| page.take_back(attempt, &mut worker.attempts, events));
            return Ok(());
        }
        for attempt in attempts {
            self.say(id, &ToWorker::Recall { attempt })?;
        }
        Ok(())
    }

    /// Adds what a worker has put on its page since it was last looked at: what it has finished and passed over, and what it
    /// has `begun`.
    pub(super) fn look(&mut self, slot: SlotId, begun: Begun, events: &mut Vec<Event>) {
        let Some(worker) = self.by_slot.get_mut(&slot) else { return };
        let Some(page) = &mut worker.page else { return };
        if let Err(reason) = page.look(begun, &mut worker.attempts, events) {
            worker.stage = Stage::Deaf;
            page.unhook(&self.registry);
            events.push(Event::WorkerBroke { worker: worker.order.worker, reason });
        }
    }

    /// Signals a worker's process group.
    pub(super) fn signal(&mut self, id: WorkerId, signal: Signal) {
        let Some(worker) = self.get_mut(id) else { return };
        match signal {
            Signal::Terminate => worker.child.terminate_group(),
            Signal::Kill => worker.kill(),
        }
    }

    /// Writes to a worker what it takes. Says whether it is to be heard again.
    pub(super) fn flush(&mut self, slot: SlotId) -> bool {
        self.by_slot.get_mut(&slot).is_some_and(|worker| worker.connection.flush(&self.registry))
    }

    /// The worker in a slot, and how many bytes it was told and has not read.
    pub(super) fn unread(&self, slot: SlotId) -> Option<(WorkerId, usize)> {
        let worker = self.by_slot.get(&slot)?;
        Some((worker.order.worker, worker.connection.outbox_bytes()))
    }

    /// The pool and the process of a worker.
    pub(super) fn process_of(&self, id: WorkerId) -> Option<(&PoolName, Pid)> {
        let worker = self.by_slot.get(&id.slot).filter(|worker| worker.order.worker == id)?;
        Some((&worker.order.pool, worker.child.pid()))
    }

    fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.by_slot.get_mut(&id.slot).filter(|worker| worker.order.worker == id)
    }
}

impl Worker {
    fn greet(&mut self, answer: Answer) -> WorkerDid {
        self.connection.answer(answer);
        if answer.verdict != Verdict::Accepted {
            return self.break_off(in_words(answer.verdict).to_owned());
        }
        self.stage = Stage::Open;
        let files = match self.page.as_mut().map(Page::hand_over).transpose() {
            Ok(files) => files.unwrap_or_default(),
            Err(error) => return self.break_off(format!("it cannot be given its page: {error}")),
        };
        let setup = ToWorker::Setup(Box::new(Setup {
            worker: self.order.worker,
            allow_fault_injection: self.order.allow_fault_injection,
            threads: self.order.threads,
            commands: self.order.commands.to_vec(),
            limits: self.order.work_limits.clone(),
            payload_bytes_max: self.order.payload_bytes_max,
            page: Payload { descriptors: files.into(), ..Payload::default() },
        }));
        match self.connection.say(&setup) {
            Ok(()) => WorkerDid::Enter,
            Err(error) => self.break_off(format!("its setup does not fit into a frame: {error}")),
        }
    }

    /// A worker's message as an event, within the caps that hold for what is passed on.
    fn take_in(&mut self, message: FromWorker, registry: &Registry) -> WorkerDid {
        let worker = self.order.worker;
        WorkerDid::Event(match message {
            FromWorker::Ready { functions, .. } if functions.len() > FUNCTIONS_PER_WORKER_MAX => {
                let announced = functions.len();
                return self.break_off(format!(
                    "it announced {announced} functions; {FUNCTIONS_PER_WORKER_MAX} is the most"
                ));
            }
            FromWorker::Ready { capacity: 0, .. } => {
                return self.break_off("it announced a capacity of 0".to_owned());
            }
            FromWorker::Ready { mut functions, capacity, uses_page, sentinel } => {
                if let Some(thread) = sentinel {
                    self.post(thread, registry);
                }
                for info in &mut functions {
                    cut(&mut info.signature, FUNCTION_TEXT_BYTES_MAX);
                    cut(&mut info.summary, FUNCTION_TEXT_BYTES_MAX);
                }
                let capacity = capacity.min(ATTEMPTS_PER_WORKER_MAX);
                self.capacity = capacity;
                if !uses_page || capacity > 1 {
                    self.leave_page(registry);
                }
                let ahead = if self.page.is_some() { ATTEMPTS_AHEAD_MAX } else { capacity };
                Event::WorkerReady { worker, functions, capacity, ahead }
            }
            FromWorker::NotReady { mut message } => {
                cut(&mut message, MESSAGE_BYTES_MAX);
                Event::WorkerNotReady { worker, message }
            }
            FromWorker::Started { attempt } => Event::AttemptStarted { worker, attempt },
            FromWorker::Finished { attempt, report } => {
                self.attempts.forget(attempt, 1);
                let report = within_caps(report, self.order.payload_bytes_max);
                Event::AttemptFinished { worker, attempt, report }
            }
            FromWorker::Ask { attempt, request } => {
                return match self.attempts.task_of(attempt) {
                    Some(task) => WorkerDid::Ask(Ask { worker, attempt, task, request: *request }),
                    None => {
                        let attempt = attempt.0;
                        self.break_off(format!("it asked for attempt {attempt}, which it does not hold"))
                    }
                };
            }
            FromWorker::Recalled { attempt } => {
                self.attempts.forget(attempt, 1);
                Event::AttemptsRecalled { worker, attempt, count: 1 }
            }
        })
    }

    /// Goes by messages alone.
    fn leave_page(&mut self, registry: &Registry) {
        if let Some(page) = self.page.take() {
            page.unhook(registry);
        }
    }

    /// Has the poller watch a thread of it. What cannot be watched is done without: its process is, anyway.
    fn post(&mut self, thread: Pid, registry: &Registry) {
        let posted = WatchedThread::open(self.child.pid(), thread).and_then(|sentinel| {
            let exit = Token::WorkerExit(self.order.worker.slot);
            registry.register(
                &mut SourceFd(&sentinel.as_fd().as_raw_fd()),
                exit.into(),
                Interest::READABLE,
            )?;
            Ok(sentinel)
        });
        match posted {
            Ok(sentinel) => self.sentinel = Some(sentinel),
            Err(error) => log::debug!("worker {} has no sentinel: {error}", self.order.worker),
        }
    }

    fn break_off(&mut self, reason: String) -> WorkerDid {
        self.stage = Stage::Deaf;
        WorkerDid::Event(Event::WorkerBroke { worker: self.order.worker, reason })
    }

    fn read_output(&mut self, stream: OutputStream, budget_bytes: usize) -> bool {
        let speaker = Speaker { worker: self.order.worker, pool: &self.order.pool, task: self.only_task() };
        let [stdout, stderr] = &mut self.outputs;
        match stream {
            OutputStream::Stdout => stdout.read(budget_bytes, &speaker),
            OutputStream::Stderr => stderr.read(budget_bytes, &speaker),
        }
    }

    /// The task that whatever it prints is by, if that can be told: its attempts share their output.
    fn only_task(&self) -> Option<TaskId> {
        let has_begun = |attempt| self.page.as_ref().is_none_or(|page| page.has_begun(attempt));
        let mut begun = self.attempts.tasks_begun(has_begun);
        begun.next().filter(|_| self.capacity == 1 && begun.next().is_none())
    }

    /// Kills it and all that it has started: its process group, and its control group, which nothing leaves.
    fn kill(&self) {
        self.child.kill_group();
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Closes all it had, reaps its process, and tells how it ended.
    fn bury(mut self, registry: &Registry) -> (Event, Remains) {
        let worker = self.order.worker;
        let task = self.only_task();
        self.leave_page(registry);
        let speaker = Speaker { worker, pool: &self.order.pool, task };
        for output in self.outputs {
            output.close(&speaker, registry);
        }
        self.connection.close(registry);
        forget_readiness(&self.child, registry);
        if let Some(sentinel) = &self.sentinel {
            forget_readiness(sentinel, registry);
        }
        let remains = Remains { pid: self.child.pid(), group: self.group };
        let exit = self.child.reap().unwrap_or_else(|error| {
            log::error!("how worker {worker} ended is unknown: waiting for it failed: {error}");
            Exit::Code(-1)
        });
        // Whoever sends KILL, a rise of the group's count says that the kernel had cause to.
        let out_of_memory =
            remains.group.as_ref().filter(|_| exit == Exit::Signal(9)).and_then(WorkerGroup::out_of_memory);
        let exit = out_of_memory.map_or(exit, |memory_max_bytes| Exit::OutOfMemory { memory_max_bytes });
        (Event::WorkerExited { worker, exit }, remains)
    }
}

/// Has the poller watch it no longer.
fn forget_readiness(watched: impl AsFd, registry: &Registry) {
    // Failing, it would be because the poller no longer has it, which is what is wanted.
    let _ = registry.deregister(&mut SourceFd(&watched.as_fd().as_raw_fd()));
}
