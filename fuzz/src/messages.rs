//! Messages out of arbitrary heads: what can be received can be sent, and is then received as the same.
//!
//! Input: a byte, how long the payload is; the head; the payload.

use std::fmt::Debug;

use bytes::BytesMut;
use poold::message::Message;
use poold::message::client::{Reply, Request};
use poold::message::worker::{FromWorker, ToWorker};
use poold::wire::{Inbox, WireError, encode};

/// A client's request; and that it is the same after others like it, which are not decoded anew.
pub fn request(input: &[u8]) {
    comes_back::<Request>(input);
    let Some((end, rest)) = input.split_first() else { return };
    let shorter = &rest[..rest.len().saturating_sub(usize::from(*end))];
    for head in [rest, shorter] {
        let expected = received::<Request>(&frame(head, &[]));
        let sent = [rest, rest, head, head].map(|head| frame(head, &[])).concat();
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

/// What a worker says.
pub fn from_worker(input: &[u8]) {
    comes_back::<FromWorker>(input);
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
