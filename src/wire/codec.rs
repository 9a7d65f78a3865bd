//! Messages to frames and back: the one home of `bincode`.

use std::sync::Arc;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::DecodeError;
use bytes::{BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::WireError;
use super::frame::{FRAME_HEADER_BYTES, Frame, header};
use crate::id::{AttemptId, RequestId};
use crate::inline::InlineBytes;
use crate::limits::{DECODE_BYTES_MAX, DESCRIPTORS_PER_PAYLOAD_MAX, FRAME_BYTES_MAX};
use crate::message::Message;
use crate::message::client::{Request, RequestBody};
use crate::task::{Content, Encoding, Payload, Payloads, PayloadsMut, SharedSpec};

/// Bytes of memory that one encoded byte of a payload's value may claim: as [`DECODE_BYTES_MAX`], and values may
/// hold integers of sixteen bytes.
const VALUE_BYTES_PER_BYTE: usize = 16;

/// Bytes of head that most messages take at the most.
const SHORT_HEAD_BYTES: usize = 128;

/// Bytes of head that a request's number takes at the most, and what a head says of a payload.
const VALUE_BYTES_MAX: usize = 32;

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
    // Most heads are short, and are encoded faster into a slice.
    let mut short = [0; SHORT_HEAD_BYTES];
    match write_value(message, &mut short) {
        Ok(bytes) => out.put_slice(&short[..bytes]),
        Err(_) => {
            bincode::serde::encode_into_std_write(message, &mut out.writer(), config::<DECODE_BYTES_MAX>())
                .map_err(|error| WireError::NotEncodable(error.to_string()))?;
        }
    }
    let payload = message.payload();
    payload.map_or(Ok(()), check_descriptors)?;
    let bytes = match message.payloads() {
        Some(payloads) => payloads.as_bytes(),
        None => payload.map_or(&[][..], inline_bytes),
    };
    let header = header(out.len() - head_start, bytes.len())?;
    out[start..head_start].copy_from_slice(&header);
    out.put_slice(bytes);
    Ok(())
}

/// What of a payload goes behind the head.
fn inline_bytes(payload: &Payload) -> &[u8] {
    match &payload.content {
        Content::Inline(bytes) => bytes,
        Content::Shared(_) => &[],
    }
}

/// What tasks are submitted with, their arguments apart: encoded once, for any number of submissions.
#[derive(Clone, Debug)]
pub struct EncodedSpec {
    /// As a request begins that submits one.
    one: Vec<u8>,
    /// As one begins that submits several.
    all: Vec<u8>,
}

