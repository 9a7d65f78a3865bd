//! The floor: a bare relay between a client and echoing processes, over the same kind of sockets as the pool's,
//! with messages of 64 bytes. The relay waits by epoll and never blocks on a socket, as the daemon does; the client
//! blocks on its own. Nothing in it decodes, looks up or remembers anything.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use mio::{Events, Interest, Poll, Token};
use tempfile::TempDir;

use crate::Failure;
use crate::role::{Role, start};

const MESSAGE_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 * 1024;

/// Messages on their way to each echoing process and back. All of them fit into a socket, so that no write to one
/// is ever short.
const IN_FLIGHT: usize = 64;

const CLIENT: Token = Token(0);

/// Sends back what comes, all that there is at a time.
pub fn echo(mut socket: UnixStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match socket.read(&mut chunk)? {
            0 => return Ok(()),
            bytes => socket.write_all(&chunk[..bytes])?,
        }
    }
}

/// A socket that never blocks and tells when there is something to read.
fn watch(stream: UnixStream, poll: &Poll, token: Token) -> io::Result<mio::net::UnixStream> {
    stream.set_nonblocking(true)?;
    let mut stream = mio::net::UnixStream::from_std(stream);
    poll.registry().register(&mut stream, token, Interest::READABLE)?;
    Ok(stream)
}

/// The process in the middle.
struct Relay {
    poll: Poll,
    legs: Vec<mio::net::UnixStream>,
    _children: Vec<Child>,
}

impl Relay {
    /// To so many echoing processes.
    fn start(echoes: usize) -> Result<Self, Failure> {
        let mut relay = Relay { poll: Poll::new()?, legs: Vec::new(), _children: Vec::new() };
        for index in 0..echoes {
            let (child, socket) = start(Role::Echo)?;
            relay._children.push(child);
            relay.legs.push(watch(socket, &relay.poll, Token(index + 1))?);
        }
        Ok(relay)
    }

    /// Passes on what comes from `client`, and back, until it hangs up.
    fn serve(&mut self, client: UnixStream) -> Result<(), Failure> {
        let mut client = watch(client, &self.poll, CLIENT)?;
        let legs = &mut self.legs;
        let mut events = Events::with_capacity(16);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut next = 0;
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let from_client = event.token() == CLIENT;
                let from = if from_client { &mut client } else { &mut legs[event.token().0 - 1] };
                // All that is there comes with one read: it is less than a chunk.
                let bytes = match from.read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                };
                if !from_client {
                    client.write_all(&chunk[..bytes])?;
                    continue;
                }
                // To each process in turn an even share of what came.
                let share = (bytes / MESSAGE_BYTES).div_ceil(legs.len()) * MESSAGE_BYTES;
                for part in chunk[..bytes].chunks(share.max(MESSAGE_BYTES)) {
                    next = (next + 1) % legs.len();
                    legs[next].write_all(part)?;
                }
            }
        }
    }
}

/// Passes on what comes from `client` to so many echoing processes, and back.
pub fn relay(client: UnixStream, echoes: usize) -> Result<(), Failure> {
    Relay::start(echoes)?.serve(client)
}

/// The same for whoever connects, one after the other.
pub fn serve(listener: UnixListener) -> Result<(), Failure> {
    let mut relay = Relay::start(1)?;
    loop {
        relay.serve(listener.accept()?.0)?;
    }
}

/// Connects and makes one round trip.
pub fn call(socket: &Path) -> Result<(), Failure> {
    let mut socket = UnixStream::connect(socket)?;
    let mut message = [7; MESSAGE_BYTES];
    socket.write_all(&message)?;
    Ok(socket.read_exact(&mut message)?)
}

/// A relay that listens, killed when it is dropped.
pub struct RelayServer {
    child: Child,
    directory: TempDir,
}

impl RelayServer {
    /// To one echoing process.
    pub fn start() -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let listener = UnixListener::bind(directory.path().join("relay.sock"))?;
        let child = Role::RelayServer.command().stdin(Stdio::from(OwnedFd::from(listener))).spawn()?;
        Ok(RelayServer { child, directory })
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("relay.sock")
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client's side.
pub struct Floor {
    child: Child,
    socket: UnixStream,
    echoes: usize,
}

impl Floor {
    /// A relay to so many echoing processes.
    pub fn start(echoes: usize) -> Result<Self, Failure> {
        let (child, socket) = start(Role::Relay { echoes })?;
        let mut floor = Floor { child, socket, echoes };
        floor.round_trips(10)?;
        Ok(floor)
    }

    /// The relay.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Microseconds of each of so many round trips.
    pub fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure> {
        let mut message = [7; MESSAGE_BYTES];
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            let before = Instant::now();
            self.socket.write_all(&message)?;
            self.socket.read_exact(&mut message)?;
            micros.push(before.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    /// Messages in a second, with as many on their way as the processes may hold.
    pub fn stream(&mut self, messages: usize) -> Result<f64, Failure> {
        let chunk = vec![7; CHUNK_BYTES];
        let mut back = vec![0; CHUNK_BYTES];
        let window = IN_FLIGHT * self.echoes * MESSAGE_BYTES;
        let total = messages * MESSAGE_BYTES;
        let (mut sent, mut received) = (0, 0);
        let before = Instant::now();
        while received < total {
            let under_way = sent - received;
            // Half a window at a time: who writes less at a time writes and wakes the more often.
            if under_way <= window / 2 {
                let more = (window - under_way).min(total - sent);
                self.socket.write_all(&chunk[..more])?;
                sent += more;
            }
            match self.socket.read(&mut back)? {
                0 => return Err("the relay has ended".into()),
                bytes => received += bytes,
            }
        }
        Ok(messages as f64 / before.elapsed().as_secs_f64())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It ends with its socket, which is shut before it is waited for.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}
