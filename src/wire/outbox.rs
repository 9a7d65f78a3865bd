//! The sending side of a socket: messages in, bytes and descriptors out.
//!
//! The descriptors of a frame leave with its first byte, so that they are there when the frame is whole.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use bytes::{Buf, BytesMut};
use rustix::io::{Errno, retry_on_intr, write};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{EncodedSpec, WireError, encode, encode_submission, encode_submissions};
use crate::descriptor::Descriptors;
use crate::id::RequestId;
use crate::limits::{DESCRIPTORS_PAUSE, DESCRIPTORS_PER_FRAME_MAX};
use crate::memory::SealedMemory;
use crate::message::Message;
use crate::task::{Payload, PayloadsMut};

/// What was said and not sent.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: BytesMut,
    /// What leaves with which byte of the buffer.
    attached: VecDeque<(usize, Attached)>,
    /// Bytes of the memory among it.
    memory_bytes: u64,
}

/// What leaves beside the bytes of a frame.
#[derive(Debug)]
struct Attached {
    memory: Option<SealedMemory>,
    open_files: Descriptors,
}

/// Shared memory that was sent and that the peer may not have taken: it is still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes of it.
    pub bytes: u64,
    /// Descriptors.
    pub descriptors: usize,
}

impl Passed {
    const UNLIMITED: Passed = Passed { bytes: u64::MAX, descriptors: usize::MAX };
}

impl Outbox {
    /// Puts `message` behind what was said before.
    ///
    /// # Errors
    /// [`WireError`] when it exceeds a cap; nothing of it is said then.
    pub fn push<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        let attached = message.payload().map(Attached::of).transpose()?.flatten();
        let start = self.buffer.len();
        encode(message, &mut self.buffer)?;
        self.attach(start, attached);
        Ok(())
    }

    /// Puts a request to submit a task behind what was said before.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_submission(
        &mut self,
        id: RequestId,
        spec: &EncodedSpec,
        args: &Payload,
    ) -> Result<(), WireError> {
        let attached = Attached::of(args)?;
        let start = self.buffer.len();
        encode_submission(id, spec, args, &mut self.buffer)?;
        self.attach(start, attached);
        Ok(())
    }

    /// Puts requests to submit a task with each of `args` behind what was said before, as one.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_submissions(
        &mut self,
        first: RequestId,
        spec: &EncodedSpec,
        args: &PayloadsMut,
    ) -> Result<(), WireError> {
        encode_submissions(first, spec, args, &mut self.buffer)
    }

    /// Has what there is leave with the frame that starts there.
    fn attach(&mut self, start: usize, attached: Option<Attached>) {
        if let Some(attached) = attached {
            self.memory_bytes += attached.memory_bytes();
            self.attached.push_back((start, attached));
        }
    }

    /// Puts a handshake behind what was said before.
    pub fn push_handshake(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes as much as `socket` takes; on a blocking one, something at the least.
    ///
    /// # Errors
    /// Whatever writing gives, other than that the socket takes no more for now.
    pub fn send(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        self.send_within(socket, &mut Passed::default(), Passed::UNLIMITED)
    }

    /// Writes all of it to a blocking socket.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn send_all(&mut self, socket: impl AsFd) -> Result<(), Errno> {
        while !self.is_empty() {
            match self.send(&socket) {
                // As many descriptors of this user are on their way as may be (unix(7)). Nothing tells when it is fewer.
                Err(Errno::TOOMANYREFS) => thread::sleep(DESCRIPTORS_PAUSE),
                sent => sent?,
            }
        }
        Ok(())
    }

    /// As [`send`](Self::send), and adds to `passed` what of it was shared memory: none of that leaves once it comes
    /// to `max` of either.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_within(&mut self, socket: impl AsFd, passed: &mut Passed, max: Passed) -> Result<(), Errno> {
        while !self.buffer.is_empty() {
            let is_first = |(at, _): &&(usize, Attached)| *at == 0;
            let leaves = self.attached.front().filter(is_first).map(|(_, attached)| attached);
            let is_memory = leaves.is_some_and(|attached| attached.memory.is_some());
            if is_memory && (passed.bytes >= max.bytes || passed.descriptors >= max.descriptors) {
                return Ok(());
            }
            let next = self.attached.iter().map(|(at, _)| *at).find(|at| *at > 0);
            let until = next.unwrap_or(self.buffer.len());
            let bytes = &self.buffer[..until];
            let sent = retry_on_intr(|| match leaves {
                Some(attached) => send_with(socket.as_fd(), bytes, attached),
                None => write(&socket, bytes),
            });
            match sent {
                Ok(sent) => {
                    passed.bytes += self.forget(sent);
                    passed.descriptors += usize::from(is_memory);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.attached.front().is_none_or(|(at, _)| *at > 0) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The first `bytes` are sent, and what left with the first of them, of whose memory it gives the bytes.
    fn forget(&mut self, bytes: usize) -> u64 {
        let has_left = self.attached.front().is_some_and(|(at, _)| *at == 0);
        let left = has_left.then(|| self.attached.pop_front()).flatten();
        let memory_bytes = left.map_or(0, |(_, attached)| attached.memory_bytes());
        self.memory_bytes -= memory_bytes;
        self.buffer.advance(bytes);
        self.attached.iter_mut().for_each(|(at, _)| *at -= bytes);
        memory_bytes
    }

    /// Bytes that were said and not sent, those in shared memory too.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_add(usize::try_from(self.memory_bytes).unwrap_or(usize::MAX))
    }

    /// Payloads with descriptors that were said and not sent.
    pub fn attached(&self) -> usize {
        self.attached.len()
    }

    /// Whether all was sent.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes of memory that it keeps.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl Attached {
    /// What goes with `payload`, if anything does.
    fn of(payload: &Payload) -> Result<Option<Self>, WireError> {
        let memory = payload.content.memory().cloned();
        if memory.as_ref().is_some_and(|memory| memory.file().is_none()) {
            return Err(WireError::MissingDescriptors { announced: 1, received: 0 });
        }
        let attached = Attached { memory, open_files: payload.descriptors.clone() };
        Ok((attached.memory.is_some() || attached.open_files.count() > 0).then_some(attached))
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.as_ref().map_or(0, SealedMemory::bytes)
    }

    /// Its descriptors, in the order in which they are received.
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let memory = self.memory.as_ref().and_then(SealedMemory::file);
        memory.into_iter().chain(self.open_files.files().iter().map(AsFd::as_fd))
    }
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], attached: &Attached) -> Result<usize, Errno> {
    let files: Vec<BorrowedFd<'_>> = attached.descriptors().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_FRAME_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}
