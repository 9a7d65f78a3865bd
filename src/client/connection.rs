//! One connection: opened, greeted, and used as two halves.
//!
//! ```text
//!   caller                                daemon
//!     │ ────────────── hello ──────────────> │
//!     │ <───────────── answer ────────────── │   which version, or why not
//!     │ <───────────── Welcome ───────────── │
//!     │ ────────────── Request n ──────────> │   Sender
//!     │ <───────────── Reply to n ────────── │   Receiver, in any order
//! ```
//!
//! The end of the connection cancels the attached tasks that it submitted: dropping both halves, or the
//! end of the process, is all that takes.
//!
//! A function that runs in a worker has no socket of its own: its requests and replies go over the
//! worker's, without a handshake, and end with the function.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use interprocess::local_socket::{GenericFilePath, prelude::*};
use interprocess::os::unix::uds_local_socket::Stream;

use super::error::{Access, Error, Tried};
use super::locate::socket_paths;
use super::requests::Requests;
use crate::id::{Pid, RequestId, TaskId};
use crate::limits::OUTBOX_BYTES_HIGH;
use crate::line::{Line, LineError, Place};
use crate::message::Message;
use crate::message::client::{Refusal, Reply, ReplyBody, RequestBody, Welcome};
use crate::task::{Outcome, Payload};
use crate::wire::{Hello, Inbox, Outbox, ReceiveError, Role, Verdict};

/// A connection to the daemon, for one request at a time. [`Connection::split`] it for more.
#[derive(Debug)]
pub struct Connection {
    path: Option<PathBuf>,
    welcome: Welcome,
    sender: Sender,
    receiver: Receiver,
    requests: u64,
}

/// The half that requests leave by.
#[derive(Debug)]
pub struct Sender {
    way: WayOut,
    /// Those that wait to be sent.
    requests: Requests,
    payload_bytes_max: u64,
}

/// The half that replies come in by.
#[derive(Debug)]
pub struct Receiver {
    way: WayIn,
    /// What was told with one reply and is given out as several.
    apart: Option<Run>,
}

/// How requests leave.
#[derive(Debug)]
enum WayOut {
    Socket(Arc<Stream>),
    Line(Arc<dyn Line>),
}

/// How replies come in.
#[derive(Debug)]
enum WayIn {
    Socket { stream: Arc<Stream>, inbox: Inbox },
    Line(Arc<dyn Line>),
}

impl Connection {
    /// Connects to the first daemon that listens on [`socket_paths`]`(named)`. In a function that runs in a
    /// worker it is the worker's daemon, unless another one is named.
    ///
    /// # Errors
    /// [`Error::NoDaemon`] when nobody listens on any of them, else what [`Connection::connect`] gives for
    /// the first on which somebody does. In a worker, [`Error::BesideFunctions`] on a thread other than its
    /// function's, and [`Error::Gone`] when the daemon cannot be reached.
    pub fn open(named: Option<&Path>) -> Result<Self, Error> {
        if named.is_none() {
            match Place::here().map_err(from_line_error)? {
                Place::Function(line) => return Ok(Connection::over_line(line)),
                Place::BesideFunctions => return Err(Error::BesideFunctions),
                Place::Program => {}
            }
        }
        let mut tried = Vec::new();
        for path in socket_paths(named) {
            match Self::connect(&path) {
                Err(Error::NoDaemon { tried: nobody }) => tried.extend(nobody),
                connected => return connected,
            }
        }
        Err(Error::NoDaemon { tried })
    }

