//! The loop of a worker: takes attempts in, runs them one after the other, reports each.
//!
//! Two orders are promised to the daemon, and all blame rests on them: that an attempt starts is known before the
//! function is called, and how it ended before the next one starts. With a page ([`super::reports`]) both are
//! known as soon as they stand there; else when they are written to the socket, and a recall that has arrived
//! is heeded before anything starts.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::asking::Desk;
use super::confinement::Confinement;
use super::hangup::Hangup;
use super::registry::Functions;
use super::reports::Reports;
use super::result;
use super::session::{Broken, Session};
use super::strays::Strays;
use crate::id::{AttemptId, FunctionName, TaskId};
use crate::message::worker::{FromWorker, Report, ToWorker};
use crate::task::{Failure, FailureKind, Payload};
use crate::wire::ReceiveError;

/// An attempt that was received and has not started.
pub(super) struct Waiting {
    pub(super) attempt: AttemptId,
    pub(super) task: TaskId,
    pub(super) function: FunctionName,
    pub(super) args: Payload,
}

/// What attempts run with, whichever they are.
#[derive(Default)]
pub(super) struct Workplace {
    pub(super) functions: Functions,
    pub(super) hangup: Hangup,
    pub(super) confinement: Confinement,
    /// None where children are nobody's but the program's own.
    pub(super) strays: Option<Strays>,
    /// Bytes in the largest result.
    pub(super) payload_bytes_max: u64,
}

impl Workplace {
    /// Ends what attempts have left behind. None may run.
    pub(super) fn tidy_up(&self) {
        if let Some(strays) = &self.strays {
            strays.end();
        }
    }
}

/// Runs attempts until the daemon says stop; what has not started by then is left to others.
pub(super) fn run(
    session: &mut Session,
    workplace: &Workplace,
    mut reports: Option<Reports>,
) -> Result<(), Broken> {
    let mut waiting = VecDeque::new();
    let mut is_awake = true;
    let desk = Desk::new(Arc::clone(&session.sender), session.receiver.handover());
    loop {
        match &mut reports {
            Some(reports) if waiting.is_empty() => {
                reports.rest(workplace, desk.sender())?;
                session.receiver.read()?;
                is_awake = false;
            }
            // What was taken back does not begin.
            Some(_) => {}
            None if waiting.is_empty() => session.receiver.read()?,
            None => session.receiver.read_available()?,
        }
        while let Some(message) = session.receiver.next_received()? {
            if take(message, &mut waiting, &desk)?.is_break() {
                return Ok(());
            }
        }
        if let Some(reports) = reports.as_mut().filter(|_| !is_awake) {
            reports.wake(waiting.len());
            is_awake = true;
        }
        if let Some(next) = waiting.pop_front() {
            match &mut reports {
                Some(reports) => reports.attempt(next, waiting.len(), workplace, &desk)?,
                None => attempt(next, workplace, &desk, || workplace.tidy_up())?,
            }
        }
    }
}

/// Takes a message in. Breaks when it says stop.
pub(super) fn take(
    message: ToWorker,
    waiting: &mut VecDeque<Waiting>,
    desk: &Desk,
) -> Result<ControlFlow<()>, Broken> {
    match message {
        ToWorker::Attempt { attempt, task, function, args } => {
            waiting.push_back(Waiting { attempt, task, function, args });
        }
        ToWorker::Attempts { attempt, task, function, args } => {
            let each = (0..).zip(args.each()).map(|(number, args)| Waiting {
                attempt: attempt.plus(number),
                task: task.plus(number),
                function: function.clone(),
                args,
            });
            waiting.extend(each);
        }
        ToWorker::Recall { attempt } => {
            // One that is not waiting was reported before, and that report answers the recall. Whoever reads
            // the socket may write this: the daemon hears its workers always, whatever they leave unread.
            if let Some(index) = waiting.iter().position(|waiting| waiting.attempt == attempt) {
                waiting.remove(index);
                desk.sender().say(&FromWorker::Recalled { attempt })?;
            }
        }
        ToWorker::Stop => return Ok(ControlFlow::Break(())),
        ToWorker::Answer { attempt, reply } => desk.deliver(attempt, *reply),
        ToWorker::Setup(_) => return Err(Broken::Unexpected("Setup twice")),
    }
    Ok(ControlFlow::Continue(()))
}

/// Runs one attempt and reports it on the socket, after what is to be done once it is over.
pub(super) fn attempt(
    waiting: Waiting,
    workplace: &Workplace,
    desk: &Arc<Desk>,
    when_over: impl FnOnce(),
) -> Result<(), Broken> {
    let attempt = waiting.attempt;
    let is_started = || desk.sender().say(&FromWorker::Started { attempt });
    let (report, _) = perform(waiting, workplace, desk, is_started, when_over)?;
    desk.sender().say(&FromWorker::Finished { attempt, report })
}

/// Runs one attempt, once it is known to have started. Says too whether it has asked the daemon for something.
pub(super) fn perform(
    Waiting { attempt, task, function, args }: Waiting,
    Workplace { functions, hangup, confinement, payload_bytes_max, strays: _ }: &Workplace,
    desk: &Arc<Desk>,
    is_started: impl FnOnce() -> Result<(), Broken>,
    when_over: impl FnOnce(),
) -> Result<(Report, bool), Broken> {
    if !hangup.call_begins() {
        return Err(Broken::Receive(ReceiveError::Closed));
    }
    is_started()?;
    let reported = desk.during(attempt, task, || {
        let call = || result::fit_to_send(functions.call(&function, args), *payload_bytes_max);
        confinement.during(&function, call).unwrap_or_else(|error| {
            let message = format!("it cannot be limited: {error}");
            Report::Failed(Failure { kind: FailureKind::Error, message, location: None })
        })
    });
    flush_output();
    when_over();
    hangup.call_ended();
    Ok(reported)
}

