//! What memory processes take, as the kernel counts it.

use std::fs;

use crate::id::Pid;

/// Resident memory of the process `pid` (proc_pid_status(5)); nothing if it is gone, or there is no `/proc`.
pub(super) fn resident_bytes(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.0)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_resident_memory_is_known() {
        let bytes = resident_bytes(Pid(std::process::id())).expect("we are running");
        assert!(bytes > 64 * 1024);
    }

    #[test]
    fn process_that_is_not_there_has_no_resident_memory() {
        assert_eq!(resident_bytes(Pid(u32::MAX)), None);
    }
}
