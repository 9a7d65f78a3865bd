//! The floor: a bare relay between a client and echoing processes, over the same kind of sockets as the pool's,
//! with messages of 64 bytes. The relay waits by epoll and never blocks on a socket, as the daemon does; the client
//! blocks on its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use mio::{Events, Interest, Poll, Token};

const MESSAGE_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 * 1024;

/// Messages on their way to each echoing process and back.
const IN_FLIGHT: usize = 64;

const CLIENT: Token = Token(0);

/// What a process of the floor does.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Passes on what comes, from standard input to the processes it starts, and back.
    Relay { echoes: usize },
    /// Sends back what comes on standard input.
    Echo,
}

impl Role {
    /// The role that an argument names.
    pub fn named(argument: &str) -> Option<Self> {
        match argument.strip_prefix("--floor=")? {
            "echo" => Some(Role::Echo),
            echoes => Some(Role::Relay { echoes: echoes.parse().ok()? }),
        }
    }

    /// Plays it until the other side is gone.
    pub fn play(self) -> io::Result<()> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        match self {
            Role::Relay { echoes } => relay(socket, echoes),
            Role::Echo => echo(socket),
        }
    }
}

/// Starts this program in a role; gives its socket too.
fn start(role: &str) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg(format!("--floor={role}"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok((child, ours))
}

fn echo(mut socket: UnixStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match socket.read(&mut chunk)? {
            0 => return Ok(()),
            bytes => socket.write_all(&chunk[..bytes])?,
        }
    }
}

/// A socket that never blocks, and what it did not take yet.
struct Leg {
    stream: mio::net::UnixStream,
    unsent: Vec<u8>,
}

impl Leg {
    fn new(stream: UnixStream, poll: &Poll, token: Token) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::UnixStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Leg { stream, unsent: Vec::new() })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(bytes) => _ = self.unsent.drain(..bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn relay(client: UnixStream, echoes: usize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut client = Leg::new(client, &poll, CLIENT)?;
    let mut children = Vec::new();
    let mut legs = Vec::new();
    for index in 0..echoes {
        let (child, socket) = start("echo")?;
        children.push(child);
        legs.push(Leg::new(socket, &poll, Token(index + 1))?);
    }
    let mut events = Events::with_capacity(16);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut next = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let from_client = event.token() == CLIENT;
            loop {
                let from = if from_client { &mut client } else { &mut legs[event.token().0 - 1] };
                from.flush()?;
                let bytes = match from.stream.read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                if !from_client {
                    client.send(&chunk[..bytes])?;
                    continue;
                }
                // To each process in turn an even share of what came.
                let share = (bytes / MESSAGE_BYTES).div_ceil(legs.len()) * MESSAGE_BYTES;
                for part in chunk[..bytes].chunks(share.max(MESSAGE_BYTES)) {
                    next = (next + 1) % legs.len();
                    legs[next].send(part)?;
                }
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
    pub fn start(echoes: usize) -> io::Result<Self> {
        let (child, socket) = start(&echoes.to_string())?;
        Ok(Floor { child, socket, echoes })
    }

    /// Microseconds of each of so many round trips.
    pub fn round_trips(&mut self, trips: usize) -> io::Result<Vec<f64>> {
        let mut message = [7; MESSAGE_BYTES];
        (0..trips)
            .map(|_| {
                let before = Instant::now();
                self.socket.write_all(&message)?;
                self.socket.read_exact(&mut message)?;
                Ok(before.elapsed().as_secs_f64() * 1e6)
            })
            .collect()
    }

    /// Messages in a second, with as many on their way as the processes may hold.
    pub fn stream(&mut self, messages: usize) -> io::Result<f64> {
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
            received += self.socket.read(&mut back)?;
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
