//! The payloads of tasks that are alike: many in one piece, for whoever passes them on.
//!
//! ```text
//!   length, bytes │ length, bytes │ length, bytes …      a length is 16 bits, little-endian
//! ```
//!
//! What is cut off and what remains share the memory of the whole, but for what is less than half of it, which is
//! copied: so nothing small holds much.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Encoding, Payload};
use crate::limits::{BYTES_AT_ONCE_MAX, TASKS_AT_ONCE_MAX};

/// Bytes in front of each payload.
const LENGTH_BYTES: usize = size_of::<u16>();

/// Payloads of one encoding, in their order, without open files and none of them in shared memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Payloads {
    encoding: Encoding,
    /// A frame's head says it; whether it is so shows once the bytes behind the head are there.
    count: u32,
    #[serde(skip)]
    bytes: Bytes,
    /// Bytes of memory that go when these and all that were cut off before are gone.
    #[serde(skip)]
    held: usize,
}

/// Payloads that are being collected. In a frame's head they are said as [`Payloads`] are.
#[derive(Debug, Default, Serialize)]
pub struct PayloadsMut {
    encoding: Encoding,
    count: u32,
    #[serde(skip)]
    bytes: BytesMut,
}

impl Payloads {
    /// Bytes in the largest payload that can be one of several.
    pub const BYTES_MAX: usize = BYTES_AT_ONCE_MAX - LENGTH_BYTES;

    /// Whether two payloads of these sizes go together.
    pub fn go_together(bytes: usize, others: usize) -> bool {
        bytes + others + 2 * LENGTH_BYTES <= BYTES_AT_ONCE_MAX
    }

    /// How to read the bytes of each.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The bytes of all of them together.
    pub fn len(&self) -> u64 {
        (self.bytes.len() - self.count as usize * LENGTH_BYTES) as u64
    }

    /// Whether they have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of each, in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes }
    }

    /// All of them in one piece, each behind its length, as they travel.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same with the bytes that followed a head; none if these are not as many payloads as it has said, or too many.
    pub(crate) fn with_bytes(self, bytes: &[u8]) -> Option<Self> {
        if self.count > TASKS_AT_ONCE_MAX || bytes.len() > BYTES_AT_ONCE_MAX {
            return None;
        }
        let mut iter = Iter { rest: bytes };
        let count = iter.by_ref().count();
        let is_whole = iter.rest.is_empty() && count > 0 && count == self.count as usize;
        is_whole.then(|| Payloads { bytes: Bytes::copy_from_slice(bytes), held: bytes.len(), ..self })
    }

    /// Cuts off the first `count`, of which there are more.
    pub fn split_to(&mut self, count: u32) -> Self {
        assert!(count < self.count, "something remains");
        let bytes = self.iter().take(count as usize).map(|payload| LENGTH_BYTES + payload.len()).sum();
        let mut first = Payloads { count, bytes: self.bytes.split_to(bytes), ..*self };
        self.count -= count;
        first.hold_no_more();
        self.hold_no_more();
        first
    }

    /// Has memory of its own, if what it shares with others is more than twice as much.
    fn hold_no_more(&mut self) {
        if self.bytes.len() < self.held / 2 {
            self.bytes = Bytes::copy_from_slice(&self.bytes);
            self.held = self.bytes.len();
        }
    }

    /// Bytes of the largest.
    pub fn largest(&self) -> u64 {
        self.iter().map(<[u8]>::len).max().unwrap_or_default() as u64
    }

    /// Each by itself, in memory of its own.
    pub fn each(&self) -> impl Iterator<Item = Payload> {
        self.iter().map(|bytes| Payload::new(self.encoding, bytes))
    }
}

impl PartialEq for Payloads {
    fn eq(&self, other: &Self) -> bool {
        (self.encoding, self.count, &self.bytes) == (other.encoding, other.count, &other.bytes)
    }
}

