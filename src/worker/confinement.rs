//! What an attempt may use of the machine: limited before it is called, and no more once it is over.
//!
//! | limit | how | at the limit |
//! | --- | --- | --- |
//! | memory | RLIMIT_AS, soft | no more is given; most programs abort |
//! | cpu time | a timer on the processor time of the process | XCPU, and KILL a second later if that did not end it |
//! | file size | RLIMIT_FSIZE, soft | XFSZ |
//!
//! A process has one such limit for all of its threads. So there is nothing here for a worker that runs several
//! attempts at a time: it says that it cannot.

use std::io;
use std::time::Duration;

use rustix::process::Resource;
use signal_hook::consts::{SIGKILL, SIGXCPU};

use crate::id::FunctionName;
use crate::message::resources::{AttemptLimits, WorkLimits};
use crate::os::resource::{self, CpuTimer};

/// How much longer than its `cpu_time` an attempt may compute that blocks or catches XCPU: as long as the kernel
/// waits where both limits of RLIMIT_CPU are a second apart.
const CPU_TIME_GRACE: Duration = Duration::from_secs(1);

/// The limits of a worker's attempts.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    limits: WorkLimits,
    /// None if no attempt has a limit on its time.
    timers: Option<Timers>,
}

/// What each attempt at one function may use.
#[derive(Debug)]
pub(super) struct Bounds<'a> {
    limits: AttemptLimits,
    timers: Option<&'a Timers>,
}

#[derive(Debug)]
struct Timers {
    asking: CpuTimer,
    killing: CpuTimer,
}

impl Confinement {
    /// # Errors
    /// Why the limits cannot be kept, in one line.
    pub(super) fn new(limits: WorkLimits, threads: u32) -> Result<Self, String> {
        if threads > 1 && !limits.is_empty() {
            return Err("it cannot limit single attempts: they share its process".to_owned());
        }
        let has_time = |limits: &AttemptLimits| limits.cpu_time.is_some();
        let is_timed = has_time(&limits.each) || limits.by_function.values().any(has_time);
        let timers = is_timed.then(Timers::new).transpose();
        let timers = timers.map_err(|error| format!("it cannot limit the time of attempts: {error}"))?;
        Ok(Confinement { limits, timers })
    }

    /// What attempts at `function` may use.
    pub(super) fn of(&self, function: &FunctionName) -> Bounds<'_> {
        Bounds { limits: self.limits.of(function), timers: self.timers.as_ref() }
    }
}

impl Bounds<'_> {
    /// Does what `call` does, within these.
    ///
    /// # Errors
    /// What the system gives where a limit cannot be set, and then nothing was called, or cannot be lifted.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> io::Result<T> {
        let AttemptLimits { memory_bytes, cpu_time, file_size_bytes } = self.limits;
        let set = |resource, amount: Option<u64>| {
            let before = amount.map(|amount| resource::limit_for_now(resource, amount)).transpose();
            before.map(|before| before.map(|before| (resource, before)))
        };
        let file_size = set(Resource::Fsize, file_size_bytes)?;
        self.set_time(cpu_time)?;
        // The last to be set: what is done here may need memory.
        let memory = set(Resource::As, memory_bytes)?;
        let returned = call();
        for (resource, before) in [memory, file_size].into_iter().flatten() {
            resource::lift(resource, before)?;
        }
        if cpu_time.is_some() {
            self.set_time(None)?;
        }
        Ok(returned)
    }

    fn set_time(&self, time: Option<Duration>) -> io::Result<()> {
        let Some(Timers { asking, killing }) = self.timers else { return Ok(()) };
        asking.set(time)?;
        killing.set(time.map(|time| time.saturating_add(CPU_TIME_GRACE)))
    }
}

impl Timers {
    fn new() -> io::Result<Self> {
        Ok(Timers { asking: CpuTimer::new(SIGXCPU)?, killing: CpuTimer::new(SIGKILL)? })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustix::process::getrlimit;

    use super::*;

    #[test]
    fn limit_holds_for_its_function_and_during_the_call_alone() {
        let limited: FunctionName = "limited".parse().unwrap();
        let limits = AttemptLimits { file_size_bytes: Some(1 << 40), ..AttemptLimits::default() };
        let by_function = BTreeMap::from([(limited.clone(), limits)]);
        let confinement =
            Confinement::new(WorkLimits { by_function, ..WorkLimits::default() }, 1).expect("it can be kept");
        let file_size_max = || getrlimit(Resource::Fsize).current;
        let before = file_size_max();
        assert_ne!(before, Some(1 << 40));
        assert_eq!(confinement.of(&limited).during(file_size_max).unwrap(), Some(1 << 40));
        assert_eq!(file_size_max(), before);
        let other = "other".parse().unwrap();
        assert_eq!(confinement.of(&other).during(file_size_max).unwrap(), before);
    }

    #[test]
    fn limits_of_attempts_that_share_a_process_are_refused() {
        let each = AttemptLimits { cpu_time: Some(Duration::from_secs(1)), ..AttemptLimits::default() };
        let limits = WorkLimits { each, ..WorkLimits::default() };
        assert!(Confinement::new(limits, 2).is_err());
        assert!(Confinement::new(WorkLimits::default(), 2).is_ok());
    }
}
