//! One end of a socket, and the one policy for what is buffered on it: for clients and workers alike.
//!
//! ```text
//!   socket ──fill──> inbox ──hear──> messages        at most READ_BYTES_PER_TURN in a turn; of a client none
//!                                                    while the outbox is above OUTBOX_BYTES_HIGH
//!   socket <──flush── outbox <──say── messages       one write in a turn, never one that waits
//! ```
//!
//! Nothing here decides what a message means. Readiness is edge-triggered: [`Connection`] remembers
//! what the last event said and was not used up. That writing failed ends nothing: what the peer had
//! said before is still heard, then the end.

use std::io;
use std::os::fd::AsRawFd;

use interprocess::local_socket::traits::Stream as _;
use interprocess::os::unix::uds_local_socket::Stream;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::io::Errno;

use super::token::Token;
use crate::limits::{DESCRIPTORS_PASSED_MAX, IDLE_BUFFER_BYTES_MAX, OUTBOX_BYTES_HIGH, UNREAD_BYTES_MAX};
use crate::message::Message;
use crate::os::socket::is_all_read;
use crate::wire::{
    Answer, Filled, Hello, Inbox, Outbox, Passed, Role, VERSION_MAX, Verdict, WireError, agree_on_version,
};

/// Shared memory that is sent to a client before it has taken any: one payload is, whatever its size.
const PASSED_MAX: Passed = Passed { bytes: UNREAD_BYTES_MAX as u64, descriptors: DESCRIPTORS_PASSED_MAX };

/// A peer's socket with what was received and not understood, and what was said and not sent.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// What the peer is.
    role: Role,
    token: Token,
    inbox: Inbox,
    outbox: Outbox,
    reading: Reading,
    writing: Writing,
    /// Whether the peer's hello was heard.
    greeted: bool,
    /// Whether hearing stopped because the outbox was full.
    held: bool,
    /// Whether the peer has hung up or seems to, so that a short read does not mean that all is read.
    hung_up: bool,
    /// Whether the poller tells when there is room to write, and of each piece that the peer reads.
    watches_room: bool,
    /// Shared memory that was sent to a client that has not read it.
    passed: Passed,
}

/// Takes the next message out of an inbox, if it is there.
type NextOf<M> = fn(&mut Inbox) -> Result<Option<M>, WireError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// There may be something to read.
    Ready,
    /// There is nothing; the poller tells when there is.
    Drained,
    /// There will be nothing more.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// It can be tried.
    Ready,
    /// The socket is full; the poller tells when there is room.
    Blocked,
    /// Nothing can be said any more.
    Failed,
}

/// What a peer said, or why it is silent.
#[derive(Debug)]
pub(super) enum Heard<M> {
    /// Its opening bytes.
    Hello(Hello),
    /// A message.
    Message(M),
    /// Nothing more for now: an event, or room in the outbox, will show when there is.
    Silence,
    /// There may be more, and it is the others' turn.
    Pause,
    /// It said something that is not in the protocol. Nothing more is to be heard.
    Violation(WireError),
    /// It has closed the connection, or reading failed.
    End(Option<io::Error>),
}

