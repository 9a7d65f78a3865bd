//! gearmand, by its binary protocol (<http://gearman.org/protocol/>): as many requests in a write as there are,
//! and as many replies in a read. Its workers ask for one job at a time, as those of its library do, or for many,
//! as the protocol would allow.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Peer;
use super::server::{Server, connect};
use crate::Failure;
use crate::role::Role;

const CAN_DO: u32 = 1;
const PRE_SLEEP: u32 = 4;
const NOOP: u32 = 6;
const SUBMIT_JOB: u32 = 7;
const JOB_CREATED: u32 = 8;
const GRAB_JOB: u32 = 9;
const NO_JOB: u32 = 10;
const JOB_ASSIGN: u32 = 11;
const WORK_COMPLETE: u32 = 13;

const FUNCTION: &[u8] = b"nothing";

/// Jobs submitted and not done, as many for each of the two workers as the floor has.
const IN_FLIGHT: usize = 128;

/// How its workers go about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The next job is asked for with the result of the one before.
    AsItsLibrary,
    /// Up to 64 jobs are asked for at a time, and their results sent together.
    Pipelined,
}

impl Manner {
    pub const ALL: [Manner; 2] = [Manner::AsItsLibrary, Manner::Pipelined];

    pub const fn name(self) -> &'static str {
        match self {
            Manner::AsItsLibrary => "gearmand",
            Manner::Pipelined => "gearmand, pipelined workers",
        }
    }

    /// The most jobs that a worker asks for at a time.
    pub const fn ahead_max(self) -> usize {
        match self {
            Manner::AsItsLibrary => 1,
            Manner::Pipelined => 64,
        }
    }
}

/// A connection with what is to be sent and what was received.
struct Wire {
    stream: TcpStream,
    unsent: Vec<u8>,
    received: VecDeque<u8>,
    chunk: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Wire { stream, unsent: Vec::new(), received: VecDeque::new(), chunk: vec![0; 64 * 1024] }
    }

    /// Adds a request to what is to be sent: its arguments with a zero byte between them.
    fn push(&mut self, kind: u32, arguments: &[&[u8]]) {
        let body = arguments.join(&0);
        self.unsent.extend_from_slice(b"\0REQ");
        self.unsent.extend_from_slice(&kind.to_be_bytes());
        // Arguments are a few bytes here.
        self.unsent.extend_from_slice(&(body.len() as u32).to_be_bytes());
        self.unsent.extend_from_slice(&body);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Waits for the next packet: its kind and its body.
    fn receive(&mut self) -> Result<(u32, Vec<u8>), Failure> {
        loop {
            if let Some(packet) = self.take() {
                return Ok(packet);
            }
            match self.stream.read(&mut self.chunk)? {
                0 => return Err("gearmand has hung up".into()),
                bytes => self.received.extend(&self.chunk[..bytes]),
            }
        }
    }

    /// The next packet that was received as a whole.
    fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        let received = self.received.make_contiguous();
        let (header, rest) = received.split_first_chunk::<12>()?;
        let [_, _, _, _, k0, k1, k2, k3, b0, b1, b2, b3] = *header;
        let bytes = u32::from_be_bytes([b0, b1, b2, b3]) as usize;
        let body = rest.get(..bytes)?.to_vec();
        self.received.drain(..12 + bytes);
        Some((u32::from_be_bytes([k0, k1, k2, k3]), body))
    }
}

/// A worker: takes jobs, as many at a time as there are but no more than `ahead_max`, until gearmand is gone.
pub fn work(port: u16, ahead_max: usize) -> Result<(), Failure> {
    let mut wire = Wire::new(connect(port)?);
    wire.push(CAN_DO, &[FUNCTION]);
    let mut ahead = 1;
    loop {
        (0..ahead).for_each(|_| wire.push(GRAB_JOB, &[]));
        wire.flush()?;
        let mut replies = 0;
        let mut jobs = 0;
        while replies < ahead {
            match wire.receive()? {
                (NO_JOB, _) => replies += 1,
                (JOB_ASSIGN, body) => {
                    replies += 1;
                    jobs += 1;
                    let mut fields = body.splitn(3, |byte| *byte == 0);
                    let (handle, _, argument) = (fields.next(), fields.next(), fields.next());
                    let (handle, argument) = handle.zip(argument).ok_or("gearmand assigned half a job")?;
                    wire.push(WORK_COMPLETE, &[handle, argument]);
                }
                (NOOP, _) => {}
                (kind, _) => return Err(format!("gearmand said {kind} to a worker").into()),
            }
        }
        ahead = if jobs < ahead { 1 } else { (2 * ahead).min(ahead_max) };
        if jobs == 0 {
            wire.push(PRE_SLEEP, &[]);
            wire.flush()?;
            while wire.receive()?.0 != NOOP {}
        }
    }
}

/// gearmand with two workers, and a client of it.
pub struct Gearman {
    manner: Manner,
    wire: Wire,
    /// Of the next job: jobs of the same number would be one.
    number: u64,
    _server: Server,
}

impl Gearman {
    /// Nothing where it is not installed.
    pub fn start(manner: Manner) -> Result<Option<Self>, Failure> {
        let flags = |command: &mut Command, port: u16, directory: &Path| {
            command.args(["--listen=127.0.0.1", "--log-file=none", "--user=root"]);
            command.arg(format!("--port={port}")).stderr(Stdio::null());
            // It removes what is there by that name, a device too.
            command.arg("--pid-file").arg(directory.join("pid"));
        };
        let worker = |port| Role::Gearman { port, ahead_max: manner.ahead_max() };
        let started = Server::start("gearmand", flags, worker)?;
        Ok(started.map(|(server, stream)| {
            let wire = Wire::new(stream);
            Gearman { manner, wire, number: 0, _server: server }
        }))
    }

    fn submit(&mut self) {
        self.number += 1;
        self.wire.push(SUBMIT_JOB, &[FUNCTION, self.number.to_string().as_bytes(), b"x"]);
    }

    /// Waits until a job is done.
    fn wait(&mut self) -> Result<(), Failure> {
        loop {
            match self.wire.receive()?.0 {
                JOB_CREATED => {}
                WORK_COMPLETE => return Ok(()),
                kind => return Err(format!("gearmand said {kind} to a client").into()),
            }
        }
    }
}

impl Peer for Gearman {
    fn name(&self) -> &'static str {
        self.manner.name()
    }

    fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure> {
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            let before = Instant::now();
            self.submit();
            self.wire.flush()?;
            self.wait()?;
            micros.push(before.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    fn throughput(&mut self, tasks: usize) -> Result<f64, Failure> {
        let before = Instant::now();
        let mut submitted = 0;
        for done in 0..tasks {
            // Half of them at a time, so that there is more than one in a write.
            if submitted - done <= IN_FLIGHT / 2 && submitted < tasks {
                let more = (IN_FLIGHT - (submitted - done)).min(tasks - submitted);
                (0..more).for_each(|_| self.submit());
                self.wire.flush()?;
                submitted += more;
            }
            self.wait()?;
        }
        Ok(tasks as f64 / before.elapsed().as_secs_f64())
    }
}
