//! Results of one worker's attempts, those that follow on each other gathered into one event.

use crate::id::{AttemptId, WorkerId};
use crate::message::worker::Report;
use crate::supervisor::Event;
use crate::task::{Encoding, Payload, Payloads, PayloadsMut};

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

    /// Adds the result of an attempt. Unless it can be gathered with what is not told, that goes into `events` first.
    pub(super) fn add(
        &mut self,
        attempt: AttemptId,
        encoding: Encoding,
        result: &[u8],
        events: &mut Vec<Event>,
    ) {
        if !self.is_followed_by(attempt, encoding, result) {
            self.tell(events);
        }
        if self.count() == 0 {
            self.first = attempt;
            self.lone = Some(Payload::new(encoding, result));
            return;
        }
        if let Some(lone) = self.lone.take() {
            self.many.push(lone.encoding, lone.inline().unwrap_or_default());
        }
        self.many.push(encoding, result);
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

    fn is_followed_by(&self, attempt: AttemptId, encoding: Encoding, result: &[u8]) -> bool {
        let is_like_them = match &self.lone {
            // None is larger than a page.
            Some(lone) => {
                lone.encoding == encoding && Payloads::go_together(lone.len() as usize, result.len())
            }
            None => self.many.takes(encoding, result.len()),
        };
        is_like_them && attempt == self.first.plus(self.count().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, SlotId};

    const WORKER: WorkerId = WorkerId { slot: SlotId(0), generation: Generation(0) };

    /// The first attempt of each event, and the results that it tells of.
    fn told(ended: &[(u64, Encoding, &str)]) -> Vec<(u64, Vec<String>)> {
        let (mut results, mut events) = (Results::of(WORKER), Vec::new());
        for (attempt, encoding, result) in ended {
            results.add(AttemptId(*attempt), *encoding, result.as_bytes(), &mut events);
        }
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
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn results_that_follow_on_each_other_are_one_event() {
        let three = [(1, Encoding::Json, "a"), (2, Encoding::Json, "b"), (3, Encoding::Json, "c")];
        assert_eq!(told(&three), [(1, texts(&["a", "b", "c"]))]);
    }

    #[test]
    fn result_that_does_not_follow_or_is_not_like_the_others_begins_another() {
        let gap = [(1, Encoding::Json, "a"), (3, Encoding::Json, "c"), (4, Encoding::Json, "d")];
        assert_eq!(told(&gap), [(1, texts(&["a"])), (3, texts(&["c", "d"]))]);
        let bytes = [(1, Encoding::Json, "a"), (2, Encoding::Bytes, "b"), (3, Encoding::Bytes, "c")];
        assert_eq!(told(&bytes), [(1, texts(&["a"])), (2, texts(&["b", "c"]))]);
    }
}
