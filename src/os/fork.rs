//! Copies of this process, and what they need to be taken for others.

use std::fs;
use std::io;
use std::ptr;

use rustix::io::Errno;

use super::environment;
use crate::id::Pid;

/// Fields of `/proc/self/stat` behind the name of the process, counted from 0 (proc_pid_stat(5)).
const THREADS: usize = 17;
const STACK_START: usize = 25;
const WORDS_START: usize = 45;
const WORDS_END: usize = 46;
const VARIABLES_START: usize = 47;
const VARIABLES_END: usize = 48;

/// Which of the two this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The copy.
    Copy,
    /// The process that there was before, and the copy's process id.
    Original(Pid),
}

/// Whose child a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// That of the process that it is a copy of.
    Child,
    /// That of the parent of that process (CLONE_PARENT of clone(2)).
    Sibling,
}

/// A process that has one thread and copies itself.
#[derive(Debug)]
pub(crate) struct Forker {
    /// Where the C library keeps the thread's number.
    thread_id: *mut libc::pid_t,
    /// The thread's robust futexes, which a copy has to register again (set_robust_list(2)).
    robust_list: *const libc::c_void,
    robust_list_bytes: usize,
    title: Title,
}

impl Forker {
    /// # Errors
    /// There is another thread, or `/proc` or something in the kernel is missing that this needs.
    pub(crate) fn new() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let field = |index| field_of(&stat, index).ok_or(io::ErrorKind::InvalidData);
        if field(THREADS)? != 1 {
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
        let title = Title {
            stack: ptr::with_exposed_provenance_mut(field(STACK_START)?),
            start: ptr::with_exposed_provenance_mut(field(WORDS_START)?),
            words_bytes: field(WORDS_END)?.saturating_sub(field(WORDS_START)?),
            bytes: field(VARIABLES_END)?.saturating_sub(field(WORDS_START)?),
        };
        if title.words_bytes == 0 || field(VARIABLES_START)? != field(WORDS_END)? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Forker { thread_id, robust_list, robust_list_bytes, title })
    }

    /// Makes a copy, which returns from this too.
    ///
    /// What runs at a fork in the C library and is for processes of several threads (pthread_atfork(3)) is not run.
    /// Nothing here may have started a thread since this was [made](Self::new).
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn fork(&self, relation: Relation) -> io::Result<Forked> {
        let parent = match relation {
            Relation::Child => 0,
            Relation::Sibling => libc::CLONE_PARENT,
        };
        let flags = parent | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
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

    /// What process listings show of this process and of its copies.
    pub(crate) fn title(&self) -> &Title {
        &self.title
    }

    /// The same, to change it.
    pub(crate) fn title_mut(&mut self) -> &mut Title {
        &mut self.title
    }
}

/// A number in `/proc/self/stat`.
fn field_of(stat: &str, index: usize) -> Option<usize> {
    // The name is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index)?.parse().ok()
}

/// The memory that holds the words and then the variables that this process was started with: the kernel shows what
/// stands there.
#[derive(Debug)]
pub(crate) struct Title {
    /// The number of words, and behind it a pointer to each.
    stack: *mut usize,
    start: *mut u8,
    /// Bytes of the words, of which there is at least one.
    words_bytes: usize,
    /// Bytes that a title may take, of the words and then of the variables.
    bytes: usize,
}

impl Title {
    /// Whether there is room for titles of so many bytes beside `variable`.
    pub(crate) fn has_room(&self, title_bytes: usize, variable: &str) -> bool {
        self.bytes_beside(variable).is_some_and(|bytes| bytes > title_bytes)
    }

    /// Bytes that are left for a title, with the zero byte behind it, if `variable` is shown; none if it cannot be.
    fn bytes_beside(&self, variable: &str) -> Option<usize> {
        self.bytes.checked_sub(variable.len() + 1).filter(|bytes| *bytes >= self.words_bytes)
    }

    /// Forgets what this process was started with: of its words the first one is left, and no variable. In their place
    /// the kernel shows `variable`, where there is room for it.
    ///
    /// Only while there is one thread.
    pub(crate) fn take(&mut self, variable: &str) {
        environment::clear();
        let all_bytes = self.bytes;
        let bytes = self.bytes_beside(variable);
        // SAFETY: at the start of the stack is where the kernel has put the number of the words and the pointers to
        // them, and a null behind those; readers go no further than a null. The words and the variables are memory of
        // this process that may be written to, and nobody needs what is there: the variables are forgotten, and of the
        // words there are copies wherever they are kept. This process has one thread.
        unsafe {
            if self.stack.read() > 1 {
                self.stack.add(2).write(0);
            }
            ptr::write_bytes(self.start, 0, all_bytes);
            if let Some(bytes) = bytes {
                ptr::copy_nonoverlapping(variable.as_ptr(), self.start.add(bytes), variable.len());
            }
        }
        self.bytes = bytes.unwrap_or(all_bytes);
    }

    /// Shows `title` from here on, as much of it as there is room for. What stood there must have been
    /// [taken](Self::take).
    pub(crate) fn set(&self, title: &str) {
        let shown = title.len().min(self.bytes - 1);
        // SAFETY: it is memory of this process that may be written to, and nobody reads it meanwhile: there is one
        // thread. Behind the title is a zero byte. If that is not the last byte of the words, the last one, which is
        // none, says to the kernel that the title ends at the first zero.
        unsafe {
            ptr::copy_nonoverlapping(title.as_ptr(), self.start, shown);
            self.start.add(shown).write(0);
            if shown + 1 < self.words_bytes {
                self.start.add(self.words_bytes - 1).write(b'.');
            }
        }
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
