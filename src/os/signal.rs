//! Which signals this process blocks or ignores.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Undoes what `exec` hands on: no signal is blocked, none is ignored.
///
/// SIGPIPE stays ignored, as Rust's runtime has set it; handlers stay, which are this program's own.
///
/// # Errors
/// What the system gives.
pub(crate) fn restore_inherited() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal != libc::SIGPIPE && is_ignored(signal) {
            // SAFETY: the default disposition installs no handler, so no code of ours runs in one.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    unblock_all()
}

/// Blocks no signal any more, in the calling thread and those that it starts from here on.
///
/// # Errors
/// What the system gives.
pub(crate) fn unblock_all() -> io::Result<()> {
    set_mask(libc::sigemptyset)
}

/// Blocks every signal that can be blocked, in the calling thread.
///
/// # Errors
/// What the system gives.
pub(crate) fn block_all() -> io::Result<()> {
    set_mask(libc::sigfillset)
}

/// Whether `signal` is ignored. Signals that a program must not touch are not.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is writable memory of the right type; without a new action nothing is changed.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: sigaction(2) has filled `action` in when it returns 0.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Makes the calling thread's mask the set that `fill` makes.
fn set_mask(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> libc::c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable memory of the right type, and `fill` initializes it (sigsetops(3)) before
    // pthread_sigmask reads it; the old mask is not asked for.
    let error = unsafe {
        fill(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals that the calling thread blocks, as the kernel writes them (proc_pid_status(5)).
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("it is there");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("it is in there");
        u64::from_str_radix(mask.trim(), 16).expect("a number")
    }

    #[test]
    fn blocked_signals_are_unblocked() {
        block_all().expect("it can be");
        assert_ne!(blocked(), 0);
        unblock_all().expect("it can be");
        assert_eq!(blocked(), 0);
    }
}
