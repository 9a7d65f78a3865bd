//! The worker's side of its socket: handshake, messages in, messages out.
//!
//! Messages come in by the [`Receiver`] and go out by the [`Sender`], which may belong to different threads.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use interprocess::os::unix::uds_local_socket::Stream;
use rustix::net::{Shutdown, shutdown};

use super::receiver::Receiver;
use crate::message::command::CommandSpec;
use crate::message::resources::WorkLimits;
use crate::message::worker::{self as message, FromWorker, ToWorker};
use crate::wire::{
    self, Answer, Hello, Inbox, Outbox, ReceiveError, Role, VERSION_MAX, VERSION_MIN, Verdict,
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
    /// There is no thread to run an attempt on.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
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
            | Broken::Encode(_)
            | Broken::Thread(_) => false,
        }
    }
}

/// What the daemon says first.
pub(super) struct Setup {
    /// Whether functions that show faults may be announced.
    pub(super) allow_fault_injection: bool,
    /// How many attempts are run at a time, at least 1.
    pub(super) threads: u32,
    /// Functions that run a command.
    pub(super) commands: Vec<CommandSpec>,
    /// What its attempts may use.
    pub(super) limits: WorkLimits,
    /// Bytes in the largest result.
    pub(super) payload_bytes_max: u64,
    /// The page that it shares with the daemon, if it is to: its memory and its bell.
    pub(super) page: Option<[OwnedFd; 2]>,
}

/// A blocking conversation with the daemon.
pub(super) struct Session {
    pub(super) receiver: Receiver,
    pub(super) sender: Arc<Sender>,
    stream: Arc<Stream>,
}

/// The half that messages go out by. Any thread may say something.
pub(super) struct Sender {
    stream: Arc<Stream>,
    /// Holds what is being written, and is locked meanwhile.
    outbox: Mutex<Outbox>,
}

impl Session {
    /// A conversation on `socket` in which nothing was said yet.
    pub(super) fn new(socket: OwnedFd) -> Self {
        let stream = Arc::new(Stream::from(socket));
        let sender = Arc::new(Sender { stream: Arc::clone(&stream), outbox: Mutex::default() });
        Session { receiver: Receiver::new(Arc::clone(&stream), Inbox::default()), sender, stream }
    }

    /// The socket, for watching its end.
    pub(super) fn socket(&self) -> Arc<Stream> {
        Arc::clone(&self.stream)
    }

    /// Shakes hands and receives the setup.
    pub(super) fn open(&mut self) -> Result<Setup, Broken> {
        let (stream, mut inbox) = (&*self.stream, Inbox::default());
        (&*stream).write_all(&Hello::new(Role::Worker).encode())?;
        let answer = inbox.receive_answer_from(stream)?;
        if answer.verdict != Verdict::Accepted || !(VERSION_MIN..=VERSION_MAX).contains(&answer.version) {
            return Err(Broken::Refused(answer));
        }
        let setup = match inbox.receive_from(stream)? {
            ToWorker::Setup(setup) => {
                let message::Setup {
                    worker: _,
                    allow_fault_injection,
                    threads,
                    commands,
                    limits,
                    payload_bytes_max,
                    page,
                } = *setup;
                let page = page.descriptors.into_files().and_then(|files| files.try_into().ok());
                let threads = threads.max(1);
                Setup { allow_fault_injection, threads, commands, limits, payload_bytes_max, page }
            }
            ToWorker::Attempt { .. } | ToWorker::Attempts { .. } => {
                return Err(Broken::Unexpected("Attempt before Setup"));
            }
            ToWorker::Answer { .. } => return Err(Broken::Unexpected("Answer before Setup")),
            ToWorker::Recall { .. } => return Err(Broken::Unexpected("Recall before Setup")),
            ToWorker::Stop => return Err(Broken::Receive(ReceiveError::Closed)),
        };
        self.receiver = Receiver::new(Arc::clone(&self.stream), inbox);
        Ok(setup)
    }
}

impl Sender {
    /// Says `message`, waiting until it is written.
    pub(super) fn say(&self, message: &FromWorker) -> Result<(), Broken> {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.push(message)?;
        // What fails to be written ends the conversation: the rest of it is never sent.
        Ok(outbox.send_all(&*self.stream).map_err(io::Error::from)?)
    }

    /// Ends what is read: whoever waits for a message finds its end. Messages still go out.
    pub(super) fn end_reading(&self) {
        // Failing, it would be because the conversation has ended.
        let _ = shutdown(&*self.stream, Shutdown::Read);
    }

    /// Ends the conversation: whoever waits for a message finds its end.
    pub(super) fn end(&self) {
        // Failing, it would be because the conversation has ended.
        let _ = shutdown(&*self.stream, Shutdown::Both);
    }
}
