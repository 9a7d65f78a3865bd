//! Results: from what a function returned to the bytes of a payload.

use std::any::Any;

use bytes::Bytes;
use serde::Serialize;

use crate::message::worker::Report;
use crate::task::{Encoding, Failure, FailureKind, Payload};
use crate::wire;

/// `output` in the encoding that suits a caller who sent `args`: `bincode` for `bincode`; else [`Bytes`] as they
/// are, and every other type as JSON.
pub(super) fn encode<Out: Serialize + 'static>(output: &Out, args: &Payload) -> Result<Payload, Failure> {
    match args.encoding {
        Encoding::Bincode => {
            let bytes = wire::encode_value(output).map_err(|error| unencodable("bincode", &error))?;
            Ok(Payload::new(Encoding::Bincode, bytes))
        }
        Encoding::Args | Encoding::Json | Encoding::Bytes | Encoding::Pickle => {
            if let Some(bytes) = (output as &dyn Any).downcast_ref::<Bytes>() {
                // A function that returns what it was given sends the same memory back.
                let given = args.content.memory().filter(|memory| memory.is_all_of(bytes));
                return Ok(match given {
                    Some(memory) => Payload::shared(Encoding::Bytes, memory.clone()),
                    None => Payload::new(Encoding::Bytes, bytes.clone()),
                });
            }
            let bytes = serde_json::to_vec(output).map_err(|error| unencodable("JSON", &error))?;
            Ok(Payload::new(Encoding::Json, bytes))
        }
    }
}

/// `report` as it is sent: a large result in shared memory, and one that is too large not at all.
pub(super) fn fit_to_send(report: Report, bytes_max: u64) -> Report {
    match report {
        Report::Ok(result) if result.len() > bytes_max || !result.is_fit_to_send() => {
            fitting(result, bytes_max).map_or_else(Report::Failed, Report::Ok)
        }
        fit => fit,
    }
}

fn fitting(result: Payload, bytes_max: u64) -> Result<Payload, Failure> {
    let bytes = result.len();
    if bytes > bytes_max {
        return Err(failure(format!("its result of {bytes} bytes is too large; {bytes_max} is the most")));
    }
    let no_memory =
        |error| failure(format!("its result of {bytes} bytes cannot be put into shared memory: {error}"));
    result.fit_to_send().map_err(no_memory)
}

fn unencodable(format: &str, error: &dyn std::error::Error) -> Failure {
    failure(format!("its result cannot be written as {format}: {error}"))
}

fn failure(message: String) -> Failure {
    Failure { kind: FailureKind::Error, message, location: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inline::InlineBytes;
    use crate::shared::SharedBuffer;
    use std::collections::BTreeMap;

    fn args(encoding: Encoding) -> Payload {
        Payload::new(encoding, InlineBytes::new())
    }

    #[test]
    fn result_is_json_unless_arguments_were_bincode() {
        let json = encode(&vec![u128::MAX], &args(Encoding::Args)).unwrap();
        assert_eq!(json, Payload::new(Encoding::Json, format!("[{}]", u128::MAX)));
        let text = encode(&"a\nb", &args(Encoding::Json)).unwrap();
        assert_eq!(text, Payload::new(Encoding::Json, "\"a\\nb\""));

        let bincode = encode(&7_u64, &args(Encoding::Bincode)).unwrap();
        assert_eq!(bincode.encoding, Encoding::Bincode);
        assert_eq!(wire::decode_value::<u64>(&bincode.bytes().unwrap()), Ok(7));
    }

    #[test]
    fn bytes_stay_bytes() {
        let bytes = Bytes::from_static(b"\xff\0");
        assert_eq!(encode(&bytes, &args(Encoding::Args)), Ok(Payload::new(Encoding::Bytes, bytes)));
    }

    #[test]
    fn result_that_json_has_no_form_for_is_a_failure() {
        let failure = encode(&BTreeMap::from([(vec![1], 2)]), &args(Encoding::Args)).unwrap_err();
        assert_eq!(failure.message, "its result cannot be written as JSON: key must be a string");
    }

    #[test]
    fn result_over_the_cap_is_a_failure() {
        let result = Payload::new(Encoding::Bytes, vec![0; 100]);
        assert_eq!(fitting(result.clone(), 100), Ok(result.clone()));
        let failure = fitting(result, 99).unwrap_err();
        assert_eq!(failure.message, "its result of 100 bytes is too large; 99 is the most");
    }

    #[test]
    fn result_that_is_the_argument_is_the_same_memory() {
        let given = SharedBuffer::new(100).unwrap().into_payload(Encoding::Bytes).unwrap();
        let bytes = given.bytes().unwrap();
        assert_eq!(encode(&bytes, &given), Ok(given.clone()));
        let part = encode(&bytes.slice(1..), &given).unwrap();
        assert_eq!(part, Payload::new(Encoding::Bytes, bytes.slice(1..)));
    }
}
