//! The loop of a worker: takes attempts in, runs them one after the other, reports each.
//!
//! Two orders are promised to the daemon, and all blame rests on them: that an attempt starts is known before the
//! function is called, and how it ended before the next one starts. With a page ([`super::reports`]) both are
//! known as soon as they stand there; else when they are written to the socket, and a recall that has arrived
//! is heeded before anything starts.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::asking::Desk;
use super::confinement::{Bounds, Confinement};
use super::hangup::Hangup;
use super::receiver::Receiver;
use super::registry::{Callee, Functions};
use super::reports::Reports;
use super::result;
use super::session::{Broken, Sender, Session};
use super::strays::Strays;
use super::waiting::{Attempt, Run, Waiting};
use crate::id::{AttemptId, FunctionName, TaskId};
use crate::message::worker::{FromWorker, Report, ToWorker};
use crate::task::{Failure, FailureKind, Payload};
use crate::wire::ReceiveError;

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

/// A function of this worker, looked up for any number of attempts.
pub(super) struct Job<'a> {
    callee: Callee<'a>,
    bounds: Bounds<'a>,
    workplace: &'a Workplace,
    desk: &'a Arc<Desk>,
}

impl Workplace {
    /// What it takes to run attempts at `function`, which ask at `desk`.
    pub(super) fn job<'a>(&'a self, function: &'a FunctionName, desk: &'a Arc<Desk>) -> Job<'a> {
        let callee = self.functions.find(function);
        let bounds = self.confinement.of(function);
        Job { callee, bounds, workplace: self, desk }
    }

    /// Does what calls functions. Until it is over, the end of the socket ends this process.
    ///
    /// # Errors
    /// That the socket has ended before, and then nothing was done; else what `calls` gives.
    pub(super) fn during_calls<T>(&self, calls: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
        if !self.hangup.call_begins() {
            return Err(Broken::Receive(ReceiveError::Closed));
        }
        let done = calls();
        self.hangup.call_ended();
        done
    }

    /// Ends what attempts have left behind. None may run.
    pub(super) fn tidy_up(&self) {
        if let Some(strays) = &self.strays {
            strays.end();
        }
    }
}

impl Job<'_> {
    /// Runs one attempt, which is known to have started, [during calls](Workplace::during_calls). Says too whether it
    /// has asked the daemon for something.
    pub(super) fn perform(&self, attempt: AttemptId, task: TaskId, args: Payload) -> (Report, bool) {
        let performed = self.desk.during(attempt, task, || {
            let call = || result::fit_to_send(self.callee.call(args), self.workplace.payload_bytes_max);
            self.bounds.during(call).unwrap_or_else(|error| {
                let message = format!("it cannot be limited: {error}");
                Report::Failed(Failure { kind: FailureKind::Error, message, location: None })
            })
        });
        flush_output();
        performed
    }

    /// Ends what attempts have left behind. None may run.
    pub(super) fn tidy_up(&self) {
        self.workplace.tidy_up();
    }

    /// By which is said what is not put on the page.
    pub(super) fn sender(&self) -> &Sender {
        self.desk.sender()
    }
}

/// Runs attempts until the daemon says stop; what has not started by then is left to others.
pub(super) fn run(
    session: &mut Session,
    workplace: &Workplace,
    reports: Option<Reports>,
) -> Result<(), Broken> {
    let desk = Desk::new(Arc::clone(&session.sender), session.receiver.handover());
    desk.serve(|| match reports {
        Some(reports) => run_by_page(&mut session.receiver, workplace, &desk, reports),
        None => run_by_messages(&mut session.receiver, workplace, &desk),
    })
}

/// What was taken back does not begin, so that nothing need be read before all is done.
fn run_by_page(
    receiver: &mut Receiver,
    workplace: &Workplace,
    desk: &Arc<Desk>,
    mut reports: Reports,
) -> Result<(), Broken> {
    let mut waiting = Waiting::default();
    loop {
        reports.tell()?;
        receiver.read_in_quiet()?;
        if take_received(receiver, &mut waiting, desk)?.is_break() {
            return Ok(());
        }
        reports.wake(waiting.len());
        while let Some(next) = waiting.pop() {
            reports.run(next, waiting.len(), workplace, desk)?;
        }
    }
}

fn run_by_messages(receiver: &mut Receiver, workplace: &Workplace, desk: &Arc<Desk>) -> Result<(), Broken> {
    let mut waiting = Waiting::default();
    loop {
        match waiting.is_empty() {
            true => receiver.read()?,
            false => receiver.read_available()?,
        }
        if take_received(receiver, &mut waiting, desk)?.is_break() {
            return Ok(());
        }
        if let Some(next) = waiting.pop_attempt() {
            attempt(next, workplace, desk, || workplace.tidy_up())?;
        }
    }
}

