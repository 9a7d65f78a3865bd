//! A conversation over a socket between the program and a worker, without the pool in between: what is large
//! is copied into the socket, or lies in a memfd whose descriptor goes along (SCM_RIGHTS, unix(7)).
//!
//! ```text
//!   program ──request, 1 byte (+ descriptor)──> worker
//!           ──────── (the bytes) ─────────────>
//!           <──────── number, 8 bytes ─────────
//! ```

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use poold::Function;
use poold::worker::Registry;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::meeting;

/// What is large.
pub(crate) const BYTES: usize = 64 * 1024 * 1024;
pub(crate) const PAGE_BYTES: usize = 4096;
/// What is read at a time, on either way: it fits into a processor's cache.
const CHUNK_BYTES: usize = 32 * 1024;

/// Answers whatever it is asked at the meeting of that name, until nobody is there.
pub(crate) const SERVE: Function<String, ()> = Function::new("serve");

/// What the program says to `serve`: one byte, with what it announces.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    /// Nothing: only the answer counts.
    Echo = 1,
    /// All the bytes, which follow; their sum.
    Copy = 2,
    /// A memfd that holds the bytes, to be read; their sum.
    Read = 3,
    /// A memfd that holds the bytes, which need not be read now; how many there are.
    Keep = 4,
}

impl Request {
    fn from_byte(byte: u8) -> Option<Self> {
        [Request::Echo, Request::Copy, Request::Read, Request::Keep]
            .into_iter()
            .find(|request| *request as u8 == byte)
    }
}

pub(crate) fn register(registry: Registry) -> Registry {
    registry.add(SERVE, &["MEETING"], "Answers.", |name: String| {
        meeting::come(&name).and_then(serve).map_err(|error| error.to_string())
    })
}

/// The worker's side: each request is answered with a number.
fn serve(mut stream: UnixStream) -> io::Result<()> {
    while let Some((request, memfd)) = receive(&stream)? {
        let answer = match (request, memfd) {
            (Request::Copy, None) => sum_of_pages(&mut stream, BYTES)?,
            (Request::Read, Some(memfd)) => {
                let mut file = File::from(memfd);
                file.rewind()?;
                sum_of_pages(&mut file, BYTES)?
            }
            (Request::Keep, Some(memfd)) => File::from(memfd).metadata()?.len(),
            (Request::Echo, None) => 0,
            (Request::Copy | Request::Echo, Some(_)) | (Request::Read | Request::Keep, None) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        };
        stream.write_all(&answer.to_le_bytes())?;
    }
    Ok(())
}

/// The next request, with the descriptor that came with it; none at the end.
fn receive(stream: &UnixStream) -> io::Result<Option<(Request, Option<OwnedFd>)>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let descriptors = |message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    };
    let memfd = control.drain().filter_map(descriptors).flatten().next();
    Request::from_byte(byte[0]).map(|request| Some((request, memfd))).ok_or(io::ErrorKind::InvalidData.into())
}

/// Reads so many bytes, and sums up the first of each page: enough to know that they arrived.
pub(crate) fn sum_of_pages(source: &mut impl Read, bytes: usize) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut sum = 0;
    for _ in 0..bytes / CHUNK_BYTES {
        source.read_exact(&mut chunk)?;
        sum += chunk.iter().step_by(PAGE_BYTES).map(|byte| u64::from(*byte)).sum::<u64>();
    }
    Ok(sum)
}

/// The program's side: a worker that serves.
pub(crate) struct Peer<'a> {
    pub(crate) stream: &'a UnixStream,
}

impl Peer<'_> {
    /// What it answers to a request, with the memfd that belongs to it or the bytes that follow it.
    pub(crate) fn ask(&self, request: Request, memfd: Option<&OwnedFd>, copied: &[u8]) -> io::Result<u64> {
        let descriptors = memfd.map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.as_slice().is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors.as_slice()));
        }
        sendmsg(self.stream, &[IoSlice::new(&[request as u8])], &mut control, SendFlags::empty())?;
        let mut stream = self.stream;
        stream.write_all(copied)?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        Ok(u64::from_le_bytes(answer))
    }
}
