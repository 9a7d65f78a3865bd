//! beanstalkd, by its text protocol: a tube of calls to the workers and one of results back, as many commands in a
//! write as there are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::Peer;
use super::server::{Server, connect};
use crate::Failure;
use crate::role::Role;

/// Calls made and not answered, as many for each of the two workers as the floor has.
const IN_FLIGHT: usize = 128;

/// The most that is taken from a tube at a time.
const AHEAD_MAX: usize = 64;

/// A connection that takes from one tube and puts into another.
struct Wire {
    stream: BufReader<TcpStream>,
    unsent: Vec<u8>,
    line: String,
    /// How many to ask for at a time.
    ahead: usize,
    /// Commands sent whose replies say nothing of interest, and come before all further ones.
    unanswered: usize,
}

impl Wire {
    fn new(stream: TcpStream, from: &str, into: &str) -> Result<Self, Failure> {
        let mut wire = Wire {
            stream: BufReader::with_capacity(64 * 1024, stream),
            unsent: Vec::new(),
            line: String::new(),
            ahead: 1,
            unanswered: 0,
        };
        wire.push(&format!("use {into}\r\nwatch {from}\r\nignore default\r\n"), 3);
        Ok(wire)
    }

    /// Adds commands to what is to be sent.
    fn push(&mut self, commands: &str, count: usize) {
        self.unsent.extend_from_slice(commands.as_bytes());
        self.unanswered += count;
    }

    fn put(&mut self) {
        self.push("put 0 0 60 1\r\nx\r\n", 1);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.stream.get_mut().write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Sends all that there is, and takes what is in the tube: at least one, which it waits for.
    fn take(&mut self) -> Result<usize, Failure> {
        self.unsent.extend_from_slice(b"reserve\r\n");
        (1..self.ahead).for_each(|_| self.unsent.extend_from_slice(b"reserve-with-timeout 0\r\n"));
        self.flush()?;
        for _ in 0..std::mem::take(&mut self.unanswered) {
            self.read_line()?;
        }
        let mut taken = 0;
        for _ in 0..self.ahead {
            taken += usize::from(self.take_one()?);
        }
        self.ahead = if taken < self.ahead { taken } else { (2 * self.ahead).min(AHEAD_MAX) };
        Ok(taken)
    }

    /// Reads the reply to one request to take, and has what it brought deleted.
    fn take_one(&mut self) -> Result<bool, Failure> {
        self.read_line()?;
        if self.line == "TIMED_OUT" {
            return Ok(false);
        }
        let mut words = self.line.split(' ');
        let (Some("RESERVED"), Some(id), Some("1")) = (words.next(), words.next(), words.next()) else {
            return Err(format!("beanstalkd said {}", self.line).into());
        };
        let delete = format!("delete {id}\r\n");
        self.push(&delete, 1);
        let mut body = [0; 3];
        self.stream.read_exact(&mut body)?;
        Ok(true)
    }

    fn read_line(&mut self) -> Result<(), Failure> {
        self.line.clear();
        match self.stream.read_line(&mut self.line)? {
            0 => Err("beanstalkd has hung up".into()),
            _ => {
                self.line.truncate(self.line.trim_end().len());
                Ok(())
            }
        }
    }
}

/// A worker: takes as many calls at a time as there are, until beanstalkd is gone.
pub fn work(port: u16) -> Result<(), Failure> {
    let mut wire = Wire::new(connect(port)?, "calls", "results")?;
    loop {
        let taken = wire.take()?;
        (0..taken).for_each(|_| wire.put());
    }
}

/// beanstalkd with two workers, and a client of it.
pub struct Beanstalk {
    wire: Wire,
    _server: Server,
}

impl Beanstalk {
    /// Nothing where it is not installed.
    pub fn start() -> Result<Option<Self>, Failure> {
        let flags = |command: &mut Command, port: u16, _: &Path| {
            command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
        };
        let Some((server, stream)) = Server::start("beanstalkd", flags, |port| Role::Beanstalk { port })?
        else {
            return Ok(None);
        };
        Ok(Some(Beanstalk { wire: Wire::new(stream, "results", "calls")?, _server: server }))
    }
}

impl Peer for Beanstalk {
    fn name(&self) -> &'static str {
        "beanstalkd, two tubes"
    }

    fn round_trips(&mut self, trips: usize) -> Result<Vec<f64>, Failure> {
        let mut micros = Vec::with_capacity(trips);
        for _ in 0..trips {
            self.wire.ahead = 1;
            let before = Instant::now();
            self.wire.put();
            self.wire.take()?;
            micros.push(before.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    fn throughput(&mut self, tasks: usize) -> Result<f64, Failure> {
        let before = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        while done < tasks {
            let more = (IN_FLIGHT - (submitted - done)).min(tasks - submitted);
            (0..more).for_each(|_| self.wire.put());
            submitted += more;
            done += self.wire.take()?;
        }
        Ok(tasks as f64 / before.elapsed().as_secs_f64())
    }
}
