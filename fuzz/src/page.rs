//! The page that the daemon shares with a worker: whatever that writes there, the daemon takes what it can stand for.
//!
//! Input: a script of attempts that are offered, begun and taken back, of records that are put there as they should
//! be, of words that are written anywhere, and of looks at it. Without such words, all must be as it was put there.

use std::os::fd::{AsFd, OwnedFd};

use bytes::BytesMut;
use poold::message::worker::FromWorker;
use poold::page::{CELLS, DaemonSide, WorkerSide};
use poold::wire::Inbox;
use rustix::io::pwrite;

use super::draw::Draw;
use super::messages::frame;

/// What a script says: an attempt is offered.
pub const OFFER: u8 = 0;
/// An attempt is begun, or passed over, if it may; its number follows.
pub const BEGIN: u8 = 1;
/// An attempt is taken back, if it has not begun; its number follows.
pub const TAKE_BACK: u8 = 2;
/// A frame is put there; the lengths of its head and payload follow, then both.
pub const FRAME: u8 = 3;
/// The daemon looks.
pub const LOOK: u8 = 4;
/// Bytes are put there that need not be a frame; their count follows.
const BYTES: u8 = 5;
/// A word is written where one has a meaning.
const WORD: u8 = 6;
/// How many of those there are, with that a word is written anywhere.
const KINDS: usize = 8;

/// As docs/PROTOCOL.md has it, in words.
const TAKEN: usize = 0;
const FILLED: usize = 8;
const FIRST_CELL: usize = 24;
const FIRST_OF_RING: usize = 2072;
const PAGE_WORDS: usize = 10_264;

const WORD_BYTES: usize = size_of::<u64>();
const RING_BYTES: usize = (PAGE_WORDS - FIRST_OF_RING) * WORD_BYTES;

/// Attempts up to which scripts name one: beyond that, they share their cells.
const ATTEMPTS: u64 = 2 * CELLS;

/// Both sides of a page.
struct Pair {
    daemon: DaemonSide,
    worker: WorkerSide,
    file: OwnedFd,
    /// Attempts that were offered.
    offered: u64,
    /// What was put there and not taken, as long as no word was written anywhere.
    published: Option<Vec<u8>>,
}

/// A worker that writes anything.
pub fn page(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (daemon, file) = DaemonSide::create().expect("there is memory");
    let files =
        [file.as_fd(), daemon.bell()].map(|file| file.try_clone_to_owned().expect("another descriptor"));
    let worker = WorkerSide::open(files).expect("it is a page");
    let mut pair = Pair { daemon, worker, file, offered: 0, published: Some(Vec::new()) };
    let mut goes_on = true;
    while goes_on && !draw.is_over() {
        goes_on = pair.act(&mut draw);
    }
    pair.look();
}

impl Pair {
    /// The next thing that happens. Says whether the daemon still listens.
    fn act(&mut self, draw: &mut Draw<'_>) -> bool {
        match draw.below(KINDS) as u8 {
            OFFER => self.offer(),
            BEGIN => self.begin(draw.byte().into()),
            TAKE_BACK => self.take_back(draw.byte().into()),
            FRAME => {
                let (head, payload) = (draw.byte(), draw.byte());
                let frame = frame(draw.bytes(head.into()), draw.bytes(payload.into()));
                self.publish(&frame);
            }
            LOOK => return self.look(),
            BYTES => {
                let count = draw.byte();
                self.publish(draw.bytes(count.into()));
            }
            WORD => {
                let cell = FIRST_CELL + draw.below(4);
                let position = draw.pick(&[TAKEN, FILLED, cell, FIRST_OF_RING]);
                self.write(position, value(draw));
            }
            _ => {
                let position = draw.number() as usize % PAGE_WORDS;
                self.write(position, value(draw));
            }
        }
        true
    }

    fn offer(&mut self) {
        if self.offered < ATTEMPTS {
            self.offered += 1;
            self.daemon.offer(self.offered);
            assert!(!self.daemon.has_begun(self.offered) && !self.daemon.is_passed_over(self.offered));
        }
    }

    fn begin(&mut self, attempt: u64) {
        if self.worker.begin(attempt) {
            assert!(self.daemon.has_begun(attempt) && !self.daemon.take_back(attempt));
        }
    }

    fn take_back(&mut self, attempt: u64) {
        if self.daemon.take_back(attempt) {
            assert!(!self.daemon.has_begun(attempt) && !self.daemon.is_passed_over(attempt));
            assert!(!self.daemon.take_back(attempt));
        }
    }

    fn publish(&mut self, record: &[u8]) {
        if self.worker.publish(record)
            && let Some(published) = &mut self.published
        {
            published.extend_from_slice(record);
        }
    }

    fn write(&mut self, position: usize, value: u64) {
        self.published = None;
        let written = pwrite(&self.file, &value.to_ne_bytes(), (position * WORD_BYTES) as u64);
        assert_eq!(written, Ok(WORD_BYTES), "the page is there");
    }

    /// The daemon takes what is there. Says whether it was well formed: else the worker is heard no more.
    fn look(&mut self) -> bool {
        let mut taken = BytesMut::new();
        let took = self.daemon.take(&mut taken);
        if let Some(published) = &mut self.published {
            assert_eq!(taken, std::mem::take(published));
            assert_eq!(took, Ok(()));
        }
        if took.is_err() {
            return false;
        }
        assert!(taken.len() <= RING_BYTES, "{} bytes of a page are taken", taken.len());
        let mut again = BytesMut::new();
        assert_eq!(self.daemon.take(&mut again), Ok(()));
        assert!(again.is_empty(), "it is taken twice");
        let mut inbox = Inbox::default();
        *inbox.room() = taken;
        while let Ok(Some(_)) = inbox.next_message::<FromWorker>() {}
        inbox.is_empty()
    }
}

/// What a word is set to: nearly nothing, nearly all that there is, or anything.
fn value(draw: &mut Draw<'_>) -> u64 {
    let (small, large) = (u64::from(draw.byte()), u64::from(draw.number()));
    draw.pick(&[small, u64::MAX - small, RING_BYTES as u64 / 8 + small, large, large << 32])
}
