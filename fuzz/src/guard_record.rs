//! What the guard reads from its pipe: bytes that are a record are those of that record.

use poold::message::guard::{RECORD_BYTES, Record};

/// Records, one behind the other.
pub fn guard_record(input: &[u8]) {
    let (records, _) = input.as_chunks::<RECORD_BYTES>();
    for bytes in records {
        if let Some(record) = Record::decode(*bytes) {
            let encoded = record.encode();
            assert_eq!(Record::decode(encoded), Some(record));
            // What ends with its worker names no group.
            let said = if bytes[0] < 3 { &bytes[..5] } else { &bytes[..] };
            assert_eq!(&encoded[..said.len()], said);
        }
    }
}
