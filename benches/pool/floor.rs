//! The floor: a bare relay between a client and echoing processes, over the same kind of sockets as the pool's,
//! with messages of 64 bytes. The relay waits by epoll and never blocks on a socket, as the daemon does; the client
//! blocks on its own. Nothing in it decodes, looks up or remembers anything.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Instant;

use mio::{Events, Interest, Poll, Token};

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

/// Passes on what comes from `client` to so many echoing processes, and back.
pub fn relay(client: UnixStream, echoes: usize) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut client = watch(client, &poll, CLIENT)?;
    let mut children = Vec::new();
    let mut legs = Vec::new();
    for index in 0..echoes {
        let (child, socket) = start(Role::Echo)?;
        children.push(child);
        legs.push(watch(socket, &poll, Token(index + 1))?);
    }
    let mut events = Events::with_capacity(16);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut next = 0;
    loop {
        poll.poll(&mut events, None)?;
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
            let room = (window - (sent - received)).min(total - sent);
            if room > 0 {
                self.socket.write_all(&chunk[..room])?;
                sent += room;
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
