//! Ways to die and to do harm, for showing what a pool makes of them.

use std::io::{self, Read, Write};
use std::{process, ptr};

use rustix::process::setsid;

use crate::id::Pid;

/// Reads where nothing is mapped: the processor faults, and the kernel sends SIGSEGV.
pub(crate) fn segfault() -> ! {
    let nowhere = ptr::without_provenance::<u8>(1);
    // SAFETY: deliberately none. The first page of an address space is never mapped (mmap_min_addr), so
    // the read faults; it is volatile, so it is not optimized away; and no code runs after it.
    unsafe { nowhere.read_volatile() };
    process::abort()
}

/// Starts a process that only waits to be killed.
///
/// # Errors
/// What fork(2) gives: EAGAIN where there may be no more.
pub(crate) fn start_idler() -> io::Result<Pid> {
    match fork()? {
        Some(child) => Ok(child),
        None => wait_for_ever(),
    }
}

/// Starts a process that leaves nothing undone to get away: it has a session of its own, and its parent is gone.
///
/// # Errors
/// What the system gives.
pub(crate) fn start_stray() -> io::Result<Pid> {
    let (mut ours, mut theirs) = io::pipe()?;
    let Some(middle) = fork()? else {
        let stray = setsid().map_err(io::Error::from).and_then(|_| fork());
        let Ok(Some(stray)) = stray else {
            if stray.is_ok() {
                wait_for_ever();
            }
            exit_now(1)
        };
        exit_now(theirs.write_all(&stray.0.to_le_bytes()).is_err().into())
    };
    drop(theirs);
    let mut stray = [0; 4];
    // The stray holds the other end too, but what it is called comes before.
    ours.read_exact(&mut stray)?;
    super::children::reap(middle);
    Ok(Pid(u32::from_le_bytes(stray)))
}

/// The child in the parent, nothing in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: a child of a process with several threads may only do what is async-signal-safe (fork(2)). The
    // callers make system calls in it, allocate nothing and take no lock, and it never returns to their callers.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(Pid(child.unsigned_abs()))),
    }
}

fn wait_for_ever() -> ! {
    loop {
        // SAFETY: pause(2) only waits, and may be called in any state of the process.
        unsafe { libc::pause() };
    }
}

fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) ends the process as it is: no destructor and no handler of the parent's runs.
    unsafe { libc::_exit(status) }
}
