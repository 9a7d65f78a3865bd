//! Several events as one, where the daemon could have told them so.

use poold::message::worker::Report;
use poold::supervisor::Event;
use poold::task::{Payload, Payloads, PayloadsMut};

/// The same events, with those that follow on each other said at once.
pub fn gather(events: Vec<Event>) -> Vec<Event> {
    let mut gathered: Vec<Event> = Vec::new();
    for event in events {
        match gathered.last().and_then(|last| joined(last, &event)) {
            Some(both) => *gathered.last_mut().expect("there is a last one") = both,
            None => gathered.push(event),
        }
    }
    gathered
}

/// Two events as one, if they can be.
fn joined(event: &Event, next: &Event) -> Option<Event> {
    match (event, next) {
        (
            Event::AttemptsRecalled { worker, attempt, count },
            Event::AttemptsRecalled { worker: same, attempt: follows, count: more },
        ) if worker == same && *follows == attempt.plus(u64::from(*count)) => {
            Some(Event::AttemptsRecalled { worker: *worker, attempt: *attempt, count: count + more })
        }
        (
            Event::AttemptsPassedOver { worker, attempt, count },
            Event::AttemptsPassedOver { worker: same, attempt: follows, count: more },
        ) if worker == same && *follows == attempt.plus(u64::from(*count)) => {
            Some(Event::AttemptsPassedOver { worker: *worker, attempt: *attempt, count: count + more })
        }
        (event, Event::AttemptFinished { worker: same, attempt: follows, report: Report::Ok(result) }) => {
            let (worker, attempt, results) = match event {
                Event::AttemptFinished { worker, attempt, report: Report::Ok(result) } => {
                    (worker, attempt, vec![result.clone()])
                }
                Event::AttemptsFinished { worker, attempt, results } => {
                    (worker, attempt, results.each().collect())
                }
                _ => return None,
            };
            let is_next = worker == same && *follows == attempt.plus(results.len() as u64);
            let results = payloads(results.iter().chain([result])).filter(|_| is_next)?;
            Some(Event::AttemptsFinished { worker: *worker, attempt: *attempt, results })
        }
        (_, _) => None,
    }
}

/// Payloads in one piece, if they can be.
pub fn payloads<'a>(each: impl IntoIterator<Item = &'a Payload>) -> Option<Payloads> {
    let mut payloads = PayloadsMut::default();
    for payload in each {
        let bytes = payload.inline().filter(|bytes| payloads.takes(payload.encoding, bytes.len()))?;
        payloads.push(payload.encoding, bytes);
    }
    (!payloads.is_empty()).then(|| payloads.take())
}