    /// Connects to the daemon that listens on `path`, and waits for its welcome.
    ///
    /// # Errors
    /// - [`Error::NoDaemon`], [`Error::PermissionDenied`], [`Error::Connect`]: the socket could not be connected to.
    /// - [`Error::NotADaemon`], [`Error::NoCommonVersion`]: whoever listens speaks otherwise.
    /// - [`Error::TooManyConnections`], [`Error::TooManyOfUser`]: the daemon has no room.
    /// - [`Error::NotAllowed`]: the daemon's configuration does not let this user in.
    /// - [`Error::Gone`], [`Error::Io`]: the connection broke.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let mut connection = Connection::over_socket(connect_stream(path)?, path)?;
        connection.path = Some(path.to_path_buf());
        Ok(connection)
    }

    /// A connection over `stream`, on which nothing was said yet; messages call it `name`.
    ///
    /// # Errors
    /// As [`Connection::connect`], once it is connected.
    pub(crate) fn over_socket(stream: Stream, name: &Path) -> Result<Self, Error> {
        let mut inbox = Inbox::default();
        // If the daemon is gone, what it said before is read first.
        unless_gone((&stream).write_all(&Hello::new(Role::Client).encode()))?;
        expect_accepted(&mut inbox, &stream, name)?;
        let reply: Reply = inbox.receive(&mut &stream).map_err(from_receive_error)?;
        let ReplyBody::Welcome(welcome) = reply.body else { return Err(Error::UnexpectedReply) };
        let stream = Arc::new(stream);
        let way_in = WayIn::Socket { stream: Arc::clone(&stream), inbox };
        Ok(Connection::new(welcome, WayOut::Socket(stream), way_in))
    }

    /// A connection of a function that runs.
    fn over_line(line: Arc<dyn Line>) -> Self {
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: Pid(parent_id()),
            epoch: line.task().epoch,
            // Its worker is not told. What is too large, the daemon refuses.
            payload_bytes_max: u64::MAX,
        };
        Connection::new(welcome, WayOut::Line(Arc::clone(&line)), WayIn::Line(line))
    }

    fn new(welcome: Welcome, way_out: WayOut, way_in: WayIn) -> Self {
        let payload_bytes_max = welcome.payload_bytes_max;
        let requests = match &way_out {
            WayOut::Socket(_) => Requests::encoded(),
            WayOut::Line(_) => Requests::whole(),
        };
        Connection {
            path: None,
            welcome,
            sender: Sender { way: way_out, requests, payload_bytes_max },
            receiver: Receiver { way: way_in, apart: None },
            requests: 0,
        }
    }

    /// The socket that was connected to, if it has a path.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What the daemon said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Asks, and waits for the first reply.
    ///
    /// # Errors
    /// [`Error::Refused`] when the daemon does not do it, else as [`Sender::send`] and [`Receiver::receive`].
    pub fn call(&mut self, body: RequestBody) -> Result<ReplyBody, Error> {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.sender.send(id, body)?;
        match self.receiver.receive()? {
            (answered, _) if answered != id => Err(Error::UnexpectedReply),
            (_, ReplyBody::Refused(refusal)) => Err(Error::Refused(refusal)),
            (_, body) => Ok(body),
        }
    }

    /// Waits for a further reply: the outcome of a task that was accepted.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub fn receive(&mut self) -> Result<ReplyBody, Error> {
        self.receiver.receive().map(|(_, body)| body)
    }

    /// The two halves, for two threads. The connection ends when both are dropped.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Puts a request behind those that wait to be sent; they leave when there are many, or on
    /// [`Sender::flush`]. `id` must differ from those of all requests that are not fully answered.
    ///
    /// # Errors
    /// - [`Error::Refused`] with [`Refusal::PayloadTooLarge`]: the daemon would not take the arguments, and
    ///   nothing was sent. The connection goes on.
    /// - [`Error::Memory`]: there is no shared memory for the arguments, and nothing was sent.
    /// - [`Error::Protocol`]: the request does not fit into a frame.
    /// - as [`Sender::flush`].
    pub fn push(&mut self, id: RequestId, body: RequestBody) -> Result<(), Error> {
        let body = match body {
            RequestBody::Submit { args, .. } if args.len() > self.payload_bytes_max => {
                let (bytes, bytes_max) = (args.len(), self.payload_bytes_max);
                return Err(Refusal::PayloadTooLarge { bytes, bytes_max }.into());
            }
            RequestBody::Submit { spec, args } => {
                RequestBody::Submit { spec, args: args.fit_to_send().map_err(Error::Memory)? }
            }
            other => other,
        };
        self.requests.push(id, body)?;
        if self.requests.bytes() >= OUTBOX_BYTES_HIGH { self.flush() } else { Ok(()) }
    }

    /// Sends all that waits. Blocks while the daemon does not read; it stops reading from whoever does
    /// not read its replies, so somebody must [`Receiver::receive`] meanwhile if there are many.
    ///
    /// # Errors
    /// [`Error::Io`] when writing fails. That the daemon is gone is no error here: the [`Receiver`] says
    /// so, after all that the daemon had said before.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.way.send(&mut self.requests)
    }

    /// Sends all of `requests`, as [`flush`](Self::flush) does.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub(super) fn send_all(&mut self, requests: &mut Requests) -> Result<(), Error> {
        self.way.send(requests)
    }

    /// No requests yet, in the form that [`send_all`](Self::send_all) takes.
    pub(super) fn no_requests(&self) -> Requests {
        self.requests.none_of_the_same_kind()
    }

    /// Sends a request, and all that waits before it.
    ///
    /// # Errors
    /// As [`Sender::push`].
    pub fn send(&mut self, id: RequestId, body: RequestBody) -> Result<(), Error> {
        self.push(id, body)?;
        self.flush()
    }

    /// Ends the connection for both halves, though the other may be waiting for a reply.
    pub(super) fn close(&self) {
        match &self.way {
            // It fails only where the connection has ended already.
            WayOut::Socket(stream) => _ = stream.inner().shutdown(Shutdown::Both),
            WayOut::Line(line) => line.close(),
        }
    }

    /// Bytes in the largest arguments that the daemon takes.
    pub fn payload_bytes_max(&self) -> u64 {
        self.payload_bytes_max
    }
}

