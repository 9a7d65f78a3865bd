//! What keeps a worker, and all that it starts, from doing harm beyond what it was started for.
//!
//! | means | what it keeps from |
//! | --- | --- |
//! | no capabilities | the privileges of root, where the daemon has them |
//! | a Landlock domain | tracing what is outside, and signalling it |
//! | a filter of system calls | what no function needs, and what would reach the daemon |
//!
//! Each is done as far as the kernel can: a worker that lacks one says so and goes on.

use std::fmt::Display;

use super::complain;
use crate::id::Pid;
use crate::os::{landlock, process, seccomp};

/// Shuts this process in, which has one thread and no new privileges. As a copy of the template it may have a part of
/// that behind it.
pub(super) fn enter(daemon: Pid, is_prepared: bool) {
    if !is_prepared {
        process::drop_bounding_set();
    }
    report("drop its capabilities", process::drop_capabilities());
    if let Some(reach) = landlock::reach() {
        report("enter a Landlock domain", landlock::enter(reach));
    } else if !process::may_dump_core() {
        report("keep others from looking into it", process::forbid_looking_in());
    }
    if !is_prepared {
        let filtered = seccomp::program(daemon, []).and_then(|program| seccomp::filter(&program));
        report("filter its system calls", filtered);
    }
}

fn report<E: Display>(what: &str, done: Result<(), E>) {
    if let Err(error) = done {
        complain(&format_args!("the sandbox is not complete: cannot {what}: {error}"));
    }
}
