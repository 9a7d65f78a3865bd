//! Starting a program in a session of its own, without a copy of this process's memory (vfork(2)).
//!
//! ```text
//!   this thread: what to do, put ready ──clone──> (waits) ─────────────────────────────> goes on
//!                                          └──> child: session, guard told, limits ──exec──> program
//! ```
//!
//! The child borrows the memory until it executes something: it makes system calls on what was put ready, and nothing
//! else. So what it costs to start a program does not grow with the worker that does.

use std::cell::Cell;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::process::{Signal, fchdir, getpid, getppid, set_parent_process_death_signal, setsid};

use super::pidfd::Child;
use super::process::{limit_to, own_id, tell_guard};
use super::signal;
use crate::id::Pid;
use crate::message::guard::Record;
use crate::message::resources::AttemptLimits;

/// What executes a file that is no program but has a program's permissions, as execvp(3) does.
const SHELL: &CStr = c"/bin/sh";

/// Where a program is looked for without PATH, as execvp(3) does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Units of 16 bytes in the child's stack: 32 KiB, of which it uses less than a tenth.
const STACK_UNITS: usize = 2048;

/// A program, and all that it is started with.
#[derive(Debug)]
pub(crate) struct Execution<'a> {
    /// Its file; without a `/` it is looked for in the directories of its own variable PATH.
    pub(crate) program: OsString,
    /// Its arguments, without its name.
    pub(crate) arguments: Vec<OsString>,
    /// All of its environment.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// Its directory, if it is not this process's.
    pub(crate) directory: Option<BorrowedFd<'a>>,
    /// Its standard input, output and error: none of this process's own.
    pub(crate) files: [BorrowedFd<'a>; 3],
    /// What it may use, with all that it starts.
    pub(crate) limits: AttemptLimits,
    /// Who is told of its group.
    pub(crate) guard: Option<&'a OwnedFd>,
}

impl Execution<'_> {
    /// Starts it as the leader of a session and a process group of its own, which no terminal's signals reach. Before
    /// it executes anything it sees to it that it ends with the thread that starts it, and tells the guard of its
    /// group: from the first moment on, somebody knows of it.
    ///
    /// # Errors
    /// What the system gives: above all that there is no such program, or that it may not be executed.
    pub(crate) fn start(&self) -> io::Result<Child> {
        if self.files.iter().any(|file| file.as_raw_fd() <= libc::STDERR_FILENO) {
            return Err(Errno::BADF.into());
        }
        let arguments = [&self.program].into_iter().chain(&self.arguments);
        let arguments = arguments.map(|word| text(word.as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let variable =
            |(name, value): &(OsString, OsString)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat());
        let variables = self.variables.iter().map(variable).collect::<io::Result<Vec<_>>>()?;
        let candidates = self.candidates()?;
        let plan = Plan {
            execution: self,
            worker: getpid(),
            candidates: candidates.iter().map(|candidate| candidate.as_ptr()).collect(),
            script: [SHELL.as_ptr()].into_iter().chain(pointers(&arguments)).map(Cell::new).collect(),
            arguments: pointers(&arguments),
            variables: pointers(&variables),
            error: AtomicI32::new(0),
        };
        let child = plan.clone_child()?;
        match plan.error.into_inner() {
            0 => Ok(child),
            error => {
                if let Some(guard) = self.guard {
                    let record = Record::GroupEnded { worker: own_id(plan.worker), group: child.pid() };
                    // A guard that cannot be told would kill a group that is gone: nothing to be done about here.
                    let _ = tell_guard(guard, record);
                }
                child.reap()?;
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// The files that may be the program, the likeliest first.
    fn candidates(&self) -> io::Result<Vec<CString>> {
        let program = self.program.as_bytes();
        if program.is_empty() || program.contains(&b'/') {
            return Ok(vec![text(program)?]);
        }
        let path = self.variables.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, path)| path.as_bytes());
        path.split(|byte| *byte == b':')
            .map(|directory| match directory {
                [] => text(program),
                _ => text(&[directory, b"/", program].concat()),
            })
            .collect()
    }
}

/// What the child needs, put ready.
struct Plan<'a> {
    execution: &'a Execution<'a>,
    worker: rustix::process::Pid,
    /// Files to be tried.
    candidates: Vec<*const c_char>,
    arguments: Vec<*const c_char>,
    /// The same behind a shell, whose first argument is the file.
    script: Vec<Cell<*const c_char>>,
    variables: Vec<*const c_char>,
    /// Why the program was not executed (errno(3)).
    error: AtomicI32,
}

