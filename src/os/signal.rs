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
        if signal != libc::SIGPIPE && handling(signal) == Some(libc::SIG_IGN) {
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

/// The signals that a thread blocks.
pub(crate) struct Mask(libc::sigset_t);

/// Blocks every signal that can be blocked, in the calling thread; gives what it blocked before.
///
/// # Errors
/// What the system gives.
pub(crate) fn block_all_for_now() -> io::Result<Mask> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both are writable memory of the right type; sigfillset initializes the first before it is read, and
    // pthread_sigmask the second when it returns 0.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(Mask(before.assume_init())),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Blocks these again and no others, in the calling thread.
///
/// # Errors
/// What the system gives.
pub(crate) fn set_mask_to(Mask(mask): &Mask) -> io::Result<()> {
    // SAFETY: the mask is initialized, and the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes a process that is about to execute something forget this program's handlers, which exec would do when the
/// signals are no longer blocked, and its own handling of SIGPIPE; then blocks nothing. Only system calls are made.
///
/// # Errors
/// What the system gives.
pub(crate) fn hand_on_none() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        let is_kept = matches!(handling(signal), None | Some(libc::SIG_DFL | libc::SIG_IGN));
        if !is_kept || signal == libc::SIGPIPE {
            // SAFETY: the default disposition installs no handler, so no code of ours runs in one.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    unblock_all()
}

/// What becomes of `signal`: SIG_DFL, SIG_IGN or a handler. Of signals that a program must not touch it is not known.
fn handling(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is writable memory of the right type; without a new action nothing is changed.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: sigaction(2) has filled `action` in when it returns 0.
    (result == 0).then(|| unsafe { action.assume_init() }.sa_sigaction)
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
