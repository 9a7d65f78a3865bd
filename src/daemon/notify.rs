//! What the service manager is told (sd_notify(3)): only if it asked, only what changed, and never
//! waiting for it. What it has no room for is told when it has.

use std::collections::VecDeque;
use std::env;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use sd_notify::NotifyState;

use super::token::Token;
use crate::time::Time;

/// Messages that may wait; with more, the oldest are dropped.
const WAITING_MAX: usize = 64;

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Notifier {
    /// None if nobody asked to be told.
    socket: Option<UnixDatagram>,
    registry: Registry,
    /// What there was no room for. The poller tells when there is.
    waiting: VecDeque<String>,
    is_ready: bool,
    is_stopping: bool,
    /// What was last said of what the daemon does.
    status: String,
    watchdog: Option<Watchdog>,
}

#[derive(Clone, Copy, Debug)]
struct Watchdog {
    /// Half of what the service manager waits.
    period: Duration,
    next: Time,
}

impl Notifier {
    /// As the environment asks for.
    pub(super) fn from_environment(now: Time, registry: Registry) -> Self {
        let socket = connect().unwrap_or_else(|error| {
            log::warn!("the service manager cannot be told anything: {error}");
            None
        });
        let watchdog = sd_notify::watchdog_enabled()
            .filter(|_| socket.is_some())
            .map(|interval| Watchdog { period: interval / 2, next: now });
        Notifier::new(socket, registry, watchdog)
    }

    fn new(socket: Option<UnixDatagram>, registry: Registry, watchdog: Option<Watchdog>) -> Self {
        Notifier {
            socket,
            registry,
            waiting: VecDeque::new(),
            is_ready: false,
            is_stopping: false,
            status: String::new(),
            watchdog,
        }
    }

    /// Whether anybody wants to be told.
    pub(super) fn is_asked(&self) -> bool {
        self.socket.is_some()
    }

    /// Says once that the daemon is ready.
    pub(super) fn ready(&mut self) {
        if !mem::replace(&mut self.is_ready, true) {
            self.send(&[NotifyState::Ready]);
        }
    }

    /// Says that the configuration is being read again. To be followed by [`reloaded`](Self::reloaded).
    pub(super) fn reloading(&mut self) {
        if self.is_ready
            && let Ok(at) = NotifyState::monotonic_usec_now()
        {
            self.send(&[NotifyState::Reloading, at]);
        }
    }

    /// Says that reading the configuration is over.
    pub(super) fn reloaded(&mut self) {
        if self.is_ready {
            self.send(&[NotifyState::Ready]);
        }
    }

    /// Says once that the daemon stops.
    pub(super) fn stopping(&mut self) {
        if !mem::replace(&mut self.is_stopping, true) {
            self.send(&[NotifyState::Stopping]);
        }
    }

    /// Says what the daemon does, if that has changed.
    pub(super) fn status(&mut self, status: String) {
        let status = status.replace('\n', " ");
        if self.is_asked() && status != self.status {
            self.send(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// When the watchdog is due.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// Feeds the watchdog if it is due.
    pub(super) fn feed_watchdog(&mut self, now: Time) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) {
            watchdog.next = now + watchdog.period;
            // Behind what waits it would say nothing new.
            if self.waiting.is_empty() {
                self.send(&[NotifyState::Watchdog]);
            }
        }
    }

    fn send(&mut self, states: &[NotifyState<'_>]) {
        if self.socket.is_none() {
            return;
        }
        self.waiting.push_back(states.iter().map(|state| format!("{state}\n")).collect());
        match self.waiting.len() {
            // Otherwise the poller tells when there is room.
            1 => self.send_waiting(),
            2..=WAITING_MAX => {}
            _ => _ = self.waiting.pop_front(),
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn send_waiting(&mut self) {
        let Some(socket) = &self.socket else { return };
        let fd = socket.as_raw_fd();
        // Known to the poller only while something waits. Failing, it would be because it was not.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
        while let Some(message) = self.waiting.pop_front() {
            match socket.send(message.as_bytes()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.push_front(message);
                    let token = Token::ServiceManager.into();
                    if let Err(error) = self.registry.register(&mut SourceFd(&fd), token, Interest::WRITABLE)
                    {
                        log::warn!("the service manager cannot be waited for: {error}");
                    }
                    return;
                }
                Err(error) => {
                    log::warn!("the service manager was not told {:?}: {error}", message.trim_end());
                }
            }
        }
    }
}

/// A socket of our own rather than `sd_notify::notify`, which waits when the other side does not read.
fn connect() -> io::Result<Option<UnixDatagram>> {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(Some(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier() -> (Notifier, UnixDatagram, mio::Poll) {
        let poll = mio::Poll::new().expect("a poller");
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("it can be");
        theirs.set_nonblocking(true).expect("it can be");
        let registry = poll.registry().try_clone().expect("it can be shared");
        let watchdog = Watchdog { period: Duration::from_nanos(10), next: Time::ZERO };
        (Notifier::new(Some(ours), registry, Some(watchdog)), theirs, poll)
    }

    fn told(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1024];
        std::iter::from_fn(|| {
            let bytes = manager.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
        })
        .collect()
    }

    #[test]
    fn readiness_is_told_once() {
        let (mut notifier, manager, _poll) = notifier();
        notifier.ready();
        notifier.ready();
        assert_eq!(told(&manager), ["READY=1\n"]);
    }

    #[test]
    fn reload_before_readiness_does_not_tell_readiness() {
        let (mut notifier, manager, _poll) = notifier();
        notifier.reloading();
        notifier.reloaded();
        assert_eq!(told(&manager), Vec::<String>::new());
    }

    #[test]
    fn status_is_told_on_change_and_on_one_line() {
        let (mut notifier, manager, _poll) = notifier();
        notifier.status("one\ntwo".to_owned());
        notifier.status("one\ntwo".to_owned());
        notifier.status("three".to_owned());
        assert_eq!(told(&manager), ["STATUS=one two\n", "STATUS=three\n"]);
    }

    #[test]
    fn what_there_is_no_room_for_is_told_in_order_when_there_is() {
        let (mut notifier, manager, mut poll) = notifier();
        let mut said = 0;
        while notifier.waiting.len() < 2 {
            notifier.status(said.to_string());
            said += 1;
        }
        let mut events = mio::Events::with_capacity(1);
        let mut heard = told(&manager);
        while !notifier.waiting.is_empty() {
            poll.poll(&mut events, None).expect("a poller");
            assert!(events.iter().all(|event| Token::from(event.token()) == Token::ServiceManager));
            notifier.send_waiting();
            heard.extend(told(&manager));
        }
        assert_eq!(heard, (0..said).map(|status| format!("STATUS={status}\n")).collect::<Vec<_>>());
    }

    #[test]
    fn watchdog_is_fed_when_due() {
        let (mut notifier, manager, _poll) = notifier();
        notifier.feed_watchdog(Time::ZERO);
        notifier.feed_watchdog(Time::from_nanos(9));
        notifier.feed_watchdog(Time::from_nanos(10));
        assert_eq!(told(&manager), ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
        assert_eq!(notifier.next_timeout(), Some(Time::from_nanos(20)));
    }
}
