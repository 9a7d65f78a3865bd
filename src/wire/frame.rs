//! Frames: where one message ends and the next begins.
//!
//! A frame is two lengths (32 bits each, little-endian), a head and a payload. Caps are checked on the
//! lengths alone, before a byte of the rest is waited for or allocated.

use bytes::{Buf, Bytes, BytesMut};

use super::WireError;
use crate::limits::{FRAME_BYTES_MAX, HEAD_BYTES_MAX};

/// Bytes before the head: its length and the payload's.
pub const FRAME_HEADER_BYTES: usize = 8;

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The encoded message.
    pub head: Bytes,
    /// The bytes that travel with it.
    pub payload: Bytes,
}

/// The next frame at the front of `buffer`, taken out of it; nothing if it is not complete yet.
///
/// # Errors
/// [`WireError::FrameTooLarge`] or [`WireError::HeadTooLarge`] as soon as the lengths are there.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
    let Some(&header) = buffer.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let [h0, h1, h2, h3, p0, p1, p2, p3] = header;
    let head_bytes = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
    let payload_bytes = u32::from_le_bytes([p0, p1, p2, p3]) as usize;

    let frame_bytes = FRAME_HEADER_BYTES as u64 + head_bytes as u64 + payload_bytes as u64;
    if frame_bytes > FRAME_BYTES_MAX as u64 {
        return Err(WireError::FrameTooLarge { bytes: frame_bytes });
    }
    if head_bytes > HEAD_BYTES_MAX {
        return Err(WireError::HeadTooLarge { bytes: head_bytes as u64 });
    }
    if buffer.len() < FRAME_HEADER_BYTES + head_bytes + payload_bytes {
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER_BYTES);
    let head = buffer.split_to(head_bytes).freeze();
    // A copy of its own: a payload may be held long, and must not hold the read buffer with it.
    let payload = Bytes::copy_from_slice(&buffer[..payload_bytes]);
    buffer.advance(payload_bytes);
    Ok(Some(Frame { head, payload }))
}
