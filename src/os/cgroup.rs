//! The files of a control group of version 2 (the kernel's admin-guide/cgroup-v2): a directory for each group.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::id::Pid;

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group(PathBuf);

impl Group {
    /// The group whose directory is `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Group(path)
    }

    /// The group that this process is in; nothing where version 2 is not mounted.
    ///
    /// # Errors
    /// What the system gives: above all that `/proc` is not there.
    pub(crate) fn own() -> io::Result<Option<Self>> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(directory_of(&groups, &mounts).map(Group))
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The last part of its directory.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.file_name()?.to_str()
    }

    /// The group above it, if it is not the topmost that can be seen.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Group(parent.to_owned())).filter(Group::exists)
    }

    /// The group of that name in it.
    pub(crate) fn child(&self, name: &str) -> Self {
        Group(self.0.join(name))
    }

    /// Whether there is such a group.
    pub(crate) fn exists(&self) -> bool {
        self.has("cgroup.procs")
    }

    /// Whether it has that file.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }

    /// The names of the groups in it.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn children(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Makes it. That it is there already is no error.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes it. That it is gone already is no error.
    ///
    /// # Errors
    /// What the system gives: EBUSY as long as processes or other groups are in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Kills all that is in it and in the groups below it, however fast it forks.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.set("cgroup.kill", "1")
    }

    /// Waits until nothing lives in it and in the groups below it, at most for `patience`.
    ///
    /// # Errors
    /// What the system gives, [`TimedOut`](io::ErrorKind::TimedOut) if something lives on.
    pub(crate) fn wait_until_empty(&self, patience: Duration) -> io::Result<()> {
        let events = fs::File::open(self.0.join("cgroup.events"))?;
        let until = Instant::now() + patience;
        loop {
            // Once it was read, the file is said to be ready (POLLPRI) as soon as it changes.
            let mut text = String::new();
            (&events).rewind()?;
            (&events).read_to_string(&mut text)?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
            let left = left.map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The processes that are in it, those of the groups below it apart.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn members(&self) -> io::Result<Vec<Pid>> {
        let list = fs::read_to_string(self.0.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).map(Pid).collect())
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn take_in(&self, process: Pid) -> io::Result<()> {
        self.set("cgroup.procs", &process.0.to_string())
    }

    /// Lets the groups in it be limited by `controller`.
    ///
    /// # Errors
    /// What the system gives: ENOENT if it has no such controller to hand on.
    pub(crate) fn hand_on(&self, controller: &str) -> io::Result<()> {
        self.set("cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn set(&self, file: &str, value: &str) -> io::Result<()> {
        // Opened as it is: a file that is not there must not be made.
        let mut file = fs::OpenOptions::new().write(true).open(self.0.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }

    /// A count in one of its files of lines with a name and a number; 0 if it is not there.
    pub(crate) fn count(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        let counts = text.lines().filter_map(|line| line.split_once(' '));
        counts
            .into_iter()
            .find(|(key, _)| *key == name)
            .and_then(|(_, count)| count.parse().ok())
            .unwrap_or(0)
    }
}

/// Where the group is whose path stands in `groups` (/proc/self/cgroup), by `mounts` (/proc/self/mountinfo).
fn directory_of(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        // Six fields and any number of tags, then " - " and the file system's type (proc_pid_mountinfo(5)).
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let below = path.strip_prefix(root).ok().filter(|_| kind.starts_with("cgroup2 "))?;
        Some(Path::new(place).components().chain(below.components()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "24 30 0:22 / /proc rw,nosuid shared:12 - proc proc rw\n\
        30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn group_is_found_below_the_mount() {
        let of = |groups, mounts| directory_of(groups, mounts);
        let found = of("4:memory:/a\n0::/system.slice/poold.service\n", MOUNTS);
        assert_eq!(found, Some("/sys/fs/cgroup/system.slice/poold.service".into()));
        assert_eq!(of("0::/\n", MOUNTS), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn group_is_found_below_a_mount_of_a_part() {
        let mounts = "30 23 0:26 /machine /cgroup rw - cgroup2 none rw\n";
        assert_eq!(directory_of("0::/machine/x\n", mounts), Some("/cgroup/x".into()));
        assert_eq!(directory_of("0::/elsewhere\n", mounts), None);
    }

    #[test]
    fn without_version_2_there_is_no_group() {
        let mounts = "41 31 0:38 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(directory_of("0::/\n", mounts), None);
        assert_eq!(directory_of("4:memory:/a\n", MOUNTS), None);
    }
}
