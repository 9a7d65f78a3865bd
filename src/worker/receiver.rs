//! The half of a worker's socket that messages come in by: read by the loop, until functions ask.
//!
//! ```text
//!   socket ──> loop                      while no function has asked anything
//!   socket ──> router ──> loop           from then on, all but answers,
//!                └──> desk ──> function  which go to whoever asked
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

use interprocess::os::unix::uds_local_socket::Stream;

use super::asking::Desk;
use super::session::Broken;
use crate::message::worker::ToWorker;
use crate::os::descriptor;
use crate::wire::{Filled, Inbox, ReceiveError};

/// Where a worker's loop gets its messages.
pub(super) struct Receiver {
    stream: Arc<Stream>,
    source: Arc<Mutex<Source>>,
}

/// Who reads the socket.
enum Source {
    /// The loop itself.
    Socket(Inbox),
    /// A thread, for the functions that wait for answers.
    Router { messages: mpsc::Receiver<Result<ToWorker, ReceiveError>>, received: VecDeque<ToWorker> },
}

impl Receiver {
    /// Messages from `stream`, after what is in `inbox`.
    pub(super) fn new(stream: Arc<Stream>, inbox: Inbox) -> Self {
        Receiver { stream, source: Arc::new(Mutex::new(Source::Socket(inbox))) }
    }

    /// The next of the messages that were read, if there is one.
    pub(super) fn next_received(&mut self) -> Result<Option<ToWorker>, Broken> {
        match &mut *lock(&self.source) {
            Source::Socket(inbox) => Ok(inbox.next_message().map_err(ReceiveError::Wire)?),
            Source::Router { received, .. } => Ok(received.pop_front()),
        }
    }

    /// Reads once, waiting until something is there, [undisturbed](Inbox::fill_undisturbed) by what becomes of what
    /// was written.
    pub(super) fn read(&mut self) -> Result<(), Broken> {
        self.read_by(|inbox, stream| inbox.fill_undisturbed(stream))
    }

    /// The same with a system call less, where next to nothing is written that could disturb it.
    pub(super) fn read_in_quiet(&mut self) -> Result<(), Broken> {
        self.read_by(|inbox, stream| inbox.fill_from_waiting(stream))
    }

    fn read_by(
        &mut self,
        read: impl FnOnce(&mut Inbox, &Stream) -> Result<(), ReceiveError>,
    ) -> Result<(), Broken> {
        match &mut *lock(&self.source) {
            Source::Socket(inbox) => Ok(read(inbox, &self.stream)?),
            Source::Router { messages, received } => {
                received.push_back(messages.recv().unwrap_or(Err(ReceiveError::Closed))?);
                Ok(())
            }
        }
    }

    /// Reads all that is there now.
    pub(super) fn read_available(&mut self) -> Result<(), Broken> {
        match &mut *lock(&self.source) {
            Source::Socket(inbox) => {
                while descriptor::is_readable(&*self.stream).map_err(ReceiveError::Io)? {
                    read_once(&self.stream, inbox)?;
                }
            }
            Source::Router { messages, received } => {
                for message in messages.try_iter() {
                    received.push_back(message?);
                }
            }
        }
        Ok(())
    }

    /// What gives the socket to a thread of its own, for good: for a loop that calls functions itself, and
    /// so reads nothing while they wait. To be called in such a call.
    pub(super) fn handover(&self) -> impl Fn(&Arc<Desk>) -> io::Result<()> + Send + Sync + 'static {
        let (stream, source) = (Arc::clone(&self.stream), Arc::clone(&self.source));
        move |desk| {
            // The loop locks it between calls alone.
            let mut source = lock(&source);
            let Source::Socket(inbox) = &mut *source else { return Ok(()) };
            let (loops, messages) = channel();
            let router = Router {
                stream: Arc::clone(&stream),
                inbox: mem::take(inbox),
                desk: Arc::clone(desk),
                loops,
            };
            thread::Builder::new().name("router".to_owned()).spawn(move || router.run())?;
            *source = Source::Router { messages, received: VecDeque::new() };
            Ok(())
        }
    }
}

/// Reads the socket, for the functions that wait for answers and for the loop that called them.
struct Router {
    stream: Arc<Stream>,
    inbox: Inbox,
    desk: Arc<Desk>,
    loops: mpsc::Sender<Result<ToWorker, ReceiveError>>,
}

impl Router {
    /// Goes on until the socket ends, or the loop does.
    fn run(mut self) {
        loop {
            match self.inbox.receive_undisturbed(&*self.stream) {
                Ok(ToWorker::Answer { attempt, reply }) => self.desk.deliver(attempt, *reply),
                received => {
                    let is_last = received.is_err();
                    if self.loops.send(received).is_err() || is_last {
                        return;
                    }
                }
            }
        }
    }
}

fn read_once(stream: &Stream, inbox: &mut Inbox) -> Result<(), Broken> {
    match inbox.fill_from(stream).map_err(ReceiveError::Io)? {
        Filled::Bytes { .. } => Ok(()),
        Filled::End => Err(ReceiveError::Closed.into()),
        Filled::Nothing => Err(ReceiveError::Io(io::ErrorKind::WouldBlock.into()).into()),
    }
}

/// A panic leaves nothing half done here: each change is a single step.
fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
