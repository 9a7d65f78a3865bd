//! What the service manager is told (sd_notify(3)): only if it asked, only what changed, and never
//! waiting for it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::time::Time;

/// The way to the service manager.
#[derive(Debug)]
pub(super) struct Notifier {
    /// None if nobody asked to be told.
    socket: Option<UnixDatagram>,
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
    pub(super) fn from_environment(now: Time) -> Self {
        let socket = connect().unwrap_or_else(|error| {
            log::warn!("the service manager cannot be told anything: {error}");
            None
        });
        let watchdog = sd_notify::watchdog_enabled()
            .filter(|_| socket.is_some())
            .map(|interval| Watchdog { period: interval / 2, next: now });
        Notifier { socket, is_ready: false, is_stopping: false, status: String::new(), watchdog }
    }

    /// Whether anybody wants to be told.
    pub(super) fn is_asked(&self) -> bool {
        self.socket.is_some()
    }

    /// Says once that the daemon is ready.
    pub(super) fn ready(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.send(&[NotifyState::Ready]);
        }
    }

    /// Says that the configuration is being read again. To be followed by [`reloaded`](Self::reloaded).
    pub(super) fn reloading(&self) {
        if self.is_ready
            && let Ok(at) = NotifyState::monotonic_usec_now()
        {
            self.send(&[NotifyState::Reloading, at]);
        }
    }

    /// Says that reading the configuration is over.
    pub(super) fn reloaded(&self) {
        if self.is_ready {
            self.send(&[NotifyState::Ready]);
        }
    }

    /// Says once that the daemon stops.
    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
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
            self.send(&[NotifyState::Watchdog]);
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            log::warn!("the service manager was not told {:?}: {error}", message.trim_end());
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

    fn notifier() -> (Notifier, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        theirs.set_nonblocking(true).expect("it can be");
        let watchdog = Some(Watchdog { period: Duration::from_nanos(10), next: Time::ZERO });
        let status = String::new();
        (Notifier { socket: Some(ours), is_ready: false, is_stopping: false, status, watchdog }, theirs)
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
        let (mut notifier, manager) = notifier();
        notifier.ready();
        notifier.ready();
        assert_eq!(told(&manager), ["READY=1\n"]);
    }

    #[test]
    fn reload_before_readiness_does_not_tell_readiness() {
        let (notifier, manager) = notifier();
        notifier.reloading();
        notifier.reloaded();
        assert_eq!(told(&manager), Vec::<String>::new());
    }

    #[test]
    fn status_is_told_on_change_and_on_one_line() {
        let (mut notifier, manager) = notifier();
        notifier.status("one\ntwo".to_owned());
        notifier.status("one\ntwo".to_owned());
        notifier.status("three".to_owned());
        assert_eq!(told(&manager), ["STATUS=one two\n", "STATUS=three\n"]);
    }

    #[test]
    fn watchdog_is_fed_when_due() {
        let (mut notifier, manager) = notifier();
        notifier.feed_watchdog(Time::ZERO);
        notifier.feed_watchdog(Time::from_nanos(9));
        notifier.feed_watchdog(Time::from_nanos(10));
        assert_eq!(told(&manager), ["WATCHDOG=1\n", "WATCHDOG=1\n"]);
        assert_eq!(notifier.next_timeout(), Some(Time::from_nanos(20)));
    }
}
