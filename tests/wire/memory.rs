//! Payloads in shared memory: passed on as they are, and refused unless they are just what was announced.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use bytes::BytesMut;
use poold::SharedBuffer;
use poold::id::{FunctionName, RequestId};
use poold::memory::{BadMemory, MemoryFile, SealedMemory};
use poold::message::client::{Request, RequestBody};
use poold::task::{Content, Encoding, Payload, TaskSpec};
use poold::wire::{Inbox, Outbox, Passed, WireError, encode};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::descriptors::{files, next, send};

fn memory(bytes: &[u8]) -> SealedMemory {
    let mut memory = MemoryFile::new().expect("there is memory");
    memory.write_all(bytes).expect("there is memory");
    memory.seal().expect("it can be sealed")
}

fn submission(args: Payload) -> Request {
    let spec = TaskSpec::new(FunctionName::new("sum").expect("it is a name"));
    Request { id: RequestId(1), body: RequestBody::Submit { spec: spec.into(), args } }
}

fn args(request: Request) -> Payload {
    let RequestBody::Submit { args, .. } = request.body else { panic!("{request:?}") };
    args
}

fn copy(file: BorrowedFd<'_>) -> File {
    file.try_clone_to_owned().expect("it can be copied").into()
}

/// What becomes of a submission that announces so many bytes of memory, and comes with `file`.
fn announced(bytes: u64, file: impl Into<File>) -> Result<Option<Request>, WireError> {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let memory = serde_json::from_value(bytes.into()).expect("what is announced is a number");
    let mut frame = BytesMut::new();
    encode(&submission(Payload::shared(Encoding::Bytes, memory)), &mut frame).expect("it is within the caps");
    send(&near, &frame, &[file.into()]);
    next(far, &mut Inbox::default())
}

#[test]
fn shared_payload_arrives_with_its_open_files_and_is_the_same_memory() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let memory = memory(b"seven");
    let open_files: Vec<OwnedFd> = files(3).into_iter().map(OwnedFd::from).collect();
    let sent = Payload { descriptors: open_files.into(), ..Payload::shared(Encoding::Bytes, memory.clone()) };
    let mut outbox = Outbox::default();
    outbox.push(&submission(sent.clone())).expect("it is within the caps");
    outbox.push(&submission(Payload::from_args(["after"]))).expect("it is within the caps");
    while !outbox.is_empty() {
        outbox.send(&near).expect("the other end is open");
    }
    let mut inbox = Inbox::default();
    let received = args(inbox.receive_from(&far).expect("it was sent"));
    assert_eq!(received.bytes().expect("it can be mapped"), &b"seven"[..]);
    let inode = |file: BorrowedFd<'_>| rustix::fs::fstat(file).expect("it is open").st_ino;
    let inodes = |payload: &Payload| {
        let memory = payload.content.memory().and_then(SealedMemory::file);
        let files = memory.into_iter().chain(payload.descriptors.files().iter().map(AsFd::as_fd));
        files.map(inode).collect::<Vec<u64>>()
    };
    assert_eq!(inodes(&received), inodes(&sent));
    assert_eq!(args(inbox.receive_from(&far).expect("it was sent")), Payload::from_args(["after"]));
}

#[test]
fn outbox_counts_shared_bytes_until_they_are_sent() {
    let (near, _far) = UnixStream::pair().expect("a pair of sockets");
    let mut outbox = Outbox::default();
    let payload = SharedBuffer::new(1 << 20).and_then(|buffer| buffer.into_payload(Encoding::Bytes));
    outbox.push(&submission(payload.expect("there is memory"))).expect("it is within the caps");
    assert!(outbox.len() > 1 << 20);
    let max = Passed { bytes: 1, descriptors: 1 };
    let mut passed = max;
    outbox.send_within(&near, &mut passed, max).expect("the other end is open");
    assert!(outbox.len() > 1 << 20, "the peer has not taken what was sent before");
    passed = Passed::default();
    outbox.send_within(&near, &mut passed, max).expect("the other end is open");
    assert_eq!((outbox.len(), passed), (0, Passed { bytes: 1 << 20, descriptors: 1 }));
}

#[test]
fn memory_of_another_size_than_announced_is_refused() {
    let memory = memory(b"seven");
    let file = || copy(memory.file().expect("it is there"));
    assert!(matches!(announced(5, file()), Ok(Some(_))));
    for announced_bytes in [0, 4, 6, u64::MAX] {
        let refused = announced(announced_bytes, file());
        let bad = BadMemory::OtherSize { bytes: 5, announced: announced_bytes };
        assert_eq!(refused, Err(WireError::Memory(bad)));
    }
}

#[test]
fn descriptor_that_is_no_sealed_memory_is_refused() {
    let (socket, _other) = UnixStream::pair().expect("a pair of sockets");
    let unsealed = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let others: [OwnedFd; 4] = [
        unsealed.expect("there is memory"),
        tempfile::tempfile().expect("a file can be made").into(),
        File::open("/dev/zero").expect("it is there").into(),
        socket.into(),
    ];
    for other in others {
        assert_eq!(announced(0, other), Err(WireError::Memory(BadMemory::NotSealed)));
    }
}

#[test]
fn memory_that_no_message_announces_is_refused() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let memory = memory(b"seven");
    let mut frame = BytesMut::new();
    encode(&submission(Payload::default()), &mut frame).expect("it is within the caps");
    send(&near, &frame, &[copy(memory.file().expect("it is there"))]);
    let mut inbox = Inbox::default();
    assert!(matches!(next(far.try_clone().expect("it can be"), &mut inbox), Ok(Some(_))));
    assert_eq!(next(far, &mut inbox), Err(WireError::UninvitedDescriptors));
}

#[test]
fn bytes_in_the_frame_of_a_shared_payload_are_refused() {
    let mut frame = BytesMut::new();
    encode(&submission(Payload::shared(Encoding::Bytes, memory(b"seven"))), &mut frame).expect("it fits");
    frame[4] = 1;
    frame.extend_from_slice(b"x");
    let mut inbox = Inbox::default();
    inbox.fill(&mut &frame[..]).expect("a slice can be read");
    assert_eq!(inbox.next_message::<Request>(), Err(WireError::UnexpectedPayload { bytes: 1 }));
}

#[test]
fn memory_that_was_only_announced_is_not_sent_on() {
    let announced: Content = serde_json::from_str(r#"{"Shared":5}"#).expect("it is what a head says");
    let refused = Outbox::default().push(&submission(Payload { content: announced, ..Payload::default() }));
    assert_eq!(refused, Err(WireError::MissingDescriptors { announced: 1, received: 0 }));
}
