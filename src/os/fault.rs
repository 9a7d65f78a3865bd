//! Ways to die, for showing what a pool makes of them.

use std::{process, ptr};

/// Reads where nothing is mapped: the processor faults, and the kernel sends SIGSEGV.
pub(crate) fn segfault() -> ! {
    let nowhere = ptr::without_provenance::<u8>(1);
    // SAFETY: deliberately none. The first page of an address space is never mapped (mmap_min_addr), so
    // the read faults; it is volatile, so it is not optimized away; and no code runs after it.
    unsafe { nowhere.read_volatile() };
    process::abort()
}
