//! The guard: a small process that outlives the daemon by a moment, and takes along what it left behind.
//!
//! ```text
//!   daemon ──WorkerStarted, WorkerEnded──┐
//!   command ──GroupStarted───────────────┼──> pipe ──> guard: the groups that are alive
//!   worker ──GroupEnded──────────────────┘               │
//!                                                        ├── a worker ended: its commands' groups are killed
//!   daemon ──its end (pidfd)─────────────────────────────┴── the daemon ended: every group is
//! ```
//!
//! Workers and commands ask the kernel to be killed with their parent, which reaches no child of theirs: so their
//! groups are killed, by the one process that knows them all and depends on neither. Each group is made known by its
//! leader before it executes anything, and taken back while its leader is not reaped, so that its number can be no
//! other group's. Where workers have control groups, those are killed as one. When the daemon is gone, the guard goes
//! on until the pipe's last writer is: whatever registers late is killed then.
//!
//! It is this program again, with `POOLD_GUARD` in its environment: a copy of the template from before that is
//! confined, or executed before the first worker. It lives in a group of its own, blocks every signal that can be
//! blocked, holds nothing but its end of the pipe, and says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::cgroup;
use super::template::{Environment, ForkedTemplate};
use crate::id::Pid;
use crate::limits::GUARD_PAUSE;
use crate::message::guard::{RECORD_BYTES, Record};
use crate::os::pidfd::{Child, Watched};
use crate::os::process::kill_group_of;
use crate::os::{descriptor, landlock, process as own, signal};

/// Says to a process that it is the guard, by the daemon's process id.
const DAEMON_PID: &str = "POOLD_GUARD";

/// What process listings show.
const TITLE: &str = "poold: guard";

/// The directory of the control group that all workers are in.
const CGROUP: &str = "POOLD_GUARD_CGROUP";

/// Bytes asked for in one read of the pipe: hundreds of records.
const READ_BYTES: usize = 4 * 1024;

/// The daemon's end of the pipe, and of the bell.
#[derive(Clone, Debug)]
pub(super) struct Records(Arc<OwnedFd>, Arc<OwnedFd>);

impl Records {
    /// Tells the guard. Never waits.
    pub(super) fn tell(&self, record: Record) {
        if let Err(error) = rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &record.encode())) {
            log::error!("the guard cannot be told of {record:?}: {error}");
        }
        if let Record::WorkerEnded { .. } = record {
            // One that is full has rung.
            let _ = rustix::io::write(&self.1, &[0]);
        }
    }

    /// What workers inherit it as.
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// What the template's copies hold it as.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

/// The guard, from the thread that starts it.
#[derive(Debug)]
pub(super) struct Guard {
    program: PathBuf,
    /// The control group of the workers, where there is one.
    cgroup: Option<PathBuf>,
    /// Kept open here too: a pipe that lost its reader would kill who writes to it.
    pipe: OwnedFd,
    bell: OwnedFd,
    /// Whether the template was told to make a copy of itself that is the guard.
    is_ordered: bool,
    process: Option<Child>,
}

impl Guard {
    /// A guard that is a copy of `template`, or will execute `program`, and what it is told by. It is not started.
    /// `cgroup` is what all workers are in, if there is one.
    pub(super) fn new(
        program: PathBuf,
        template: Option<&ForkedTemplate>,
        cgroup: Option<PathBuf>,
    ) -> io::Result<(Self, Records)> {
        let (pipe, records) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        descriptor::keep_open_on_exec(&records)?;
        let (bell, ringer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let records = Records(Arc::new(records), Arc::new(ringer));
        let mut guard = Guard { program, cgroup, pipe, bell, is_ordered: false, process: None };
        if let Some(template) = template {
            let files = guard.files();
            guard.is_ordered = files.is_ok_and(|files| template.order(TITLE, &guard.variables(), files));
        }
        Ok((guard, records))
    }

    /// Whether the template was told to be it, and nobody has asked yet what came of that.
    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    /// Takes hold of what the template has made. If that cannot be held, another is executed.
    pub(super) fn take_up(&mut self, process: Option<Pid>) {
        self.is_ordered = false;
        self.process = process.and_then(|process| Child::hold_or_end(process).ok());
    }

    /// Its process, if it was started.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(Child::pid)
    }