impl Connection {
    /// Makes `stream`, at whose other end is a `role`, non-blocking and has `registry` report on it as `token`.
    pub(super) fn open(stream: Stream, role: Role, token: Token, registry: &Registry) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&stream.inner().as_raw_fd()), token.into(), Interest::READABLE)?;
        Ok(Connection {
            stream,
            role,
            token,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            reading: Reading::Ready,
            writing: Writing::Ready,
            greeted: false,
            held: false,
            hung_up: false,
            watches_room: false,
            passed: Passed::default(),
        })
    }

    /// Takes in what the poller reports.
    pub(super) fn note(&mut self, event: &mio::event::Event) {
        self.hung_up |= event.is_read_closed() || event.is_error();
        if self.reading == Reading::Drained && (event.is_readable() || self.hung_up) {
            self.reading = Reading::Ready;
        }
        if self.writing == Writing::Blocked && (event.is_writable() || self.hung_up) {
            self.writing = Writing::Ready;
        }
    }

    /// The next thing the peer said. `budget_bytes` is what may still be read in this turn, `next` how messages are
    /// taken out of what was read.
    ///
    /// To be called again until it gives neither a hello nor a message.
    pub(super) fn hear<M: Message>(&mut self, budget_bytes: &mut usize, next: NextOf<M>) -> Heard<M> {
        loop {
            if self.is_backed_up() {
                self.held = true;
                return Heard::Silence;
            }
            match self.parse(next) {
                Ok(Some(heard)) => return heard,
                Ok(None) => {}
                Err(error) => return Heard::Violation(error),
            }
            match self.reading {
                Reading::Drained => return Heard::Silence,
                Reading::Ended => return Heard::End(None),
                Reading::Ready if *budget_bytes == 0 => return Heard::Pause,
                Reading::Ready => {}
            }
            match self.inbox.fill_from(self.stream.inner()) {
                Ok(Filled::Bytes { bytes, full }) => {
                    *budget_bytes = budget_bytes.saturating_sub(bytes);
                    if !full && !self.hung_up {
                        self.reading = Reading::Drained;
                    }
                }
                // A peer that cannot be written to has nothing left to say once all is read.
                Ok(Filled::Nothing) if self.writing == Writing::Failed => self.reading = Reading::Ended,
                Ok(Filled::Nothing) => self.reading = Reading::Drained,
                Ok(Filled::End) => self.reading = Reading::Ended,
                Err(error) => {
                    self.reading = Reading::Ended;
                    let reset = error.kind() == io::ErrorKind::ConnectionReset;
                    return Heard::End((!reset).then_some(error));
                }
            }
        }
    }

    fn parse<M: Message>(&mut self, next: NextOf<M>) -> Result<Option<Heard<M>>, WireError> {
        if self.greeted {
            return Ok(next(&mut self.inbox)?.map(Heard::Message));
        }
        let hello = self.inbox.next_hello()?;
        self.greeted = hello.is_some();
        Ok(hello.map(Heard::Hello))
    }

    /// Puts the answer to the peer's hello into the outbox.
    pub(super) fn answer(&mut self, answer: Answer) {
        if self.writing != Writing::Failed {
            self.outbox.push_handshake(&answer.encode());
        }
    }

    /// Puts `message` into the outbox. Does nothing when writing has failed.
    ///
    /// # Errors
    /// The message exceeds a cap of the wire.
    pub(super) fn say<M: Message>(&mut self, message: &M) -> Result<(), WireError> {
        match self.writing {
            Writing::Failed => Ok(()),
            Writing::Ready | Writing::Blocked => self.outbox.push(message),
        }
    }

    /// Writes once, as much as the socket takes. Says whether the peer is to be heard again: since there
    /// is room in the outbox again, or since it has hung up.
    pub(super) fn flush(&mut self, registry: &Registry) -> bool {
        if self.passed != Passed::default() && is_all_read(self.stream.inner()) {
            self.passed = Passed::default();
        }
        if self.writing == Writing::Ready && self.send().is_err() {
            self.give_up_writing();
        }
        self.watch_room(registry);
        if self.outbox.is_empty() && self.outbox.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.outbox = Outbox::default();
        }
        let resumes = self.held && !self.is_backed_up();
        self.held &= !resumes;
        resumes || (self.writing == Writing::Failed && self.reading == Reading::Ready)
    }

    /// Of shared memory a client is sent a little at a time: what it does not take stays, and nobody would count it.
    /// A worker's is counted with its tasks.
    fn send(&mut self) -> Result<(), Errno> {
        match self.role {
            Role::Client => self.outbox.send_within(self.stream.inner(), &mut self.passed, PASSED_MAX),
            Role::Worker => self.outbox.send(self.stream.inner()),
        }
    }

    /// Keeps the poller's interest in line with whether there is something left to write, or to be read by a peer
    /// that was passed memory.
    fn watch_room(&mut self, registry: &Registry) {
        if !self.outbox.is_empty() {
            self.writing = Writing::Blocked;
        }
        let waits = !self.outbox.is_empty() || self.passed != Passed::default();
        if waits == self.watches_room {
            return;
        }
        let interest = if waits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let fd = self.stream.inner().as_raw_fd();
        match registry.reregister(&mut SourceFd(&fd), self.token.into(), interest) {
            Ok(()) => self.watches_room = waits,
            Err(_) => self.give_up_writing(),
        }
    }

    /// Drops what was to be said; what the peer said is still heard.
    pub(super) fn give_up_writing(&mut self) {
        self.writing = Writing::Failed;
        self.outbox = Outbox::default();
        self.passed = Passed::default();
        self.hung_up = true;
        if self.reading == Reading::Drained {
            self.reading = Reading::Ready;
        }
    }

    /// Bytes that were said and not sent, and those of memory that was passed and not read.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.len().saturating_add(usize::try_from(self.passed.bytes).unwrap_or(usize::MAX))
    }

    /// Whether all was sent that was said.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Payloads that were said and not sent and hold descriptors.
    pub(super) fn outbox_descriptors(&self) -> usize {
        self.outbox.attached()
    }

    /// Whether all that the peer has not read is one payload in shared memory, which it was just sent: however large,
    /// that says nothing of how it reads.
    pub(super) fn has_passed_one(&self) -> bool {
        self.outbox.is_empty() && self.passed.descriptors == 1
    }

    /// Whether the peer must read before it is heard. What a client says is answered, without an end if
    /// it never reads. What a worker says is bounded by the attempts that it holds, and it may have to
    /// be heard before it reads on: one thread of it writes a result while more attempts are on the way.
    fn is_backed_up(&self) -> bool {
        match self.role {
            Role::Client => self.outbox_bytes() > OUTBOX_BYTES_HIGH && !self.has_passed_one(),
            Role::Worker => false,
        }
    }

    /// Closes the socket.
    pub(super) fn close(self, registry: &Registry) {
        // Failing, it would be because the poller no longer has it, which is what is wanted.
        let _ = registry.deregister(&mut SourceFd(&self.stream.inner().as_raw_fd()));
    }
}