/// Writes out what the function has printed, so that the daemon can tell by which task it was. What it has printed to
/// the standard error is never kept back.
fn flush_output() {
    // If nobody reads it any more, that is no failure of the attempt.
    let _ = io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, Generation, SlotId, TaskId, WorkerId};
    use crate::limits::PAYLOAD_BYTES_MAX;
    use crate::message::resources::WorkLimits;
    use crate::message::worker::Setup;
    use crate::task::{Encoding, FailureKind};
    use crate::wire::{self, Inbox};
    use crate::worker::Registry;
    use bytes::BytesMut;
    use std::convert::Infallible;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn to_worker(attempt: u64, function: &str, args: &[&str]) -> ToWorker {
        ToWorker::Attempt {
            attempt: AttemptId(attempt),
            task: TaskId { epoch: Epoch(1), number: attempt },
            function: function.parse().unwrap(),
            args: Payload::from_args(args),
        }
    }

    fn recall(attempt: u64) -> ToWorker {
        ToWorker::Recall { attempt: AttemptId(attempt) }
    }

    fn workplace() -> Workplace {
        let functions = Registry::new()
            .register("twice", &["N"], "Twice the number.", |n: u64| Ok::<_, Infallible>(2 * n))
            .register("panic", &["MESSAGE"], "Panics.", |message: String| -> Result<(), Infallible> {
                panic!("{message}")
            })
            .finish(false)
            .unwrap();
        Workplace { functions, payload_bytes_max: PAYLOAD_BYTES_MAX, ..Workplace::default() }
    }

    /// Lets a worker take everything in `said` with one read, and closes the socket after so many replies.
    /// Gives all replies, and how the worker ended.
    fn converse(said: &[ToWorker], replies: usize) -> (Vec<FromWorker>, Result<(), Broken>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut bytes = BytesMut::new();
        for message in said {
            wire::encode(message, &mut bytes).unwrap();
        }
        far.write_all(&bytes).unwrap();
        let worker = thread::spawn(move || run(&mut Session::new(near.into()), &workplace(), None));

        let mut inbox = Inbox::default();
        let mut heard: Vec<_> = (0..replies).map(|_| inbox.receive(&mut far).unwrap()).collect();
        far.shutdown(Shutdown::Write).unwrap();
        while let Ok(message) = inbox.receive(&mut far) {
            heard.push(message);
        }
        (heard, worker.join().unwrap())
    }

    fn started(attempt: u64) -> FromWorker {
        FromWorker::Started { attempt: AttemptId(attempt) }
    }

    fn finished(attempt: u64, json: &'static str) -> FromWorker {
        let result = Payload::new(Encoding::Json, json);
        FromWorker::Finished { attempt: AttemptId(attempt), report: Report::Ok(result) }
    }

    #[test]
    fn attempts_are_reported_one_after_the_other() {
        let (heard, ended) = converse(&[to_worker(1, "twice", &["4"]), to_worker(2, "twice", &["5"])], 4);
        assert_eq!(heard, [started(1), finished(1, "8"), started(2), finished(2, "10")]);
        assert!(ended.unwrap_err().is_end());
    }

    #[test]
    fn recall_behind_its_attempt_takes_it_back() {
        let said = [to_worker(1, "twice", &["4"]), to_worker(2, "twice", &["5"]), recall(2), recall(1)];
        let (heard, _) = converse(&said, 2);
        let recalled = |attempt| FromWorker::Recalled { attempt: AttemptId(attempt) };
        assert_eq!(heard, [recalled(2), recalled(1)]);
    }

    #[test]
    fn recall_of_unknown_attempt_is_not_answered() {
        let (heard, _) = converse(&[recall(7), to_worker(1, "twice", &["4"])], 2);
        assert_eq!(heard, [started(1), finished(1, "8")]);
    }

    #[test]
    fn stop_leaves_what_has_not_started() {
        let (heard, ended) = converse(&[to_worker(1, "twice", &["4"]), ToWorker::Stop], 0);
        assert_eq!(heard, []);
        ended.unwrap();
    }

    #[test]
    fn second_setup_is_a_violation() {
        let worker = WorkerId { slot: SlotId(0), generation: Generation(0) };
        let setup = ToWorker::Setup(Box::new(Setup {
            worker,
            allow_fault_injection: true,
            threads: 1,
            commands: Vec::new(),
            limits: WorkLimits::default(),
            payload_bytes_max: 0,
            page: Payload::default(),
        }));
        let (_, ended) = converse(&[setup], 0);
        assert!(matches!(ended, Err(Broken::Unexpected(_))));
    }

    #[test]
    fn worker_goes_on_after_a_panic() {
        let (heard, _) = converse(&[to_worker(1, "panic", &["oh no"]), to_worker(2, "twice", &["5"])], 4);
        let [first, FromWorker::Finished { report: Report::Failed(failure), .. }, rest @ ..] = &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(*first, started(1));
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Panic, "oh no"));
        assert_eq!(rest, [started(2), finished(2, "10")]);
    }
}
