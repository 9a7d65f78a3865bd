//! The page that a worker shares, read: what stands there, as events.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::caps::within_caps;
use super::results::Results;
use super::sent::SentAttempts;
use super::token::Token;
use crate::id::{AttemptId, WorkerId};
use crate::message::worker::{FromWorker, Report};
use crate::os::page::{DaemonSide, Spoiled};
use crate::supervisor::Event;
use crate::task::Payload;
use crate::wire::Inbox;

/// The page of one worker.
#[derive(Debug)]
pub(super) struct Page {
    side: DaemonSide,
    /// The file of its memory, to be sent to the worker with its setup.
    file: Option<OwnedFd>,
    worker: WorkerId,
    /// Bytes in the largest result.
    payload_bytes_max: u64,
    /// What was taken from it and is not understood yet.
    reports: Inbox,
    /// What was understood and is not told yet.
    results: Results,
    /// Whether the worker has put something there that it may not. No more is taken then: it would be kept, and never
    /// understood.
    is_spoiled: bool,
    /// The attempts that were taken back, and that the worker has not passed over: the first of each run, and how many
    /// it is.
    taken_back: Vec<(AttemptId, u32)>,
}

/// Which of the attempts that have begun and are not reported are looked for on a worker's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// None: if it is over soon, that is told in place of it.
    Unasked,
    /// The one that runs. Of those that begin while it is looked, each ends the one before.
    Running,
    /// All: it may have begun several, which it should not have, and is to blame for each.
    All,
}

