//! Signals as facts: which arrived since the last look.
//!
//! SIGPIPE is not among them: Rust's runtime ignores it, so that writing to a peer that is gone is an error.

use std::io;

use mio::{Interest, Registry};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals as Arrivals;

use super::token::Token;
use crate::os::signal::unblock_all;

/// The signals that the daemon heeds.
pub(super) struct Signals {
    arrivals: Arrivals,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// TERM or INT: stop.
    Stop,
    /// HUP: read the configuration again.
    Reload,
    /// CHLD: look for children that nobody waits for.
    Sweep,
}

impl Signals {
    /// Catches them from here on, also where whoever started the daemon had blocked them.
    pub(super) fn catch(registry: &Registry) -> io::Result<Self> {
        let mut arrivals = Arrivals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
        registry.register(&mut arrivals, Token::Signals.into(), Interest::READABLE)?;
        unblock_all()?;
        Ok(Signals { arrivals })
    }

    /// What the signals that arrived ask for; they are taken out of their pipe before this returns.
    pub(super) fn take(&mut self) -> Vec<Request> {
        self.arrivals
            .pending()
            .map(|signal| match signal {
                SIGHUP => Request::Reload,
                // Workers are noticed by their pidfds. (A parent that ignores it hands that down, and then the
                // kernel would reap them before their exit can be read: any handler ends that.)
                SIGCHLD => Request::Sweep,
                _ => Request::Stop,
            })
            .collect()
    }
}
