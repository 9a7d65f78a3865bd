//! How outcomes and results look: as they are, on a line of their own, or as JSON.
//!
//! Reads the bytes of a result, which nobody between the function and here did.

use bytes::Bytes;
use poold::id::TaskId;
use poold::task::{Encoding, Outcome, Payload};
use serde::de::IgnoredAny;

use crate::error::Error;

/// A result, read.
enum Value {
    /// A string.
    Text(String),
    /// Any other JSON value, on one line.
    Json(String),
    /// Whatever else: bytes that only the function and its caller understand.
    Bytes(Bytes),
}

/// What `submit` prints: strings and bytes as they are, all else as JSON. A newline follows text.
///
/// # Errors
/// [`Error::Result`]
pub(crate) fn as_is(result: &Payload) -> Result<Bytes, Error> {
    Ok(match read(result)? {
        Value::Text(text) | Value::Json(text) => (text + "\n").into(),
        Value::Bytes(bytes) => bytes,
    })
}

/// What `map` prints, without the newline: as [`as_is`], and what holds a newline as JSON.
///
/// # Errors
/// [`Error::Result`]
pub(crate) fn as_line(result: &Payload) -> Result<Bytes, Error> {
    Ok(match read(result)? {
        Value::Text(text) if text.contains('\n') => json_string(&text).into(),
        Value::Text(text) | Value::Json(text) => text.into(),
        Value::Bytes(bytes) if bytes.contains(&b'\n') => json_bytes(&bytes).into(),
        Value::Bytes(bytes) => bytes,
    })
}

