//! Requests that were made and not sent: as bytes, or as they are where there is no socket of one's own.
//!
//! Filled by those who make requests, given to a [`Sender`](super::connection::Sender) as a whole.

use std::sync::Arc;

use super::template::Template;
use crate::id::RequestId;
use crate::message::client::{Request, RequestBody};
use crate::task::Payload;
use crate::wire::{Outbox, WireError};

/// Bytes that a request counts for beside its arguments where it is not encoded.
const REQUEST_BYTES: usize = 128;

/// Requests in the order in which they are to be sent.
#[derive(Debug)]
pub(super) enum Requests {
    /// For a socket.
    Encoded(Outbox),
    /// For the line of a function, and how many bytes they count for.
    Whole(Vec<Request>, usize),
}

impl Requests {
    /// None yet, for a socket.
    pub(super) fn encoded() -> Self {
        Requests::Encoded(Outbox::default())
    }

    /// None yet, for a line.
    pub(super) fn whole() -> Self {
        Requests::Whole(Vec::new(), 0)
    }

    /// None yet, for what these are for.
    pub(super) fn none_of_the_same_kind(&self) -> Self {
        match self {
            Requests::Encoded(_) => Requests::encoded(),
            Requests::Whole(..) => Requests::whole(),
        }
    }

    /// Adds a request.
    ///
    /// # Errors
    /// [`WireError`] when it exceeds a cap; it is not added then.
    pub(super) fn push(&mut self, id: RequestId, body: RequestBody) -> Result<(), WireError> {
        match self {
            Requests::Encoded(outbox) => outbox.push(&Request { id, body })?,
            Requests::Whole(requests, bytes) => {
                *bytes += REQUEST_BYTES;
                requests.push(Request { id, body });
            }
        }
        Ok(())
    }

    /// Adds the request for a call of `template` with `args`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(super) fn push_submission(
        &mut self,
        id: RequestId,
        template: &Template,
        args: &Payload,
    ) -> Result<(), WireError> {
        match self {
            Requests::Encoded(outbox) => outbox.push_submission(id, template.encoded(), args)?,
            Requests::Whole(requests, bytes) => {
                *bytes += REQUEST_BYTES + usize::try_from(args.len()).unwrap_or(usize::MAX);
                let body = RequestBody::Submit { spec: Arc::clone(template.spec()), args: args.clone() };
                requests.push(Request { id, body });
            }
        }
        Ok(())
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Requests::Encoded(outbox) => outbox.len(),
            Requests::Whole(_, bytes) => *bytes,
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Requests::Encoded(outbox) => outbox.is_empty(),
            Requests::Whole(requests, _) => requests.is_empty(),
        }
    }
}
