//! Results of one worker's attempts, those that follow on each other gathered into one event.

use crate::id::{AttemptId, WorkerId};
use crate::message::worker::Report;
use crate::supervisor::Event;
use crate::task::{Payload, Payloads, PayloadsMut};

/// What was found and is not told yet.
#[derive(Debug)]
pub(super) struct Results {
    worker: WorkerId,
    /// The first attempt of those that are not told.
    first: AttemptId,
    /// Its result, as long as there is no other.
    lone: Option<Payload>,
    /// The results of all, once they are several.
    many: PayloadsMut,
}

impl Results {
    /// None yet.
    pub(super) fn of(worker: WorkerId) -> Self {
        Results { worker, first: AttemptId(0), lone: None, many: PayloadsMut::default() }
    }

    /// Adds how an attempt ended. Unless it can be gathered with what is not told, that goes into `events` first.
    pub(super) fn add(&mut self, attempt: AttemptId, report: Report, events: &mut Vec<Event>) {
        let result = match report {
            Report::Ok(result) if result.inline().is_some_and(|bytes| bytes.len() <= Payloads::BYTES_MAX) => {
                result
            }
            report => {
                self.tell(events);
                return events.push(Event::AttemptFinished { worker: self.worker, attempt, report });
            }
        };
        if !self.is_followed_by(attempt, &result) {
            self.tell(events);
        }
        if self.count() == 0 {
            self.first = attempt;
            self.lone = Some(result);
            return;
        }
        for result in self.lone.take().into_iter().chain([result]) {
            self.many.push(result.encoding, result.inline().unwrap_or_default());
        }
    }

    /// Puts what was gathered into `events`.
    pub(super) fn tell(&mut self, events: &mut Vec<Event>) {
        let Results { worker, first: attempt, .. } = *self;
        if let Some(result) = self.lone.take() {
            events.push(Event::AttemptFinished { worker, attempt, report: Report::Ok(result) });
        }
        if !self.many.is_empty() {
            events.push(Event::AttemptsFinished { worker, attempt, results: self.many.take() });
        }
    }

    fn count(&self) -> u32 {
        self.many.count() + u32::from(self.lone.is_some())
    }

    fn is_followed_by(&self, attempt: AttemptId, result: &Payload) -> bool {
        let is_like_them = match &self.lone {
            Some(lone) => lone.encoding == result.encoding,
            None => self.many.takes(result.encoding, 0),
        };
        is_like_them && attempt == self.first.plus(self.count().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, SlotId};
    use crate::task::{Encoding, Failure, FailureKind};

    const WORKER: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(0) };

    fn ok(text: &str) -> Report {
        Report::Ok(Payload::new(Encoding::Json, text))
    }

    /// The first attempt of each event, and the results that it tells of.
    fn told(reports: Vec<(u64, Report)>) -> Vec<(u64, Vec<String>)> {
        let (mut results, mut events) = (Results::of(WORKER), Vec::new());
        reports
            .into_iter()
            .for_each(|(attempt, report)| results.add(AttemptId(attempt), report, &mut events));
        results.tell(&mut events);
        results.tell(&mut events);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = events.into_iter().map(|event| match event {
            Event::AttemptsFinished { attempt, results, .. } => {
                (attempt.0, results.iter().map(text).collect())
            }
            Event::AttemptFinished { attempt, report: Report::Ok(result), .. } => {
                (attempt.0, vec![text(result.inline().unwrap())])
            }
            Event::AttemptFinished { attempt, report: Report::Failed(failure), .. } => {
                (attempt.0, vec![failure.message])
            }
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn results_that_follow_on_each_other_are_one_event() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let three = vec![(1, ok("a")), (2, ok("b")), (3, ok("c"))];
        assert_eq!(told(three), [(1, texts(&["a", "b", "c"]))]);
        let gap = vec![(1, ok("a")), (3, ok("c")), (4, ok("d"))];
        assert_eq!(told(gap), [(1, texts(&["a"])), (3, texts(&["c", "d"]))]);
    }

    #[test]
    fn result_that_is_not_like_the_others_is_told_in_its_turn() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let failure = Failure { kind: FailureKind::Error, message: "no".to_owned(), location: None };
        let failed = vec![(1, ok("a")), (2, ok("b")), (3, Report::Failed(failure)), (4, ok("d"))];
        assert_eq!(told(failed), [(1, texts(&["a", "b"])), (3, texts(&["no"])), (4, texts(&["d"]))]);
        let bytes = Report::Ok(Payload::new(Encoding::Bytes, "b"));
        assert_eq!(told(vec![(1, ok("a")), (2, bytes)]), [(1, texts(&["a"])), (2, texts(&["b"]))]);
    }
}
