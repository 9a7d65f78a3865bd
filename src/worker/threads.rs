//! Several attempts at a time: the main thread reads, others run what it hands out, each one after the other.
//!
//! ```text
//!   socket ──> main thread ──> waiting ──> a thread: Started, the function, Finished ──┐
//!     ^                          ^              │                                      │
//!     │                          └──────────────┘                                      │
//!     └────────────────────────────────────────────────────── one message at a time <──┘
//! ```
//!
//! Each thread keeps the two orders of [`super::attempts`]. All that one read brought is taken in before any
//! of it starts, so a recall is heeded here too. A thread is started when an attempt finds none idle, so a
//! pool that is never full has few. They share the process: what a function does to it, it does to all.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use super::asking::Desk;
use super::attempts::{self, Workplace};
use super::complain;
use super::receiver::Receiver;
use super::session::{Broken, Session};
use super::waiting::{Attempt, Waiting};

/// What the threads share.
struct Shared<'a> {
    workplace: &'a Workplace,
    desk: Arc<Desk>,
    queue: Mutex<Queue>,
    /// There is something in the queue, or it was closed.
    changed: Condvar,
}

/// What there is to do, and who does it.
#[derive(Default)]
struct Queue {
    waiting: Waiting,
    /// Threads there are.
    threads: usize,
    /// Those that run an attempt.
    busy: usize,
    /// Nothing more is started.
    is_closed: bool,
    /// Why a thread could not go on.
    broken: Option<Broken>,
}

/// Runs attempts on up to `threads_max` threads until the daemon says stop. What has not started by then is
/// left to others; what has is finished first, and answered until then.
pub(super) fn run(session: Session, threads_max: u32, workplace: &Workplace) -> Result<(), Broken> {
    let Session { mut receiver, sender, .. } = session;
    // The main thread reads all the time, whatever functions wait for.
    let desk = Desk::new(sender, |_| Ok(()));
    let shared = Shared { workplace, desk, queue: Mutex::default(), changed: Condvar::new() };
    let ended = thread::scope(|scope| {
        let ended = shared.hand_out(&mut receiver, threads_max, scope);
        shared.close();
        ended.and_then(|()| shared.hear_out(&mut receiver))
    });
    shared.queue().broken.take().map_or(ended, Err)
}

