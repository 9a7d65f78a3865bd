//! A peer's server: a program on a port of its own of the loopback interface, and its two workers.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;
use crate::role::Role;

/// How often a server that has just been started is tried, and how long after one another.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// A server with its workers; all are killed when it is dropped.
pub struct Server {
    processes: Vec<Child>,
    /// For the files that it writes: it touches no others.
    _directory: TempDir,
}

impl Server {
    /// Has `program` listen on a port and write into a directory that it is told, with two workers; nothing where it is not installed.
    pub fn start(
        program: &str,
        flags: impl FnOnce(&mut Command, u16, &Path),
        worker: impl Fn(u16) -> Role,
    ) -> Result<Option<(Self, TcpStream)>, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(program);
        let directory = tempfile::tempdir()?;
        flags(&mut command, port, directory.path());
        let server = match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(server) => server,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("{program} is not installed: it is left out");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut server = Server { processes: vec![server], _directory: directory };
        let stream = connect(port)?;
        for _ in 0..2 {
            server.processes.push(worker(port).command().stdin(Stdio::null()).spawn()?);
        }
        Ok(Some((server, stream)))
    }
}

/// Connects to a server as soon as it listens.
pub fn connect(port: u16) -> Result<TcpStream, Failure> {
    let mut tries = (1..=TRIES)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).inspect_err(|_| thread::sleep(PAUSE)));
    let stream = tries.find_map(Result::ok).ok_or("a server does not listen")?;
    // Nobody waits for more to send.
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