/// Takes in what was read. Breaks when that says stop.
pub(super) fn take_received(
    receiver: &mut Receiver,
    waiting: &mut Waiting,
    desk: &Desk,
) -> Result<ControlFlow<()>, Broken> {
    while let Some(message) = receiver.next_received()? {
        if take(message, waiting, desk)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Takes a message in. Breaks when it says stop.
fn take(message: ToWorker, waiting: &mut Waiting, desk: &Desk) -> Result<ControlFlow<()>, Broken> {
    match message {
        ToWorker::Attempt { attempt, task, function, args } => {
            waiting.push_attempt(Attempt { attempt, task, function, args });
        }
        ToWorker::Attempts { attempt, task, function, args } => {
            waiting.push_run(Run { attempt, task, function, args });
        }
        ToWorker::Recall { attempt } => {
            // One that is not waiting was reported before, and that report answers the recall. Whoever reads
            // the socket may write this: the daemon hears its workers always, whatever they leave unread.
            if waiting.take_back(attempt) {
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
    Attempt { attempt, task, function, args }: Attempt,
    workplace: &Workplace,
    desk: &Arc<Desk>,
    when_over: impl FnOnce(),
) -> Result<(), Broken> {
    let (report, _) = workplace.during_calls(|| {
        desk.sender().say(&FromWorker::Started { attempt })?;
        let performed = workplace.job(&function, desk).perform(attempt, task, args);
        when_over();
        Ok(performed)
    })?;
    desk.sender().say(&FromWorker::Finished { attempt, report })
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
    use crate::line::Place;
    use crate::message::resources::WorkLimits;
    use crate::message::worker::Setup;
    use crate::os::page::DaemonSide;
    use crate::task::{Encoding, FailureKind, PayloadsMut};
    use crate::wire::{self, Inbox};
    use crate::worker::Registry;
    use bytes::BytesMut;
    use rustix::io::read;
    use std::convert::Infallible;
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
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

    /// Attempts at one function from `first` on, with an argument each.
    fn to_worker_all(first: u64, function: &str, args: &[&str]) -> ToWorker {
        let mut payloads = PayloadsMut::default();
        args.iter().for_each(|arg| payloads.push(Encoding::Args, format!("{arg}\0").as_bytes()));
        ToWorker::Attempts {
            attempt: AttemptId(first),
            task: TaskId { epoch: Epoch(1), number: first },
            function: function.parse().unwrap(),
            args: payloads.take(),
        }
    }

    fn workplace() -> Workplace {
        let functions = Registry::new()
            .register("twice", &["N"], "Twice the number.", |n: u64| Ok::<_, Infallible>(2 * n))
            .register("fill", &["BYTES"], "So many bytes.", |bytes: usize| {
                Ok::<_, Infallible>("x".repeat(bytes))
            })
            .register("panic", &["MESSAGE"], "Panics.", |message: String| -> Result<(), Infallible> {
                panic!("{message}")
            })
            .register("task", &[], "The task that it runs for.", |()| {
                let Ok(Place::Function(line)) = Place::here() else { panic!("there is no line") };
                Ok::<_, Infallible>(line.task().to_string())
            })
            .finish(false)
            .unwrap();
        Workplace { functions, payload_bytes_max: PAYLOAD_BYTES_MAX, ..Workplace::default() }
    }

    /// Lets a worker take everything in `said` with one read, and closes the socket after so many replies.
    /// Gives all replies, and how the worker ended.
    fn converse(said: &[ToWorker], replies: usize) -> (Vec<FromWorker>, Result<(), Broken>) {
        converse_by(None, said, replies)
    }

    fn converse_by(
        reports: Option<Reports>,
        said: &[ToWorker],
        replies: usize,
    ) -> (Vec<FromWorker>, Result<(), Broken>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut bytes = BytesMut::new();
        for message in said {
            wire::encode(message, &mut bytes).unwrap();
        }
        far.write_all(&bytes).unwrap();
        let worker = thread::spawn(move || run(&mut Session::new(near.into()), &workplace(), reports));

        let mut inbox = Inbox::default();
        let mut heard: Vec<_> = (0..replies).map(|_| inbox.receive(&mut far).unwrap()).collect();
        far.shutdown(Shutdown::Write).unwrap();
        while let Ok(message) = inbox.receive(&mut far) {
            heard.push(message);
        }
        (heard, worker.join().unwrap())
    }

    /// A page, and what a worker shares it by.
    fn page() -> (DaemonSide, [OwnedFd; 2]) {
        let (page, file) = DaemonSide::create().unwrap();
        let bell = page.bell().try_clone_to_owned().unwrap();
        (page, [file, bell])
    }

    /// What a worker with a page does with `said`, until it is told that the socket has ended: what it has said, and put
    /// on the page. All its attempts, from 1 to `attempts`, are offered, and those in `taken_back` no more.
    fn converse_by_page(
        said: &[ToWorker],
        attempts: u64,
        taken_back: &[u64],
    ) -> (Vec<FromWorker>, Vec<FromWorker>) {
        let (mut page, files) = page();
        (1..=attempts).for_each(|attempt| page.offer(attempt));
        assert!(taken_back.iter().all(|attempt| page.take_back(*attempt)));
        let (said, ended) = converse_by(Some(Reports::on(files).unwrap()), said, 0);
        assert!(ended.unwrap_err().is_end());
        assert!(taken_back.iter().all(|attempt| page.is_passed_over(*attempt)));
        let mut inbox = Inbox::default();
        page.take(inbox.room()).unwrap();
        let published: Vec<_> = std::iter::from_fn(|| inbox.next_message().unwrap()).collect();
        let has_rung = read(page.bell(), &mut [0; 8]).is_ok();
        assert_eq!(has_rung, !published.is_empty() || !taken_back.is_empty());
        (said, published)
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
    fn run_of_attempts_is_reported_one_after_the_other() {
        let expected =
            [started(1), finished(1, "8"), started(2), finished(2, "10"), started(3), finished(3, "2")];
        let said = [to_worker_all(1, "twice", &["4", "5"]), to_worker(3, "twice", &["1"])];
        assert_eq!(converse(&said, 6).0, expected);
    }

    #[test]
    fn run_of_attempts_is_on_the_page_in_its_order() {
        let said = [to_worker_all(1, "twice", &["4", "5", "6"]), to_worker(4, "twice", &["1"])];
        let (said, published) = converse_by_page(&said, 4, &[]);
        let expected = [finished(1, "8"), finished(2, "10"), finished(3, "12"), finished(4, "2")];
        assert_eq!(published, expected);
        assert_eq!(said, []);
    }

    #[test]
    fn attempts_of_a_run_that_were_taken_back_are_passed_over() {
        let said = [to_worker_all(1, "twice", &["1", "2", "3", "4", "5"])];
        for taken_back in [&[1][..], &[2, 3], &[5], &[1, 3, 5], &[1, 2, 3, 4, 5]] {
            let (said, published) = converse_by_page(&said, 5, taken_back);
            let left = (1..=5).filter(|attempt| !taken_back.contains(attempt));
            let expected: Vec<_> = left
                .map(|attempt| finished(attempt, ["", "2", "4", "6", "8", "10"][attempt as usize]))
                .collect();
            assert_eq!(published, expected, "{taken_back:?}");
            assert_eq!(said, []);
        }
    }

    #[test]
    fn run_goes_on_after_attempts_that_fail() {
        let (_, published) = converse_by_page(&[to_worker_all(1, "twice", &["4", "four", "5"])], 3, &[]);
        let [first, FromWorker::Finished { attempt, report: Report::Failed(failure) }, last] = &published[..]
        else {
            panic!("{published:?}")
        };
        assert_eq!((first, *attempt, last), (&finished(1, "8"), AttemptId(2), &finished(3, "10")));
        assert_eq!(failure.kind, FailureKind::BadArguments);

        let (_, published) = converse_by_page(&[to_worker_all(1, "panic", &["a", "b"])], 2, &[]);
        let messages = published.iter().map(|message| match message {
            FromWorker::Finished { report: Report::Failed(failure), .. } => (failure.kind, &*failure.message),
            other => panic!("{other:?}"),
        });
        assert!(messages.eq([(FailureKind::Panic, "a"), (FailureKind::Panic, "b")]));

        let (_, published) = converse_by_page(&[to_worker_all(1, "nowhere", &["a", "b"])], 2, &[]);
        assert_eq!(published.len(), 2);
    }

    #[test]
    fn result_of_a_run_that_the_page_has_no_room_for_is_said() {
        let (said, published) = converse_by_page(&[to_worker_all(1, "fill", &["1", "20000", "1"])], 3, &[]);
        assert_eq!(published, [finished(1, "\"x\""), finished(3, "\"x\"")]);
        let [FromWorker::Finished { attempt: AttemptId(2), report: Report::Ok(result) }] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!(result.len(), 20_002);
    }

    #[test]
    fn attempts_of_a_run_know_their_own_tasks() {
        let mut args = PayloadsMut::default();
        (0..3).for_each(|_| args.push(Encoding::Args, b""));
        let (attempt, task) = (AttemptId(1), TaskId { epoch: Epoch(7), number: 40 });
        let function = "task".parse().unwrap();
        let run = ToWorker::Attempts { attempt, task, function, args: args.take() };
        // Whoever has opened a line may have asked: the end must not overtake that, and goes the same way.
        let (said, published) = converse_by_page(&[run], 3, &[]);
        let expected = ["\"00000007-40\"", "\"00000007-41\"", "\"00000007-42\""];
        let expected = (1..).zip(expected).map(|(attempt, task)| finished(attempt, task));
        assert!(said.iter().cloned().eq(expected), "{said:?}");
        assert_eq!(published, []);
    }

    #[test]
    fn stop_behind_a_run_leaves_all_of_it() {
        let (mut page, files) = page();
        (1..=2).for_each(|attempt| page.offer(attempt));
        let said = [to_worker_all(1, "twice", &["4", "5"]), ToWorker::Stop];
        let (heard, ended) = converse_by(Some(Reports::on(files).unwrap()), &said, 0);
        ended.unwrap();
        assert_eq!(heard, []);
        let mut published = BytesMut::new();
        assert_eq!(page.take(&mut published), Ok(()));
        assert!(published.is_empty());
        assert!((1..=2).all(|attempt| page.take_back(attempt)));
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
