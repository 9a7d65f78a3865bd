//! The functions of this worker that ask the daemon for something, and what they are answered.
//!
//! ```text
//!   function ──Line──> Desk ──FromWorker::Ask──> socket
//!   function <──Line── Desk <──deliver── whoever reads the socket
//! ```
//!
//! A function may open several lines; each numbers its requests for itself, so that the line's own number
//! goes into the upper bits of what the daemon is told. Between the return of a function and the report
//! of its attempt its lines are closed: the daemon hears of an attempt only while it holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::session::{Broken, Sender};
use crate::id::{AttemptId, RequestId, TaskId};
use crate::line::{self, Line, LineError, Lines};
use crate::message::client::{Reply, Request};
use crate::message::worker::FromWorker;

/// Bits of a request's number that are its line's to give; the upper ones are the line's own number.
const NUMBER_BITS: u32 = 48;

/// The calls of this worker, and the lines that they opened.
pub(super) struct Desk {
    sender: Arc<Sender>,
    listen: Listen,
    calls: Mutex<BTreeMap<AttemptId, Arc<Call>>>,
    /// How many calls there are: nearly always none.
    calls_count: AtomicUsize,
}

/// Sees to it that somebody reads the socket and delivers answers, while functions run.
type Listen = Box<dyn Fn(&Arc<Desk>) -> io::Result<()> + Send + Sync>;

/// A function that runs and has asked for a line.
#[derive(Debug)]
struct Call {
    attempt: AttemptId,
    /// Whether it may still say something. Locked while it does.
    is_open: Mutex<bool>,
    /// Where the answers to each of its lines go.
    lines: Mutex<Vec<Option<mpsc::Sender<Reply>>>>,
}

impl Desk {
    /// A desk that asks by `sender`. `listen` is called whenever a line is opened.
    pub(super) fn new(
        sender: Arc<Sender>,
        listen: impl Fn(&Arc<Desk>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Desk {
            sender,
            listen: Box::new(listen),
            calls: Mutex::default(),
            calls_count: AtomicUsize::new(0),
        })
    }

    /// By which all of the worker's messages leave.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Does what calls functions on this thread: they ask here.
    pub(super) fn serve<T>(self: &Arc<Self>, calls: impl FnOnce() -> T) -> T {
        line::with_lines(Arc::clone(self) as Arc<dyn Lines>, calls)
    }

    /// Calls `function`, which can open lines on this thread until it returns, if that is [served](Self::serve). Says
    /// whether it has.
    pub(super) fn during<T>(
        &self,
        attempt: AttemptId,
        task: TaskId,
        function: impl FnOnce() -> T,
    ) -> (T, bool) {
        let result = line::called_as(attempt, task, function);
        // A line is opened on the thread that calls the function, which is this one.
        if self.calls_count.load(Ordering::Relaxed) == 0 {
            return (result, false);
        }
        let call = lock(&self.calls).remove(&attempt);
        if let Some(call) = &call {
            self.calls_count.fetch_sub(1, Ordering::Relaxed);
            call.close();
        }
        (result, call.is_some())
    }

    /// The call of an attempt, once it asks for a line.
    fn call(&self, attempt: AttemptId) -> Arc<Call> {
        let new = || {
            self.calls_count.fetch_add(1, Ordering::Relaxed);
            Arc::new(Call { attempt, is_open: Mutex::new(true), lines: Mutex::default() })
        };
        Arc::clone(lock(&self.calls).entry(attempt).or_insert_with(new))
    }

    /// Hands an answer to the line that asked. One that came too late is dropped.
    pub(super) fn deliver(&self, attempt: AttemptId, reply: Reply) {
        let Some(RequestId(number)) = reply.request else { return };
        let Some(call) = lock(&self.calls).get(&attempt).cloned() else { return };
        let lines = lock(&call.lines);
        if let Some(Some(line)) = lines.get((number >> NUMBER_BITS) as usize) {
            let request = Some(RequestId(number & ((1 << NUMBER_BITS) - 1)));
            // Whoever asked may have gone meanwhile.
            let _ = line.send(Reply { request, ..reply });
        }
    }
}

impl Call {
    /// From here on nothing is said, and whoever still listens hears the end.
    fn close(&self) {
        *lock(&self.is_open) = false;
        lock(&self.lines).clear();
    }
}

impl Lines for Desk {
    fn open(self: Arc<Self>, attempt: AttemptId, task: TaskId) -> Result<Arc<dyn Line>, LineError> {
        (self.listen)(&self)?;
        let call = self.call(attempt);
        let (reply_to, replies) = channel();
        let mut lines = lock(&call.lines);
        lines.push(Some(reply_to));
        Ok(Arc::new(CallLine {
            sender: Arc::clone(&self.sender),
            call: Arc::clone(&call),
            task,
            number: lines.len() - 1,
            replies: Mutex::new(replies),
        }))
    }
}

/// A line of a call.
struct CallLine {
    sender: Arc<Sender>,
    call: Arc<Call>,
    task: TaskId,
    number: usize,
    replies: Mutex<mpsc::Receiver<Reply>>,
}

impl Line for CallLine {
    fn task(&self) -> TaskId {
        self.task
    }

    fn say(&self, mut request: Request) -> Result<(), LineError> {
        request.id = RequestId(request.id.0 | (self.number as u64) << NUMBER_BITS);
        let is_open = lock(&self.call.is_open);
        if !*is_open {
            return Err(LineError::Over);
        }
        let ask = FromWorker::Ask { attempt: self.call.attempt, request: Box::new(request) };
        self.sender.say(&ask).map_err(|broken| match broken {
            Broken::Encode(error) => LineError::Unsendable(error),
            Broken::Write(error) => LineError::Io(error),
            Broken::Refused(_) | Broken::Unexpected(_) | Broken::Receive(_) | Broken::Thread(_) => {
                LineError::Over
            }
        })
    }

    fn hear(&self) -> Result<Reply, LineError> {
        lock(&self.replies).recv().map_err(|_| LineError::Over)
    }

    fn close(&self) {
        if let Some(line) = lock(&self.call.lines).get_mut(self.number) {
            *line = None;
        }
    }
}

impl fmt::Debug for CallLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CallLine").field("call", &self.call).finish_non_exhaustive()
    }
}

/// What is locked stays whole whatever panics: each change is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
