//! Arguments: from the bytes of a payload to the type that a function takes.
//!
//! The type says how many arguments it stands for: a tuple of n is n arguments, a sequence any number, a
//! unit none, anything else one. Each argument that came as text is read as JSON of its own type, else
//! as a string: so a `u128` keeps its digits and a `String` takes `1.10` as it is. An argument that came
//! as JSON has to be of its type. Arguments for the last parameters may be left out if those are `Option`s.

mod absent;
mod arity;
mod text;

pub(super) use arity::Arity;

use std::fmt;
use std::io;

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use self::absent::Absent;
use self::text::Text;
use crate::shared;
use crate::task::{Encoding, Payload};
use crate::wire;

/// Why arguments are not what a function takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// There are too few or too many.
    Count(usize),
    /// One of them is not of its type.
    Argument {
        /// Which, from 0.
        index: usize,
        /// What it was, for reading.
        text: String,
        /// Why.
        reason: String,
    },
    /// They are not arguments at all.
    Whole(String),
    /// They are in shared memory that cannot be mapped.
    Unmapped {
        /// How large they are.
        bytes: u64,
        /// Why.
        reason: String,
    },
}

/// The arguments in `payload` as an `In`, of which the arity is known.
pub(super) fn decode<In: DeserializeOwned + 'static>(
    arity: Arity,
    payload: &Payload,
) -> Result<In, Mismatch> {
    let unmapped = |error: io::Error| Mismatch::Unmapped { bytes: payload.len(), reason: error.to_string() };
    let bytes = payload.as_slice().map_err(unmapped)?;
    let arguments = match payload.encoding {
        Encoding::Args => texts(bytes)?,
        Encoding::Json => values(bytes)?,
        Encoding::Bincode => {
            return wire::decode_value(bytes).map_err(|error| Mismatch::Whole(error.to_string()));
        }
        Encoding::Bytes => return as_they_are(payload.bytes().map_err(unmapped)?),
        Encoding::Pickle => return Err(Mismatch::Whole("they came as a Python pickle".to_owned())),
    };
    let count = arguments.len();
    let parameters = match arity {
        Arity::Exactly(parameters) => parameters,
        Arity::One => 1,
        Arity::Any => count,
    };
    if count > parameters {
        return Err(Mismatch::Count(count));
    }
    let mut list = List { arguments: arguments.into_iter(), next: 0, parameters };
    match arity {
        Arity::Exactly(_) | Arity::Any => In::deserialize(list),
        Arity::One => list.next_element()?.ok_or(Mismatch::Count(count)),
    }
}

/// Plain bytes, for a function of [`Bytes`]: they are not copied.
fn as_they_are<In: 'static>(bytes: Bytes) -> Result<In, Mismatch> {
    shared::as_own_type(bytes).ok_or_else(|| Mismatch::Whole("they came as plain bytes".to_owned()))
}

/// The arguments of [`Encoding::Args`].
pub(super) fn split(bytes: &[u8]) -> Result<Vec<&[u8]>, Mismatch> {
    match bytes.split_last() {
        None => Ok(Vec::new()),
        Some((0, texts)) => Ok(texts.split(|byte| *byte == 0).collect()),
        Some(_) => Err(Mismatch::Whole("the last one does not end in a zero byte".to_owned())),
    }
}

fn texts(bytes: &[u8]) -> Result<Vec<Argument<'_>>, Mismatch> {
    Ok(split(bytes)?.into_iter().map(Argument::Text).collect())
}

fn values(bytes: &[u8]) -> Result<Vec<Argument<'_>>, Mismatch> {
    let values: Vec<&RawValue> = serde_json::from_slice(bytes)
        .map_err(|error| Mismatch::Whole(format!("they are not a JSON array: {error}")))?;
    Ok(values.into_iter().map(Argument::Json).collect())
}

/// One argument as it came.
#[derive(Clone, Copy)]
enum Argument<'de> {
    Text(&'de [u8]),
    Json(&'de RawValue),
}

impl<'de> Argument<'de> {
    fn read<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, String> {
        match self {
            Argument::Text(bytes) => seed.deserialize(Text(bytes)).map_err(|error| error.to_string()),
            Argument::Json(value) => {
                let mut json = serde_json::Deserializer::from_str(value.get());
                let read = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
                read.map_err(without_position)
            }
        }
    }
}

impl fmt::Display for Argument<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Text(bytes) => write!(formatter, "{:?}", String::from_utf8_lossy(bytes)),
            // Line breaks can only be between tokens.
            Argument::Json(value) => formatter.write_str(&value.get().replace(['\n', '\r'], " ")),
        }
    }
}

/// All arguments, for a type that stands for several or none.
struct List<'de> {
    arguments: std::vec::IntoIter<Argument<'de>>,
    next: usize,
    /// How many arguments there are with those that were left out.
    parameters: usize,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        if self.next == self.parameters {
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        let Some(argument) = self.arguments.next() else {
            return seed.deserialize(Absent { given: index }).map(Some);
        };
        let wrong = |reason| Mismatch::Argument { index, text: argument.to_string(), reason };
        argument.read(seed).map(Some).map_err(wrong)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.parameters - self.next)
    }
}

