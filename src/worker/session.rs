//! The worker's side of its socket: handshake, messages in, messages out.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

use bytes::BytesMut;
use interprocess::os::unix::uds_local_socket::Stream;

use super::asking::Desk;
use crate::message::worker::{FromWorker, ToWorker};
use crate::os::descriptor;
use crate::wire::{
    self, Answer, Filled, Hello, Inbox, ReceiveError, Role, VERSION_MAX, VERSION_MIN, Verdict,
};

/// Why the conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The daemon does not accept this worker.
    #[error(
        "the daemon does not accept this worker ({:?}): it speaks version {}, this worker {VERSION_MIN} to {VERSION_MAX}",
        .0.verdict, .0.version
    )]
    Refused(Answer),
    /// The daemon said what it may not say now.
    #[error("the daemon broke the protocol: it said {0}")]
    Unexpected(&'static str),
    /// Nothing more can be received.
    #[error("cannot receive from the daemon: {0}")]
    Receive(#[from] ReceiveError),
    /// Nothing more can be said.
    #[error("cannot write to the daemon: {0}")]
    Write(#[from] io::Error),
    /// A message of ours exceeds a cap.
    #[error("cannot say it to the daemon: {0}")]
    Encode(#[from] wire::WireError),
}

impl Broken {
    /// Whether it only means that the daemon's end is closed.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Broken::Receive(ReceiveError::Closed) => true,
            Broken::Receive(ReceiveError::Io(error)) | Broken::Write(error) => {
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            }
            Broken::Receive(ReceiveError::Wire(_))
            | Broken::Refused(_)
            | Broken::Unexpected(_)
            | Broken::Encode(_) => false,
        }
    }
}

/// What the daemon says first.
pub(super) struct Setup {
    /// Whether functions that show faults may be announced.
    pub(super) allow_fault_injection: bool,
}

/// A blocking conversation with the daemon.
pub(super) struct Session {
    stream: Arc<Stream>,
    incoming: Arc<Mutex<Incoming>>,
    outgoing: Arc<Outgoing>,
}

/// Where messages come from.
enum Incoming {
    /// The socket, read by whoever wants the next message.
    Socket(Inbox),
    /// A thread that reads the socket, since functions that run wait for answers from it.
    Router { messages: Receiver<Result<ToWorker, ReceiveError>>, received: VecDeque<ToWorker> },
}

impl Session {
    /// A conversation on `socket` in which nothing was said yet.
    pub(super) fn new(socket: OwnedFd) -> Self {
        let stream = Arc::new(Stream::from(socket));
        let outgoing = Outgoing { stream: Arc::clone(&stream), buffer: Mutex::default() };
        let incoming = Arc::new(Mutex::new(Incoming::Socket(Inbox::default())));
        Session { stream, incoming, outgoing: Arc::new(outgoing) }
    }

    /// The socket, for watching its end.
    pub(super) fn socket(&self) -> Arc<Stream> {
        Arc::clone(&self.stream)
    }

    /// Shakes hands and receives the setup.
    pub(super) fn open(&mut self) -> Result<Setup, Broken> {
        (&*self.stream).write_all(&Hello::new(Role::Worker).encode())?;
        let mut incoming = self.lock_incoming();
        let Incoming::Socket(inbox) = &mut *incoming else {
            return Err(Broken::Unexpected("something before the handshake"));
        };
        let answer = inbox.receive_answer(&mut &*self.stream)?;
        if answer.verdict != Verdict::Accepted || !(VERSION_MIN..=VERSION_MAX).contains(&answer.version) {
            return Err(Broken::Refused(answer));
        }
        match inbox.receive(&mut &*self.stream)? {
            ToWorker::Setup { worker: _, allow_fault_injection, threads: _ } => {
                Ok(Setup { allow_fault_injection })
            }
            ToWorker::Attempt { .. } => Err(Broken::Unexpected("Attempt before Setup")),
            ToWorker::Answer { .. } => Err(Broken::Unexpected("Answer before Setup")),
            ToWorker::Recall { .. } => Err(Broken::Unexpected("Recall before Setup")),
            ToWorker::Stop => Err(Broken::Receive(ReceiveError::Closed)),
        }
    }

    /// The next of the messages that were read, if there is one.
    pub(super) fn next_received(&mut self) -> Result<Option<ToWorker>, Broken> {
        match &mut *self.lock_incoming() {
            Incoming::Socket(inbox) => Ok(inbox.next_message().map_err(ReceiveError::Wire)?),
            Incoming::Router { received, .. } => Ok(received.pop_front()),
        }
    }

    /// Reads once, waiting until something is there.
    pub(super) fn read(&mut self) -> Result<(), Broken> {
        match &mut *self.lock_incoming() {
            Incoming::Socket(inbox) => read_once(&self.stream, inbox),
            Incoming::Router { messages, received } => {
                received.push_back(messages.recv().unwrap_or(Err(ReceiveError::Closed))?);
                Ok(())
            }
        }
    }

    /// Reads all that is there now.
    pub(super) fn read_available(&mut self) -> Result<(), Broken> {
        match &mut *self.lock_incoming() {
            Incoming::Socket(inbox) => {
                while descriptor::is_readable(&*self.stream).map_err(ReceiveError::Io)? {
                    read_once(&self.stream, inbox)?;
                }
            }
            Incoming::Router { messages, received } => {
                for message in messages.try_iter() {
                    received.push_back(message?);
                }
            }
        }
        Ok(())
    }

    /// Says `message`, waiting until it is written.
    pub(super) fn say(&self, message: &FromWorker) -> Result<(), Broken> {
        self.outgoing.say(message)
    }

    /// The desk for the functions that this session's loop calls. It costs nothing until one of them opens
    /// a line: from then on a thread of its own reads the socket, and the loop takes what is not an answer
    /// from there.
    pub(super) fn desk(&self) -> Arc<Desk> {
        let (stream, incoming) = (Arc::clone(&self.stream), Arc::clone(&self.incoming));
        Desk::new(Arc::clone(&self.outgoing), move |desk| {
            let mut incoming = incoming.lock().unwrap_or_else(PoisonError::into_inner);
            let Incoming::Socket(inbox) = &mut *incoming else { return Ok(()) };
            let (sender, messages) = channel();
            let router = Router {
                stream: Arc::clone(&stream),
                inbox: mem::take(inbox),
                desk: Arc::clone(desk),
                others: sender,
            };
            thread::Builder::new().name("router".to_owned()).spawn(move || router.run())?;
            *incoming = Incoming::Router { messages, received: VecDeque::new() };
            Ok(())
        })
    }

    /// Never waits: the loop holds it between calls, and what a function does in a call.
    fn lock_incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_once(stream: &Stream, inbox: &mut Inbox) -> Result<(), Broken> {
    match inbox.fill(&mut &*stream).map_err(ReceiveError::Io)? {
        Filled::Bytes { .. } => Ok(()),
        Filled::End => Err(ReceiveError::Closed.into()),
        Filled::Nothing => Err(ReceiveError::Io(io::ErrorKind::WouldBlock.into()).into()),
    }
}

/// The side of the socket that is written: by the loop, and by functions that ask.
pub(super) struct Outgoing {
    stream: Arc<Stream>,
    /// Holds what is being written, and is locked meanwhile.
    buffer: Mutex<BytesMut>,
}

impl Outgoing {
    /// Says `message`, waiting until it is written.
    pub(super) fn say(&self, message: &FromWorker) -> Result<(), Broken> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        wire::encode(message, &mut buffer)?;
        Ok((&*self.stream).write_all(&buffer)?)
    }
}

/// Reads the socket while functions run: answers go to whoever asked, all else to the loop.
struct Router {
    stream: Arc<Stream>,
    inbox: Inbox,
    desk: Arc<Desk>,
    others: Sender<Result<ToWorker, ReceiveError>>,
}

impl Router {
    fn run(mut self) {
        loop {
            let message = self.inbox.receive(&mut &*self.stream);
            let is_end = message.is_err();
            let sent = match message {
                Ok(ToWorker::Answer { attempt, reply }) => {
                    self.desk.deliver(attempt, reply);
                    Ok(())
                }
                other => self.others.send(other),
            };
            if is_end || sent.is_err() {
                return;
            }
        }
    }
}
