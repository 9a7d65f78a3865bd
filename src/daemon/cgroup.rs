//! A control group for each worker, where the daemon was given a part of the tree to itself.
//!
//! ```text
//!   the daemon's group          as it was started: it alone was in it
//!     ├── supervisor            the daemon and its guard, since a group with groups in it holds no processes
//!     └── workers.PID           those of the daemon PID: killed as a whole when that is dead
//!           ├── 0.0             slot 0, generation 0, with all that it starts: memory.max, pids.max
//!           └── 1.7
//! ```
//!
//! Where there is no such part (or not these controllers) limits are kept by other means, or not at all, and
//! [`Confinement`] says so in words. Nothing here moves a process but the daemon's own.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::config::PoolLimits;
use crate::id::{Pid, WorkerId};
use crate::limits::FAREWELL_TIMEOUT;
use crate::os::cgroup::Group;

/// Where the daemon itself goes.
const SUPERVISOR: &str = "supervisor";

/// What the name of a daemon's workers' group starts with; its process id follows.
const WORKERS: &str = "workers.";

const MEMORY: &str = "memory";
const PROCESSES: &str = "pids";

/// How the limits of workers are kept, and what ends all that a worker has started.
#[derive(Clone, Debug)]
pub(super) enum Confinement {
    /// Each worker gets a control group.
    ByGroup(Workers),
    /// There is none to be had.
    ByProcess {
        /// Why not.
        reason: String,
    },
}

/// The group that those of the workers are in.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    group: Group,
    has_memory: bool,
    has_processes: bool,
}

/// The control group of one worker.
#[derive(Debug)]
pub(super) struct WorkerGroup {
    group: Group,
    /// What `memory.max` was set to.
    memory_max_bytes: Option<u64>,
}

impl Confinement {
    /// Takes what the daemon was given, if it was, and removes what a killed daemon left there. To be called
    /// once, before anything is started but the `template`.
    pub(super) fn arrange(template: Option<Pid>) -> Self {
        match arrange(template) {
            Ok(Ok(workers)) => Confinement::ByGroup(workers),
            Ok(Err(reason)) => Confinement::ByProcess { reason },
            Err(error) => Confinement::ByProcess { reason: error.to_string() },
        }
    }

    /// Whether `memory` is the control group's affair.
    pub(super) fn limits_memory(&self) -> bool {
        matches!(self, Confinement::ByGroup(Workers { has_memory: true, .. }))
    }

    /// A group for a worker with these limits; none where there are no groups.
    ///
    /// # Errors
    /// That it cannot be made, or cannot be limited.
    pub(super) fn make_group(
        &self,
        worker: WorkerId,
        limits: &PoolLimits,
    ) -> io::Result<Option<WorkerGroup>> {
        match self {
            Confinement::ByGroup(workers) => workers.make_group(worker, limits).map(Some),
            Confinement::ByProcess { .. } => Ok(None),
        }
    }

    /// What the guard kills when the daemon is dead.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Confinement::ByGroup(workers) => Some(workers.group.path().to_owned()),
            Confinement::ByProcess { .. } => None,
        }
    }
}

impl fmt::Display for Confinement {
    /// What limits workers, and what cannot be limited.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = if self.limits_memory() { "memory by cgroup" } else { "memory by RLIMIT_AS" };
        let has_processes = matches!(self, Confinement::ByGroup(Workers { has_processes: true, .. }));
        let processes = if has_processes { "processes by cgroup" } else { "processes: not available" };
        write!(formatter, "{memory}; {processes} ")?;
        match self {
            Confinement::ByGroup(workers) => {
                let place = workers.group.path().display();
                let missing: Vec<&str> = [(workers.has_memory, MEMORY), (workers.has_processes, PROCESSES)]
                    .into_iter()
                    .filter_map(|(has, controller)| (!has).then_some(controller))
                    .collect();
                match missing[..] {
                    [] => write!(formatter, "({place})"),
                    _ => write!(formatter, "({place} has no controller {})", missing.join(", ")),
                }
            }
            Confinement::ByProcess { reason } => write!(formatter, "(no delegated cgroup: {reason})"),
        }
    }
}

/// Arranges the groups; the inner error is why there are none to arrange.
fn arrange(template: Option<Pid>) -> io::Result<Result<Workers, String>> {
    let Some(own) = Group::own()? else { return Ok(Err("cgroup v2 is not mounted".to_owned())) };
    // As it was left by a daemon that executed itself again, or by DelegateSubgroup= of systemd.
    let is_arranged = own.name() == Some(SUPERVISOR);
    let base = own.parent().filter(|_| is_arranged).unwrap_or(own);
    let place = base.path().display().to_string();
    if !base.has("cgroup.kill") {
        return Ok(Err(format!("{place} is the topmost one, or the kernel is older than 5.14")));
    }
    let daemon = Pid(std::process::id());
    let is_other = |member: &Pid| *member != daemon && Some(*member) != template;
    let others = base.members()?.iter().filter(|member| is_other(member)).count();
    if others > 0 {
        return Ok(Err(format!("{others} other processes are in {place}")));
    }
    let refused = |error: io::Error| format!("{place}: {error}");
    let supervisor = base.child(SUPERVISOR);
    if let Err(error) = supervisor.make().and_then(|()| supervisor.take_in(daemon)) {
        return Ok(Err(refused(error)));
    }
    // One that has ended is not in the way.
    let _ = template.map(|template| supervisor.take_in(template));
    remove_leftovers(&base, &supervisor.members()?, daemon)?;
    let group = base.child(&format!("{WORKERS}{}", daemon.0));
    if let Err(error) = group.make() {
        return Ok(Err(refused(error)));
    }
    let has = |controller| base.hand_on(controller).and_then(|()| group.hand_on(controller)).is_ok();
    Ok(Ok(Workers { has_memory: has(MEMORY), has_processes: has(PROCESSES), group }))
}

