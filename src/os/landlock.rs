//! A domain that this process and all that it starts cannot reach out of (landlock(7)): none of them can trace
//! or signal what is outside. Files are left as they are.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;

/// LANDLOCK_CREATE_RULESET_VERSION: asks for the version alone.
const ASK_VERSION: u32 = 1;

/// LANDLOCK_ACCESS_FS_REFER: renaming and linking from one directory to another.
const REFER: u64 = 1 << 13;

/// LANDLOCK_RULE_PATH_BENEATH: a rule for all that is below a directory.
const PATH_BENEATH: u32 = 1;

/// LANDLOCK_SCOPE_SIGNAL: no signal leaves the domain.
const SIGNAL: u64 = 1 << 1;

/// The first version that can leave all of the file system alone.
const VERSION_WITH_REFER: u32 = 2;

/// The first version with scopes.
const VERSION_WITH_SCOPES: u32 = 6;

/// `struct landlock_ruleset_attr`
#[repr(C)]
#[derive(Default)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneathAttributes {
    allowed_access: u64,
    parent_fd: i32,
}

/// What a domain keeps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Traces.
    Traces,
    /// Traces and signals.
    TracesAndSignals,
}

/// What a domain would keep in on this kernel, if there can be one.
pub(crate) fn reach() -> Option<Reach> {
    // SAFETY: this form of the call takes no pointer and returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<RulesetAttributes>(),
            0_usize,
            ASK_VERSION,
        )
    };
    match u32::try_from(version) {
        Ok(VERSION_WITH_SCOPES..) => Some(Reach::TracesAndSignals),
        Ok(VERSION_WITH_REFER..) => Some(Reach::Traces),
        Ok(_) | Err(_) => None,
    }
}

/// Shuts this process in, for good. It has one thread and no new privileges.
///
/// # Errors
/// What the system gives.
pub(crate) fn enter(reach: Reach) -> io::Result<()> {
    let attributes = match reach {
        Reach::TracesAndSignals => RulesetAttributes { scoped: SIGNAL, ..RulesetAttributes::default() },
        // A domain must concern something. What is denied unless a rule allows it, named or not, is this.
        Reach::Traces => RulesetAttributes { handled_access_fs: REFER, ..RulesetAttributes::default() },
    };
    // Versions without scopes take no more than what they know, unless the rest is zero.
    // SAFETY: `attributes` lives through the call, which reads as many bytes as it has.
    let ruleset = checked(unsafe {
        let bytes = size_of::<RulesetAttributes>();
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, bytes, 0_u32)
    })?;
    // SAFETY: the call has just made this descriptor, which nobody else knows; it is close-on-exec.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as i32) };
    if attributes.handled_access_fs != 0 {
        allow_everywhere(&ruleset, attributes.handled_access_fs)?;
    }
    // SAFETY: the call takes numbers alone.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) })?;
    Ok(())
}

fn allow_everywhere(ruleset: &OwnedFd, allowed_access: u64) -> io::Result<()> {
    let root = File::options().read(true).custom_flags(libc::O_PATH).open("/")?;
    let attributes = PathBeneathAttributes { allowed_access, parent_fd: root.as_raw_fd() };
    // SAFETY: `attributes` lives through the call, which reads it alone; both descriptors are open.
    checked(unsafe {
        let ruleset = ruleset.as_raw_fd();
        libc::syscall(libc::SYS_landlock_add_rule, ruleset, PATH_BENEATH, &raw const attributes, 0_u32)
    })?;
    Ok(())
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
