//! Messages to frames and back: the one home of `bincode`.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::WireError;
use super::frame::{FRAME_HEADER_BYTES, Frame, header};
use crate::id::RequestId;
use crate::limits::{DECODE_BYTES_MAX, DESCRIPTORS_PER_PAYLOAD_MAX, FRAME_BYTES_MAX};
use crate::message::Message;
use crate::task::{Payload, TaskSpec};

/// Bytes of memory that decoding a payload's value may claim: as [`DECODE_BYTES_MAX`], and values may
/// hold integers of sixteen bytes.
const DECODE_VALUE_BYTES_MAX: usize = 16 * FRAME_BYTES_MAX;

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
    append_frame(message.payload(), out, |out| append_value(message, out))
}

/// What a task is submitted with, its arguments apart: encoded once, for any number of submissions.
#[derive(Clone, Debug)]
pub struct EncodedSpec(Vec<u8>);

impl EncodedSpec {
    /// `spec`, encoded.
    ///
    /// # Errors
    /// [`WireError::NotEncodable`], which no specification is.
    pub fn new(spec: &TaskSpec) -> Result<Self, WireError> {
        /// The beginning of a [`RequestBody`](crate::message::client::RequestBody).
        #[derive(Serialize)]
        enum Body<'a> {
            Submit { spec: &'a TaskSpec },
        }
        encode_value(&Body::Submit { spec }).map(EncodedSpec)
    }
}

/// Appends a request to submit a task to `out`, as [`encode`] does.
///
/// # Errors
/// As [`encode`].
pub fn encode_submission(
    id: RequestId,
    spec: &EncodedSpec,
    args: &Payload,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    append_frame(Some(args), out, |out| {
        append_value(&id, out)?;
        out.put_slice(&spec.0);
        append_value(args, out)
    })
}

/// Appends a frame of the head that `append_head` appends and of `payload`; nothing if that fails.
fn append_frame(
    payload: Option<&Payload>,
    out: &mut BytesMut,
    append_head: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    let head_start = start + FRAME_HEADER_BYTES;
    out.put_bytes(0, FRAME_HEADER_BYTES);
    let header = append_head(out).and_then(|()| {
        if payload.is_some_and(|payload| payload.descriptors.count() as usize > DESCRIPTORS_PER_PAYLOAD_MAX) {
            return Err(WireError::TooManyDescriptors);
        }
        header(out.len() - head_start, payload.map_or(0, |payload| payload.bytes.len()))
    });
    match header {
        Ok(header) => out[start..head_start].copy_from_slice(&header),
        Err(_) => out.truncate(start),
    }
    header.map(|_| out.put_slice(payload.map_or(&[], |payload| &payload.bytes)))
}

fn append_value<T: Serialize>(value: &T, out: &mut BytesMut) -> Result<(), WireError> {
    bincode::serde::encode_into_std_write(value, &mut out.writer(), config::<DECODE_BYTES_MAX>())
        .map(drop)
        .map_err(|error| WireError::NotEncodable(error.to_string()))
}

/// The message in `frame`, with a copy of the payload: one may be held for long, and must not hold
/// with it what was received in the same read.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::TrailingBytes`] or [`WireError::UnexpectedPayload`] when there is none.
pub(super) fn decode<M: Message>(frame: Frame<'_>) -> Result<M, WireError> {
    let mut message: M = decode_whole::<M, DECODE_BYTES_MAX>(frame.head)?;
    match message.payload_mut() {
        Some(payload) => payload.bytes = Bytes::copy_from_slice(frame.payload),
        None if frame.payload.is_empty() => {}
        None => return Err(WireError::UnexpectedPayload { bytes: frame.payload.len() }),
    }
    Ok(message)
}

/// `value` as the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::NotEncodable`] when its type cannot be encoded.
pub fn encode_value<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    bincode::serde::encode_to_vec(value, config::<DECODE_VALUE_BYTES_MAX>())
        .map_err(|error| WireError::NotEncodable(error.to_string()))
}

/// The value in the bytes of a payload with [`Encoding::Bincode`](crate::task::Encoding::Bincode).
///
/// # Errors
/// [`WireError::Malformed`] or [`WireError::TrailingBytes`] when they are not one value of this type.
pub fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    decode_whole::<T, DECODE_VALUE_BYTES_MAX>(bytes)
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
