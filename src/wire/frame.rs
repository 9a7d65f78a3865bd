//! Frames: where one message ends and the next begins.
//!
//! A frame is two lengths (32 bits each, little-endian), a head and a payload. Caps are checked on the
//! lengths alone, before a byte of the rest is waited for. Nothing here copies or allocates.

use super::WireError;
use crate::limits::{FRAME_BYTES_MAX, HEAD_BYTES_MAX};

/// Bytes before the head: its length and the payload's.
pub const FRAME_HEADER_BYTES: usize = 8;

/// A whole frame, in the bytes it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The encoded message.
    pub(super) head: &'a [u8],
    /// The bytes that travel with it.
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the front of `bytes`; nothing if they end before it does.
    ///
    /// # Errors
    /// [`WireError::FrameTooLarge`] or [`WireError::HeadTooLarge`] as soon as the lengths are there.
    pub(super) fn at_front_of(bytes: &'a [u8]) -> Result<Option<Self>, WireError> {
        let Some((&[h0, h1, h2, h3, p0, p1, p2, p3], rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let head_bytes = u32::from_le_bytes([h0, h1, h2, h3]);
        let payload_bytes = u32::from_le_bytes([p0, p1, p2, p3]);
        check_caps(u64::from(head_bytes), u64::from(payload_bytes))?;

        let Some((head, rest)) = rest.split_at_checked(head_bytes as usize) else { return Ok(None) };
        let Some((payload, _)) = rest.split_at_checked(payload_bytes as usize) else { return Ok(None) };
        Ok(Some(Frame { head, payload }))
    }

    /// Bytes that it takes, its header included.
    pub(super) fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.head.len() + self.payload.len()
    }
}

/// The header of a frame of these lengths, in bytes.
///
/// # Errors
/// [`WireError::FrameTooLarge`] or [`WireError::HeadTooLarge`]
pub(super) fn header(head_bytes: usize, payload_bytes: usize) -> Result<[u8; FRAME_HEADER_BYTES], WireError> {
    check_caps(head_bytes as u64, payload_bytes as u64)?;
    // The caps are far below 2^32, so neither length is cut.
    let [h0, h1, h2, h3] = (head_bytes as u32).to_le_bytes();
    let [p0, p1, p2, p3] = (payload_bytes as u32).to_le_bytes();
    Ok([h0, h1, h2, h3, p0, p1, p2, p3])
}

fn check_caps(head_bytes: u64, payload_bytes: u64) -> Result<(), WireError> {
    let frame_bytes = FRAME_HEADER_BYTES as u64 + head_bytes + payload_bytes;
    if frame_bytes > FRAME_BYTES_MAX as u64 {
        return Err(WireError::FrameTooLarge { bytes: frame_bytes });
    }
    if head_bytes > HEAD_BYTES_MAX as u64 {
        return Err(WireError::HeadTooLarge { bytes: head_bytes });
    }
    Ok(())
}
