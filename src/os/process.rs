//! What a process sets for itself, once, and the end of its process group.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, kill_current_process_group, kill_process_group,
    set_dumpable_behavior, set_parent_process_death_signal, setpgid, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_name, set_no_new_privs,
};

use super::resource;
use crate::id::Pid;
use crate::message::guard::Record;
use crate::message::resources::AttemptLimits;

/// The program that runs, to be executed again: `/proc/self/exe`, even if its file was replaced; where there is no
/// `/proc`, the file that it was started from (AT_EXECFN of getauxval(3)), whatever that is by now.
///
/// # Errors
/// Neither is there.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_owned());
    }
    // SAFETY: getauxval takes any number and has no effects.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if name.is_null() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: what is not null is a string that the kernel has put on the first stack, where it stays.
    let name = unsafe { CStr::from_ptr(name) };
    fs::canonicalize(OsStr::from_bytes(name.to_bytes()))
}

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

/// Has this process, which has one thread, and all that it starts gain no capability by executing a file.
pub(crate) fn drop_bounding_set() {
    for capability in CapabilitySet::all().iter() {
        // EPERM where it has none that it could drop, and then no new privileges are what keeps it so; EINVAL
        // where the kernel does not know it.
        let _ = remove_capability_from_bounding_set(capability);
    }
}

/// Takes every capability from this process, which has one thread. It may gain no new privileges.
///
/// # Errors
/// What the system gives.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Whether the kernel may leave a core dump of this process.
pub(crate) fn may_dump_core() -> bool {
    getrlimit(Resource::Core).current != Some(0)
}

/// Keeps other processes of the same user from looking into this one, and the kernel from dumping it
/// (PR_SET_DUMPABLE). A program that it executes can be looked into again.
///
/// # Errors
/// What the system gives.
pub(crate) fn forbid_looking_in() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Takes [`forbid_looking_in`] back.
///
/// # Errors
/// What the system gives.
pub(crate) fn allow_looking_in() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
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

/// Moves this process into the control group whose `cgroup.procs` is `entrance`.
///
/// # Errors
/// What the system gives.
pub(crate) fn enter_group(entrance: &Path) -> io::Result<()> {
    let mut entrance = File::options().write(true).open(entrance)?;
    io::Write::write_all(&mut entrance, b"0")
}

/// Makes this process the leader of a process group of its own.
///
/// # Errors
/// What the system gives.
pub(crate) fn lead_group() -> io::Result<()> {
    Ok(setpgid(None, None)?)
}

/// Names the calling thread, which in `main` is the name that `ps` and `top` show: at most 15 bytes.
///
/// # Errors
/// What the system gives.
pub(crate) fn name_thread(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(set_name(name)?)
}

/// Takes on `limits`, for this process and all that it starts. Only system calls are made.
///
/// # Errors
/// What the system gives.
pub(crate) fn limit_to(
    AttemptLimits { memory_bytes, cpu_time, file_size_bytes }: AttemptLimits,
) -> io::Result<()> {
    for (resource, amount) in [(Resource::As, memory_bytes), (Resource::Fsize, file_size_bytes)] {
        amount.map_or(Ok(()), |amount| resource::limit(resource, amount))?;
    }
    cpu_time.map_or(Ok(()), resource::limit_cpu_time)
}

/// The same number.
pub(crate) fn own_id(pid: rustix::process::Pid) -> Pid {
    Pid(pid.as_raw_pid().unsigned_abs())
}

/// The calling thread's id, as gettid(2) gives it.
pub(crate) fn own_thread_id() -> Pid {
    own_id(rustix::thread::gettid())
}

/// Kills every process of the group that `leader` leads or led.
///
/// The caller knows that the group is the one it means. Process 1 and whatever is no process id are left
/// alone: kill(2) would take them for something else. That the group is empty is no error.
pub(crate) fn kill_group_of(leader: Pid) {
    let leader = i32::try_from(leader.0).ok().filter(|leader| *leader > 1);
    if let Some(leader) = leader.and_then(rustix::process::Pid::from_raw) {
        // What can fail: ESRCH, when all its members have ended; EPERM, when they changed their user.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// Writes a record to the guard, waiting while its pipe is full.
///
/// # Errors
/// What the system gives.
pub(crate) fn tell_guard(guard: impl AsFd, record: Record) -> io::Result<()> {
    loop {
        match rustix::io::write(&guard, &record.encode()) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_for_room(&guard)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait_for_room(pipe: impl AsFd) -> io::Result<()> {
    let mut polled = [PollFd::new(&pipe, PollFlags::OUT)];
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    Ok(())
}

/// Kills every process of this one's group, itself included.
///
/// # Errors
/// What the system gives; otherwise it does not return.
pub(crate) fn kill_own_group() -> io::Result<()> {
    Ok(kill_current_process_group(Signal::KILL)?)
}
