//! Functions that harm their worker, for showing what a pool makes of it.

use std::convert::Infallible;
use std::fmt;
use std::hint;
use std::process;

use serde::Deserialize;

use super::Registry;
use crate::os::{fault, signal};

/// Adds the functions, to be offered only where the configuration allows it.
pub(super) fn register(registry: Registry) -> Registry {
    registry
        .register_fault(
            "crash",
            &["HOW"],
            "Ends its worker: abort, segfault, or an exit status from 0 to 255.",
            |how: Crash| -> Result<(), Infallible> { how.happen() },
        )
        .register_fault("spin", &[], "Never returns, and blocks every signal.", |()| spin())
}

/// A way to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Crash {
    Abort,
    Segfault,
    Exit(u8),
}

impl Crash {
    fn happen(self) -> ! {
        match self {
            Crash::Abort => process::abort(),
            Crash::Segfault => fault::segfault(),
            // No destructor runs, and nothing is reported.
            Crash::Exit(status) => process::exit(status.into()),
        }
    }
}

impl TryFrom<String> for Crash {
    type Error = NoCrash;

    fn try_from(how: String) -> Result<Self, NoCrash> {
        match how.as_str() {
            "abort" => Ok(Crash::Abort),
            "segfault" => Ok(Crash::Segfault),
            status => status.parse().map(Crash::Exit).map_err(|_| NoCrash),
        }
    }
}

/// A text that names no way to end a process.
struct NoCrash;

impl fmt::Display for NoCrash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("it is none of abort, segfault or an exit status from 0 to 255")
    }
}

/// Keeps the processor busy for ever; only SIGKILL ends it.
fn spin() -> Result<(), std::io::Error> {
    signal::block_all()?;
    loop {
        hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_crash_are_told_apart() {
        let crash = |how: &str| Crash::try_from(how.to_owned()).ok();
        assert_eq!(crash("abort"), Some(Crash::Abort));
        assert_eq!(crash("segfault"), Some(Crash::Segfault));
        assert_eq!(crash("0"), Some(Crash::Exit(0)));
        assert_eq!(crash("255"), Some(Crash::Exit(255)));
        assert_eq!(crash("256"), None);
        assert_eq!(crash("Abort"), None);
    }
}
