//! The floor of big payloads: a memory file that the client fills, whose descriptor is passed through a relay to an
//! echo and comes back the same way. The bytes are copied once, into the file, and never again.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::Failure;
use crate::role::{Role, start};

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Passes each descriptor that comes from `client` to an echo, and back.
pub fn relay(client: UnixStream) -> Result<(), Failure> {
    let (_child, echo) = start(Role::MemoryEcho)?;
    loop {
        send(&echo, receive(&client)?)?;
        send(&client, receive(&echo)?)?;
    }
}

/// Sends back each descriptor that comes.
pub fn echo(socket: UnixStream) -> Result<(), Failure> {
    loop {
        send(&socket, receive(&socket)?)?;
    }
}

fn send(socket: &UnixStream, file: OwnedFd) -> Result<(), Failure> {
    let files = [file.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(socket, &[IoSlice::new(&[7])], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> Result<OwnedFd, Failure> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    file.ok_or_else(|| "the other side has hung up".into())
}

/// The client's side.
pub struct MemoryFloor {
    child: Child,
    socket: UnixStream,
}

impl MemoryFloor {
    pub fn start() -> Result<Self, Failure> {
        let (child, socket) = start(Role::MemoryRelay)?;
        Ok(MemoryFloor { child, socket })
    }

    /// Milliseconds that `bytes` take there and back.
    pub fn carry(&mut self, bytes: &[u8]) -> Result<f64, Failure> {
        let before = Instant::now();
        let mut file = File::from(memfd_create("floor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SEALS)?;
        send(&self.socket, file.into())?;
        let back = receive(&self.socket)?;
        let millis = before.elapsed().as_secs_f64() * 1e3;
        drop(back);
        Ok(millis)
    }
}

impl Drop for MemoryFloor {
    fn drop(&mut self) {
        // It ends with its socket, which is shut before it is waited for.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}
