//! Bytes to messages and back, for every socket of the system.
//!
//! ```text
//!   12 bytes         8 bytes          head_length bytes    payload_length bytes
//!  ┌───────────┐    ┌──────────────┬────────────────────┬──────────────────────┐
//!  │ handshake │ …  │ two lengths  │ head (bincode)     │ payload (opaque)     │ …
//!  └───────────┘    └──────────────┴────────────────────┴──────────────────────┘
//! ```
//!
//! Nothing here opens a socket or decides what to do with a message. `docs/PROTOCOL.md` specifies the
//! same with test vectors.

mod codec;
mod frame;
mod handshake;
mod inbox;
mod outbox;

pub use codec::{
    EncodedSpec, decode_value, encode, encode_result, encode_submission, encode_submissions, encode_value,
};
pub use frame::FRAME_HEADER_BYTES;
pub use handshake::{
    Answer, HANDSHAKE_BYTES, Hello, Role, VERSION_MAX, VERSION_MIN, Verdict, agree_on_version,
};
pub use inbox::{Filled, Inbox, ReceiveError};
pub use outbox::{Outbox, Passed};

use crate::limits;
use crate::memory::BadMemory;

/// A peer said something that is not in the protocol, or that exceeds a cap. The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The frame announces more than may be sent in one.
    #[error("a frame of {bytes} bytes; {} is the most", limits::FRAME_BYTES_MAX)]
    FrameTooLarge {
        /// What was announced, the header included.
        bytes: u64,
    },
    /// The frame announces a larger head than there is.
    #[error("a head of {bytes} bytes; {} is the most", limits::HEAD_BYTES_MAX)]
    HeadTooLarge {
        /// What was announced.
        bytes: u64,
    },
    /// The head is not a message.
    #[error("a head that is no message: {0}")]
    Malformed(String),
    /// A value of a type that has no encoding (a sequence that does not know its length, say).
    #[error("a value that cannot be encoded: {0}")]
    NotEncodable(String),
    /// The head is a message, and more.
    #[error("{bytes} bytes after the message in a head")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// Bytes behind the head of a message that has none there.
    #[error("{bytes} bytes of payload on a message that has none in its frame")]
    UnexpectedPayload {
        /// How many.
        bytes: usize,
    },
    /// Bytes behind the head that are not the payloads it announces, or more than go together.
    #[error(
        "bytes of payload that are not the {announced} payloads that its head announces, or more than {} of them or {} bytes",
        limits::TASKS_AT_ONCE_MAX,
        limits::BYTES_AT_ONCE_MAX
    )]
    PayloadsMalformed {
        /// How many payloads.
        announced: u32,
    },
    /// More open files than may go with a message, or than this process can take.
    #[error(
        "more open files than {} with a message, or than can be taken",
        limits::DESCRIPTORS_PER_PAYLOAD_MAX
    )]
    TooManyDescriptors,
    /// A message announces open files that did not come with it.
    #[error("{announced} open files are announced and {received} came")]
    MissingDescriptors {
        /// What the message says.
        announced: u32,
        /// How many there were.
        received: usize,
    },
    /// A descriptor is not the memory that a message announces.
    #[error(transparent)]
    Memory(#[from] BadMemory),
    /// Open files that no message announced.
    #[error("open files that no message announces")]
    UninvitedDescriptors,
    /// The first bytes are not a handshake.
    #[error("the first bytes are not poold's handshake")]
    NotAHandshake,
}
