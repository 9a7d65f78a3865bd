//! Values of a caller's types as payloads, and back.
//!
//! Calls by name go as JSON: it describes itself, so a `u64` does for a function of a `u128`, and integers
//! keep all their digits.

use std::any::type_name;
use std::cell::Cell;

use bytes::Bytes;
use serde::de::value::{BytesDeserializer, Error as BytesError};
use serde::{Serialize, de::DeserializeOwned};

use super::call_error::{CallError, Cause};
use crate::id::FunctionName;
use crate::inline::InlineBytes;
use crate::shared;
use crate::task::{Encoding, Payload};
use crate::wire;

/// Bytes of text that a thread keeps the memory of.
const TEXT_BYTES_MAX: usize = 4096;

thread_local! {
    /// Where arguments become text before their length is known, so that they are allocated once.
    static TEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How a result becomes a value; what is wrong with it if it does not.
pub(crate) type Decode<T> = fn(&Payload) -> Result<T, String>;

/// `args` as a JSON array of arguments: what is an array is that list, null is no argument, and anything
/// else is one.
pub(super) fn arguments<In: Serialize>(function: &FunctionName, args: &In) -> Result<Payload, CallError> {
    // Where a caller's `Serialize` calls this again, it finds an empty text.
    let mut text = TEXT.take();
    text.clear();
    text.push(b'[');
    serde_json::to_writer(&mut text, args)
        .map_err(|error| CallError::new(function, None, Cause::BadArguments(error.to_string())))?;
    let bytes: InlineBytes = match &text[1..] {
        list @ [b'[', ..] => list.into(),
        b"null" => "[]".into(),
        _one => {
            text.push(b']');
            text[..].into()
        }
    };
    if text.capacity() <= TEXT_BYTES_MAX {
        TEXT.set(text);
    }
    Ok(Payload::new(Encoding::Json, bytes))
}

/// The value of a result, by its own encoding.
pub(crate) fn result<T: DeserializeOwned + 'static>(payload: &Payload) -> Result<T, String> {
    let unreadable = |error| format!("it cannot be read: {error}");
    let bytes = payload.as_slice().map_err(unreadable)?;
    let decoded = match payload.encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Encoding::Bincode => wire::decode_value(bytes).map_err(|error| error.to_string()),
        Encoding::Bytes => as_bytes(payload.bytes().map_err(unreadable)?),
        Encoding::Args => Err("it came as command-line arguments".to_owned()),
        Encoding::Pickle => Err("it came as a Python pickle".to_owned()),
    };
    decoded.map_err(|reason| format!("it is no {} ({reason})", type_name::<T>()))
}

/// Bytes as whatever can be made of them, and as [`Bytes`] without a copy.
fn as_bytes<T: DeserializeOwned + 'static>(bytes: Bytes) -> Result<T, String> {
    let copied = || T::deserialize(BytesDeserializer::<BytesError>::new(&bytes));
    shared::as_own_type(bytes.clone()).map_or_else(copied, Ok).map_err(|error| error.to_string())
}

/// A result as it is.
pub(super) fn as_it_is(payload: &Payload) -> Result<Payload, String> {
    Ok(payload.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json<In: Serialize>(args: In) -> String {
        let payload = arguments(&"f".parse().unwrap(), &args).unwrap();
        assert_eq!(payload.encoding, Encoding::Json);
        String::from_utf8(payload.bytes().unwrap().to_vec()).unwrap()
    }

    fn of<T: DeserializeOwned + 'static>(encoding: Encoding, bytes: &'static [u8]) -> Result<T, String> {
        result(&Payload::new(encoding, bytes))
    }

    #[test]
    fn arguments_are_a_list_whatever_their_type() {
        assert_eq!(json(u128::MAX), format!("[{}]", u128::MAX));
        assert_eq!(json("a"), r#"["a"]"#);
        assert_eq!(json((1, "a")), r#"[1,"a"]"#);
        assert_eq!(json(vec![1, 2]), "[1,2]");
        assert_eq!(json(()), "[]");
        assert_eq!(json((vec![1, 2],)), "[[1,2]]");
        assert_eq!(json((None::<u8>,)), "[null]");
    }

    #[test]
    fn arguments_that_json_has_no_form_for_are_an_error() {
        let map = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = arguments(&"f".parse().unwrap(), &map).unwrap_err();
        assert_eq!(error.to_string(), "f: its arguments cannot be sent: key must be a string");
    }

    #[test]
    fn result_is_read_by_its_encoding() {
        let digits = b"340282366920938463463374607431768211455";
        assert_eq!(of::<u128>(Encoding::Json, digits), Ok(u128::MAX));
        assert_eq!(of::<u8>(Encoding::Bincode, b"\x07"), Ok(7));
        assert_eq!(of::<Bytes>(Encoding::Bytes, b"\xff\0"), Ok(Bytes::from_static(b"\xff\0")));
        assert_eq!(of::<String>(Encoding::Bytes, b"text"), Ok("text".to_owned()));
    }

    #[test]
    fn result_of_another_type_is_an_error_that_names_both() {
        assert_eq!(
            of::<u8>(Encoding::Json, b"true").unwrap_err(),
            "it is no u8 (invalid type: boolean `true`, expected u8 at line 1 column 4)"
        );
        assert!(of::<u8>(Encoding::Pickle, b"").unwrap_err().contains("pickle"));
    }
}