impl Page {
    /// One that `worker` is to share, whose bell the poller watches.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn create(worker: WorkerId, payload_bytes_max: u64, registry: &Registry) -> io::Result<Self> {
        let (side, file) = DaemonSide::create()?;
        let bell = Token::WorkerBell(worker.slot);
        registry.register(&mut SourceFd(&side.bell().as_raw_fd()), bell.into(), Interest::READABLE)?;
        Ok(Page {
            side,
            file: Some(file),
            worker,
            payload_bytes_max,
            reports: Inbox::default(),
            results: Results::of(worker),
            is_spoiled: false,
            taken_back: Vec::new(),
        })
    }

    /// What the worker shares it by, to be sent to it once.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn hand_over(&mut self) -> io::Result<Vec<OwnedFd>> {
        let Some(file) = self.file.take() else { return Ok(Vec::new()) };
        Ok(vec![file, self.side.bell().try_clone_to_owned()?])
    }

    /// Has the poller watch its bell no longer: the worker may hold that open for longer than it lives.
    pub(super) fn unhook(&self, registry: &Registry) {
        // Failing, it would be because the poller no longer has it, which is what is wanted.
        let _ = registry.deregister(&mut SourceFd(&self.side.bell().as_raw_fd()));
    }

    /// Lets the worker begin so many attempts from one on, which it is sent.
    pub(super) fn offer(&self, attempt: AttemptId, count: u32) {
        (0..u64::from(count)).for_each(|place| self.side.offer(attempt.plus(place).0));
    }

    /// Whether an attempt that was offered has begun.
    pub(super) fn has_begun(&self, attempt: AttemptId) -> bool {
        self.side.has_begun(attempt.0)
    }

    /// Takes an attempt back, if it has not begun; tells which of the two it is.
    pub(super) fn take_back(&mut self, attempt: AttemptId, sent: &mut SentAttempts, events: &mut Vec<Event>) {
        let worker = self.worker;
        if self.side.take_back(attempt.0) {
            sent.forget(attempt, 1);
            match self.taken_back.last_mut().filter(|(first, count)| first.plus((*count).into()) == attempt) {
                Some((_, count)) => *count += 1,
                None => self.taken_back.push((attempt, 1)),
            }
            match events.last_mut() {
                Some(Event::AttemptsRecalled { attempt: first, count, .. })
                    if first.plus((*count).into()) == attempt =>
                {
                    *count += 1;
                }
                Some(_) | None => events.push(Event::AttemptsRecalled { worker, attempt, count: 1 }),
            }
        } else if sent.note_begun(attempt) {
            events.push(Event::AttemptStarted { worker, attempt });
        }
    }

    /// Takes what is there: what of the attempts that were `sent` the worker has finished and passed over, and what it has
    /// `begun`.
    ///
    /// # Errors
    /// What the worker has done to it, in words, and once; what was found before that counts.
    pub(super) fn look(
        &mut self,
        begun: Begun,
        sent: &mut SentAttempts,
        events: &mut Vec<Event>,
    ) -> Result<(), String> {
        let taken = if self.is_spoiled { Ok(()) } else { self.take_reports(sent, events) };
        self.is_spoiled |= taken.is_err();
        self.find_begun(begun, sent, events);
        self.find_passed_over(events);
        taken
    }

    /// Takes how attempts ended.
    fn take_reports(&mut self, sent: &mut SentAttempts, events: &mut Vec<Event>) -> Result<(), String> {
        self.side.take(self.reports.room()).map_err(|Spoiled| "it has spoiled its page".to_owned())?;
        let before = events.len();
        let understood = self.understand(events);
        for event in &events[before..] {
            match event {
                Event::AttemptFinished { attempt, .. } => sent.forget(*attempt, 1),
                Event::AttemptsFinished { attempt, results, .. } => sent.forget(*attempt, results.count()),
                _ => {}
            }
        }
        understood
    }

    /// Understands what was taken: how attempts ended, and nothing else may stand there.
    fn understand(&mut self, events: &mut Vec<Event>) -> Result<(), String> {
        let Page { reports, results, worker, payload_bytes_max, .. } = self;
        let (worker, payload_bytes_max) = (*worker, *payload_bytes_max);
        let finished = |attempt, report| Event::AttemptFinished {
            worker,
            attempt,
            report: within_caps(report, payload_bytes_max),
        };
        loop {
            reports.take_results(|attempt, encoding, result| {
                if result.len() as u64 <= payload_bytes_max {
                    return results.add(attempt, encoding, result, events);
                }
                results.tell(events);
                events.push(finished(attempt, Report::Ok(Payload::new(encoding, result))));
            });
            results.tell(events);
            match reports.next_message().map_err(|error| error.to_string())? {
                Some(FromWorker::Finished { attempt, report }) => events.push(finished(attempt, report)),
                Some(_) => {
                    return Err("it has put something else than the end of an attempt on its page".to_owned());
                }
                None if reports.is_empty() => return Ok(()),
                None => return Err("it has put half a message on its page".to_owned()),
            }
        }
    }

    /// Finds attempts that have begun and of which that is not known.
    fn find_begun(&self, wanted: Begun, sent: &mut SentAttempts, events: &mut Vec<Event>) {
        let worker = self.worker;
        // What was taken back is not among them.
        let begun = || sent.begun(|attempt| self.has_begun(attempt));
        let found: Vec<AttemptId> = match wanted {
            Begun::Unasked => return,
            Begun::Running => begun().last().into_iter().collect(),
            Begun::All => begun().collect(),
        };
        for attempt in found {
            if sent.note_begun(attempt) {
                events.push(Event::AttemptStarted { worker, attempt });
            }
        }
    }

    /// Finds those of the attempts that were taken back that the worker has passed over by now.
    fn find_passed_over(&mut self, events: &mut Vec<Event>) {
        let Page { side, worker, taken_back, .. } = self;
        let worker = *worker;
        taken_back.retain_mut(|(attempt, count)| {
            let passed_over = (0..*count)
                .take_while(|place| side.is_passed_over(attempt.plus(u64::from(*place)).0))
                .count() as u32;
            if passed_over > 0 {
                events.push(Event::AttemptsPassedOver { worker, attempt: *attempt, count: passed_over });
            }
            *attempt = attempt.plus(passed_over.into());
            *count -= passed_over;
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, SlotId};
    use crate::os::page::WorkerSide;
    use crate::task::Encoding;
    use crate::wire::encode_result;
    use bytes::BytesMut;

    const WORKER: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(0) };

    fn end_of(attempt: u64) -> BytesMut {
        let mut end = BytesMut::new();
        encode_result(AttemptId(attempt), Encoding::Json, b"7", &mut end).expect("it fits");
        end
    }

    #[test]
    fn nothing_is_taken_from_a_page_once_it_is_spoiled() {
        let poll = mio::Poll::new().expect("a poller");
        let mut page = Page::create(WORKER, 100, poll.registry()).expect("a page");
        let files = page.hand_over().expect("its files").try_into().expect("two files");
        let mut worker = WorkerSide::open(files).expect("the same page");
        let (mut sent, mut events) = (SentAttempts::default(), Vec::new());
        assert!(worker.publish(&end_of(1)) && worker.publish(b"no frame"));
        page.look(Begun::Unasked, &mut sent, &mut events).expect_err("that is no message");
        let [Event::AttemptFinished { attempt: AttemptId(1), .. }] = events[..] else { panic!("{events:?}") };
        let published = (0..1_000_000).take_while(|_| {
            page.look(Begun::Unasked, &mut sent, &mut events).expect("it is told once");
            worker.publish(&end_of(2))
        });
        assert!(published.count() < 1_000_000, "the page is emptied for ever");
        assert_eq!(events.len(), 1);
    }
}
