//! The receiving side of a socket: bytes in, handshake and messages out.
//!
//! The same for every peer and for both ways of reading: the daemon fills it when a socket is ready,
//! clients and workers when they have nothing left to do.
//!
//! ```text
//!   stream ── read ──> the thread's room for reading ── what came ──> buffer ──> hello, answer, messages
//! ```
//!
//! A thread reads into one and the same room for all of its streams, so an inbox holds just what came
//! and is not understood yet, and an empty one holds no memory.

use std::cell::Cell;
use std::io::{self, Read};

use bytes::{Buf, BytesMut};

use super::codec::decode;
use super::frame::Frame;
use super::{Answer, HANDSHAKE_BYTES, Hello, WireError};
use crate::message::Message;

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    /// Room for one read. Empty until the thread's first, and while one goes on.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Why the next message cannot be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The peer broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes; `full` says that the read filled all the room it was given, so that more may wait.
    Bytes {
        /// How many.
        bytes: usize,
        /// Whether more may wait.
        full: bool,
    },
    /// The peer will send nothing more.
    End,
    /// Nothing is there for now (a non-blocking socket).
    Nothing,
}

/// Bytes received and not yet understood: less than one frame, and what the last read brought.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: BytesMut,
}

impl Inbox {
    /// Reads once from `stream`.
    ///
    /// # Errors
    /// Whatever reading gives, other than that nothing is there.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<Filled> {
        let mut room = ROOM.take();
        room.resize(READ_BYTES, 0);
        let filled = match read_once(stream, &mut room) {
            Ok(0) => Ok(Filled::End),
            Ok(bytes) => {
                self.buffer.extend_from_slice(&room[..bytes]);
                Ok(Filled::Bytes { bytes, full: bytes == READ_BYTES })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(error) => Err(error),
        };
        ROOM.set(room);
        filled
    }

    /// Whether nothing is left that was received.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The peer's hello, once it is there.
    ///
    /// # Errors
    /// [`WireError::NotAHandshake`].
    pub fn next_hello(&mut self) -> Result<Option<Hello>, WireError> {
        let hello = Hello::decode(&self.buffer)?;
        if hello.is_some() {
            self.discard(HANDSHAKE_BYTES);
        }
        Ok(hello)
    }

    /// The peer's answer to our hello, once it is there.
    ///
    /// # Errors
    /// [`WireError::NotAHandshake`].
    pub fn next_answer(&mut self) -> Result<Option<Answer>, WireError> {
        let answer = Answer::decode(&self.buffer)?;
        if answer.is_some() {
            self.discard(HANDSHAKE_BYTES);
        }
        Ok(answer)
    }

    /// The next message, once it is there.
    ///
    /// # Errors
    /// [`WireError`] when the peer broke the protocol; the connection cannot go on.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, WireError> {
        let Some(frame) = Frame::at_front_of(&self.buffer)? else { return Ok(None) };
        let message = decode(frame)?;
        self.discard(frame.bytes());
        Ok(Some(message))
    }

    /// The next message, waiting for it on a blocking `stream`.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive<M: Message>(&mut self, stream: &mut impl Read) -> Result<M, ReceiveError> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.fill_waiting(stream)?;
        }
    }

    /// The answer to our hello, waiting for it on a blocking `stream`.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive_answer(&mut self, stream: &mut impl Read) -> Result<Answer, ReceiveError> {
        loop {
            if let Some(answer) = self.next_answer()? {
                return Ok(answer);
            }
            self.fill_waiting(stream)?;
        }
    }

    fn fill_waiting(&mut self, stream: &mut impl Read) -> Result<(), ReceiveError> {
        match self.fill(stream)? {
            Filled::Bytes { .. } => Ok(()),
            Filled::End => Err(ReceiveError::Closed),
            Filled::Nothing => Err(ReceiveError::Io(io::ErrorKind::WouldBlock.into())),
        }
    }

    /// Forgets the first `bytes`, and the memory with the last of them.
    fn discard(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

fn read_once(stream: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
