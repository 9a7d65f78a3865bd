//! Big payloads from both ends: written once, where they will be read, and read where they are.
//!
//! ```text
//!   the caller's bytes ──one copy──> MemoryFile ──┐
//!   the caller writes ─────────────> SharedBuffer ┴──seal──> Payload ──> socket ──> Payload ──bytes──> a slice
//! ```
//!
//! Clients and workers use it alike. The daemon passes payloads on and never reads one.

use std::any::Any;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use crate::limits::INLINE_BYTES_PREFERRED;
use crate::memory::MemoryFile;
use crate::os::map::{self, WritableMapping};
use crate::task::{Content, Encoding, Payload};

impl Payload {
    /// Its bytes. Those in shared memory are not copied: what is returned is where they are, and lasts as long as
    /// it is held.
    ///
    /// # Errors
    /// What the system gives where shared memory cannot be mapped: the limit on this process's address space is
    /// met, say. Of a payload that came inside a frame, none.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match &self.content {
            Content::Inline(bytes) => Ok(bytes.to_bytes()),
            Content::Shared(memory) => map::map(memory).cloned(),
        }
    }

    /// The same, for as long as the payload is held.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn as_slice(&self) -> io::Result<&[u8]> {
        match &self.content {
            Content::Inline(bytes) => Ok(bytes),
            Content::Shared(memory) => map::map(memory).map(|bytes| &bytes[..]),
        }
    }

    /// If it is in shared memory and this process keeps many descriptors of such memory, maps it and does without its own
    /// from then on: a program may hold more results than it may have descriptors. If it cannot be mapped,
    /// [`bytes`](Self::bytes) says why.
    pub(crate) fn spare_descriptor(&mut self) {
        if let Content::Shared(memory) = &self.content
            && !memory.may_be_kept()
            && let Ok(bytes) = map::map(memory)
        {
            self.content = Content::Inline(bytes.clone().into());
        }
    }

    /// The same payload, in shared memory if it is large: as it is best sent.
    ///
    /// # Errors
    /// As [`to_shared`](Self::to_shared).
    pub(crate) fn fit_to_send(self) -> io::Result<Payload> {
        if self.is_fit_to_send() { Ok(self) } else { self.to_shared() }
    }

    /// Whether it is best sent as it is.
    pub(crate) fn is_fit_to_send(&self) -> bool {
        match &self.content {
            Content::Inline(bytes) => bytes.len() <= INLINE_BYTES_PREFERRED,
            Content::Shared(_) => true,
        }
    }

    /// A copy of it in shared memory.
    ///
    /// # Errors
    /// What the system gives where there is no memory to be had.
    pub(crate) fn to_shared(&self) -> io::Result<Payload> {
        let mut memory = MemoryFile::new()?;
        memory.write_all(self.as_slice()?)?;
        let content = Content::Shared(memory.seal()?);
        Ok(Payload { encoding: self.encoding, content, descriptors: self.descriptors.clone() })
    }
}

/// `bytes` as a `T`, if that is their own type: so they need no copy.
pub(crate) fn as_own_type<T: 'static>(bytes: Bytes) -> Option<T> {
    let mut bytes = Some(bytes);
    (&mut bytes as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take)
}

/// Shared memory of one size, to be written where its bytes will be read: for arguments or a result that a program
/// would otherwise compute into memory of its own first.
///
/// What comes piece by piece, and what is in memory already, is quicker written to a [`MemoryFile`].
///
/// ```
/// use poold::SharedBuffer;
/// use poold::task::{Encoding, Payload};
///
/// let mut squares = SharedBuffer::new(8 * 100_000)?;
/// for (number, bytes) in (0_u64..).zip(squares.chunks_exact_mut(8)) {
///     bytes.copy_from_slice(&(number * number).to_le_bytes());
/// }
/// let payload: Payload = squares.into_payload(Encoding::Bytes)?;
/// assert_eq!(payload.bytes()?[8 * 300..][..8], 90_000_u64.to_le_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SharedBuffer(WritableMapping);

impl SharedBuffer {
    /// So many bytes, all zero.
    ///
    /// # Errors
    /// What the system gives: that there is no memory to be had, or more than this process may use.
    pub fn new(bytes: usize) -> io::Result<Self> {
        WritableMapping::new(bytes).map(SharedBuffer)
    }

    /// What was written, as arguments or as a result.
    ///
    /// # Errors
    /// What the system gives.
    pub fn into_payload(self, encoding: Encoding) -> io::Result<Payload> {
        Ok(Payload::shared(encoding, self.0.seal()?))
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for SharedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: usize) -> Payload {
        Payload::new(Encoding::Bytes, vec![7; bytes]).fit_to_send().unwrap()
    }

    #[test]
    fn payload_is_shared_from_its_first_byte_over_the_threshold() {
        assert!(sent(INLINE_BYTES_PREFERRED).content.memory().is_none());
        let shared = sent(INLINE_BYTES_PREFERRED + 1);
        assert_eq!(shared.content.memory().unwrap().bytes(), INLINE_BYTES_PREFERRED as u64 + 1);
        assert!(shared.bytes().unwrap().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn payload_that_is_shared_stays_where_it_is() {
        let shared = SharedBuffer::new(1).unwrap().into_payload(Encoding::Json).unwrap();
        assert_eq!(shared.clone().fit_to_send().unwrap(), shared);
    }
}
