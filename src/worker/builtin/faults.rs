//! Functions that harm their worker, for showing what a pool makes of it.

use std::convert::Infallible;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::hint;
use std::io::Read;
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
        .register_fault("hog", &["BYTES"], "Takes so much memory, and gives it back.", |bytes: usize| {
            Ok::<_, Infallible>(hog(bytes))
        })
        .register_fault(
            "fork_bomb",
            &["PROCESSES"],
            "Starts so many processes that stay, or as many as it can; how many there came to be.",
            |processes: u32| Ok::<_, Infallible>(fork_bomb(processes)),
        )
        .register_fault(
            "stray",
            &[],
            "Starts a process that leaves its group, session and parent, and stays; its process id.",
            |()| fault::start_stray().map(|stray| stray.0),
        )
        .register_fault("fill", &["BYTES"], "Writes a file of that size, which is removed.", fill)
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

/// Writes to each page of so much memory: what is only reserved takes none.
fn hog(bytes: usize) -> usize {
    const PAGE_BYTES: usize = 4096;
    let mut taken = vec![0_u8; bytes];
    taken.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    hint::black_box(&taken).len()
}

/// At most so many, so that a machine without a limit survives it.
fn fork_bomb(processes: u32) -> usize {
    (0..processes).map_while(|_| fault::start_idler().ok()).count()
}

fn fill(bytes: u64) -> Result<u64, std::io::Error> {
    let path = env::temp_dir().join(format!("poold-fill.{}", process::id()));
    let mut file = File::create(&path)?;
    fs::remove_file(path)?;
    std::io::copy(&mut std::io::repeat(0).take(bytes), &mut file)
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
