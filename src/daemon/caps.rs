//! What of a worker's words is passed on: within the caps that clients rely on.

use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::worker::Report;
use crate::task::{Failure, FailureKind};

/// `report`, or in place of a result that is too large for a reply what is wrong with it.
pub(super) fn within_caps(report: Report, payload_bytes_max: u64) -> Report {
    match report {
        Report::Ok(result) if result.len() > payload_bytes_max => Report::Failed(Failure {
            kind: FailureKind::Error,
            message: format!(
                "the result takes {} bytes and {payload_bytes_max} is the most; return it in parts or as a file's name",
                result.len()
            ),
            location: None,
        }),
        Report::Ok(result) => Report::Ok(result),
        Report::Failed(mut failure) => {
            cut(&mut failure.message, MESSAGE_BYTES_MAX);
            if let Some(location) = &mut failure.location {
                cut(location, MESSAGE_BYTES_MAX);
            }
            Report::Failed(failure)
        }
    }
}

/// Cuts `text` to at most `bytes_max`, between two characters.
pub(super) fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}
