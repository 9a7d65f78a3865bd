//! What shuts workers in, in words, and what the daemon does for it itself.
//!
//! Workers shut themselves in (`src/worker/sandbox.rs`): nothing here can keep them from anything.

use super::LOG_TARGET;
use super::config::Config;
use crate::id::Pid;
use crate::os::landlock::{self, Reach};
use crate::os::{children, process, seccomp};

/// Says in the log what holds for each pool; keeps workers from looking into the daemon where they cannot be kept
/// from looking out.
pub(super) fn arrange(config: &Config) {
    let words = words();
    for pool in &config.pools {
        let words = if pool.sandbox { words.as_str() } else { "no_new_privs alone, by its configuration" };
        log::info!(target: LOG_TARGET, "sandbox of pool {}: {words}", pool.name);
    }
    if landlock::reach().is_none()
        && let Err(error) = process::forbid_looking_in()
    {
        log::warn!("workers may be able to look into this process: {error}");
    }
}

/// Whether it can be told by `/proc` whose child a process is. If not, that is logged.
pub(super) fn sees_processes() -> bool {
    let sees = children::parent_of(Pid(std::process::id())).is_some();
    if !sees {
        log::warn!("/proc cannot be read: a worker could connect as a client; mount it");
    }
    sees
}

/// What this kernel has to shut workers in.
fn words() -> String {
    let landlock = match landlock::reach() {
        Some(Reach::TracesAndSignals) => "Landlock (no traces and no signals to others)",
        Some(Reach::Traces) => "Landlock (no traces of others)",
        None => "no Landlock in this kernel",
    };
    let seccomp = if seccomp::is_available() { "seccomp" } else { "no seccomp in this kernel" };
    format!("no_new_privs, no capabilities, {landlock}, {seccomp}")
}
