//! How much of a resource this process may use (setrlimit(2)), and how much processor time.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits this process, and all that it starts, for good: to `amount`, or to less where it is limited already.
///
/// # Errors
/// What the system gives.
pub(crate) fn limit(resource: Resource, amount: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum.map_or(amount, |maximum| maximum.min(amount));
    Ok(setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?)
}

/// Limits this process to `amount`, or to less where it is limited for good; what it may use again later is
/// returned, for [`lift`].
///
/// # Errors
/// What the system gives.
pub(crate) fn limit_for_now(resource: Resource, amount: u64) -> io::Result<Rlimit> {
    let before = getrlimit(resource);
    let current = before.current.map_or(amount, |current| current.min(amount));
    setrlimit(resource, Rlimit { current: Some(current), maximum: before.maximum })?;
    Ok(before)
}

/// Takes a limit back that [`limit_for_now`] has set.
///
/// # Errors
/// What the system gives.
pub(crate) fn lift(resource: Resource, before: Rlimit) -> io::Result<()> {
    Ok(setrlimit(resource, before)?)
}

/// Limits the processor time of this process for good, counted from its start: XCPU at `time`, in whole seconds
/// as the kernel counts them, KILL a second later.
///
/// # Errors
/// What the system gives.
pub(crate) fn limit_cpu_time(time: Duration) -> io::Result<()> {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let before = getrlimit(Resource::Cpu);
    let within = |seconds: u64| before.maximum.map_or(seconds, |maximum| maximum.min(seconds));
    let limit = Rlimit { current: Some(within(seconds)), maximum: Some(within(seconds + 1)) };
    Ok(setrlimit(Resource::Cpu, limit)?)
}

/// A timer on the processor time of this process, which sends it a signal (timer_create(2)).
#[derive(Debug)]
pub(crate) struct CpuTimer(libc::timer_t);

// SAFETY: the kernel keeps timers by process, not by thread; what is held here is their number.
unsafe impl Send for CpuTimer {}
// SAFETY: as above; timer_settime(2) may be called from any thread at any time.
unsafe impl Sync for CpuTimer {}

impl CpuTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn new(signal: i32) -> io::Result<Self> {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: all zeros is a valid `sigevent`, which has numbers and pointers alone; `event` and `timer`
        // live through the call, which writes nothing but the timer's number.
        let result = unsafe {
            let event = event.assume_init_mut();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = signal;
            libc::timer_create(libc::CLOCK_PROCESS_CPUTIME_ID, event, &raw mut timer)
        };
        if result == 0 { Ok(CpuTimer(timer)) } else { Err(io::Error::last_os_error()) }
    }

    /// Has the signal sent once this process has used `time` more. Without, it is not sent.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn set(&self, time: Option<Duration>) -> io::Result<()> {
        let time = time.unwrap_or_default();
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
        };
        let setting = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: the timer exists for as long as this value; `setting` lives through the call, and the former
        // setting is not asked for.
        let result = unsafe { libc::timer_settime(self.0, 0, &raw const setting, ptr::null_mut()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: the timer exists, and nobody can use it any more.
        unsafe { libc::timer_delete(self.0) };
    }
}
