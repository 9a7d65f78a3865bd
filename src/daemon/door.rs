//! The way in for clients: a socket that anyone may connect to, or one connection that was handed down.
//!
//! A private daemon has no socket: its one client is the program that started it, and when that
//! connection ends, whatever became of the program, nobody is left to serve.

use std::os::fd::OwnedFd;

use mio::Registry;

use super::clients::Clients;
use super::config::Config;
use super::error::Error;
use super::listener::{Accepted, Access, Listener};
use crate::id::{ConnectionId, Uid};
use crate::time::Time;

/// Whom a daemon serves.
#[derive(Debug)]
pub enum Audience {
    /// Whoever connects to the socket that it listens on.
    Everyone,
    /// The program at the other end of this connection, and nobody else. When the connection ends, the
    /// daemon stops at once.
    Program(OwnedFd),
}

/// The way in for clients.
#[derive(Debug)]
pub(super) enum Door {
    /// Whoever connects.
    Listening(Listener),
    /// One program, which is this client.
    Private(ConnectionId),
    /// That program is gone.
    Shut,
}

impl Door {
    /// Opens it for `audience`. The daemon runs as `user`, and so does a program that it is private to.
    pub(super) fn open(
        audience: Audience,
        config: &Config,
        clients: &mut Clients,
        (now, user): (Time, Uid),
        registry: &Registry,
    ) -> Result<Self, Error> {
        match audience {
            Audience::Everyone => Ok(Door::Listening(Listener::open(config, registry)?)),
            Audience::Program(socket) => clients
                .add(now, socket.into(), user.into())
                .map(Door::Private)
                .map_err(|source| Error::Setup { what: "watch the program's connection", source }),
        }
    }

    /// Notices, once, that the program that the daemon is private to is gone.
    pub(super) fn has_lost_its_program(&mut self, clients: &Clients) -> bool {
        let is_lost = matches!(self, Door::Private(program) if clients.user(*program).is_none());
        if is_lost {
            *self = Door::Shut;
        }
        is_lost
    }

    /// The next client that waits.
    pub(super) fn accept(&mut self, now: Time) -> Accepted {
        match self {
            Door::Listening(listener) => listener.accept(now),
            Door::Private(_) | Door::Shut => Accepted::Nobody,
        }
    }

    /// When accepting goes on, if it pauses.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        match self {
            Door::Listening(listener) => listener.next_timeout(),
            Door::Private(_) | Door::Shut => None,
        }
    }

    /// Ends a pause that is over. Says whether it did.
    pub(super) fn resume(&mut self, now: Time) -> bool {
        match self {
            Door::Listening(listener) => listener.resume(now),
            Door::Private(_) | Door::Shut => false,
        }
    }

    /// Lets those connect whom `config` names.
    pub(super) fn set_access(&self, config: &Config) -> Result<(), Error> {
        match self {
            Door::Listening(listener) => listener.set_access(Access::of(config)?),
            Door::Private(_) | Door::Shut => Ok(()),
        }
    }
}