/// What is answered to `hello` on a socket that is for `role`.
pub(super) fn answer_to(role: Role, hello: Hello) -> Answer {
    match agree_on_version(&hello) {
        _ if hello.role != role => Answer { verdict: Verdict::WrongRole, version: VERSION_MAX },
        None => Answer { verdict: Verdict::NoCommonVersion, version: VERSION_MAX },
        Some(version) => Answer { verdict: Verdict::Accepted, version },
    }
}

/// Why a peer that was given `verdict` is not let in, for the log.
pub(super) const fn in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "it is let in",
        Verdict::NotAHandshake => "its first bytes are not poold's handshake",
        Verdict::NoCommonVersion => "it speaks no version that is spoken here",
        Verdict::WrongRole => "it is not what this socket is for",
        Verdict::TooManyConnections => "as many connections as there may be are open",
        Verdict::NotAllowed => "access.connect does not name its user or one of its groups",
        Verdict::TooManyOfUser => "its user has as many connections open as limits.user_connections allows",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::mem;
    use std::os::unix::net::UnixStream;

    use bytes::BytesMut;

    use super::*;
    use crate::id::{ConnectionId, RequestId};
    use crate::limits::READ_BYTES_PER_TURN;
    use crate::message::client::{Reply, ReplyBody, Request, RequestBody};
    use crate::task::{Encoding, Outcome, Payload};
    use crate::wire::encode;

    /// A connection, the poller it is registered with, and its peer.
    struct Pair {
        poll: mio::Poll,
        connection: Connection,
        peer: UnixStream,
    }

    impl Pair {
        /// After the handshake.
        fn greeted() -> Self {
            let mut pair = Pair::new();
            pair.peer.write_all(&Hello::new(Role::Client).encode()).expect("it is open");
            assert!(matches!(pair.hear(), Heard::Hello(_)));
            assert!(matches!(pair.hear(), Heard::Silence));
            pair
        }

        fn new() -> Self {
            Pair::with(Role::Client)
        }

        fn with(role: Role) -> Self {
            let poll = mio::Poll::new().expect("a poller");
            let (ours, peer) = UnixStream::pair().expect("a pair of sockets");
            let token = Token::Client(ConnectionId(1));
            let connection =
                Connection::open(ours.into(), role, token, poll.registry()).expect("it registers");
            Pair { poll, connection, peer }
        }

        fn hear(&mut self) -> Heard<Request> {
            self.connection.hear(&mut READ_BYTES_PER_TURN.clone(), Inbox::next_message)
        }

        /// Waits for an event and has the connection take it in.
        fn note(&mut self) {
            let mut events = mio::Events::with_capacity(4);
            self.poll.poll(&mut events, None).expect("a poller");
            for event in &events {
                self.connection.note(event);
            }
        }

        fn flush(&mut self) -> bool {
            self.connection.flush(self.poll.registry())
        }

        /// Flushes and has the peer read until all that was said has arrived; gives its bytes.
        fn flush_and_read_all(&mut self) -> Vec<u8> {
            let mut received = Vec::new();
            self.peer.set_nonblocking(true).expect("it can be");
            loop {
                self.flush();
                match self.peer.read_to_end(&mut received) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => panic!("it stays open, and not {other:?}"),
                }
                if self.connection.outbox_bytes() == 0 {
                    return received;
                }
                self.note();
            }
        }
    }

    fn request(id: u64) -> (Request, BytesMut) {
        let request = Request { id: RequestId(id), body: RequestBody::Status };
        let mut bytes = BytesMut::new();
        encode(&request, &mut bytes).expect("it fits");
        (request, bytes)
    }

    /// A reply of about half of what an outbox may hold.
    fn large_reply() -> Reply {
        let bytes = vec![7; OUTBOX_BYTES_HIGH / 2];
        let outcome = Outcome::Ok(Payload::new(Encoding::Bytes, bytes));
        let task = "00000001-1".parse().expect("a task id");
        Reply { request: None, body: ReplyBody::Done { task, outcome } }
    }

    #[test]
    fn message_in_two_pieces_is_heard_when_it_is_whole() {
        let mut pair = Pair::greeted();
        let (said, bytes) = request(1);
        let (first, second) = bytes.split_at(5);
        pair.peer.write_all(first).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::Silence));
        pair.peer.write_all(second).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::Message(heard) if heard == said));
        assert!(matches!(pair.hear(), Heard::Silence));
    }

    #[test]
    fn first_bytes_that_are_no_handshake_are_a_violation() {
        let mut pair = Pair::new();
        pair.peer.write_all(b"GET / HTTP/1.1").expect("it is open");
        assert!(matches!(pair.hear(), Heard::Violation(WireError::NotAHandshake)));
    }

    #[test]
    fn announced_giant_is_a_violation_before_it_comes() {
        let mut pair = Pair::greeted();
        pair.peer.write_all(&[0xff; 8]).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::Violation(WireError::FrameTooLarge { .. })));
    }

    #[test]
    fn half_a_message_and_the_end_is_the_end() {
        let mut pair = Pair::greeted();
        pair.peer.write_all(&request(1).1[..5]).expect("it is open");
        pair.peer.shutdown(std::net::Shutdown::Write).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::End(None)));
    }

    #[test]
    fn end_that_came_with_the_last_message_is_heard_after_it() {
        let mut pair = Pair::greeted();
        let (said, bytes) = request(1);
        pair.peer.write_all(&bytes).expect("it is open");
        drop(mem::replace(&mut pair.peer, UnixStream::pair().expect("a pair").0));
        pair.note();
        assert!(matches!(pair.hear(), Heard::Message(heard) if heard == said));
        assert!(matches!(pair.hear(), Heard::End(None)));
    }

    #[test]
    fn last_words_are_heard_though_writing_failed() {
        let mut pair = Pair::greeted();
        let (said, bytes) = request(1);
        pair.peer.write_all(&bytes).expect("it is open");
        drop(mem::replace(&mut pair.peer, UnixStream::pair().expect("a pair").0));
        pair.connection.say(&large_reply()).expect("it fits");
        assert!(pair.flush(), "it is to be heard once more");
        assert!(matches!(pair.hear(), Heard::Message(heard) if heard == said));
        assert!(matches!(pair.hear(), Heard::End(None)));
    }

    #[test]
    fn peer_that_does_not_read_is_not_heard_until_it_does() {
        let mut pair = Pair::greeted();
        pair.peer.write_all(&request(1).1).expect("it is open");
        while pair.connection.outbox_bytes() <= OUTBOX_BYTES_HIGH {
            pair.connection.say(&large_reply()).expect("it fits");
            pair.flush();
        }
        pair.note();
        assert!(matches!(pair.hear(), Heard::Silence), "it does not read");

        pair.flush_and_read_all();
        assert!(matches!(pair.hear(), Heard::Message(_)), "it has read enough");
    }

    #[test]
    fn worker_that_does_not_read_is_heard() {
        let mut pair = Pair::with(Role::Worker);
        pair.peer.write_all(&Hello::new(Role::Worker).encode()).expect("it is open");
        assert!(matches!(pair.hear(), Heard::Hello(_)));
        while pair.connection.outbox_bytes() <= OUTBOX_BYTES_HIGH {
            pair.connection.say(&large_reply()).expect("it fits");
            pair.flush();
        }
        let (said, bytes) = request(1);
        pair.peer.write_all(&bytes).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::Message(heard) if heard == said));
    }

    #[test]
    fn outbox_larger_than_the_socket_arrives_whole_and_in_order() {
        let mut pair = Pair::greeted();
        let mut expected = BytesMut::new();
        for _ in 0..8 {
            encode(&large_reply(), &mut expected).expect("it fits");
            pair.connection.say(&large_reply()).expect("it fits");
        }
        assert_eq!(pair.flush_and_read_all(), expected);
    }

    #[test]
    fn talkative_peer_is_paused_when_its_turn_is_over() {
        let mut pair = Pair::greeted();
        let (_, bytes) = request(1);
        pair.peer.write_all(&bytes).expect("it is open");
        pair.note();
        let mut budget_bytes = 0;
        let heard = pair.connection.hear(&mut budget_bytes, Inbox::next_request);
        assert!(matches!(heard, Heard::Pause));
        assert!(matches!(pair.hear(), Heard::Message(_)));
    }

    #[test]
    fn idle_connection_holds_no_buffers() {
        let mut pair = Pair::greeted();
        pair.connection.say(&large_reply()).expect("it fits");
        pair.flush_and_read_all();
        pair.peer.write_all(&request(1).1).expect("it is open");
        pair.note();
        assert!(matches!(pair.hear(), Heard::Message(_)));
        assert!(matches!(pair.hear(), Heard::Silence));
        assert!(pair.connection.inbox.is_empty());
        assert!(pair.connection.outbox.capacity() <= IDLE_BUFFER_BYTES_MAX);
    }
}
