//! The process's own environment variables.

use std::env;
use std::ffi::{OsStr, OsString};

/// Takes every variable that is meant for the daemon, and for nothing that it starts, out of this
/// process's environment.
///
/// Only for the first lines of `main`, while there is one thread.
pub(crate) fn remove_the_daemons() {
    let names: Vec<_> = env::vars_os().map(|(name, _)| name).filter(|name| is_the_daemons(name)).collect();
    for name in names {
        // SAFETY: no other thread runs yet that could read the environment meanwhile: the callers are the
        // first lines of `main`. (Readers that use `std::env` would be safe even so.)
        unsafe { env::remove_var(name) };
    }
}

/// Whether [`replace`] can set this variable. One that was inherited may have a name that begins with `=`.
pub(crate) fn can_be_set(name: &OsStr, value: &OsStr) -> bool {
    let (name, value) = (name.as_encoded_bytes(), value.as_encoded_bytes());
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

/// Makes these all the variables there are. All [can be set](can_be_set).
///
/// Only while there is one thread.
pub(crate) fn replace(variables: impl IntoIterator<Item = (OsString, OsString)>) {
    for (name, _) in env::vars_os() {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: as above.
        unsafe { env::set_var(name, value) };
    }
}

fn is_the_daemons(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == b"NOTIFY_SOCKET"
        || [&b"POOLD_"[..], b"LISTEN_", b"WATCHDOG_"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_that_cannot_be_set_is_told_from_others() {
        let can_be_set = |name: &str, value: &str| can_be_set(name.as_ref(), value.as_ref());
        assert!(can_be_set("x", "") && can_be_set("x", "=y"));
        for (name, value) in [("", "y"), ("=x", "y"), ("x=", "y"), ("x\0", "y"), ("x", "y\0")] {
            assert!(!can_be_set(name, value), "{name:?} {value:?}");
        }
    }

    #[test]
    fn daemons_variables_are_told_from_others() {
        for name in ["POOLD_SOCKET", "POOLD_WORKER", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC"] {
            assert!(is_the_daemons(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "POOL", "NOTIFY_SOCKETS", "RUST_LOG", ""] {
            assert!(!is_the_daemons(OsStr::new(name)), "{name}");
        }
    }
}
