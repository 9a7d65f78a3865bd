//! What the process was started with, seen before anything changes it.
//!
//! Rust's runtime opens /dev/null in the place of each standard stream that is closed, before `main`:
//! whatever is written there from then on is lost without a word. So it is looked at earlier, by a function
//! that the loader calls (`.init_array` of the ELF specification).

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether the process was started without a standard output.
pub(crate) fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look() {
    // SAFETY: it takes numbers alone, and changes nothing.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    STDOUT_WAS_CLOSED.store(flags == -1, Ordering::Relaxed);
}

// SAFETY: the section holds pointers to functions of the C calling convention, and this is one. It is called
// once, on the only thread there is, and needs nothing that the runtime would have to set up first.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