impl Plan<'_> {
    /// The child, when it has executed the program or has failed to.
    fn clone_child(&self) -> io::Result<Child> {
        let mut stack = Box::<[u128]>::new_uninit_slice(STACK_UNITS);
        let stack_end: *mut MaybeUninit<u128> = stack.as_mut_ptr_range().end;
        let mut pidfd: RawFd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        // What a signal's handler did in the child, it would do to this process.
        let mask = signal::block_all_for_now()?;
        // SAFETY: this thread waits (CLONE_VFORK) until the child has executed something or ended, so the plan and the
        // stack, which is 32 KiB and aligned to 16 bytes, outlive its use of them. What the child does is in
        // `carry_out`. The kernel writes one descriptor to where there is room for it.
        let pid = unsafe {
            let plan = ptr::from_ref(self).cast_mut().cast::<c_void>();
            libc::clone(carry_out, stack_end.cast(), flags, plan, &raw mut pidfd)
        };
        let error = io::Error::last_os_error();
        signal::set_mask_to(&mask)?;
        if pid < 0 {
            return Err(error);
        }
        let pid = Pid(pid.unsigned_abs());
        if pidfd < 0 {
            // Linux before 5.2.
            return Child::hold(pid);
        }
        // SAFETY: the kernel has just opened it for this process, and nobody else knows it.
        Child::hold_by(pid, unsafe { OwnedFd::from_raw_fd(pidfd) })
    }

    /// Returns why the program is not executed. Runs in the child, on memory that is not its own: it may make system
    /// calls, and must not allocate, lock, or panic.
    fn execute(&self) -> io::Error {
        match self.prepare() {
            Ok(()) => self.try_candidates().into(),
            Err(error) => error,
        }
    }

    fn prepare(&self) -> io::Result<()> {
        let Execution { directory, files, limits, guard, .. } = self.execution;
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before.
        if getppid() != Some(self.worker) {
            return Err(Errno::CHILD.into());
        }
        for (number, file) in (0..).zip(files) {
            // SAFETY: the call touches no memory. It replaces a standard stream of the child, whose table of
            // descriptors is its own.
            if unsafe { libc::dup2(file.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if let Some(directory) = directory {
            fchdir(directory)?;
        }
        if let Some(guard) = guard {
            let record = Record::GroupStarted { worker: own_id(self.worker), group: own_id(getpid()) };
            rustix::io::write(guard, &record.encode())?;
        }
        limit_to(*limits)?;
        signal::hand_on_none()
    }

    /// Tries one file after the other, as execvp(3) does.
    fn try_candidates(&self) -> Errno {
        let (arguments, variables) = (self.arguments.as_ptr(), self.variables.as_ptr());
        let mut is_refused = false;
        for candidate in self.candidates.iter().copied() {
            // SAFETY: file, arguments and variables are strings, and the latter two lists that end in a null pointer.
            unsafe { libc::execve(candidate, arguments, variables) };
            match last_error() {
                Errno::NOEXEC => return self.interpret(candidate),
                Errno::ACCESS => is_refused = true,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                error => return error,
            }
        }
        if is_refused { Errno::ACCESS } else { Errno::NOENT }
    }

    /// Executes a file that has no interpreter of its own.
    fn interpret(&self, file: *const c_char) -> Errno {
        if let Some(name) = self.script.get(1) {
            name.set(file);
        }
        // SAFETY: as in `try_candidates`; a cell is what is in it.
        unsafe { libc::execve(SHELL.as_ptr(), self.script.as_ptr().cast(), self.variables.as_ptr()) };
        last_error()
    }
}

/// What the child does, with its plan.
extern "C" fn carry_out(plan: *mut c_void) -> c_int {
    // SAFETY: it is the plan that `clone_child` has passed, which outlives the child's use of it.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let error = plan.execute().raw_os_error().unwrap_or(libc::EINVAL);
    plan.error.store(error, Ordering::Relaxed);
    1
}

fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A list as execve(2) takes it, of texts that outlive it.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::task::Exit;

    /// How a program ends with these arguments, and what it writes.
    fn run(program: &OsStr, arguments: &[&str], path: Option<&OsStr>) -> io::Result<(Exit, String)> {
        let directory = tempfile::tempdir()?;
        let output = directory.path().join("output");
        let (null, file) = (File::open("/dev/null")?, File::create(&output)?);
        let execution = Execution {
            program: program.to_owned(),
            arguments: arguments.iter().map(OsString::from).collect(),
            variables: path.map(|path| ("PATH".into(), path.to_owned())).into_iter().collect(),
            directory: None,
            files: [null.as_fd(), file.as_fd(), file.as_fd()],
            limits: AttemptLimits::default(),
            guard: None,
        };
        let exit = execution.start()?.reap()?;
        Ok((exit, fs::read_to_string(output)?))
    }

    #[test]
    fn program_leads_a_session_and_has_nothing_but_what_it_is_given() {
        let script = "read -r _ _ _ parent group session _ < /proc/self/stat; [ $group = $session ] && echo $$ \"$0\" \"$1\"";
        let (exit, output) = run("/bin/sh".as_ref(), &["-c", script, "a b", ""], None).expect("it starts");
        assert_eq!(exit, Exit::Code(0));
        assert!(output.ends_with(" a b \n"), "{output:?}");
        let (_, variables) =
            run("env".as_ref(), &[], Some("/nowhere:/usr/bin:/bin".as_ref())).expect("it starts");
        assert_eq!(variables, "PATH=/nowhere:/usr/bin:/bin\n");
    }

    #[test]
    fn program_that_cannot_be_executed_is_told_apart() {
        let kind = |program: &str, path: &str| {
            run(program.as_ref(), &[], Some(path.as_ref())).expect_err("it does not start").kind()
        };
        assert_eq!(kind("no-such-program", "/usr/bin:/bin"), io::ErrorKind::NotFound);
        assert_eq!(kind("", "/usr/bin"), io::ErrorKind::NotFound);
        assert_eq!(kind("/etc/passwd", ""), io::ErrorKind::PermissionDenied);
        assert_eq!(kind("passwd", "/etc:/nowhere"), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn script_without_an_interpreter_is_the_shells() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("script");
        fs::write(&script, "echo $1").expect("a script");
        fs::set_permissions(&script, Permissions::from_mode(0o700)).expect("it is ours");
        let (_, output) = run(script.as_os_str(), &["word"], None).expect("it starts");
        assert_eq!(output, "word\n");
    }
}
