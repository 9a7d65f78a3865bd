//! Messages out of arbitrary heads: what can be received can be sent, and is then received as the same.
//!
//! Input: a byte, how long the payload is; the head; the payload.

use std::fmt::Debug;

use bytes::BytesMut;
use poold::message::Message;
use poold::message::client::{Reply, Request};
use poold::message::worker::{FromWorker, Report, ToWorker};
use poold::task::Payload;
use poold::wire::{Inbox, WireError, encode};

/// A client's request; and that it is the same after others like it, which are not decoded anew.
pub fn request(input: &[u8]) {
    comes_back::<Request>(input);
    let Some((payload_bytes, rest)) = input.split_first() else { return };
    let (head, payload) = rest.split_at(rest.len().saturating_sub(usize::from(*payload_bytes)));
    for (before, frame) in [
        (frame(rest, &[]), frame(rest, &[])),
        (frame(rest, &[]), frame(head, &[])),
        (frame(head, payload), frame(head, payload)),
    ] {
        let expected = received::<Request>(&frame);
        let sent = [&before, &before, &frame, &frame].map(Vec::as_slice).concat();
        let mut inbox = Inbox::default();
        inbox.room().extend_from_slice(&sent);
        let mut next = (0..4).map(|_| inbox.next_request());
        if next.by_ref().take(2).all(|before| before.is_ok()) {
            assert_eq!(next.next(), Some(expected));
        }
    }
}

/// The daemon's reply to a client.
pub fn reply(input: &[u8]) {
    comes_back::<Reply>(input);
}

/// What a worker is told.
pub fn to_worker(input: &[u8]) {
    comes_back::<ToWorker>(input);
}

/// What a worker says; and that what is taken as a result is the message that it would be.
pub fn from_worker(input: &[u8]) {
    comes_back::<FromWorker>(input);
    let Some((payload_bytes, rest)) = input.split_first() else { return };
    let (head, payload) = rest.split_at(rest.len().saturating_sub(usize::from(*payload_bytes)));
    let sent = frame(head, payload);
    let mut inbox = Inbox::default();
    inbox.room().extend_from_slice(&sent);
    let mut taken = None;
    inbox.take_results(|attempt, encoding, bytes| {
        let report = Report::Ok(Payload::new(encoding, bytes));
        taken = Some(FromWorker::Finished { attempt, report });
    });
    match received(&sent) {
        Ok(Some(message @ FromWorker::Finished { report: Report::Ok(_), .. })) => {
            let mut again = BytesMut::new();
            encode(&message, &mut again).expect("what was received can be sent");
            // In a longer form than it is sent in, it may be left to be decoded.
            assert!(taken.as_ref() == Some(&message) || taken.is_none() && again != sent);
        }
        _ => assert_eq!(taken, None),
    }
}

fn comes_back<M: Message + PartialEq + Debug>(input: &[u8]) {
    let Some((payload_bytes, rest)) = input.split_first() else { return };
    let (head, payload) = rest.split_at(rest.len().saturating_sub(usize::from(*payload_bytes)));
    let Ok(Some(message)) = received::<M>(&frame(head, payload)) else { return };
    let mut bytes = BytesMut::new();
    encode(&message, &mut bytes).expect("what was received can be sent");
    let again: M = received(&bytes).expect("what was sent is understood").expect("all of it was sent");
    assert_eq!(again, message);
    serde_json::to_string(&message).expect("what was received can be shown");
}

fn received<M: Message>(mut bytes: &[u8]) -> Result<Option<M>, WireError> {
    let mut inbox = Inbox::default();
    while !bytes.is_empty() {
        inbox.fill(&mut bytes).expect("a slice can be read");
    }
    inbox.next_message()
}

/// `head` and `payload` as one frame.
pub fn frame(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let lengths = [head.len(), payload.len()].map(|length| (length as u32).to_le_bytes());
    [&lengths[0], &lengths[1], head, payload].concat()
}