impl Eq for Payloads {}

impl PayloadsMut {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that they take, their lengths included.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a payload of that encoding and size can be one more.
    pub fn takes(&self, encoding: Encoding, bytes: usize) -> bool {
        let has_room = self.bytes.len() + LENGTH_BYTES + bytes <= BYTES_AT_ONCE_MAX;
        let is_like_them = self.count == 0 || encoding == self.encoding;
        has_room && is_like_them && self.count < TASKS_AT_ONCE_MAX
    }

    /// Adds one, which it [takes](Self::takes).
    pub fn push(&mut self, encoding: Encoding, payload: &[u8]) {
        assert!(self.takes(encoding, payload.len()), "it is like the others");
        self.encoding = encoding;
        self.count += 1;
        // At most BYTES_MAX, which fits.
        self.bytes.put_u16_le(payload.len() as u16);
        self.bytes.put_slice(payload);
    }

    /// The bytes of each, in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes }
    }

    /// The one that there is, if there are no others: its encoding and its bytes.
    pub fn single(&self) -> Option<(Encoding, &[u8])> {
        (self.count == 1).then(|| (self.encoding, &self.bytes[LENGTH_BYTES..]))
    }

    /// All of them in one piece, each behind its length, as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all of them, and keeps their memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// All of them, of which there is one at the least; none are left here.
    pub fn take(&mut self) -> Payloads {
        assert!(self.count > 0, "there are some");
        let bytes = self.bytes.split().freeze();
        let count = std::mem::take(&mut self.count);
        Payloads { encoding: self.encoding, count, held: bytes.len(), bytes }
    }
}

/// Payloads that are read one after the other.
#[derive(Debug, Default)]
pub struct Unread {
    payloads: Payloads,
    /// Where the next one begins.
    at: usize,
}

impl Unread {
    /// How to read the bytes of each.
    pub fn encoding(&self) -> Encoding {
        self.payloads.encoding
    }

    /// Whether all of them were read.
    pub fn is_empty(&self) -> bool {
        self.at == self.payloads.bytes.len()
    }

    /// The bytes of the next one.
    #[expect(clippy::should_implement_trait, reason = "what it gives is in itself")]
    pub fn next(&mut self) -> Option<&[u8]> {
        let payload = Iter { rest: &self.payloads.bytes[self.at..] }.next()?;
        self.at += LENGTH_BYTES + payload.len();
        Some(payload)
    }
}

impl From<Payloads> for Unread {
    fn from(payloads: Payloads) -> Self {
        Unread { payloads, at: 0 }
    }
}

/// The bytes of each of several payloads.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<LENGTH_BYTES>()?;
        let (payload, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        self.rest = rest;
        Some(payload)
    }
}

impl<'a> IntoIterator for &'a Payloads {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(of: &[&str]) -> Payloads {
        let mut payloads = PayloadsMut::default();
        of.iter().for_each(|text| payloads.push(Encoding::Json, text.as_bytes()));
        payloads.take()
    }

