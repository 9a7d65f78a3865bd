//! Where calls that run meet the program: each comes with a connection when it runs, and goes on when that
//! ends. So the program knows, and needs not guess, what runs at one time.

use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::PATIENCE;

/// The program's side.
pub(crate) struct Meeting {
    listener: UnixListener,
}

impl Meeting {
    /// Opens a socket that has a name, but no file that would be left behind.
    pub(crate) fn open() -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&address(&Self::name())?)?;
        set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE))?;
        Ok(Meeting { listener })
    }

    /// What calls are told, to come here. There is one meeting at a time.
    pub(crate) fn name() -> String {
        format!("poold-isolation-{}", std::process::id())
    }

    /// Waits until so many calls have come. They are held as long as what is returned.
    pub(crate) fn gather(&self, calls: u32) -> io::Result<Vec<UnixStream>> {
        (0..calls).map(|_| Ok(self.listener.accept()?.0)).collect()
    }
}

/// The side of a call: it comes to the meeting of that name.
pub(crate) fn come(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&address(name)?)
}

/// Comes, and stays until it may go on.
pub(crate) fn stay(name: &str) -> io::Result<()> {
    come(name)?.read(&mut [0]).map(drop)
}

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}
