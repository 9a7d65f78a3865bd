//! Results: from what a function returned to the bytes of a payload.

use std::any::Any;

use bytes::Bytes;
use serde::Serialize;

use crate::limits::PAYLOAD_BYTES_MAX;
use crate::task::{Encoding, Failure, FailureKind, Payload};
use crate::wire;

/// `output` in the encoding that suits a caller who sent arguments in `asked`: `bincode` for `bincode`;
/// else [`Bytes`] as they are, and every other type as JSON.
pub(super) fn encode<Out: Serialize + 'static>(output: &Out, asked: Encoding) -> Result<Payload, Failure> {
    match asked {
        Encoding::Bincode => {
            let bytes = wire::encode_value(output).map_err(|error| unencodable("bincode", &error))?;
            Ok(Payload::new(Encoding::Bincode, bytes.into()))
        }
        Encoding::Args | Encoding::Json | Encoding::Bytes | Encoding::Pickle => {
            if let Some(bytes) = (output as &dyn Any).downcast_ref::<Bytes>() {
                return Ok(Payload::new(Encoding::Bytes, bytes.clone()));
            }
            let bytes = serde_json::to_vec(output).map_err(|error| unencodable("JSON", &error))?;
            Ok(Payload::new(Encoding::Json, bytes.into()))
        }
    }
}

/// `result`, if it is not too large to be sent.
pub(super) fn check_size(result: Payload) -> Result<Payload, Failure> {
    let bytes = result.bytes.len();
    if bytes <= PAYLOAD_BYTES_MAX {
        return Ok(result);
    }
    Err(failure(format!("its result of {bytes} bytes is too large; {PAYLOAD_BYTES_MAX} is the most")))
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
    use std::collections::BTreeMap;

    #[test]
    fn result_is_json_unless_arguments_were_bincode() {
        let json = encode(&vec![u128::MAX], Encoding::Args).unwrap();
        assert_eq!(json.encoding, Encoding::Json);
        assert_eq!(json.bytes, format!("[{}]", u128::MAX));
        assert_eq!(encode(&"a\nb", Encoding::Json).unwrap().bytes, "\"a\\nb\"");

        let bincode = encode(&7_u64, Encoding::Bincode).unwrap();
        assert_eq!(bincode.encoding, Encoding::Bincode);
        assert_eq!(wire::decode_value::<u64>(&bincode.bytes), Ok(7));
    }

    #[test]
    fn bytes_stay_bytes() {
        let bytes = Bytes::from_static(b"\xff\0");
        assert_eq!(encode(&bytes, Encoding::Args), Ok(Payload::new(Encoding::Bytes, bytes)));
    }

    #[test]
    fn result_that_json_has_no_form_for_is_a_failure() {
        let failure = encode(&BTreeMap::from([(vec![1], 2)]), Encoding::Args).unwrap_err();
        assert_eq!(failure.message, "its result cannot be written as JSON: key must be a string");
    }

    #[test]
    fn result_over_the_cap_is_a_failure() {
        let result = |bytes| Payload::new(Encoding::Bytes, vec![0; bytes].into());
        assert_eq!(check_size(result(PAYLOAD_BYTES_MAX)).unwrap().bytes.len(), PAYLOAD_BYTES_MAX);
        let failure = check_size(result(PAYLOAD_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Error);
        assert!(failure.message.contains("too large"), "{}", failure.message);
    }
}
