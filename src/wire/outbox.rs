//! The sending side of a socket: messages in, bytes and descriptors out.
//!
//! The descriptors of a frame leave with its first byte, so that they are there when the frame is whole.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, BytesMut};
use rustix::io::{Errno, retry_on_intr, write};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{EncodedSpec, WireError, encode, encode_submission};
use crate::descriptor::Descriptors;
use crate::id::RequestId;
use crate::limits::DESCRIPTORS_PER_PAYLOAD_MAX;
use crate::message::Message;
use crate::task::Payload;

/// What was said and not sent.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: BytesMut,
    /// What leaves with which byte of the buffer.
    attached: VecDeque<(usize, Descriptors)>,
}

impl Outbox {
    /// Puts `message` behind what was said before.
    ///
    /// # Errors
    /// [`WireError`] when it exceeds a cap; nothing of it is said then.
    pub fn push<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        let start = self.buffer.len();
        encode(message, &mut self.buffer)?;
        message.payload().into_iter().for_each(|payload| self.attach(start, payload));
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
        let start = self.buffer.len();
        encode_submission(id, spec, args, &mut self.buffer)?;
        self.attach(start, args);
        Ok(())
    }

    /// Has the descriptors of `payload` leave with the frame that starts there.
    fn attach(&mut self, start: usize, payload: &Payload) {
        if payload.descriptors.count() > 0 {
            self.attached.push_back((start, payload.descriptors.clone()));
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
        while !self.buffer.is_empty() {
            let is_first = |(at, _): &&(usize, Descriptors)| *at == 0;
            let leaves = self.attached.front().filter(is_first).map(|(_, descriptors)| descriptors);
            let next = self.attached.iter().map(|(at, _)| *at).find(|at| *at > 0);
            let until = next.unwrap_or(self.buffer.len());
            let bytes = &self.buffer[..until];
            let sent = retry_on_intr(|| match leaves {
                Some(descriptors) => send_with(socket.as_fd(), bytes, descriptors),
                None => write(&socket, bytes),
            });
            match sent {
                Ok(sent) => self.forget(sent),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.attached.front().is_none_or(|(at, _)| *at > 0) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The first `bytes` are sent, and what left with the first of them.
    fn forget(&mut self, bytes: usize) {
        if self.attached.front().is_some_and(|(at, _)| *at == 0) {
            self.attached.pop_front();
        }
        self.buffer.advance(bytes);
        self.attached.iter_mut().for_each(|(at, _)| *at -= bytes);
    }

    /// Bytes that were said and not sent.
    pub fn len(&self) -> usize {
        self.buffer.len()
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

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &Descriptors) -> Result<usize, Errno> {
    let files: Vec<BorrowedFd<'_>> = descriptors.files().iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PAYLOAD_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}