    fn texts(payloads: &Payloads) -> Vec<&str> {
        payloads.iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn payloads_are_what_was_pushed_in_its_order() {
        let all = payloads(&["one", "", "three"]);
        assert_eq!((all.count(), all.len(), all.encoding()), (3, 8, Encoding::Json));
        assert_eq!(texts(&all), ["one", "", "three"]);
        let singles: Vec<Payload> = all.each().collect();
        assert_eq!(singles, ["one", "", "three"].map(|text| Payload::new(Encoding::Json, text)));
    }

    #[test]
    fn payloads_are_read_one_after_the_other_until_none_is_left() {
        let mut unread = Unread::from(payloads(&["one", "", "three"]));
        for text in ["one", "", "three"] {
            assert!(!unread.is_empty());
            assert_eq!(unread.next(), Some(text.as_bytes()));
        }
        assert!(unread.is_empty());
        assert_eq!(unread.next(), None);
    }

    #[test]
    fn payloads_that_are_cut_are_together_what_they_were() {
        for count in 1..4 {
            let mut rest = payloads(&["a", "bb", "ccc", "dddd"]);
            let first = rest.split_to(count);
            assert_eq!([texts(&first), texts(&rest)].concat(), ["a", "bb", "ccc", "dddd"]);
            assert_eq!((first.count(), rest.count()), (count, 4 - count));
        }
    }

    #[test]
    fn little_that_remains_does_not_hold_much() {
        let long = "x".repeat(1000);
        let mut rest = payloads(&[&long, &long, "y"]);
        let whole = rest.as_bytes().clone();
        let first = rest.split_to(2);
        assert!(whole.as_ptr_range().contains(&first.as_bytes().as_ptr()));
        assert!(!whole.as_ptr_range().contains(&rest.as_bytes().as_ptr()));
        assert_eq!(texts(&rest), ["y"]);

        let mut rest = payloads(&["y", &long, &long]);
        let whole = rest.as_bytes().clone();
        let first = rest.split_to(1);
        assert!(!whole.as_ptr_range().contains(&first.as_bytes().as_ptr()));
        assert!(whole.as_ptr_range().contains(&rest.as_bytes().as_ptr()));
        assert_eq!(texts(&first), ["y"]);
    }

    #[test]
    fn bytes_that_are_not_as_many_payloads_as_was_said_are_refused() {
        let whole = payloads(&["a", "bb"]);
        let head = |count| Payloads { count, ..payloads(&["x"]) };
        assert_eq!(head(2).with_bytes(whole.as_bytes()), Some(whole.clone()));
        for count in [0, 1, 3] {
            assert_eq!(head(count).with_bytes(whole.as_bytes()), None);
        }
        for cut in 0..whole.as_bytes().len() {
            assert_eq!(head(2).with_bytes(&whole.as_bytes()[..cut]), None);
        }
        assert_eq!(head(0).with_bytes(&[]), None);
    }

    #[test]
    fn more_than_go_together_are_refused_and_not_taken() {
        let mut payloads = PayloadsMut::default();
        (0..TASKS_AT_ONCE_MAX).for_each(|_| payloads.push(Encoding::Json, b""));
        assert!(!payloads.takes(Encoding::Json, 0));
        let most = payloads.take();
        assert!(most.clone().with_bytes(most.as_bytes()).is_some());
        let more = [&most.as_bytes()[..], &[0; LENGTH_BYTES]].concat();
        assert!(Payloads { count: TASKS_AT_ONCE_MAX + 1, ..most }.with_bytes(&more).is_none());

        let half = BYTES_AT_ONCE_MAX / 2 - LENGTH_BYTES;
        assert!(Payloads::go_together(half, half) && !Payloads::go_together(half, half + 1));
        payloads.push(Encoding::Json, &vec![0; half]);
        assert!(payloads.takes(Encoding::Json, half) && !payloads.takes(Encoding::Json, half + 1));
        payloads.push(Encoding::Json, &vec![0; half]);
        let most = payloads.take();
        assert!(most.clone().with_bytes(most.as_bytes()).is_some());
        let more = [&most.as_bytes()[..], &[0; LENGTH_BYTES]].concat();
        assert!(Payloads { count: 3, ..most }.with_bytes(&more).is_none());
    }

    #[test]
    fn payloads_of_another_encoding_or_too_large_are_not_taken() {
        let mut payloads = PayloadsMut::default();
        assert!(payloads.takes(Encoding::Bytes, Payloads::BYTES_MAX));
        assert!(!payloads.takes(Encoding::Bytes, Payloads::BYTES_MAX + 1));
        payloads.push(Encoding::Json, b"1");
        assert!(payloads.takes(Encoding::Json, 1) && !payloads.takes(Encoding::Bytes, 1));
    }
}
