//! What a process sets for itself, once, and the end of its process group.

use std::io;

use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, kill_current_process_group, set_parent_process_death_signal,
    setrlimit,
};
use rustix::thread::{set_name, set_no_new_privs};

/// Lets the kernel kill this process when the thread that started it ends (PR_SET_PDEATHSIG).
///
/// It may have ended before: compare the parent's id afterwards.
///
/// # Errors
/// What the system gives.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Forbids this process and all it starts to gain privileges by executing a file (PR_SET_NO_NEW_PRIVS).
///
/// # Errors
/// What the system gives.
pub(crate) fn forbid_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Sets how many descriptors this process may have open, as far as the hard limit allows.
///
/// # Errors
/// What the system gives.
pub(crate) fn set_open_files_max(files: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(files, |maximum| files.min(maximum));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit })?)
}

/// Names the calling thread, which in `main` is the name that `ps` and `top` show: at most 15 bytes.
///
/// # Errors
/// What the system gives.
pub(crate) fn name_thread(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(set_name(name)?)
}

/// Kills every process of this one's group, itself included.
///
/// # Errors
/// What the system gives; otherwise it does not return.
pub(crate) fn kill_own_group() -> io::Result<()> {
    Ok(kill_current_process_group(Signal::KILL)?)
}
