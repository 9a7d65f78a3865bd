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
#[derive(Debug)]
pub(super) struct Closer {
    /// None if there could be no thread.
    files: Option<SyncSender<OwnedFd>>,
}

impl Closer {
    /// Starts the thread, if there can be one. It ends when nothing is left that could be closed.
    ///
    /// To be called before the template or a worker is started: the daemon's threads that are there by then are those
    /// that workers are kept from signalling.
    pub(super) fn start() -> Self {
        let (files, to_close) = sync_channel::<OwnedFd>(FILES_WAITING_MAX);
        let thread = thread::Builder::new()
            .name("closer".to_owned())
            .spawn(move || to_close.into_iter().for_each(drop))
            .inspect_err(|error| {
                log::warn!("big payloads are closed by the loop: no thread can be started: {error}");
            });
        Closer { files: thread.is_ok().then_some(files) }
    }

    /// Will close the memory of `payload`, if it is in any.
    pub(super) fn take_over(&self, payload: &Payload) {
        if let Some(files) = &self.files
            && let Some(memory) = payload.content.memory()
        {
            memory.close_by(files);
        }
    }
}
