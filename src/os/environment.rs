//! The process's own environment variables.

use std::env;
use std::ffi::{CStr, OsStr, OsString, c_char};

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

/// Whether [`add`] can set this variable. One that was inherited may have a name that begins with `=`.
pub(crate) fn can_be_set(name: &OsStr, value: &OsStr) -> bool {
    let (name, value) = (name.as_encoded_bytes(), value.as_encoded_bytes());
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

/// Whether there is a variable whose name is such a one. Copies nothing: what was copied once stays in the memory of
/// this process, and in that of its copies.
///
/// Only while there is one thread.
pub(crate) fn has(is_such: impl Fn(&[u8]) -> bool) -> bool {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: it is the C library's, null or an array of strings that ends with a null, and nobody changes it
    // meanwhile: there is one thread.
    let mut variable = unsafe { environ };
    // SAFETY: as above; it goes no further than the null.
    while let Some(text) = unsafe { variable.as_ref() }.filter(|text| !text.is_null()) {
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(*text) }.to_bytes();
        // A name may begin with what ends it.
        let end = text.iter().skip(1).position(|byte| *byte == b'=').map_or(text.len(), |end| end + 1);
        if is_such(&text[..end]) {
            return true;
        }
        // SAFETY: as above.
        variable = unsafe { variable.add(1) };
    }
    false
}

/// Forgets every variable, and leaves no copy of one.
///
/// Only while there is one thread.
pub(crate) fn clear() {
    // SAFETY: there is no other thread that could read the environment meanwhile. It cannot fail.
    unsafe { libc::clearenv() };
}

/// Adds these variables. All [can be set](can_be_set).
///
/// Only while there is one thread.
pub(crate) fn add(variables: impl IntoIterator<Item = (OsString, OsString)>) {
    for (name, value) in variables {
        // SAFETY: there is no other thread that could read the environment meanwhile.
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
    fn variable_is_found_by_the_whole_of_its_name() {
        assert!(has(|name| name == b"PATH"));
        assert!(!has(|name| name == b"PAT" || name.contains(&b'=')));
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