impl EncodedSpec {
    /// `spec`, encoded.
    ///
    /// # Errors
    /// [`WireError::NotEncodable`], which no specification is.
    pub fn new(spec: &SharedSpec) -> Result<Self, WireError> {
        let (args, all_args) = (Payload::default(), Payloads::default());
        let (args_bytes, all_args_bytes) = (encode_value(&args)?.len(), encode_value(&all_args)?.len());
        let mut one = encode_value(&RequestBody::Submit { spec: Arc::clone(spec), args })?;
        let mut all = encode_value(&RequestBody::SubmitAll { spec: Arc::clone(spec), args: all_args })?;
        one.truncate(one.len() - args_bytes);
        all.truncate(all.len() - all_args_bytes);
        Ok(EncodedSpec { one, all })
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
    check_descriptors(args)?;
    append_request(id, &spec.one, args, inline_bytes(args), out)
}

/// Appends a request to submit a task with each of `args` to `out`, as [`encode`] does: one that submits them all, or
/// if there is but one, that alone.
///
/// # Errors
/// As [`encode`].
pub fn encode_submissions(
    first: RequestId,
    spec: &EncodedSpec,
    args: &PayloadsMut,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    match args.single() {
        // Its bytes are no part of the head.
        Some((encoding, bytes)) => {
            append_request(first, &spec.one, &Payload::new(encoding, InlineBytes::new()), bytes, out)
        }
        None => append_request(first, &spec.all, args, args.as_bytes(), out),
    }
}

/// Appends a request whose head is its number, `start` and what there is to say of its `args`, with the `bytes` of
/// those.
fn append_request(
    id: RequestId,
    start: &[u8],
    args: &impl Serialize,
    bytes: &[u8],
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut before = [0; FRAME_HEADER_BYTES + VALUE_BYTES_MAX];
    let mut after = [0; VALUE_BYTES_MAX];
    let id_bytes = write_value(&id, &mut before[FRAME_HEADER_BYTES..])?;
    let args_bytes = write_value(args, &mut after)?;
    let header = header(id_bytes + start.len() + args_bytes, bytes.len())?;
    before[..FRAME_HEADER_BYTES].copy_from_slice(&header);
    out.put_slice(&before[..FRAME_HEADER_BYTES + id_bytes]);
    out.put_slice(start);
    out.put_slice(&after[..args_bytes]);
    out.put_slice(bytes);
    Ok(())
}

/// The head of a result: [`FromWorker::Finished`](crate::message::worker::FromWorker::Finished) with the report that it
/// is `Ok`, its bytes in the frame, and without open files. Each number is that of a variant, or of files.
type ResultHead = (u8, AttemptId, u8, Encoding, u8, u8);
const FINISHED: u8 = 3;
const OK: u8 = 0;
const INLINE: u8 = 0;
const NO_FILES: u8 = 0;

/// Appends to `out` that an attempt ended with a result, whose bytes travel in the frame and without open files: as
/// [`encode`] does, and faster.
///
/// # Errors
/// As [`encode`].
pub fn encode_result(
    attempt: AttemptId,
    encoding: Encoding,
    bytes: &[u8],
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let head: ResultHead = (FINISHED, attempt, OK, encoding, INLINE, NO_FILES);
    let mut start = [0; FRAME_HEADER_BYTES + VALUE_BYTES_MAX];
    let head_bytes = write_value(&head, &mut start[FRAME_HEADER_BYTES..])?;
    start[..FRAME_HEADER_BYTES].copy_from_slice(&header(head_bytes, bytes.len())?);
    out.put_slice(&start[..FRAME_HEADER_BYTES + head_bytes]);
    out.put_slice(bytes);
    Ok(())
}

/// The attempt, and how to read its result, if `head` is that of one as [`encode_result`] writes it.
pub(super) fn decode_result(head: &[u8]) -> Option<(AttemptId, Encoding)> {
    match decode_whole::<ResultHead, DECODE_BYTES_MAX>(head) {
        Ok((FINISHED, attempt, OK, encoding, INLINE, NO_FILES)) => Some((attempt, encoding)),
        Ok(_) | Err(_) => None,
    }
}

/// Writes `value` to the front of `room`; gives the bytes that it takes.
fn write_value<T: Serialize>(value: &T, room: &mut [u8]) -> Result<usize, WireError> {
    bincode::serde::encode_into_slice(value, room, config::<DECODE_BYTES_MAX>())
        .map_err(|error| WireError::NotEncodable(error.to_string()))
}

fn check_descriptors(payload: &Payload) -> Result<(), WireError> {
    match payload.descriptors.count() as usize {
        0..=DESCRIPTORS_PER_PAYLOAD_MAX => Ok(()),
        _ => Err(WireError::TooManyDescriptors),
    }
}

/// The message in `frame`, with a copy of the payload: one may be held for long, and must not hold
/// with it what was received in the same read.
///
/// # Errors
/// [`WireError::Malformed`], [`WireError::TrailingBytes`] or [`WireError::UnexpectedPayload`] when there is none.
pub(super) fn decode<M: Message>(frame: Frame<'_>) -> Result<M, WireError> {
    with_payload(decode_whole::<M, DECODE_BYTES_MAX>(frame.head)?, frame.payload)
}

/// `message` with the bytes that followed its head.
fn with_payload<M: Message>(mut message: M, bytes: &[u8]) -> Result<M, WireError> {
    if let Some(payloads) = message.payloads_mut() {
        let announced = payloads.count();
        let of_head = std::mem::take(payloads);
        *payloads = of_head.with_bytes(bytes).ok_or(WireError::PayloadsMalformed { announced })?;
        return Ok(message);
    }
    match message.payload_mut().map(|payload| &mut payload.content) {
        Some(Content::Inline(inline)) => *inline = bytes.into(),
        Some(Content::Shared(_)) | None if bytes.is_empty() => {}
        Some(Content::Shared(_)) | None => {
            return Err(WireError::UnexpectedPayload { bytes: bytes.len() });
        }
    }
    Ok(message)
}

/// The specification that was received last on a connection, if the one before was the same: so a further submission
/// that begins in the same way need not be decoded anew.
#[derive(Debug, Default)]
pub(super) struct LastSpec {
    spec: Option<SharedSpec>,
    /// How it was encoded, once it has come twice.
    encoded: Option<Box<EncodedSpec>>,
}

impl LastSpec {
    /// The request in `head` if it submits a task that differs from the last one in its arguments alone.
    fn request(&self, head: &[u8]) -> Option<Request> {
        let (Some(spec), Some(encoded)) = (&self.spec, &self.encoded) else { return None };
        let (id, id_bytes) = decode_start::<RequestId, DECODE_BYTES_MAX>(head).ok()?;
        let args = head[id_bytes..].strip_prefix(&encoded.one[..])?;
        let args = decode_whole::<Payload, DECODE_BYTES_MAX>(args).ok()?;
        Some(Request { id, body: RequestBody::Submit { spec: Arc::clone(spec), args } })
    }

    /// Remembers a specification that was received.
    fn remember(&mut self, spec: &mut SharedSpec) {
        match &self.spec {
            Some(last) if last == spec => {
                *spec = Arc::clone(last);
                if self.encoded.is_none() {
                    // What was decoded can be encoded; if it could not, nothing is remembered.
                    self.encoded = EncodedSpec::new(spec).ok().map(Box::new);
                }
            }
            Some(_) | None => *self = LastSpec { spec: Some(Arc::clone(spec)), encoded: None },
        }
    }
}

/// The request in `frame`, as [`decode`] gives it.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_request(frame: Frame<'_>, last: &mut LastSpec) -> Result<Request, WireError> {
    if let Some(request) = last.request(frame.head) {
        return with_payload(request, frame.payload);
    }
    let mut request: Request = decode(frame)?;
    if let RequestBody::Submit { spec, .. } | RequestBody::SubmitAll { spec, .. } = &mut request.body {
        last.remember(spec);
    }
    Ok(request)
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
    let (value, consumed) = decode_start::<T, BYTES_MAX>(bytes)?;
    match bytes.len() - consumed {
        0 => Ok(value),
        bytes => Err(WireError::TrailingBytes { bytes }),
    }
}

/// The value that `bytes` begin with, and how many of them it is.
fn decode_start<T: DeserializeOwned, const BYTES_MAX: usize>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    bincode::serde::decode_from_slice(bytes, config::<BYTES_MAX>())
        .map_err(|error| WireError::Malformed(in_words(error)))
}

fn in_words(error: DecodeError) -> String {
    match error {
        DecodeError::OtherString(words) => words,
        DecodeError::UnexpectedEnd { .. } => "it ends before its last field".to_owned(),
        DecodeError::LimitExceeded => "it announces more than fits in it".to_owned(),
        other => other.to_string(),
    }
}
