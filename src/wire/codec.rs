//! Messages to frames and back: the one home of `bincode`.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::{FRAME_HEADER_BYTES, Frame, WireError};
use crate::limits::{DECODE_BYTES_MAX, FRAME_BYTES_MAX, HEAD_BYTES_MAX};
use crate::message::Message;

fn head_config() -> bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<DECODE_BYTES_MAX>,
> {
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>()
}

fn value_config() -> bincode::config::Configuration {
    bincode::config::standard()
}

/// Appends `message` to `out` as one frame.
///
/// # Errors
/// [`WireError::FrameTooLarge`] or [`WireError::HeadTooLarge`] when it exceeds a cap; `out` is as before.
pub fn encode<M: Message>(message: &M, out: &mut BytesMut) -> Result<(), WireError> {
    let start = out.len();
    out.put_bytes(0, FRAME_HEADER_BYTES);
    let written = bincode::serde::encode_into_std_write(message, &mut out.writer(), head_config());
    let head_bytes = out.len() - start - FRAME_HEADER_BYTES;
    let payload = message.payload().map_or(&[][..], |payload| &payload.bytes);
    let frame_bytes = FRAME_HEADER_BYTES + head_bytes + payload.len();

    let checked = match written {
        Err(error) => Err(WireError::Malformed(error.to_string())),
        Ok(_) if head_bytes > HEAD_BYTES_MAX => Err(WireError::HeadTooLarge { bytes: head_bytes as u64 }),
        Ok(_) if frame_bytes > FRAME_BYTES_MAX => Err(WireError::FrameTooLarge { bytes: frame_bytes as u64 }),
        Ok(_) => Ok(()),
    };
    if let Err(error) = checked {
        out.truncate(start);
        return Err(error);
    }
    let header = &mut out[start..start + FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&(head_bytes as u32).to_le_bytes());
    header[4..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.put_slice(payload);
    Ok(())
}

/// The message in `frame`.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::TrailingBytes`] or [`WireError::UnexpectedPayload`] when there is none.
pub(super) fn decode<M: Message>(frame: Frame) -> Result<M, WireError> {
    let (mut message, consumed): (M, usize) = bincode::serde::decode_from_slice(&frame.head, head_config())
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    if consumed != frame.head.len() {
        return Err(WireError::TrailingBytes { bytes: frame.head.len() - consumed });
    }
    match message.payload_mut() {
        Some(payload) => payload.bytes = frame.payload,
        None if frame.payload.is_empty() => {}
        None => return Err(WireError::UnexpectedPayload { bytes: frame.payload.len() }),
    }
    Ok(message)
}

/// `value` as the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::Malformed`] when its type cannot be encoded.
pub fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::new();
    bincode::serde::encode_into_std_write(value, &mut bytes.by_ref(), value_config())
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok(bytes)
}

/// The value in the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::Malformed`] or [`WireError::TrailingBytes`] when they are not one value of this type.
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let config = value_config().with_limit::<{ 4 * FRAME_BYTES_MAX }>();
    let (value, consumed) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| WireError::Malformed(error.to_string()))?;
    if consumed != bytes.len() {
        return Err(WireError::TrailingBytes { bytes: bytes.len() - consumed });
    }
    Ok(value)
}
