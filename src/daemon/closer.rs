//! Closes shared memory that nobody holds any more, on a thread of its own: giving its pages back takes longer than
//! the loop may wait, some 40 ms for each GiB.
//!
//! ```text
//!   payload ──last clone dropped──> bounded queue ──> thread: close(2)
//! ```

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::task::Payload;

/// Files that wait to be closed. Beyond it, the loop closes them itself: it takes in no more than is closed.
const FILES_WAITING_MAX: usize = 64;

/// The loop's side of the thread.
#[derive(Debug, Default)]
pub(super) struct Closer {
    /// None until there is something to be closed.
    files: Option<SyncSender<OwnedFd>>,
}

impl Closer {
    /// Will close the memory of `payload`, if it is in any.
    pub(super) fn take_over(&mut self, payload: &Payload) {
        let Some(memory) = payload.content.memory() else { return };
        if self.files.is_none() {
            self.files = start();
        }
        if let Some(files) = &self.files {
            memory.close_by(files);
        }
    }
}

/// Starts the thread, if there can be one. It ends when nothing is left that could be closed.
fn start() -> Option<SyncSender<OwnedFd>> {
    let (files, to_close) = sync_channel::<OwnedFd>(FILES_WAITING_MAX);
    let thread =
        thread::Builder::new().name("closer".to_owned()).spawn(move || to_close.into_iter().for_each(drop));
    match thread {
        Ok(_) => Some(files),
        Err(error) => {
            log::warn!("big payloads are closed by the loop: no thread can be started: {error}");
            None
        }
    }
}
