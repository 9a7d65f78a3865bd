//! Copies of this process, and what they need to be taken for others.

use std::ffi::c_char;
use std::io;
use std::ptr;

use rustix::io::Errno;

use crate::id::Pid;

unsafe extern "C" {
    /// The first word that this process was started with: where it is, and not a copy of it.
    static program_invocation_name: *mut c_char;
}

/// Which of the two this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The copy.
    Copy,
    /// The process that there was before, and the copy's process id.
    Original(Pid),
}

/// A process that has one thread and copies itself.
#[derive(Debug)]
pub(crate) struct Forker {
    /// Where the C library keeps the thread's number.
    thread_id: *mut libc::pid_t,
    /// The thread's robust futexes, which a copy has to register again (set_robust_list(2)).
    robust_list: *const libc::c_void,
    robust_list_bytes: usize,
}

impl Forker {
    /// # Errors
    /// There is another thread, or `/proc` or something in the kernel is missing that this needs.
    pub(crate) fn new() -> io::Result<Self> {
        if std::fs::read_dir("/proc/self/task")?.count() != 1 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut thread_id = ptr::null_mut::<libc::pid_t>();
        // SAFETY: the call writes one pointer, to where there is room for one (PR_GET_TID_ADDRESS(2const)).
        checked(unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut thread_id) }.into())?;
        let mut robust_list = ptr::null();
        let mut robust_list_bytes = 0;
        // SAFETY: the call writes a pointer and a length, to where there is room for them.
        checked(unsafe {
            libc::syscall(libc::SYS_get_robust_list, 0, &raw mut robust_list, &raw mut robust_list_bytes)
        })?;
        Ok(Forker { thread_id, robust_list, robust_list_bytes })
    }

    /// Makes a copy that is no child of this process but of its parent (CLONE_PARENT of clone(2)).
    ///
    /// What runs at a fork in the C library and is for processes of several threads (pthread_atfork(3)) is not run.
    /// Nothing here may have started a thread.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn fork(&self) -> io::Result<Forked> {
        let flags =
            libc::CLONE_PARENT | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        let flags = libc::c_long::from(flags);
        let none = ptr::null_mut::<libc::c_void>();
        // SAFETY: without CLONE_VM the copy has its own memory and goes on with its own copy of this stack. There is
        // one thread, so that no lock is held that nobody would release. The kernel writes the copy's number to
        // where the C library keeps it, as that has it done in its own fork.
        let copied = checked(unsafe {
            if cfg!(target_arch = "x86_64") {
                libc::syscall(libc::SYS_clone, flags, none, none, self.thread_id, none)
            } else {
                libc::syscall(libc::SYS_clone, flags, none, none, none, self.thread_id)
            }
        })?;
        if copied > 0 {
            return Ok(Forked::Original(Pid(u32::try_from(copied).map_err(|_| Errno::RANGE)?)));
        }
        // SAFETY: it is what the C library had registered, at the same address.
        let registered = checked(unsafe {
            libc::syscall(libc::SYS_set_robust_list, self.robust_list, self.robust_list_bytes)
        });
        if registered.is_err() {
            // An error would be taken for the original's.
            // SAFETY: the call ends this process and runs nothing of it.
            unsafe { libc::_exit(1) }
        }
        Ok(Forked::Copy)
    }
}

/// The room that the command line takes which process listings show.
#[derive(Debug)]
pub(crate) struct Title {
    start: *mut u8,
    /// Bytes in it, with the one that ends it.
    bytes: usize,
}

impl Title {
    /// That of this process, which was started with one word and none after it: there is as much room as that is
    /// long.
    pub(crate) fn own() -> Self {
        // SAFETY: the C library sets it before `main` and never changes it.
        let start = unsafe { program_invocation_name };
        // SAFETY: it is a string that the kernel has put on the first stack, where it stays.
        let bytes = unsafe { libc::strlen(start) } + 1;
        Title { start: start.cast(), bytes }
    }

    /// Shows `title` from here on, as much of it as there is room for.
    pub(crate) fn set(&self, title: &str) {
        let shown = title.len().min(self.bytes.saturating_sub(2));
        // SAFETY: the room is memory of this process that may be written to, and holds nothing else. Nobody reads it
        // meanwhile: this process has one thread, and the copies of the string that the standard library gives out
        // are copies. The room is not longer than it was when it held another string: there is a zero byte behind
        // what is shown, and the last byte, which is none, says to the kernel that the title ends at that one.
        unsafe {
            ptr::write_bytes(self.start, 0, self.bytes);
            ptr::copy_nonoverlapping(title.as_ptr(), self.start, shown);
            if shown + 1 < self.bytes {
                self.start.add(self.bytes - 1).write(b'.');
            }
        }
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
