//! Real daemons for tests: each in a directory of its own, waited for by its own word, never by a sleep.

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test is given up: not a limit of the daemon's, but of patience.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `poold`, killed when it is dropped.
pub struct Daemon {
    pub child: Child,
    pub dir: TempDir,
    pub socket: PathBuf,
    notifications: Receiver<String>,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    /// Starts `poold` with this configuration and waits until it says that it is ready.
    pub fn start(config: &str) -> Daemon {
        let mut daemon = Daemon::launch(config);
        daemon.wait_until_ready();
        daemon
    }

    /// Starts `poold` with this configuration; it may not be ready yet.
    pub fn launch(config: &str) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("poold.toml"), config).unwrap();
        Daemon::launch_in(dir, |_| {})
    }

    /// Starts `poold` with the configuration that is in `dir`, after a last change to the command.
    pub fn launch_in(dir: TempDir, change: impl FnOnce(&mut Command)) -> Daemon {
        let socket = dir.path().join("poold.sock");
        let notify = dir.path().join("notify.sock");
        let _ = std::fs::remove_file(&notify);
        let notifications = receive_all(UnixDatagram::bind(&notify).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_poold"));
        command
            .arg("--config")
            .arg(dir.path().join("poold.toml"))
            .arg("--socket")
            .arg(&socket)
            .env("NOTIFY_SOCKET", &notify)
            .env("RUST_LOG", "debug")
            .env_remove("POOLD_SOCKET")
            // Cargo sets it, and no template is forked from a daemon that has it.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let (lines, log) = channel();
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Daemon { child, dir, socket, notifications, log, seen: Vec::new() }
    }

    /// Starts `poold` with the configuration that is in `dir`, after some commands of the shell.
    pub fn launch_after(dir: TempDir, commands: &str) -> Daemon {
        Daemon::launch_in(dir, |command| {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("{commands}; exec \"$0\" \"$@\"")]);
            replace_program(command, shell);
        })
    }

    /// Waits for `READY=1`.
    pub fn wait_until_ready(&mut self) {
        self.wait_for_notification("READY=1");
    }

    /// Waits for a notification that holds this line.
    pub fn wait_for_notification(&mut self, line: &str) {
        loop {
            let Ok(said) = self.notifications.recv_timeout(PATIENCE) else {
                panic!("no `{line}` from the daemon; its log:\n{}", self.log_so_far().join("\n"));
            };
            if said.lines().any(|said| said == line) {
                return;
            }
        }
    }

    /// Waits for a line of the log that holds `text`, the ones before included, and returns it. Each line is found once.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                panic!("no line with `{text}` in the log:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Everything logged until now.
    pub fn log_so_far(&mut self) -> Vec<String> {
        self.seen.extend(self.log.try_iter());
        self.seen.clone()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until the daemon exits.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_exit(&pidfd(self.pid()));
        self.child.wait().unwrap()
    }

    /// `poolctl` with these arguments, for this daemon.
    pub fn poolctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
        command.args(args).env("POOLD_SOCKET", &self.socket).stdin(Stdio::null());
        command
    }

    /// Runs `poolctl` with these arguments to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.poolctl(args).output().unwrap()
    }

    /// Runs `poolctl` with these arguments and this standard input to its end.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        let path = self.dir.path().join("input");
        std::fs::write(&path, input).unwrap();
        self.poolctl(args).stdin(std::fs::File::open(path).unwrap()).output().unwrap()
    }

    /// What `poolctl ARGS --json` prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.poolctl(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The rows of `poolctl workers --json`.
    pub fn workers(&self) -> Vec<Value> {
        self.json(&["workers"]).as_array().unwrap().clone()
    }

    /// The pids of the workers there are.
    pub fn worker_pids(&self) -> Vec<Pid> {
        self.workers().iter().filter_map(|worker| worker["pid"].as_i64()).map(pid).collect()
    }

    /// Submits a detached task and returns its id.
    pub fn detach(&self, args: &[&str]) -> String {
        let output = self.run(&[&["submit", "--detach"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    /// Writes another configuration.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.dir.path().join("poold.toml"), config).unwrap();
    }

    /// A bare connection to the socket.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log_so_far().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has `wrapper` executed in place of `command`, which is added to its arguments.
pub fn replace_program(command: &mut Command, mut wrapper: Command) {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    *command = wrapper;
}

/// A directory with that configuration, which everyone may search.
pub fn directory_with(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("poold.toml"), config).unwrap();
    dir
}

/// How often the threads of a process gave the processor up by waiting for something.
pub fn waits(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
            line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

/// The processor time that a process has used, in hundredths of a second (proc_pid_stat(5)).
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// What is said on a socket, as it comes.
fn receive_all(socket: UnixDatagram) -> Receiver<String> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(bytes) = socket.recv(&mut buffer) {
            if sender.send(text(&buffer[..bytes])).is_err() {
                break;
            }
        }
    });
    received
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit status and both outputs of a command.
pub fn parts(output: &Output) -> (i32, String, String) {
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Checks an error: its exit status, that it is one line, and that it holds all these words.
#[track_caller]
pub fn assert_error(output: &Output, status: i32, words: &[&str]) {
    let (code, _, stderr) = parts(output);
    assert_eq!(code, status, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "not one line: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
}

pub fn pid(number: i64) -> Pid {
    Pid::from_raw(number as i32).unwrap()
}

/// A descriptor that tells when the process ends.
pub fn pidfd(pid: Pid) -> OwnedFd {
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits until the process of a pidfd has ended.
#[track_caller]
pub fn wait_for_exit(process: &OwnedFd) {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "a process that should have ended lives on");
}

/// The processes that a daemon started as workers, and the template that it copies them from, by the environment that
/// they were executed with, dead or alive.
pub fn workers_of(daemon: Pid) -> Vec<Pid> {
    let marks = ["WORKER", "TEMPLATE"].map(|name| format!("POOLD_{name}={}\0", daemon.as_raw_nonzero()));
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
    let is_worker = |number: &i64| {
        let environment = std::fs::read(Path::new("/proc").join(number.to_string()).join("environ"));
        let has = |bytes: &[u8], mark: &String| bytes.windows(mark.len()).any(|it| it == mark.as_bytes());
        environment.is_ok_and(|bytes| marks.iter().any(|mark| has(&bytes, mark)))
    };
    numbers.filter(is_worker).map(pid).collect()
}

/// A child of the daemon whose command line begins like this.
pub fn child_named(daemon: &Daemon, name: &str) -> Option<Pid> {
    children_named(daemon, name).into_iter().next()
}

/// All of them. One that is dead has none.
pub fn children_named(daemon: &Daemon, name: &str) -> Vec<Pid> {
    let is_named = |process: &Pid| {
        let path = format!("/proc/{}/cmdline", process.as_raw_nonzero());
        std::fs::read(path).is_ok_and(|line| line.starts_with(name.as_bytes()))
    };
    children_of(daemon).into_iter().filter(is_named).collect()
}

fn children_of(daemon: &Daemon) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
    let children = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")));
    let children: String = children.map(Result::unwrap).collect();
    children.split_whitespace().map(|child| pid(child.parse().unwrap())).collect()
}

/// The memory of a process that it can write to, and what the system shows of it.
pub fn memory_of(process: Pid) -> String {
    let directory = Path::new("/proc").join(process.as_raw_nonzero().to_string());
    let read = |name| std::fs::read(directory.join(name)).unwrap();
    let memory = File::open(directory.join("mem")).unwrap();
    let maps = String::from_utf8(read("maps")).unwrap();
    let mut found = [read("environ"), read("cmdline")].concat();
    for map in maps.lines() {
        let (addresses, rights) = map.split_once(' ').unwrap();
        let (start, end) = addresses.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        if rights.starts_with("rw") {
            let mut bytes = vec![0; (end - start) as usize];
            memory.read_exact_at(&mut bytes, start).unwrap();
            found.extend(bytes);
        }
    }
    text(&found)
}
