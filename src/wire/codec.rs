//! Messages to frames and back: the one home of `bincode`.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::WireError;
use super::frame::{FRAME_HEADER_BYTES, Frame, header};
use crate::limits::{DECODE_BYTES_MAX, DESCRIPTORS_PER_PAYLOAD_MAX, FRAME_BYTES_MAX};
use crate::message::Message;
use crate::task::Content;

/// Bytes of memory that one encoded byte of a payload's value may claim: as [`DECODE_BYTES_MAX`], and values may
/// hold integers of sixteen bytes.
const VALUE_BYTES_PER_BYTE: usize = 16;

/// How everything is encoded. The limit binds decoding alone: without one, a forged length would be
/// allocated before it is found to be forged.
const fn config<const BYTES_MAX: usize>() -> Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`WireError::FrameTooLarge`] or [`WireError::HeadTooLarge`] when it exceeds a cap; `out` is as before.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) -> Result<(), WireError> {
    let start = out.len();
    let appended = append_frame(message, out, start);
    if appended.is_err() {
        out.truncate(start);
    }
    appended
}

fn append_frame<M: Message>(message: &M, out: &mut BytesMut, start: usize) -> Result<(), WireError> {
    let head_start = start + FRAME_HEADER_BYTES;
    out.put_bytes(0, FRAME_HEADER_BYTES);
    bincode::serde::encode_into_std_write(message, &mut out.writer(), config::<DECODE_BYTES_MAX>())
        .map_err(|error| WireError::NotEncodable(error.to_string()))?;
    let payload = message.payload();
    if payload.is_some_and(|payload| payload.descriptors.count() as usize > DESCRIPTORS_PER_PAYLOAD_MAX) {
        return Err(WireError::TooManyDescriptors);
    }
    let bytes = match payload.map(|payload| &payload.content) {
        Some(Content::Inline(bytes)) => &bytes[..],
        Some(Content::Shared(_)) | None => &[],
    };
    let header = header(out.len() - head_start, bytes.len())?;
    out[start..head_start].copy_from_slice(&header);
    out.put_slice(bytes);
    Ok(())
}

/// The message in `frame`, with a copy of the payload: one may be held for long, and must not hold
/// with it what was received in the same read.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::TrailingBytes`] or [`WireError::UnexpectedPayload`] when there is none.
pub(super) fn decode<M: Message>(frame: Frame<'_>) -> Result<M, WireError> {
    let mut message: M = decode_whole::<M, DECODE_BYTES_MAX>(frame.head)?;
    match message.payload_mut().map(|payload| &mut payload.content) {
        Some(Content::Inline(bytes)) => *bytes = Bytes::copy_from_slice(frame.payload),
        Some(Content::Shared(_)) | None if frame.payload.is_empty() => {}
        Some(Content::Shared(_)) | None => {
            return Err(WireError::UnexpectedPayload { bytes: frame.payload.len() });
        }
    }
    Ok(message)
}

/// `value` as the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::NotEncodable`] when its type cannot be encoded.
pub fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    bincode::serde::encode_to_vec(value, config::<DECODE_BYTES_MAX>())
        .map_err(|error| WireError::NotEncodable(error.to_string()))
}

/// The value in the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::Malformed`] or [`WireError::TrailingBytes`] when they are not one value of this type.
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    const SMALL: usize = FRAME_BYTES_MAX;
    const LARGE: usize = 128 * FRAME_BYTES_MAX;
    // A limit is part of a type, so there are but a few.
    match bytes.len() {
        length if length <= SMALL => decode_whole::<T, { VALUE_BYTES_PER_BYTE * SMALL }>(bytes),
        length if length <= LARGE => decode_whole::<T, { VALUE_BYTES_PER_BYTE * LARGE - 1 }>(bytes),
        _ => decode_whole::<T, { usize::MAX }>(bytes),
    }
}

/// The value that all of `bytes` make: `bincode` by itself would let anything follow it.
fn decode_whole<T: DeserializeOwned, const BYTES_MAX: usize>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, consumed) = bincode::serde::decode_from_slice(bytes, config::<BYTES_MAX>())
        .map_err(|error| WireError::Malformed(in_words(error)))?;
    match bytes.len() - consumed {
        0 => Ok(value),
        bytes => Err(WireError::TrailingBytes { bytes }),
    }
}

fn in_words(error: DecodeError) -> String {
    match error {
        DecodeError::OtherString(words) => words,
        DecodeError::UnexpectedEnd { .. } => "it ends before its last field".to_owned(),
        DecodeError::LimitExceeded => "it announces more than fits in it".to_owned(),
        other => other.to_string(),
    }
}
