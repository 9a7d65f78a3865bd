//! The worker's side of its socket: handshake, messages in, messages out.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;
use interprocess::os::unix::uds_local_socket::Stream;

use crate::message::command::CommandSpec;
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
    /// Functions that run a command.
    pub(super) commands: Vec<CommandSpec>,
}

/// A blocking conversation with the daemon.
pub(super) struct Session {
    stream: Arc<Stream>,
    inbox: Inbox,
    outbox: BytesMut,
}

impl Session {
    /// A conversation on `socket` in which nothing was said yet.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Session { stream: Arc::new(Stream::from(socket)), inbox: Inbox::default(), outbox: BytesMut::new() }
    }

    /// The socket, for watching its end.
    pub(super) fn socket(&self) -> Arc<Stream> {
        Arc::clone(&self.stream)
    }

    /// Shakes hands and receives the setup.
    pub(super) fn open(&mut self) -> Result<Setup, Broken> {
        (&*self.stream).write_all(&Hello::new(Role::Worker).encode())?;
        let answer = self.inbox.receive_answer(&mut &*self.stream)?;
        if answer.verdict != Verdict::Accepted || !(VERSION_MIN..=VERSION_MAX).contains(&answer.version) {
            return Err(Broken::Refused(answer));
        }
        match self.inbox.receive_from(&*self.stream)? {
            ToWorker::Setup { worker: _, allow_fault_injection, threads: _, commands } => {
                Ok(Setup { allow_fault_injection, commands })
            }
            ToWorker::Attempt { .. } => Err(Broken::Unexpected("Attempt before Setup")),
            ToWorker::Answer { .. } => Err(Broken::Unexpected("Answer before Setup")),
            ToWorker::Recall { .. } => Err(Broken::Unexpected("Recall before Setup")),
            ToWorker::Stop => Err(Broken::Receive(ReceiveError::Closed)),
        }
    }

    /// The next of the messages that were read, if there is one.
    pub(super) fn next_received(&mut self) -> Result<Option<ToWorker>, Broken> {
        Ok(self.inbox.next_message().map_err(ReceiveError::Wire)?)
    }

    /// Reads once, waiting until something is there.
    pub(super) fn read(&mut self) -> Result<(), Broken> {
        match self.inbox.fill_from(&*self.stream).map_err(ReceiveError::Io)? {
            Filled::Bytes { .. } => Ok(()),
            Filled::End => Err(ReceiveError::Closed.into()),
            Filled::Nothing => Err(ReceiveError::Io(io::ErrorKind::WouldBlock.into()).into()),
        }
    }

    /// Reads all that is there now.
    pub(super) fn read_available(&mut self) -> Result<(), Broken> {
        while descriptor::is_readable(&*self.stream).map_err(ReceiveError::Io)? {
            self.read()?;
        }
        Ok(())
    }

    /// Says `message`, waiting until it is written.
    pub(super) fn say(&mut self, message: &FromWorker) -> Result<(), Broken> {
        self.outbox.clear();
        wire::encode(message, &mut self.outbox)?;
        Ok((&*self.stream).write_all(&self.outbox)?)
    }
}