impl WayOut {
    /// Sends all of `requests`, of which none are left then, also if it fails.
    fn send(&self, requests: &mut Requests) -> Result<(), Error> {
        match (self, requests) {
            (WayOut::Socket(stream), Requests::Encoded(requests)) => {
                let outbox = requests.outbox()?;
                let sent = outbox.send_all(&**stream);
                if sent.is_err() {
                    *outbox = Outbox::default();
                }
                unless_gone(sent.map_err(io::Error::from))
            }
            (WayOut::Line(line), Requests::Whole(requests, bytes)) => {
                *bytes = 0;
                requests.drain(..).try_for_each(|request| match line.say(request) {
                    Ok(()) | Err(LineError::Over) => Ok(()),
                    Err(LineError::Io(error)) => unless_gone(Err(error)),
                    Err(LineError::Unsendable(error)) => Err(error.into()),
                })
            }
            (WayOut::Socket(_), Requests::Whole(..)) | (WayOut::Line(_), Requests::Encoded(_)) => {
                unreachable!("requests are of the kind that their sender takes")
            }
        }
    }
}

impl Receiver {
    /// Waits for the next reply, to whichever request.
    ///
    /// # Errors
    /// - [`Error::Gone`]: the daemon closed the connection.
    /// - [`Error::Refused`]: the daemon gives up this connection, and says why.
    /// - [`Error::Protocol`], [`Error::UnexpectedReply`]: what came is no reply.
    /// - [`Error::Io`]: reading failed.
    pub fn receive(&mut self) -> Result<(RequestId, ReplyBody), Error> {
        if let Some(next) = self.apart.as_mut().and_then(Iterator::next) {
            return Ok(next);
        }
        let (request, body) = self.receive_whole()?;
        let mut run = match body {
            ReplyBody::AllAccepted { first, count } => Run { request, task: first, count, results: None },
            ReplyBody::AllDone { first, results } => {
                let each: Vec<Payload> = results.each().collect();
                Run { request, task: first, count: results.count(), results: Some(each.into_iter()) }
            }
            one => return Ok((request, one)),
        };
        let first = run.next();
        self.apart = Some(run);
        first.ok_or(Error::UnexpectedReply)
    }

    /// As [`receive`](Self::receive), with what was told of many with one reply as that.
    pub(super) fn receive_whole(&mut self) -> Result<(RequestId, ReplyBody), Error> {
        let reply = match &mut self.way {
            WayIn::Socket { stream, inbox } => {
                inbox.receive_undisturbed(stream.inner()).map_err(from_receive_error)?
            }
            WayIn::Line(line) => line.hear().map_err(from_line_error)?,
        };
        take_in(reply)
    }

    /// The next reply, as [`receive_whole`](Self::receive_whole) gives it, if it came with the one before; without
    /// waiting.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub(super) fn receive_next(&mut self) -> Result<Option<(RequestId, ReplyBody)>, Error> {
        match &mut self.way {
            WayIn::Socket { inbox, .. } => inbox.next_message()?.map(take_in).transpose(),
            WayIn::Line(_) => Ok(None),
        }
    }
}

