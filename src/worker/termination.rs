//! SIGTERM while commands run: it is passed on to them, so that they may end in their own way.
//!
//! A worker that is asked to end dies of the signal at once, as ever, unless one of its attempts runs a
//! command: then the command is asked, and the worker dies when that has ended, or of KILL when the pool's
//! grace is over.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use signal_hook::consts::SIGTERM;
use signal_hook::flag;
use signal_hook::low_level::{emulate_default_handler, pipe};

/// What the signal does by itself.
struct Switch {
    /// Whether it ends the process at once.
    ends: Arc<AtomicBool>,
    /// Commands that run. With any, it does not.
    commands: usize,
    /// Sockets on which it is heard of, that no command needs now.
    spare: Vec<Arc<UnixStream>>,
}

/// None until the first command.
static SWITCH: Mutex<Option<Switch>> = Mutex::new(None);

/// The signal, as long as one command runs.
#[derive(Debug)]
pub(super) struct Termination {
    asked: Arc<UnixStream>,
}

impl Termination {
    /// From here on the signal is passed on.
    ///
    /// # Errors
    /// What the system gives: above all that no descriptor is left.
    pub(super) fn heed() -> io::Result<Self> {
        let mut switch = lock();
        let switch = match &mut *switch {
            Some(switch) => switch,
            unset => {
                let ends = Arc::new(AtomicBool::new(true));
                flag::register_conditional_default(SIGTERM, Arc::clone(&ends))?;
                unset.insert(Switch { ends, commands: 0, spare: Vec::new() })
            }
        };
        let asked = switch.spare.pop().map_or_else(listen, Ok)?;
        let termination = Termination { asked };
        // It may have come for another command.
        termination.has_come();
        switch.commands += 1;
        switch.ends.store(false, Ordering::SeqCst);
        Ok(termination)
    }

    /// Polls readable when the signal has come.
    pub(super) fn signal(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }

    /// Whether it has come since this was asked last.
    pub(super) fn has_come(&self) -> bool {
        let mut has_come = false;
        // All that is there: what is left would be taken for the next command's.
        while (&*self.asked).read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {
            has_come = true;
        }
        has_come
    }
}

/// A socket on which the signal is heard of from here on.
fn listen() -> io::Result<Arc<UnixStream>> {
    let (asked, ask) = UnixStream::pair()?;
    asked.set_nonblocking(true)?;
    pipe::register(SIGTERM, ask)?;
    Ok(Arc::new(asked))
}

/// What the signal did to a command that is over, it does to the process.
pub(super) fn obey(asked: bool) {
    if asked && lock().as_ref().is_none_or(|switch| switch.commands == 0) {
        // It returns only if it fails, and then the worker goes on until it is killed.
        let _ = emulate_default_handler(SIGTERM);
    }
}

impl Drop for Termination {
    fn drop(&mut self) {
        if let Some(switch) = &mut *lock() {
            switch.commands -= 1;
            switch.ends.store(switch.commands == 0, Ordering::SeqCst);
            switch.spare.push(Arc::clone(&self.asked));
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Switch>> {
    // Whatever panicked, counts and switch are changed together.
    SWITCH.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn next_command_hears_nothing_of_signals_that_came_before_it_however_many() {
        let running = Termination::heed().expect("descriptors are left");
        drop(Termination::heed().expect("descriptors are left"));
        for _ in 0..100 {
            raise(SIGTERM).expect("it is heeded");
        }
        let next = Termination::heed().expect("a socket is spare");
        assert!(!next.has_come());
        assert!(running.has_come());
        assert!(!running.has_come(), "it is told once");
    }
}
