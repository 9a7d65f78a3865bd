//! What a daemon holds of the machine: memory, descriptors, children that nobody has reaped.

use std::fs;

use rustix::process::Pid;

/// What one process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    pub resident_bytes: u64,
    pub descriptors: usize,
    pub zombies: usize,
}

impl Footprint {
    /// Whether nothing is left of what died: that is cleared away once its successor is there.
    pub fn has_nothing_left_since(&self, before: &Footprint) -> bool {
        self.descriptors == before.descriptors && self.zombies == 0
    }

    pub fn of(pid: Pid) -> Self {
        let number = pid.as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let descriptors = fs::read_dir(format!("/proc/{number}/fd")).unwrap().count();
        Footprint { resident_bytes: kibibytes * 1024, descriptors, zombies: zombies_of(number.get()) }
    }
}

fn zombies_of(parent: i32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // The name, in parentheses, may hold anything: the fields are behind the last of them.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let mut fields = fields.split_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
        })
        .count()
}