    /// Starts the guard unless it runs. One that was killed is replaced: what the old one knew is lost, so
    /// that a command that runs at that time may outlive the daemon.
    pub(super) fn keep_running(&mut self) -> io::Result<()> {
        if let Some(process) = self.process.take_if(|process| process.has_ended()) {
            let exit = process.reap().map_or_else(|error| error.to_string(), |exit| exit.to_string());
            log::error!("the guard died ({exit}); another is started, which does not know what runs now");
        }
        if self.process.is_none() {
            self.process = Some(self.start()?);
        }
        Ok(())
    }

    fn start(&self) -> io::Result<Child> {
        let [stdin, stdout, stderr] = self.files()?;
        let mut command = Command::new(&self.program);
        command
            .arg0(TITLE)
            .env_clear()
            .envs(self.variables())
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0);
        Child::hold_or_end(Pid(command.spawn()?.id()))
    }

    /// Its environment.
    fn variables(&self) -> Environment {
        let cgroup = self.cgroup.as_ref().map(|cgroup| (CGROUP.into(), cgroup.into()));
        [(DAEMON_PID.into(), process::id().to_string().into())].into_iter().chain(cgroup).collect()
    }

    /// Its standard input, output and error.
    fn files(&self) -> io::Result<[OwnedFd; 3]> {
        let stderr = File::options().write(true).open("/dev/null")?;
        Ok([self.pipe.try_clone()?, self.bell.try_clone()?, stderr.into()])
    }
}

/// Becomes the guard if the daemon started this process as that, and then does not return; otherwise
/// returns at once.
///
/// To be called first in `main`: it closes what the process inherited. Programs call [`init`](crate::init).
pub(crate) fn run_if_started_as_guard() {
    let Some(daemon) = env::var_os(DAEMON_PID) else { return };
    let daemon = daemon.to_str().and_then(|text| text.parse().ok()).map(Pid);
    let guarded = daemon.ok_or(io::ErrorKind::InvalidInput.into()).and_then(guard);
    process::exit(guarded.is_err().into())
}

/// Keeps watch until the daemon and all that it started are gone.
fn guard(daemon: Pid) -> io::Result<()> {
    signal::block_all()?;
    descriptor::close_inherited(None)?;
    own::name_thread(c"poold-guard")?;
    if landlock::reach().is_none() {
        // Workers cannot be kept from looking out.
        own::forbid_looking_in()?;
    }
    let mut groups = Groups::default();
    let mut pipe = Pipe::default();
    if let Some(daemon) = watch(daemon)? {
        while wait(&daemon)? == Awaited::Record {
            pipe.read(&mut |record| groups.take_in(record))?;
            let_gather(&daemon)?;
        }
    }
    // What was said before the daemon's end, then what is said by those that are still on their way out.
    pipe.read(&mut |record| groups.take_in(record))?;
    groups.kill_all();
    let cgroup = env::var_os(CGROUP).map(PathBuf::from);
    cgroup.clone().into_iter().for_each(cgroup::end_all);
    while !pipe.is_over {
        wait_for_record()?;
        pipe.read(&mut kill_at_once)?;
    }
    cgroup.into_iter().for_each(cgroup::end_all);
    Ok(())
}

/// The daemon, unless it is gone and something else may have its process id.
fn watch(daemon: Pid) -> io::Result<Option<Watched>> {
    let watched = Watched::open(daemon);
    if parent_id() == daemon.0 { watched.map(Some) } else { Ok(None) }
}

/// What the guard wakes up for.
#[derive(PartialEq, Eq)]
enum Awaited {
    Record,
    End,
}

fn wait(daemon: &Watched) -> io::Result<Awaited> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(daemon, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    Ok(if polled[0].revents().is_empty() { Awaited::Record } else { Awaited::End })
}

/// Lets what is not urgent gather for a while, so that commands that come and go do not wake the guard each time.
fn let_gather(daemon: &Watched) -> io::Result<()> {
    let bell = io::stdout();
    let mut polled = [PollFd::new(daemon, PollFlags::IN), PollFd::new(&bell, PollFlags::IN)];
    let pause = Timespec::try_from(GUARD_PAUSE).map_err(io::Error::other)?;
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&pause)))?;
    if !polled[1].revents().is_empty() {
        rustix::io::retry_on_intr(|| rustix::io::read(&bell, &mut [0; 64]))?;
    }
    Ok(())
}