/// Ends what daemons left behind that are dead: those that are not beside this one.
fn remove_leftovers(base: &Group, daemons: &[Pid], this: Pid) -> io::Result<()> {
    for name in base.children()? {
        let owner = name.strip_prefix(WORKERS).and_then(|pid| pid.parse().ok()).map(Pid);
        if owner.is_some_and(|owner| owner == this || !daemons.contains(&owner)) {
            let left = base.child(&name);
            if let Err(error) = end(&left) {
                log::warn!("{} of a daemon that is gone cannot be removed: {error}", left.path().display());
            }
        }
    }
    Ok(())
}

/// Removes a group whose processes were killed, and those in it. One whose processes are still on their way out
/// cannot be.
pub(super) fn remove_tree(group: &Group) -> io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for child in group.children()? {
        remove_tree(&group.child(&child))?;
    }
    group.remove()
}

impl Workers {
    fn make_group(&self, worker: WorkerId, limits: &PoolLimits) -> io::Result<WorkerGroup> {
        let group = self.group.child(&format!("{}.{}", worker.slot.0, worker.generation.0));
        group.make()?;
        let memory_max_bytes = limits.memory_bytes.filter(|_| self.has_memory);
        let made = WorkerGroup { group, memory_max_bytes };
        made.limit(limits.processes.filter(|_| self.has_processes)).inspect_err(|_| {
            // Nothing is in it. Failing, it would be removed with the others at the daemon's end.
            let _ = made.group.remove();
        })?;
        Ok(made)
    }
}

impl WorkerGroup {
    fn limit(&self, processes_max: Option<u64>) -> io::Result<()> {
        if self.group.has("memory.oom.group") {
            // A worker without the process that was killed, or the other way round, is of no use.
            self.group.set("memory.oom.group", "1")?;
        }
        if let Some(bytes) = self.memory_max_bytes {
            self.group.set("memory.max", &bytes.to_string())?;
            if self.group.has("memory.swap.max") {
                self.group.set("memory.swap.max", "0")?;
            }
        }
        if let Some(processes) = processes_max {
            self.group.set("pids.max", &processes.to_string())?;
        }
        Ok(())
    }

    /// What a worker writes to to move itself into it.
    pub(super) fn entrance(&self) -> PathBuf {
        self.group.path().join("cgroup.procs")
    }

    /// Kills the worker and all that it has started, however far it went.
    pub(super) fn kill(&self) {
        if let Err(error) = self.group.kill() {
            log::error!("{} cannot be killed: {error}", self.group.path().display());
        }
    }

    /// Whether the kernel killed something in it for want of memory; then the limit, if that was what was met.
    pub(super) fn out_of_memory(&self) -> Option<Option<u64>> {
        let count = |name| self.group.count("memory.events", name);
        // `oom_kill` counts what was killed in here for any group's want; `oom`, that this one met its limit.
        (count("oom_kill") > 0).then(|| self.memory_max_bytes.filter(|_| count("oom") > 0))
    }

    /// Removes it once it is empty.
    ///
    /// # Errors
    /// What the system gives: EBUSY until then.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_tree(&self.group)
    }
}

/// Kills and removes all that is left of a daemon's workers.
pub(super) fn end_all(workers: PathBuf) {
    // What fails here is left to the next daemon in this group, or to the service manager.
    let _ = end(&Group::at(workers));
}

/// Kills all that is in a group, sees it die, and removes the group with those in it.
fn end(group: &Group) -> io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    group.kill()?;
    group.wait_until_empty(FAREWELL_TIMEOUT)?;
    remove_tree(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_cannot_be_limited_and_why() {
        let none = Confinement::ByProcess { reason: "cgroup v2 is not mounted".to_owned() };
        assert_eq!(
            none.to_string(),
            "memory by RLIMIT_AS; processes: not available (no delegated cgroup: cgroup v2 is not mounted)"
        );
        let group = Group::at("/sys/fs/cgroup/x/workers.7".into());
        let workers = Workers { group, has_memory: true, has_processes: false };
        assert_eq!(
            Confinement::ByGroup(workers).to_string(),
            "memory by cgroup; processes: not available (/sys/fs/cgroup/x/workers.7 has no controller pids)"
        );
    }
}