impl<'de> Deserializer<'de> for List<'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_seq(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Mismatch::Whole(message.to_string())
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Count(count) => write!(formatter, "got {count}"),
            Mismatch::Argument { index: _, text, reason } => {
                write!(formatter, "{text} is not one ({reason})")
            }
            Mismatch::Whole(reason) => formatter.write_str(reason),
            Mismatch::Unmapped { bytes, reason } => {
                write!(formatter, "its arguments of {bytes} bytes cannot be mapped: {reason}")
            }
        }
    }
}

/// What `error` says, without the line and column, which a single argument does not need.
fn without_position(error: serde_json::Error) -> String {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Payload;
    use serde::Deserialize;
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    fn decoded<In: DeserializeOwned + 'static>(payload: &Payload) -> Result<In, Mismatch> {
        decode(Arity::of::<In>(), payload)
    }

    fn args<In: DeserializeOwned + 'static>(args: &[&str]) -> Result<In, Mismatch> {
        decoded(&Payload::from_args(args))
    }

    fn json<In: DeserializeOwned + 'static>(json: &'static str) -> Result<In, Mismatch> {
        decoded(&Payload::new(Encoding::Json, json))
    }

    fn wrong<In: DeserializeOwned + Debug>(result: Result<In, Mismatch>) -> (usize, String, String) {
        match result {
            Err(Mismatch::Argument { index, text, reason }) => (index, text, reason),
            other => panic!("{other:?}"),
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: i32,
        y: i32,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Pair(u8, String);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped((u8, u8));

    #[derive(Debug, PartialEq, Deserialize)]
    struct Nothing;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Color {
        Red,
        Gray(u8),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(args(&["340282366920938463463374607431768211455"]), Ok(u128::MAX));
        assert_eq!(json("[340282366920938463463374607431768211455]"), Ok(u128::MAX));
        assert_eq!(args(&["-170141183460469231731687303715884105728"]), Ok(i128::MIN));
        assert_eq!(args(&[" 1e3 "]), Ok(1000.0));
        assert_eq!(args(&["true"]), Ok(true));
    }

    #[test]
    fn options_at_the_end_may_be_left_out() {
        assert_eq!(args(&["1", "2"]), Ok((1_u8, Some(2_u8))));
        assert_eq!(args(&["1"]), Ok((1_u8, None::<u8>)));
        assert_eq!(json("[1]"), Ok((1_u8, None::<u8>, None::<String>)));
        assert_eq!(args(&[]), Ok(None::<u8>));
        assert_eq!(args::<(u8, Option<u8>)>(&[]), Err(Mismatch::Count(0)));
        assert_eq!(args::<(Option<u8>, u8)>(&["1"]), Err(Mismatch::Count(1)));
        assert_eq!(args::<(u8, Option<u8>)>(&["1", "2", "3"]), Err(Mismatch::Count(3)));
    }

    #[test]
    fn text_stays_text_for_a_string() {
        for text in ["1.10", "true", "null", "", " x ", "[1]", "\"open"] {
            assert_eq!(args(&[text]), Ok(text.to_owned()));
        }
        assert_eq!(args(&[r#""a\nb""#]), Ok("a\nb".to_owned()));
        assert_eq!(args(&["ß"]), Ok('ß'));
    }

    #[test]
    fn structures_are_read_as_json() {
        assert_eq!(args(&[r#"{"x": 1, "y": -2}"#]), Ok(Point { x: 1, y: -2 }));
        assert_eq!(args(&[r#"{"a": [1, 2]}"#]), Ok(BTreeMap::from([("a".to_owned(), vec![1, 2])])));
        assert_eq!(args(&["[[1, 2], [3]]", "7"]), Ok((vec![vec![1, 2], vec![3]], 7)));
    }

    #[test]
    fn variants_are_read_by_name_or_as_json() {
        assert_eq!(args(&["Red"]), Ok(Color::Red));
        assert_eq!(args(&["\"Red\""]), Ok(Color::Red));
        assert_eq!(args(&[r#"{"Gray": 7}"#]), Ok(Color::Gray(7)));
        let (_, text, reason) = wrong(args::<Color>(&["Blue"]));
        assert_eq!(
            (text.as_str(), reason.as_str()),
            ("\"Blue\"", "unknown variant `Blue`, expected `Red` or `Gray`")
        );
    }

    #[test]
    fn type_that_decides_itself_gets_json_or_text() {
        assert_eq!(args(&["7"]), Ok(Either::Number(7)));
        assert_eq!(args(&["seven"]), Ok(Either::Text("seven".to_owned())));
    }

    #[test]
    fn optional_argument_is_missing_when_null() {
        assert_eq!(args(&["null"]), Ok(None::<u8>));
        assert_eq!(args(&["7"]), Ok(Some(7_u8)));
        assert_eq!(args(&["text"]), Ok(Some("text".to_owned())));
    }

    #[test]
    fn tuple_takes_exactly_its_length() {
        assert_eq!(args(&["1", "x"]), Ok((1_u8, "x".to_owned())));
        assert_eq!(args(&["1", "x"]), Ok(Pair(1, "x".to_owned())));
        assert_eq!(args(&["1", "2"]), Ok([1, 2]));
        assert_eq!(args(&["1", "2"]), Ok(Wrapped((1, 2))));
        assert_eq!(args::<(u8, u8)>(&["1"]), Err(Mismatch::Count(1)));
        assert_eq!(args::<(u8, u8)>(&["1", "2", "3"]), Err(Mismatch::Count(3)));
        assert_eq!(json("[1, \"x\"]"), Ok(Pair(1, "x".to_owned())));
        assert_eq!(json::<(u8, u8)>("[1]"), Err(Mismatch::Count(1)));
    }

    #[test]
    fn sequence_takes_any_number() {
        assert_eq!(args(&[]), Ok(Vec::<u8>::new()));
        assert_eq!(args(&["1", "2", "3"]), Ok(vec![1, 2, 3]));
        assert_eq!(json("[1, 2, 3]"), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn unit_takes_nothing() {
        assert_eq!(args(&[]), Ok(()));
        assert_eq!(args(&[]), Ok(Nothing));
        assert_eq!(json("[]"), Ok(()));
        assert_eq!(args::<()>(&["x"]), Err(Mismatch::Count(1)));
    }

    #[test]
    fn other_types_take_one() {
        assert_eq!(args::<u8>(&[]), Err(Mismatch::Count(0)));
        assert_eq!(args::<u8>(&["1", "2"]), Err(Mismatch::Count(2)));
        assert_eq!(json::<Point>("[]"), Err(Mismatch::Count(0)));
    }

    #[test]
    fn wrong_argument_is_named_with_the_reason() {
        let (index, text, reason) = wrong(args::<(u8, u8)>(&["1", "256"]));
        assert_eq!((index, text.as_str()), (1, "\"256\""));
        assert_eq!(reason, "number too large to fit in target type");

        let (index, text, reason) = wrong(json::<(u8, Point)>("[1,\n{\"x\":\n1}]"));
        assert_eq!((index, text.as_str()), (1, "{\"x\": 1}"));
        assert_eq!(reason, "missing field `y`");
    }

    #[test]
    fn json_number_is_not_taken_for_a_string() {
        assert_eq!(
            wrong(json::<String>("[1.10]")).2,
            "invalid type: floating point `1.1`, expected a string"
        );
    }

    #[test]
    fn json_fraction_is_not_taken_for_an_integer() {
        assert_eq!(wrong(json::<u128>("[1.5]")).2, "trailing characters");
        assert_eq!(wrong(json::<u64>("[1.5]")).2, "invalid type: floating point `1.5`, expected u64");
    }

    #[test]
    fn bytes_that_are_no_text_reach_bytes_alone() {
        let payload = Payload::from_args([b"\xff\xfe"]);
        assert_eq!(decoded(&payload), Ok(Bytes::from_static(b"\xff\xfe")));
        assert_eq!(wrong(decoded::<String>(&payload)).2, "it is not UTF-8");
        assert_eq!(wrong(decoded::<u8>(&payload)).2, "it is not UTF-8");
    }

    #[test]
    fn plain_bytes_reach_a_function_of_bytes_without_a_copy() {
        let payload = Payload::new(Encoding::Bytes, vec![7; 100]);
        let bytes: Bytes = decoded(&payload).unwrap();
        assert_eq!(bytes.as_ptr(), payload.bytes().unwrap().as_ptr());
    }

    #[test]
    fn bincode_is_the_input_type_itself() {
        let bytes = wire::encode_value(&(7_u8, "x")).unwrap();
        let payload = |bytes: &[u8]| Payload::new(Encoding::Bincode, bytes);
        assert_eq!(decoded(&payload(&bytes)), Ok((7_u8, "x".to_owned())));
        let cut = decoded::<(u8, String)>(&payload(&bytes[..1]));
        assert!(matches!(cut, Err(Mismatch::Whole(_))), "{cut:?}");
    }

    #[test]
    fn what_is_no_list_of_arguments_is_refused() {
        let of = |encoding, bytes: &'static [u8]| decoded::<u8>(&Payload::new(encoding, bytes));
        for (encoding, bytes) in [
            (Encoding::Args, &b"7"[..]),
            (Encoding::Json, b"7"),
            (Encoding::Json, b"[7"),
            (Encoding::Bytes, b"7"),
            (Encoding::Pickle, b"7"),
        ] {
            assert!(matches!(of(encoding, bytes), Err(Mismatch::Whole(_))), "{encoding:?}");
        }
    }
}
