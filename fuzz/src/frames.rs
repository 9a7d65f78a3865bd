//! A stream of bytes and open files, in pieces: what is understood does not depend on where it was cut.
//!
//! Input: what is received; then a script of bytes, whole frames, forged lengths and cuts. What stands
//! between two cuts is sent at once, with the open files that the cut names.

use std::fmt::Debug;
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use poold::message::Message;
use poold::message::client::{Reply, Request};
use poold::message::worker::{FromWorker, ToWorker};
use poold::wire::{Filled, Inbox, WireError};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};

use super::draw::Draw;
use super::messages::frame;

/// Bytes sent before they are read: less than a socket holds.
const PIECE_BYTES: usize = 32 * 1024;

/// Bytes of zeros in one step: some of them exceed every cap of a frame.
const ZEROS_BYTES: usize = 64 * 1024;

/// Most bytes in one stream.
const STREAM_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most open files that go with a piece: more than may.
const FILES_MAX: usize = 12;

/// What is sent as an open file.
static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("there are descriptors"));

/// A stretch of the stream, and how many open files come with its first byte.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    files: usize,
}

/// A peer that says anything.
pub fn frames(input: &[u8]) {
    let mut draw = Draw::new(input);
    let receive = draw.pick(&[check::<Request>, check::<Reply>, check::<ToWorker>, check::<FromWorker>]);
    receive(&script(&mut draw));
}

fn script(draw: &mut Draw<'_>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut bytes, mut files, mut total_bytes) = (Vec::new(), 0, 0);
    while !draw.is_over() && total_bytes < STREAM_BYTES_MAX {
        let before = bytes.len();
        match draw.below(6) {
            0 => {
                let count = draw.below(64);
                bytes.extend_from_slice(draw.bytes(count));
            }
            1 => {
                let (head, payload) = (draw.byte(), draw.byte());
                bytes.extend(frame(draw.bytes(head.into()), draw.bytes(payload.into())));
            }
            2 => bytes.extend([draw.number(), draw.number()].iter().flat_map(|length| length.to_le_bytes())),
            3 => bytes.resize(bytes.len() + ZEROS_BYTES, 0),
            4 => bytes.push(draw.byte()),
            _ => {
                pieces.push(Piece { bytes: std::mem::take(&mut bytes), files });
                files = draw.below(FILES_MAX + 1);
                continue;
            }
        }
        total_bytes += bytes.len() - before;
    }
    pieces.push(Piece { bytes, files });
    pieces.retain(|piece| !piece.bytes.is_empty());
    pieces
}

fn check<M: Message + PartialEq + Debug>(pieces: &[Piece]) {
    let by_pieces = in_pieces::<M>(pieces);
    if pieces.iter().all(|piece| piece.files == 0) {
        let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect();
        assert_eq!(by_pieces, at_once::<M>(&whole));
    }
}

/// What is understood of a stream that is all there, up to the first violation.
fn at_once<M: Message>(mut bytes: &[u8]) -> Vec<Result<M, WireError>> {
    let mut inbox = Inbox::default();
    while !bytes.is_empty() {
        inbox.fill(&mut bytes).expect("a slice can be read");
    }
    let mut heard = Vec::new();
    understand(&mut inbox, &mut heard);
    heard
}

fn in_pieces<M: Message>(pieces: &[Piece]) -> Vec<Result<M, WireError>> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .expect("there are descriptors");
    let mut inbox = Inbox::default();
    let mut heard = Vec::new();
    for Piece { bytes, files } in pieces {
        let mut files = *files;
        for bytes in bytes.chunks(PIECE_BYTES) {
            send(&theirs, bytes, &vec![NULL.as_fd(); std::mem::take(&mut files)]);
            while inbox.fill_from(&ours).expect("the socket is open") != Filled::Nothing {}
            if !understand(&mut inbox, &mut heard) {
                return heard;
            }
        }
    }
    heard
}

/// Takes the messages that are there; says whether more may come.
fn understand<M: Message>(inbox: &mut Inbox, heard: &mut Vec<Result<M, WireError>>) -> bool {
    loop {
        match inbox.next_message::<M>() {
            Ok(Some(message)) => {
                if let Some(payload) = message.payload() {
                    assert_eq!(payload.descriptors.files().len(), payload.descriptors.count() as usize);
                }
                heard.push(Ok(message));
            }
            Ok(None) => return true,
            Err(error) => {
                heard.push(Err(error));
                return false;
            }
        }
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(files)), "there is room for them");
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    assert_eq!(sent, Ok(bytes.len()), "the socket was empty");
}
