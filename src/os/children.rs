//! The children of this process, also those that it did not start: whose parent has ended come to the nearest
//! process above that asked for them (PR_SET_CHILD_SUBREAPER).

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, set_child_subreaper, test_kill_process, waitid,
    waitpid,
};

use crate::id::Pid;

/// From here on, what a descendant leaves behind becomes a child of this process.
///
/// # Errors
/// What the system gives.
pub(crate) fn adopt() -> io::Result<()> {
    // Any process id means yes.
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether there are any, dead or alive.
pub(crate) fn exist() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// Those that are there, dead or alive, asked for in the cheapest way.
///
/// # Errors
/// There are some, and `/proc` is not there.
pub(crate) fn present() -> io::Result<Vec<Pid>> {
    if exist() { list() } else { Ok(Vec::new()) }
}

/// Their process ids, dead or alive. One that ends or comes meanwhile may be missing.
///
/// # Errors
/// That `/proc` is not there.
pub(crate) fn list() -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(thread?.path().join("children")) {
            Ok(list) => children.extend(list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid)),
            // The thread is gone, or the kernel was built without that file (CONFIG_PROC_CHILDREN).
            Err(_) if fs::exists("/proc/thread-self/children")? => {}
            Err(_) => return search(),
        }
    }
    Ok(children)
}

/// The same, by asking every process there is for its parent (proc_pid_stat(5)).
fn search() -> io::Result<Vec<Pid>> {
    let own = Pid(std::process::id());
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(numbers.map(Pid).filter(|process| parent_of(*process) == Some(own)).collect())
}

/// The parent of a process; none if it is gone, or hidden.
pub(crate) fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", process.0)).ok()?;
    // The name is in parentheses and may hold anything; the state and the parent follow.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_whitespace().nth(1)?.parse().ok().map(Pid)
}

/// Whether processes can be seen where there is a /proc: not while this one may have no further descriptor.
pub(crate) fn can_be_seen() -> bool {
    fs::File::open("/proc/self/stat").is_ok()
}

/// Whether a process is there and this one may not signal it, which one of the same user always may.
pub(crate) fn is_of_another_user(process: Pid) -> bool {
    as_rustix(process).is_some_and(|process| test_kill_process(process) == Err(Errno::PERM))
}

/// Kills a child that this process has not reaped.
pub(crate) fn kill(child: Pid) {
    if let Some(child) = as_rustix(child) {
        // Failing, it would be because it has changed its user: it stays.
        let _ = kill_process(child, Signal::KILL);
    }
}

/// Reaps a child if it has ended. Says whether it is gone.
pub(crate) fn reap_if_ended(child: Pid) -> bool {
    wait(child, WaitOptions::NOHANG)
}

/// Reaps a child, waiting for its end.
pub(crate) fn reap(child: Pid) {
    wait(child, WaitOptions::empty());
}

fn wait(child: Pid, options: WaitOptions) -> bool {
    let Some(child) = as_rustix(child) else { return true };
    let waited = rustix::io::retry_on_intr(|| waitpid(Some(child), options));
    // No child: somebody else has reaped it.
    !matches!(waited, Ok(None))
}

fn as_rustix(pid: Pid) -> Option<rustix::process::Pid> {
    i32::try_from(pid.0).ok().filter(|pid| *pid > 1).and_then(rustix::process::Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn child_is_listed_either_way_until_it_is_reaped() {
        let child = Pid(Command::new("sleep").arg("1000").spawn().expect("sleep starts").id());
        assert!(exist());
        assert!(list().expect("/proc is there").contains(&child));
        assert!(search().expect("/proc is there").contains(&child));
        assert!(!reap_if_ended(child));
        kill(child);
        reap(child);
        assert!(!list().expect("/proc is there").contains(&child));
        assert!(!search().expect("/proc is there").contains(&child));
    }
}
