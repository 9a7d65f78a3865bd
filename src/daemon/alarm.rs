//! What wakes the loop when something is due.
//!
//! A timer that is set when something is due sooner than it rings, or when it would soon ring in vain, and left alone
//! otherwise. A poller's timeout is set with each wait and given up with each event: where a task takes microseconds,
//! most of them went there, above all on a virtual machine, which asks its host both times.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::token::Token;
use crate::limits::ALARM_SOON;
use crate::time::Time;

/// A timer among what the poller watches.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it rings, if it is set.
    rings_at: Option<Time>,
}

impl Alarm {
    /// One that is not set, which `registry` reports on.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), Token::Alarm.into(), Interest::READABLE)?;
        Ok(Alarm { timer, rings_at: None })
    }

    /// Has it ring at `at`, or some time before; but not soon, unless that is soon. A short while ago it was `turn`;
    /// `now` is read where that matters.
    ///
    /// # Errors
    /// What the system gives.
    pub(super) fn ring_by(&mut self, turn: Time, now: impl FnOnce() -> Time, at: Time) -> io::Result<()> {
        let is_set_well = |rings_at| rings_at <= at && (rings_at > turn + ALARM_SOON || rings_at == at);
        if self.rings_at.is_some_and(is_set_well) {
            return Ok(());
        }
        // Set to no time at all, it would never ring.
        let wait = at.since(now()).max(Duration::from_nanos(1));
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.rings_at = Some(at);
        Ok(())
    }

    /// It has rung. The poller reports each time that it does so, whether that was read or not.
    pub(super) fn rang(&mut self) {
        self.rings_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for whatever comes; gives how often the alarm rang.
    fn wait(poll: &mut mio::Poll, alarm: &mut Alarm) -> usize {
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        let rings = events.iter().filter(|event| Token::from(event.token()) == Token::Alarm).count();
        (0..rings).for_each(|_| alarm.rang());
        rings
    }

    #[test]
    fn alarm_rings_each_time_that_it_is_set() {
        let mut poll = mio::Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry()).unwrap();
        let now = Time::from_nanos(5);
        for wait_nanos in [0, 1, 1_000_000] {
            alarm.ring_by(now, || now, now + Duration::from_nanos(wait_nanos)).unwrap();
            assert_eq!(wait(&mut poll, &mut alarm), 1);
            assert_eq!(alarm.rings_at, None);
        }
    }

    #[test]
    fn alarm_is_set_to_the_first_of_what_is_due() {
        let mut poll = mio::Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry()).unwrap();
        let now = Time::ZERO;
        let at = |seconds| now + Duration::from_secs(seconds);
        alarm.ring_by(now, || now, at(u64::MAX)).unwrap();
        alarm.ring_by(now, || now, at(3600)).unwrap();
        assert_eq!(alarm.rings_at, Some(at(3600)));
        alarm.ring_by(now, || now, at(7200)).unwrap();
        assert_eq!(alarm.rings_at, Some(at(3600)));
        alarm.ring_by(now, || now, now + Duration::from_millis(1)).unwrap();
        assert_eq!(wait(&mut poll, &mut alarm), 1);
    }

    #[test]
    fn alarm_that_would_soon_ring_in_vain_is_put_off() {
        let poll = mio::Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry()).unwrap();
        let at = |hours: u64| Time::ZERO + Duration::from_secs(3600 * hours);
        alarm.ring_by(Time::ZERO, || Time::ZERO, at(1)).unwrap();
        alarm.ring_by(at(1), || at(1), at(2)).unwrap();
        assert_eq!(alarm.rings_at, Some(at(2)));
    }
}
