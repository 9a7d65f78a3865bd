//! Which of many calls have ended: where those who wait for any of them are told.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};

use super::until::Until;

/// Where the ends of calls arrive, as the numbers that the caller gave the calls.
#[derive(Debug)]
pub(super) struct Arrivals {
    sender: Sender<usize>,
    receiver: Receiver<usize>,
    watched: Arc<()>,
}

/// What a call keeps of one who waits for it and others.
#[derive(Debug)]
pub(super) struct Watcher {
    number: usize,
    sender: Sender<usize>,
    watched: Weak<()>,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Arrivals { sender, receiver, watched: Arc::new(()) }
    }

    /// What tells here that the call of this `number` has ended.
    pub(super) fn watcher(&self, number: usize) -> Watcher {
        Watcher { number, sender: self.sender.clone(), watched: Arc::downgrade(&self.watched) }
    }

    /// The next call that ended, in the order of their ends; nothing if none does in time.
    pub(super) fn next(&self, until: Until) -> Option<usize> {
        until.receive(&self.receiver)
    }
}

impl Watcher {
    /// Tells that the call has ended.
    pub(super) fn tell(self) {
        // One that does not wait any more does not want to know.
        let _ = self.sender.send(self.number);
    }

    /// Whether anybody still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.watched.strong_count() > 0
    }
}