/// The object that `--json` prints: `{line, id, outcome, result | error}`.
///
/// # Errors
/// [`Error::Result`]
pub(crate) fn as_json(line: Option<u64>, task: TaskId, outcome: &Outcome) -> Result<String, Error> {
    let line = line.map_or_else(String::new, |line| format!(r#""line":{line},"#));
    let (member, value) = match outcome {
        Outcome::Ok(result) => ("result", json(result)?),
        other => ("error", json_string(&reason(other))),
    };
    Ok(format!(r#"{{{line}"id":"{task}","outcome":"{}","{member}":{value}}}"#, outcome.kind()))
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Why a task is not `ok`: its line without the outcome's own word, which stands beside it.
fn reason(outcome: &Outcome) -> String {
    let text = outcome.to_string();
    match text.split_once(": ") {
        Some((_, reason)) => reason.to_owned(),
        None => text,
    }
}

fn json(result: &Payload) -> Result<String, Error> {
    Ok(match read(result)? {
        Value::Text(text) => json_string(&text),
        Value::Json(json) => json,
        Value::Bytes(bytes) => json_bytes(&bytes),
    })
}

/// Bytes as JSON: a string where they are one, else an array of numbers, which is what serde makes of them.
fn json_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => json_string(text),
        Err(_) => serde_json::Value::from(bytes).to_string(),
    }
}

fn read(result: &Payload) -> Result<Value, Error> {
    let bytes = result.bytes().map_err(Error::Result)?;
    Ok(match result.encoding {
        Encoding::Json => match serde_json::from_slice(&bytes) {
            Ok(text) => Value::Text(text),
            Err(_) => one_line_json(&bytes).map_or(Value::Bytes(bytes), Value::Json),
        },
        Encoding::Args | Encoding::Bincode | Encoding::Bytes | Encoding::Pickle => Value::Bytes(bytes),
    })
}

/// A JSON value without the space around its tokens, and otherwise to the letter: a number keeps digits
/// that no number type here has. Nothing if it is none.
fn one_line_json(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<IgnoredAny>(bytes).ok()?;
    let mut line = String::with_capacity(bytes.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in std::str::from_utf8(bytes).ok()?.chars() {
        if in_string || !character.is_ascii_whitespace() {
            line.push(character);
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use poold::id::Epoch;
    use poold::task::{CancelReason, Exit, Failure, FailureKind};

    use super::*;

    const TASK: TaskId = TaskId { epoch: Epoch(0x5f3a_91c2), number: 17 };

    fn payload(encoding: Encoding, bytes: &[u8]) -> Payload {
        Payload::new(encoding, bytes.to_vec())
    }

    #[test]
    fn as_is_text_gets_a_newline_and_bytes_do_not() {
        assert_eq!(&as_is(&payload(Encoding::Json, br#""a\nb""#)).unwrap()[..], b"a\nb\n");
        assert_eq!(&as_is(&payload(Encoding::Json, b"true")).unwrap()[..], b"true\n");
        assert_eq!(&as_is(&payload(Encoding::Bytes, b"\xff\x00")).unwrap()[..], b"\xff\x00");
    }

    #[test]
    fn as_is_large_numbers_keep_their_digits() {
        let number = b"340282366920938463463374607431768211455";
        assert_eq!(&as_is(&payload(Encoding::Json, number)).unwrap()[..], [&number[..], b"\n"].concat());
        assert_eq!(&as_is(&payload(Encoding::Json, b"1.10")).unwrap()[..], b"1.10\n");
    }

    #[test]
    fn as_line_is_one_line_whatever_the_result() {
        assert_eq!(&as_line(&payload(Encoding::Json, br#""a b""#)).unwrap()[..], b"a b");
        assert_eq!(&as_line(&payload(Encoding::Json, br#""a\nb""#)).unwrap()[..], br#""a\nb""#);
        assert_eq!(
            &as_line(&payload(Encoding::Json, b"{\n \"a \\\" \\\\\": [1, 2]\n}\n")).unwrap()[..],
            br#"{"a \" \\":[1,2]}"#
        );
        assert_eq!(&as_line(&payload(Encoding::Bytes, b"a\nb")).unwrap()[..], br#""a\nb""#);
        assert_eq!(&as_line(&payload(Encoding::Bytes, b"\xff\n")).unwrap()[..], b"[255,10]");
        assert_eq!(&as_line(&payload(Encoding::Bytes, b"\xff")).unwrap()[..], b"\xff");
    }

    #[test]
    fn as_is_result_that_claims_to_be_json_and_is_not_prints_as_bytes() {
        assert_eq!(&as_is(&payload(Encoding::Json, b"{nope")).unwrap()[..], b"{nope");
    }

    #[test]
    fn as_json_ok_carries_the_result() {
        let outcome = Outcome::Ok(payload(Encoding::Json, b"[1]"));
        assert_eq!(
            as_json(Some(3), TASK, &outcome).unwrap(),
            r#"{"line":3,"id":"5f3a91c2-17","outcome":"ok","result":[1]}"#
        );
        let bytes = Outcome::Ok(payload(Encoding::Bytes, b"\"x\""));
        assert_eq!(
            as_json(None, TASK, &bytes).unwrap(),
            r#"{"id":"5f3a91c2-17","outcome":"ok","result":"\"x\""}"#
        );
    }

    #[test]
    fn as_json_not_ok_says_why_without_repeating_the_outcome() {
        let failure = Failure { kind: FailureKind::Error, message: "no: \"x\"".into(), location: None };
        let error = |outcome| as_json(None, TASK, &outcome).unwrap();
        assert_eq!(
            error(Outcome::Failed(failure)),
            r#"{"id":"5f3a91c2-17","outcome":"failed","error":"no: \"x\""}"#
        );
        assert_eq!(
            error(Outcome::Crashed(Exit::Signal(9))),
            r#"{"id":"5f3a91c2-17","outcome":"crashed","error":"its worker died of signal 9 (SIGKILL)"}"#
        );
        assert_eq!(
            error(Outcome::Cancelled(CancelReason::Shutdown)),
            r#"{"id":"5f3a91c2-17","outcome":"cancelled","error":"cancelled (shutdown)"}"#
        );
    }
}
