//! The keys that limit what workers and attempts may use of the machine.
//!
//! What is set on a pool holds for each of its workers, with all that it starts; what is set on a function, for
//! each attempt. A limit that could not be kept is a mistake here, at its place.

use super::section::{Mistake, Section};
use super::{Function, Pool, PoolLimits};
use crate::message::resources::AttemptLimits;

/// What a pool's table sets. `threads` is how many attempts its workers run at a time.
pub(super) fn of_pool(section: &mut Section<'_>, threads: u32) -> Result<PoolLimits, Mistake> {
    let limits = PoolLimits {
        memory_bytes: section.bytes("memory")?,
        cpu_time: section.duration("cpu_time")?,
        open_files: section.number("open_files", 1..=u64::MAX)?,
        processes: section.number("processes", 1..=u64::MAX)?,
        file_size_bytes: section.bytes("file_size")?,
        core_bytes: section.bytes_from_zero("core")?.unwrap_or(0),
    };
    if limits.cpu_time.is_some() && threads > 1 {
        let message = format!(
            "`cpu_time` is for one attempt at a time, and with threads = {threads} nobody can tell whose time it was; \
             remove one of the two"
        );
        return Err(section.mistake("cpu_time", message));
    }
    Ok(limits)
}

/// What a function's table sets.
pub(super) fn of_function(section: &mut Section<'_>) -> Result<AttemptLimits, Mistake> {
    Ok(AttemptLimits {
        memory_bytes: section.bytes("memory")?,
        cpu_time: section.duration("cpu_time")?,
        file_size_bytes: section.bytes("file_size")?,
    })
}

/// Whether the limits of `function` can be kept in every pool that serves it.
///
/// # Errors
/// Why not: it runs in the worker itself, beside other attempts.
pub(super) fn check_threads(function: &Function, pools: &[Pool]) -> Result<(), String> {
    let is_apart = function.command.is_some() || function.limits.is_empty();
    match pools.iter().find(|pool| !is_apart && pool.threads > 1 && pool.serves(&function.name)) {
        None => Ok(()),
        Some(pool) => Err(format!(
            "`{}` shares its process with other attempts in pool `{}` (threads = {}), so its memory, cpu_time and \
             file_size cannot be limited; add it to that pool's `except`, or remove the limits",
            function.name, pool.name, pool.threads
        )),
    }
}