impl<'a> Shared<'a> {
    /// Reads, and hands out what is to be run, until the daemon says stop.
    fn hand_out<'scope>(
        &'scope self,
        receiver: &mut Receiver,
        threads_max: u32,
        scope: &'scope Scope<'scope, 'a>,
    ) -> Result<(), Broken> {
        loop {
            receiver.read()?;
            let mut queue = self.queue();
            if attempts::take_received(receiver, &mut queue.waiting, &self.desk)?.is_break() {
                return Ok(());
            }
            let wanted = (queue.busy + queue.waiting.len()).min(threads_max as usize);
            while queue.threads < wanted {
                match thread::Builder::new().name("attempts".to_owned()).spawn_scoped(scope, || self.work()) {
                    Ok(_) => queue.threads += 1,
                    Err(error) if queue.threads == 0 => return Err(Broken::Thread(error)),
                    Err(error) => {
                        complain(&format_args!("goes on with {} threads: {error}", queue.threads));
                        break;
                    }
                }
            }
            for _ in 0..queue.waiting.len() {
                self.changed.notify_one();
            }
        }
    }

    /// Reads on after the daemon has said stop: functions that ask something wait for an answer. The last
    /// thread that returns ends it.
    fn hear_out(&self, receiver: &mut Receiver) -> Result<(), Broken> {
        while self.queue().threads > 0 {
            // Whatever else comes is left to others; stop was said.
            while attempts::take_received(receiver, &mut self.queue().waiting, &self.desk)?.is_break() {}
            match receiver.read() {
                Err(_) if self.queue().threads == 0 => break,
                read => read?,
            }
        }
        Ok(())
    }

    /// What a thread does: runs what waits, until nothing more is to be started.
    fn work(&self) {
        let broken = self.desk.serve(|| self.run_waiting()).err();
        let mut queue = self.queue();
        queue.threads -= 1;
        if let Some(broken) = broken {
            queue.broken.get_or_insert(broken);
            self.desk.sender().end();
        } else if queue.threads == 0 {
            self.desk.sender().end_reading();
        }
    }

    fn run_waiting(&self) -> Result<(), Broken> {
        while let Some(next) = self.next() {
            attempts::attempt(next, self.workplace, &self.desk, || ())?;
            let mut queue = self.queue();
            queue.busy -= 1;
            // Whose a stray is cannot be told while others run. None starts as long as the queue is locked.
            if queue.busy == 0 {
                self.workplace.tidy_up();
            }
        }
        Ok(())
    }

    /// Waits for something to run.
    fn next(&self) -> Option<Attempt> {
        let mut queue = self.queue();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(next) = queue.waiting.pop_attempt() {
                queue.busy += 1;
                return Some(next);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify_all();
    }

    /// Nothing panics while it holds the lock, and functions hold none of ours.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AttemptId, Epoch, Generation, RequestId, SlotId, TaskId, WorkerId};
    use crate::limits::PAYLOAD_BYTES_MAX;
    use crate::line::Place;
    use crate::message::client::{Reply, ReplyBody, Request, RequestBody};
    use crate::message::resources::WorkLimits;
    use crate::message::worker::{FromWorker, Report, Setup, ToWorker};
    use crate::task::{Failure, FailureKind, Payload};
    use crate::wire::{self, Inbox};
    use crate::worker::Registry;
    use bytes::BytesMut;
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;
    use std::time::Duration;

    /// How long a test waits before it fails for want of something that should have happened at once.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A worker of so many threads, seen from the daemon's end.
    struct Worker {
        socket: UnixStream,
        inbox: Inbox,
        /// The function `wait` returns while it is open.
        gate: Arc<(Mutex<bool>, Condvar)>,
        thread: JoinHandle<Result<(), Broken>>,
    }

    impl Worker {
        fn start(threads: u32) -> Self {
            let (near, far) = UnixStream::pair().unwrap();
            far.set_read_timeout(Some(PATIENCE)).unwrap();
            let gate = Arc::<(Mutex<bool>, Condvar)>::default();
            let functions = functions(Arc::clone(&gate));
            let workplace =
                Workplace { functions, payload_bytes_max: PAYLOAD_BYTES_MAX, ..Workplace::default() };
            let thread = thread::spawn(move || run(Session::new(near.into()), threads, &workplace));
            Worker { socket: far, inbox: Inbox::default(), gate, thread }
        }

        fn say(&mut self, messages: &[ToWorker]) {
            let mut bytes = BytesMut::new();
            for message in messages {
                wire::encode(message, &mut bytes).unwrap();
            }
            self.socket.write_all(&bytes).unwrap();
        }

        fn hear(&mut self) -> FromWorker {
            self.inbox.receive(&mut self.socket).unwrap()
        }

        /// Waits until so many attempts have started.
        fn hear_starts(&mut self, count: u64) {
            let mut started: Vec<u64> = Vec::new();
            for _ in 0..count {
                match self.hear() {
                    FromWorker::Started { attempt } => started.push(attempt.0),
                    other => panic!("{other:?}"),
                }
            }
            started.sort_unstable();
            assert_eq!(started, (1..=count).collect::<Vec<u64>>());
        }

        fn open_gate(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }

        /// Hears so many attempts end; whether each had started before is checked.
        fn hear_ends(&mut self, count: usize) -> BTreeMap<u64, Report> {
            let mut reports = BTreeMap::new();
            while reports.len() < count {
                match self.hear() {
                    FromWorker::Started { .. } => {}
                    FromWorker::Finished { attempt, report } => {
                        reports.insert(attempt.0, report);
                    }
                    other => panic!("{other:?}"),
                }
            }
            reports
        }
    }

    fn functions(gate: Arc<(Mutex<bool>, Condvar)>) -> crate::worker::Functions {
        Registry::new()
            .register("wait", &[], "Waits for the gate.", move |()| {
                let is_open = gate.0.lock().unwrap();
                drop(gate.1.wait_while(is_open, |is_open| !*is_open).unwrap());
                Ok::<_, Infallible>(())
            })
            .register("thread", &[], "Which thread it runs on.", |()| {
                Ok::<_, Infallible>(format!("{:?}", thread::current().id()))
            })
            .register("panic", &["MESSAGE"], "Panics.", |message: String| -> Result<(), Infallible> {
                panic!("{message}")
            })
            .register("ask", &[], "What the daemon replies to it.", |()| {
                let Ok(Place::Function(line)) = Place::here() else { panic!("there is no line") };
                line.say(Request { id: RequestId(1), body: RequestBody::Drain }).unwrap();
                Ok::<_, Infallible>(format!("{:?}", line.hear().unwrap().body))
            })
            .finish(false)
            .unwrap()
    }

    fn attempt(number: u64, function: &str, args: &[&str]) -> ToWorker {
        ToWorker::Attempt {
            attempt: AttemptId(number),
            task: TaskId { epoch: Epoch(1), number },
            function: function.parse().unwrap(),
            args: Payload::from_args(args),
        }
    }

    fn waits(count: u64) -> Vec<ToWorker> {
        (1..=count).map(|number| attempt(number, "wait", &[])).collect()
    }

    #[test]
    fn attempts_run_at_one_time_up_to_the_number_of_threads() {
        let mut worker = Worker::start(3);
        worker.say(&waits(4));
        worker.hear_starts(3);
        worker.open_gate();
        assert_eq!(worker.hear_ends(4).len(), 4);
    }

    #[test]
    fn idle_thread_is_taken_before_another_is_started() {
        let mut worker = Worker::start(64);
        worker.say(&[attempt(1, "thread", &[])]);
        let first = worker.hear_ends(1).remove(&1);
        // The second comes when the first was reported, and its thread may be about to say that it is idle.
        for number in 2..=50 {
            worker.say(&[attempt(number, "thread", &[])]);
            let threads = worker.hear_ends(1);
            if threads.get(&number) == first.as_ref() {
                return;
            }
        }
        panic!("no attempt ran on the first thread again");
    }

    #[test]
    fn recall_of_what_waits_takes_it_back() {
        let mut worker = Worker::start(2);
        worker.say(&waits(3));
        worker.hear_starts(2);
        worker.say(&[ToWorker::Recall { attempt: AttemptId(3) }, ToWorker::Recall { attempt: AttemptId(1) }]);
        assert_eq!(worker.hear(), FromWorker::Recalled { attempt: AttemptId(3) });
        worker.open_gate();
        assert_eq!(worker.hear_ends(2).into_keys().collect::<Vec<u64>>(), [1, 2]);
    }

    #[test]
    fn recall_in_the_same_read_takes_the_attempt_back() {
        let mut worker = Worker::start(2);
        worker.say(&[attempt(1, "thread", &[]), ToWorker::Recall { attempt: AttemptId(1) }]);
        assert_eq!(worker.hear(), FromWorker::Recalled { attempt: AttemptId(1) });
    }

    #[test]
    fn stop_lets_what_was_started_finish_and_starts_nothing_more() {
        let mut worker = Worker::start(3);
        worker.say(&waits(2));
        worker.hear_starts(2);
        worker.say(&[attempt(3, "wait", &[]), ToWorker::Stop]);
        worker.open_gate();
        assert_eq!(worker.hear_ends(2).into_keys().collect::<Vec<u64>>(), [1, 2]);
        worker.thread.join().unwrap().unwrap();
    }

    #[test]
    fn stop_leaves_functions_that_ask_their_answers() {
        let mut worker = Worker::start(2);
        worker.say(&[attempt(1, "ask", &[])]);
        worker.hear_starts(1);
        let FromWorker::Ask { attempt, request } = worker.hear() else { panic!("nothing is asked") };
        worker.say(&[ToWorker::Stop]);
        let reply = Box::new(Reply { request: Some(request.id), body: ReplyBody::Drained });
        worker.say(&[ToWorker::Answer { attempt, reply }]);
        let Some(Report::Ok(result)) = worker.hear_ends(1).remove(&1) else { panic!("it failed") };
        assert_eq!(result.bytes().unwrap(), &b"\"Drained\""[..]);
        worker.thread.join().unwrap().unwrap();
    }

    #[test]
    fn end_of_the_socket_ends_idle_threads() {
        let mut worker = Worker::start(2);
        worker.say(&[attempt(1, "thread", &[])]);
        worker.hear_ends(1);
        drop(worker.socket);
        assert!(worker.thread.join().unwrap().unwrap_err().is_end());
    }

    #[test]
    fn panics_at_one_time_are_told_apart() {
        let mut worker = Worker::start(8);
        let panics: Vec<_> =
            (1..=64).map(|number| attempt(number, "panic", &[&format!("number {number}")])).collect();
        worker.say(&panics);
        for (number, report) in worker.hear_ends(64) {
            let Report::Failed(Failure { kind, message, location }) = report else { panic!("{report:?}") };
            assert_eq!((kind, message), (FailureKind::Panic, format!("number {number}")));
            assert!(location.unwrap().starts_with(file!()));
        }
    }

    #[test]
    fn violation_is_told_after_what_was_started() {
        let mut worker = Worker::start(2);
        worker.say(&waits(1));
        worker.hear_starts(1);
        let id = WorkerId { slot: SlotId(0), generation: Generation(0) };
        worker.say(&[ToWorker::Setup(Box::new(Setup {
            worker: id,
            allow_fault_injection: false,
            threads: 2,
            commands: Vec::new(),
            limits: WorkLimits::default(),
            payload_bytes_max: 0,
            page: Payload::default(),
        }))]);
        worker.open_gate();
        worker.hear_ends(1);
        assert!(matches!(worker.thread.join().unwrap(), Err(Broken::Unexpected(_))));
    }
}