/// What was told with one reply of requests and tasks that count on: the first that was not given out, and how many
/// there are.
#[derive(Debug)]
struct Run {
    request: RequestId,
    task: TaskId,
    count: u32,
    /// If they are done.
    results: Option<vec::IntoIter<Payload>>,
}

impl Iterator for Run {
    type Item = (RequestId, ReplyBody);

    fn next(&mut self) -> Option<Self::Item> {
        let Run { request, task, .. } = *self;
        self.count = self.count.checked_sub(1)?;
        self.request = request.plus(1);
        self.task = task.plus(1);
        let body = match &mut self.results {
            None => ReplyBody::Accepted { task },
            Some(results) => ReplyBody::Done { task, outcome: Outcome::Ok(results.next()?) },
        };
        Some((request, body))
    }
}

fn take_in(mut reply: Reply) -> Result<(RequestId, ReplyBody), Error> {
    if let Some(result) = reply.payload_mut() {
        result.spare_descriptor();
    }
    numbered(reply)
}

/// A reply and the request that it belongs to.
fn numbered(Reply { request, body }: Reply) -> Result<(RequestId, ReplyBody), Error> {
    match (request, body) {
        (Some(id), body) => Ok((id, body)),
        (None, ReplyBody::Refused(refusal)) => Err(Error::Refused(refusal)),
        (None, _) => Err(Error::UnexpectedReply),
    }
}

/// Reads the daemon's answer to the hello, and goes on only with one that accepts it.
fn expect_accepted(inbox: &mut Inbox, mut stream: &Stream, name: &Path) -> Result<(), Error> {
    let not_a_daemon = || Error::NotADaemon { path: name.to_path_buf() };
    let answer = inbox.receive_answer(&mut stream).map_err(|error| match error {
        ReceiveError::Wire(_) => not_a_daemon(),
        other => from_receive_error(other),
    })?;
    match answer.verdict {
        Verdict::Accepted => Ok(()),
        Verdict::NotAHandshake | Verdict::WrongRole => Err(not_a_daemon()),
        Verdict::NoCommonVersion => Err(Error::NoCommonVersion { daemon_version: answer.version }),
        Verdict::TooManyConnections => Err(Error::TooManyConnections),
        Verdict::NotAllowed => Err(Error::NotAllowed),
        Verdict::TooManyOfUser => Err(Error::TooManyOfUser),
    }
}

fn connect_stream(path: &Path) -> Result<Stream, Error> {
    let connected = path.to_fs_name::<GenericFilePath>().and_then(Stream::connect);
    connected.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
            nobody_listens(path, source)
        }
        // Where the directory may not even be searched, nobody can say that somebody listens.
        io::ErrorKind::PermissionDenied => match Access::of(path) {
            Ok(access) => Error::PermissionDenied { path: path.to_path_buf(), access },
            Err(_) => nobody_listens(path, source),
        },
        _ => Error::Connect { path: path.to_path_buf(), source },
    })
}

fn nobody_listens(path: &Path, source: io::Error) -> Error {
    Error::NoDaemon { tried: vec![Tried { path: path.to_path_buf(), source }] }
}

fn from_receive_error(error: ReceiveError) -> Error {
    match error {
        ReceiveError::Closed => Error::Gone,
        ReceiveError::Wire(error) => Error::Protocol(error),
        ReceiveError::Io(error) if is_gone(&error) => Error::Gone,
        ReceiveError::Io(error) => Error::Io(error),
    }
}

fn from_line_error(error: LineError) -> Error {
    match error {
        LineError::Over => Error::Gone,
        LineError::Unsendable(error) => Error::Protocol(error),
        LineError::Io(error) if is_gone(&error) => Error::Gone,
        LineError::Io(error) => Error::Io(error),
    }
}

/// For writing: that the daemon is gone is for the receiving half to say, after all that came before.
fn unless_gone(written: io::Result<()>) -> Result<(), Error> {
    match written {
        Err(error) if is_gone(&error) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether the peer closed its end: a daemon that died with our bytes unread shows as a reset.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
