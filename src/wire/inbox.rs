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
//! and is not understood yet, and an empty one holds next to no memory.

use std::cell::Cell;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use bytes::{Buf, BytesMut};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, recvmsg};

use super::codec::{LastSpec, decode, decode_request, decode_result};
use super::frame::Frame;
use super::{Answer, HANDSHAKE_BYTES, Hello, WireError};
use crate::id::AttemptId;
use crate::limits::{DESCRIPTORS_PER_FRAME_MAX, DESCRIPTORS_PER_PAYLOAD_MAX};
use crate::memory::SealedMemory;
use crate::message::Message;
use crate::message::client::Request;
use crate::task::{Content, Encoding, Payload};

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of memory that an empty inbox keeps: for a few small messages, that come again and again.
const KEPT_BYTES: usize = 256;

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
///
/// Open files are received by [`fill_from`](Self::fill_from) alone, and belong to the messages that
/// announce them, in their order.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: BytesMut,
    descriptors: Vec<OwnedFd>,
    /// Whether more open files came than could be taken.
    overrun: bool,
    last_spec: LastSpec,
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

    /// Reads once from `socket`, open files too.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn fill_from(&mut self, socket: impl AsFd) -> io::Result<Filled> {
        let mut room = ROOM.take();
        room.resize(READ_BYTES, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_FRAME_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut room)];
            match recvmsg(&socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                received => break received,
            }
        };
        let held = self.descriptors.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        let filled = match received {
            Ok(RecvMsg { bytes: 0, .. }) => Ok(Filled::End),
            Ok(RecvMsg { bytes, flags, .. }) => {
                self.buffer.extend_from_slice(&room[..bytes]);
                self.overrun |= flags.contains(ReturnFlags::CTRUNC);
                // A read ends behind the bytes that open files came with, though more may be there.
                Ok(Filled::Bytes { bytes, full: bytes == READ_BYTES || self.descriptors.len() > held })
            }
            Err(Errno::AGAIN) => Ok(Filled::Nothing),
            Err(error) => Err(error.into()),
        };
        ROOM.set(room);
        filled
    }

    /// Where to put what came in another way than by a stream.
    pub fn room(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether nothing is left that was received.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The peer's hello, once it is there.
    ///
    /// # Errors
    /// [`WireError::NotAHandshake`], or that open files came with it.
    pub fn next_hello(&mut self) -> Result<Option<Hello>, WireError> {
        self.check_descriptors()?;
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
        self.next_by(|frame, _| decode(frame))
    }

    /// The next request, as [`next_message`](Self::next_message) gives it, and faster if it submits a task like the
    /// last one.
    ///
    /// # Errors
    /// As [`next_message`](Self::next_message).
    pub fn next_request(&mut self) -> Result<Option<Request>, WireError> {
        self.next_by(decode_request)
    }

    /// Takes the next messages as long as they say that an attempt ended with a result, whose bytes are in the frame
    /// and without open files: `each` is given the attempt, and how to read the bytes. They are what
    /// [`next_message`](Self::next_message) would give, and come faster; it gives whatever comes behind them.
    pub fn take_results(&mut self, mut each: impl FnMut(AttemptId, Encoding, &[u8])) {
        if self.check_descriptors().is_err() {
            return;
        }
        let mut taken = 0;
        while let Ok(Some(frame)) = Frame::at_front_of(&self.buffer[taken..])
            && let Some((attempt, encoding)) = decode_result(frame.head)
        {
            each(attempt, encoding, frame.payload);
            taken += frame.bytes();
        }
        self.discard(taken);
    }

    fn next_by<M: Message>(
        &mut self,
        decode: impl FnOnce(Frame<'_>, &mut LastSpec) -> Result<M, WireError>,
    ) -> Result<Option<M>, WireError> {
        self.check_descriptors()?;
        let Some(frame) = Frame::at_front_of(&self.buffer)? else { return Ok(None) };
        let mut message = decode(frame, &mut self.last_spec)?;
        self.discard(frame.bytes());
        if let Some(payload) = message.payload_mut() {
            self.attach_descriptors(payload)?;
        }
        Ok(Some(message))
    }

    /// Whether what open files came can be those of a message: of one that is whole or to be completed.
    fn check_descriptors(&self) -> Result<(), WireError> {
        // Those of a frame that is not whole, and what the last read brought.
        if self.overrun || self.descriptors.len() > 2 * DESCRIPTORS_PER_FRAME_MAX {
            return Err(WireError::TooManyDescriptors);
        }
        if self.buffer.is_empty() && !self.descriptors.is_empty() {
            return Err(WireError::UninvitedDescriptors);
        }
        Ok(())
    }

    /// Gives a payload the descriptors that it announces: its memory, then its open files.
    fn attach_descriptors(&mut self, payload: &mut Payload) -> Result<(), WireError> {
        let files = payload.descriptors.count();
        if files as usize > DESCRIPTORS_PER_PAYLOAD_MAX {
            return Err(WireError::TooManyDescriptors);
        }
        let announced = files + u32::from(payload.content.memory().is_some());
        if announced == 0 {
            return Ok(());
        }
        let received = self.descriptors.len();
        if announced as usize > received {
            return Err(WireError::MissingDescriptors { announced, received });
        }
        let mut taken = self.descriptors.drain(..announced as usize);
        if let Content::Shared(memory) = &mut payload.content
            && let Some(file) = taken.next()
        {
            *memory = SealedMemory::check(file, memory.bytes())?;
        }
        payload.descriptors = taken.collect::<Vec<OwnedFd>>().into();
        Ok(())
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

    /// As [`receive_answer`](Self::receive_answer), on a `socket` on which open files may come with what follows.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive_answer_from(&mut self, socket: impl AsFd) -> Result<Answer, ReceiveError> {
        loop {
            if let Some(answer) = self.next_answer()? {
                return Ok(answer);
            }
            self.fill_from_waiting(&socket)?;
        }
    }

    /// The next message and its open files, waiting for it on a blocking `socket`, as long as that lets a read wait
    /// (SO_RCVTIMEO of socket(7)).
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive_from<M: Message>(&mut self, socket: impl AsFd) -> Result<M, ReceiveError> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.fill_from_waiting(&socket)?;
        }
    }

    /// The next message and its open files, waiting for it [undisturbed](Self::fill_undisturbed).
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive_undisturbed<M: Message>(&mut self, socket: impl AsFd) -> Result<M, ReceiveError> {
        loop {
            if let Some(message) = self.next_message()? {
                return Ok(message);
            }
            self.fill_undisturbed(&socket)?;
        }
    }

    /// Reads once from a blocking `socket`, open files too, after it has waited until something is there, however long
    /// that takes.
    ///
    /// It sleeps in a poll: whoever sleeps in a read of a Unix socket is woken in vain each time that the peer takes
    /// something of what was written there (`unix_write_space` of the kernel), and switched to and from.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn fill_undisturbed(&mut self, socket: impl AsFd) -> Result<(), ReceiveError> {
        let mut readable = [PollFd::new(&socket, PollFlags::IN)];
        retry_on_intr(|| poll(&mut readable, None)).map_err(io::Error::from)?;
        self.fill_from_waiting(socket)
    }

    fn fill_waiting(&mut self, stream: &mut impl Read) -> Result<(), ReceiveError> {
        arrived(self.fill(stream)?)
    }

    /// Reads once from a blocking `socket`, open files too, waiting as long as that lets a read wait.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn fill_from_waiting(&mut self, socket: impl AsFd) -> Result<(), ReceiveError> {
        arrived(self.fill_from(socket)?)
    }

    /// Forgets the first `bytes`, and with the last of them their memory, if it is more than is kept.
    fn discard(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        if self.buffer.is_empty() && self.buffer.try_reclaim(KEPT_BYTES + 1) {
            self.buffer = BytesMut::new();
        }
    }
}

/// Whether a read of a blocking stream brought something.
fn arrived(filled: Filled) -> Result<(), ReceiveError> {
    match filled {
        Filled::Bytes { .. } => Ok(()),
        Filled::End => Err(ReceiveError::Closed),
        Filled::Nothing => Err(ReceiveError::Io(io::ErrorKind::WouldBlock.into())),
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
