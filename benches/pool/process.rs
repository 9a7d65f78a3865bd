//! What the system tells of a process (proc(5)).

use std::fs;
use std::path::Path;

use crate::Failure;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What is resident, shared pages included.
    pub resident: f64,
    /// What no other process shares.
    pub private: f64,
}

impl Memory {
    pub fn of(process: u32) -> Result<Self, Failure> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let mut memory = Memory { resident: 0.0, private: 0.0 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(kibibytes)) = (words.next(), words.next()) else { continue };
            match name {
                "Rss:" => memory.resident = kibibytes.parse::<f64>()? * 1024.0,
                "Private_Clean:" | "Private_Dirty:" => memory.private += kibibytes.parse::<f64>()? * 1024.0,
                _ => {}
            }
        }
        Ok(memory)
    }
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