fn wait_for_record() -> io::Result<()> {
    let stdin = io::stdin();
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None))?;
    Ok(())
}

/// What a late word makes necessary: nobody is left who would end that group.
fn kill_at_once(record: Record) {
    match record {
        Record::WorkerStarted { worker } => kill_group_of(worker),
        Record::GroupStarted { worker: _, group } => kill_group_of(group),
        Record::WorkerEnded { .. } | Record::GroupEnded { .. } => {}
    }
}

/// The reading end of the pipe, which is standard input.
#[derive(Default)]
struct Pipe {
    /// Less than a record.
    rest: Vec<u8>,
    /// Whether nobody can write to it any more.
    is_over: bool,
}

impl Pipe {
    /// Reads all that is there.
    fn read(&mut self, take: &mut dyn FnMut(Record)) -> io::Result<()> {
        let mut room = [0; READ_BYTES];
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(io::stdin().as_fd(), &mut room)) {
                Ok(0) => {
                    self.is_over = true;
                    return Ok(());
                }
                Ok(bytes) => {
                    self.take_in(&room[..bytes], take);
                    if bytes < READ_BYTES {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8], take: &mut dyn FnMut(Record)) {
        self.rest.extend_from_slice(bytes);
        let (records, rest) = self.rest.as_chunks::<RECORD_BYTES>();
        records.iter().filter_map(|record| Record::decode(*record)).for_each(take);
        self.rest = rest.to_vec();
    }
}

/// The groups that are alive: of each worker its own, and those of the commands that it runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups(BTreeMap<Pid, BTreeSet<Pid>>);

impl Groups {
    fn take_in(&mut self, record: Record) {
        match record {
            Record::WorkerStarted { worker } => _ = self.0.entry(worker).or_default(),
            Record::GroupStarted { worker, group } => _ = self.0.entry(worker).or_default().insert(group),
            Record::GroupEnded { worker, group } => {
                if let Some(groups) = self.0.get_mut(&worker) {
                    groups.remove(&group);
                }
            }
            Record::WorkerEnded { worker } => {
                self.0.remove(&worker).into_iter().flatten().for_each(kill_group_of);
            }
        }
    }

    fn kill_all(&mut self) {
        for (worker, groups) in std::mem::take(&mut self.0) {
            kill_group_of(worker);
            groups.into_iter().for_each(kill_group_of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Pid = Pid(0x7fff_0001);
    const GROUP: Pid = Pid(0x7fff_0002);

    fn after(records: &[Record]) -> Groups {
        let mut groups = Groups::default();
        records.iter().for_each(|record| groups.take_in(*record));
        groups
    }

    #[test]
    fn group_is_known_until_it_or_its_worker_has_ended() {
        let started =
            [Record::WorkerStarted { worker: WORKER }, Record::GroupStarted { worker: WORKER, group: GROUP }];
        let known = BTreeMap::from([(WORKER, BTreeSet::from([GROUP]))]);
        assert_eq!(after(&started), Groups(known));
        let idle = Groups(BTreeMap::from([(WORKER, BTreeSet::new())]));
        let ended = Record::GroupEnded { worker: WORKER, group: GROUP };
        assert_eq!(after(&[&started[..], &[ended]].concat()), idle);
        let gone = Record::WorkerEnded { worker: WORKER };
        assert_eq!(after(&[&started[..], &[gone]].concat()), Groups::default());
        assert_eq!(after(&[&started[..], &[gone, ended]].concat()), Groups::default());
    }

    #[test]
    fn record_split_over_two_reads_is_understood() {
        let record = Record::GroupStarted { worker: WORKER, group: GROUP };
        let bytes = [record.encode(), record.encode()].concat();
        for cut in 0..bytes.len() {
            let mut pipe = Pipe::default();
            let mut taken = Vec::new();
            pipe.take_in(&bytes[..cut], &mut |record| taken.push(record));
            pipe.take_in(&bytes[cut..], &mut |record| taken.push(record));
            assert_eq!(taken, [record, record], "cut at {cut}");
        }
    }
}
