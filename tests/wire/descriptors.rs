//! Open files beside messages: each arrives with its own, and what nobody announced ends the conversation.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use poold::id::{AttemptId, FunctionName, RequestId};
use poold::limits::DESCRIPTORS_PER_PAYLOAD_MAX;
use poold::message::client::{Request, RequestBody};
use poold::message::worker::FromWorker;
use poold::task::{Encoding, Payload, TaskSpec};
use poold::wire::{Filled, HANDSHAKE_BYTES, Hello, Inbox, Outbox, Role, WireError, encode};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Files that can be told apart.
pub fn files(count: usize) -> Vec<File> {
    (0..count).map(|_| tempfile::tempfile().expect("a file can be made")).collect()
}

fn inodes<'a>(files: impl IntoIterator<Item = &'a OwnedFd>) -> Vec<u64> {
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("it is open").st_ino;
    files.into_iter().map(inode).collect()
}

/// A submission with these files and so many bytes of arguments.
fn submission(id: u64, files: &[File], bytes: usize) -> Request {
    let spec = TaskSpec::new(FunctionName::new("run").expect("it is a name"));
    let copies = files.iter().map(|file| file.try_clone().expect("it can be copied").into());
    let args = Payload {
        descriptors: copies.collect::<Vec<OwnedFd>>().into(),
        ..Payload::new(Encoding::Bytes, vec![7; bytes])
    };
    Request { id: RequestId(id), body: RequestBody::Submit { spec: spec.into(), args } }
}

fn received(request: &Request) -> (u64, Vec<u64>) {
    let RequestBody::Submit { args, .. } = &request.body else { panic!("{request:?}") };
    assert_eq!(args.descriptors.count() as usize, args.descriptors.files().len());
    (request.id.0, inodes(args.descriptors.files()))
}

/// Sends bytes and files, whatever they are.
pub fn send(socket: &UnixStream, bytes: &[u8], files: &[File]) {
    let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

/// What the next message comes to after all that was sent.
pub fn next(socket: UnixStream, inbox: &mut Inbox) -> Result<Option<Request>, WireError> {
    socket.set_nonblocking(true).expect("it can be");
    loop {
        match inbox.next_message() {
            Ok(None) => {}
            decided => return decided,
        }
        match inbox.fill_from(&socket).expect("it can be read") {
            Filled::Bytes { .. } => {}
            Filled::Nothing | Filled::End => return inbox.next_message(),
        }
    }
}

#[test]
fn messages_arrive_each_with_its_own_files() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let all = files(4);
    let inode = |file: &File| file.metadata().expect("it is open").ino();
    let mut outbox = Outbox::default();
    let counts = [(1, 0..0), (2, 0..3), (3, 0..0), (4, 3..4), (5, 1..2)];
    for (id, range) in counts.clone() {
        // Larger than a socket's buffer together, so that frames are sent and received in pieces.
        outbox.push(&submission(id, &all[range], 200_000)).expect("it is within the caps");
    }
    let sending = std::thread::spawn(move || {
        while !outbox.is_empty() {
            outbox.send(&near).expect("the other end is open");
        }
    });
    let mut inbox = Inbox::default();
    for (id, range) in counts {
        let request = inbox.receive_from(&far).expect("it was sent");
        assert_eq!(received(&request), (id, all[range].iter().map(inode).collect()));
    }
    sending.join().expect("it does not panic");
    assert!(inbox.is_empty());
}

#[test]
fn received_files_are_closed_by_exec() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let mut outbox = Outbox::default();
    outbox.push(&submission(1, &files(1), 0)).expect("it is within the caps");
    outbox.send(&near).expect("the other end is open");
    let request: Request = Inbox::default().receive_from(&far).expect("it was sent");
    let RequestBody::Submit { args, .. } = request.body else { panic!("another request") };
    let flags = rustix::io::fcntl_getfd(&args.descriptors.files()[0]);
    assert_eq!(flags, Ok(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn message_announcing_files_that_did_not_come_is_refused() {
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    let mut bytes = bytes::BytesMut::new();
    encode(&submission(1, &files(2), 0), &mut bytes).expect("it is within the caps");
    near.write_all(&bytes).expect("the other end is open");
    let refused = next(far, &mut Inbox::default());
    assert_eq!(refused, Err(WireError::MissingDescriptors { announced: 2, received: 0 }));
}

#[test]
fn files_that_no_message_announces_are_refused() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let mut bytes = bytes::BytesMut::new();
    encode(&submission(1, &[], 0), &mut bytes).expect("it is within the caps");
    send(&near, &bytes, &files(1));
    let mut inbox = Inbox::default();
    assert!(matches!(next(far.try_clone().expect("it can be"), &mut inbox), Ok(Some(_))));
    assert_eq!(next(far, &mut inbox), Err(WireError::UninvitedDescriptors));

    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    send(&near, &Hello::new(Role::Client).encode(), &files(1));
    let mut inbox = Inbox::default();
    assert_eq!(inbox.fill_from(&far).ok(), Some(Filled::Bytes { bytes: HANDSHAKE_BYTES, full: true }));
    assert!(matches!(inbox.next_hello(), Ok(Some(_))));
    assert_eq!(inbox.next_message::<Request>(), Err(WireError::UninvitedDescriptors));
}

#[test]
fn more_files_than_a_message_may_have_are_refused() {
    let many = files(DESCRIPTORS_PER_PAYLOAD_MAX + 1);
    let refused = Outbox::default().push(&submission(1, &many, 0));
    assert_eq!(refused, Err(WireError::TooManyDescriptors));

    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    send(&near, &[0], &files(2 * DESCRIPTORS_PER_PAYLOAD_MAX));
    assert_eq!(next(far, &mut Inbox::default()), Err(WireError::TooManyDescriptors));
}

#[test]
fn files_with_each_byte_of_a_message_that_is_never_whole_are_refused() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let few = files(DESCRIPTORS_PER_PAYLOAD_MAX);
    for _ in 0..3 {
        send(&near, &[0], &few);
    }
    assert_eq!(next(far, &mut Inbox::default()), Err(WireError::TooManyDescriptors));
}

#[test]
fn message_without_a_payload_takes_no_files() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let mut bytes = bytes::BytesMut::new();
    encode(&FromWorker::Started { attempt: AttemptId(1) }, &mut bytes).expect("it is within the caps");
    send(&near, &bytes, &files(1));
    let mut inbox = Inbox::default();
    let started: FromWorker = inbox.receive_from(&far).expect("it was sent");
    assert_eq!(started, FromWorker::Started { attempt: AttemptId(1) });
    assert_eq!(inbox.next_message::<FromWorker>(), Err(WireError::UninvitedDescriptors));
}
