//! The process's own environment variables.

use std::env;
use std::ffi::OsStr;

/// Takes every variable whose name is `unwanted` out of this process's environment.
///
/// Only for the first lines of `main`, while there is one thread.
pub(crate) fn remove(unwanted: impl Fn(&OsStr) -> bool) {
    let names: Vec<_> = env::vars_os().map(|(name, _)| name).filter(|name| unwanted(name)).collect();
    for name in names {
        // SAFETY: no other thread runs yet that could read the environment meanwhile: the callers are the
        // first lines of `main`. (Readers that use `std::env` would be safe even so.)
        unsafe { env::remove_var(name) };
    }
}
