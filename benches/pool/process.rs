//! What the system tells of a process (proc(5)).

use std::fs;
use std::path::Path;

use crate::Failure;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What is resident, shared pages included.
    pub resident: f64,
    /// The most that ever was.
    pub peak: f64,
    /// What no other process shares.
    pub private: f64,
}

impl Memory {
    pub fn of(process: u32) -> Result<Self, Failure> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let parts = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        Ok(Memory {
            resident: bytes_of(&status, "VmRSS:")?,
            peak: bytes_of(&status, "VmHWM:")?,
            private: bytes_of(&parts, "Private_Clean:")? + bytes_of(&parts, "Private_Dirty:")?,
        })
    }
}

/// The number of kibibytes that a line has after its name, in bytes.
fn bytes_of(text: &str, name: &str) -> Result<f64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).ok_or("a process has no memory")?;
    Ok(kibibytes.parse::<f64>()? * 1024.0)
}

/// Nanoseconds of processor time that the threads of a process have used so far.
pub fn processor_nanos(process: u32) -> Result<u64, Failure> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanos)
}

/// How often the threads of a process have waited for something.
pub fn waits(process: u32) -> Result<u64, Failure> {
    let mut waits = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        waits += count.ok_or("the system does not count waits")?.trim().parse::<u64>()?;
    }
    Ok(waits)
}

/// Bytes of a file.
pub fn size(file: impl AsRef<Path>) -> Result<f64, Failure> {
    Ok(fs::metadata(file)?.len() as f64)
}
