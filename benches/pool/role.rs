//! The parts that this program plays in a measurement when it starts itself: a role is its first argument, its
//! socket the standard input.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use crate::peers::{beanstalk, gearman};
use crate::{Failure, floor, memory_floor};

/// What a process of a measurement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Passes on what comes to so many echoes that it starts, and back.
    Relay { echoes: usize },
    /// The same for whoever connects to the listener that is its standard input, one client after the other.
    RelayServer,
    /// Sends back what comes.
    Echo,
    /// Makes one round trip through the listener that its second argument names.
    Call,
    /// Passes on the descriptors that come to an echo that it starts, and back.
    MemoryRelay,
    /// Sends back the descriptors that come.
    MemoryEcho,
    /// A worker of the gearmand that listens on this port, which asks for so many jobs at a time.
    Gearman { port: u16, ahead_max: usize },
    /// A worker of the beanstalkd that listens on this port.
    Beanstalk { port: u16 },
}

impl Role {
    /// The role that an argument names.
    pub fn named(argument: &str) -> Option<Self> {
        let (name, value) = argument.strip_prefix("--role=")?.split_once(':')?;
        match name {
            "relay" => Some(Role::Relay { echoes: value.parse().ok()? }),
            "relay-server" => Some(Role::RelayServer),
            "echo" => Some(Role::Echo),
            "call" => Some(Role::Call),
            "memory-relay" => Some(Role::MemoryRelay),
            "memory-echo" => Some(Role::MemoryEcho),
            "gearman" => {
                let (port, ahead_max) = value.split_once(':')?;
                Some(Role::Gearman { port: port.parse().ok()?, ahead_max: ahead_max.parse().ok()? })
            }
            "beanstalk" => Some(Role::Beanstalk { port: value.parse().ok()? }),
            _ => None,
        }
    }

    /// Plays it until the other side is gone.
    pub fn play(self) -> Result<(), Failure> {
        match self {
            Role::Relay { echoes } => floor::relay(own_input()?.into(), echoes),
            Role::RelayServer => floor::serve(own_input()?.into()),
            Role::Call => floor::call(std::env::args_os().nth(2).unwrap_or_default().as_ref()),
            Role::Echo => Ok(floor::echo(own_input()?.into())?),
            Role::MemoryRelay => memory_floor::relay(own_input()?.into()),
            Role::MemoryEcho => memory_floor::echo(own_input()?.into()),
            Role::Gearman { port, ahead_max } => gearman::work(port, ahead_max),
            Role::Beanstalk { port } => beanstalk::work(port),
        }
    }

    /// This program, about to play it.
    pub fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(self.to_string());
        command
    }
}

/// As an argument.
impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Relay { echoes } => write!(formatter, "--role=relay:{echoes}"),
            Role::RelayServer => formatter.write_str("--role=relay-server:"),
            Role::Call => formatter.write_str("--role=call:"),
            Role::Echo => formatter.write_str("--role=echo:"),
            Role::MemoryRelay => formatter.write_str("--role=memory-relay:"),
            Role::MemoryEcho => formatter.write_str("--role=memory-echo:"),
            Role::Gearman { port, ahead_max } => write!(formatter, "--role=gearman:{port}:{ahead_max}"),
            Role::Beanstalk { port } => write!(formatter, "--role=beanstalk:{port}"),
        }
    }
}

/// Starts this program in a role; gives its socket too.
pub fn start(role: Role) -> Result<(Child, UnixStream), Failure> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = role.command().stdin(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    Ok((child, ours))
}

fn own_input() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}
