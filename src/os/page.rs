//! A page of memory that the daemon shares with one worker: which attempts have begun, and what was reported; and a
//! bell beside it.
//!
//! ```text
//!   a cell for each attempt on its way              a ring of records
//!     daemon ──offer──> Offered ──begin──> Begun      worker ──publish──> ▒▒▒▒ ──take──> daemon
//!                          └──take_back──> TakenBack ──begin──> PassedOver
//! ```
//!
//! An attempt begins, or is taken back, by one compare-and-swap: never both, and without a word on the
//! socket. One that was taken back is passed over when its turn comes: so the daemon knows that the worker goes on,
//! and has read what it was sent. What is in the ring was reported, whatever becomes of the worker next. So when a
//! worker dies, the page says exactly which attempts it had begun and not reported.
//!
//! The bell is an eventfd(2) that the worker adds to and the daemon never reads: each time that is an edge to whoever
//! polls for edges, so that being told of what is there takes the daemon nothing but its poll.
//!
//! The daemon takes nothing on the page for granted (`fuzz/src/page.rs` puts anything there): all of it is read as
//! atomic words, what was announced is checked against what can be, and a worker that scribbles over it spoils its
//! own reports alone. The file behind it cannot be resized by either side, so that no access ever faults.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use bytes::BytesMut;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::{Errno, write};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Attempts that can be told apart at a time: numbers of attempts on their way differ by less.
pub const CELLS: u64 = 2048;

/// Bytes in the largest record that is published: one that is larger would leave no room for others.
pub const RECORD_BYTES_MAX: usize = RING_BYTES / 4;

/// Bytes in the ring; a power of two.
const RING_BYTES: usize = 64 * 1024;

const WORD_BYTES: usize = size_of::<u64>();
const RING_WORDS: u64 = (RING_BYTES / WORD_BYTES) as u64;

/// Words up to which the daemon has taken the ring, written by it alone.
const TAKEN: usize = 0;
/// Words up to which the worker has filled the ring, written by it alone; a cache line away.
const FILLED: usize = 8;
/// Whether the daemon was told that there is something to take.
const RUNG: usize = 16;
const FIRST_CELL: usize = 24;
const FIRST_OF_RING: usize = FIRST_CELL + CELLS as usize;
const PAGE_WORDS: usize = FIRST_OF_RING + RING_WORDS as usize;
const PAGE_BYTES: usize = PAGE_WORDS * WORD_BYTES;

/// What makes the file one that its mapping can rely on.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// How far an attempt has come, in the lowest bits of its cell; its number is above them.
#[derive(Clone, Copy)]
enum State {
    PassedOver = 0,
    Offered = 1,
    Begun = 2,
    TakenBack = 3,
}

const STATE_BITS: u32 = 2;

fn cell_value(attempt: u64, state: State) -> u64 {
    attempt << STATE_BITS | state as u64
}

/// A mapping of the page.
#[derive(Debug)]
struct Page {
    words: NonNull<AtomicU64>,
}

// SAFETY: it owns its mapping, and all access to that is by atomic operations.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn map(file: &OwnedFd) -> io::Result<Self> {
        // SAFETY: the address is the kernel's to choose, so nothing that is mapped is replaced.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        }?;
        let words = NonNull::new(address.cast()).ok_or(Errno::FAULT)?;
        Ok(Page { words })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is as long, aligned to a page, lives as long as `self`, and cannot fault: the
        // size of the file is sealed. Whatever another process does to it at the same time, it does to words
        // that are accessed as atomic ones here.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), PAGE_WORDS) }
    }

    fn cell(&self, attempt: u64) -> &AtomicU64 {
        &self.words()[FIRST_CELL + (attempt % CELLS) as usize]
    }

    /// Takes an attempt from one state to another, if it is in the one.
    fn advance(&self, attempt: u64, from: State, to: State) -> bool {
        let (from, to) = (cell_value(attempt, from), cell_value(attempt, to));
        self.cell(attempt).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn is(&self, attempt: u64, state: State) -> bool {
        self.cell(attempt).load(Ordering::Acquire) == cell_value(attempt, state)
    }

    /// The word of the ring that is that many from its beginning, which it comes round to again and again.
    fn ring(&self, position: u64) -> &AtomicU64 {
        &self.words()[FIRST_OF_RING + (position % RING_WORDS) as usize]
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference into it outlives `self`.
        // Failing, it would be because nothing is mapped there.
        let _ = unsafe { munmap(self.words.as_ptr().cast(), PAGE_BYTES) };
    }
}

/// The daemon's side of a page.
#[derive(Debug)]
pub struct DaemonSide {
    page: Page,
    bell: OwnedFd,
    /// Words that were taken: not read back from the page.
    taken: u64,
}

/// What stands in the ring is no record: the worker has spoiled the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoiled;

impl DaemonSide {
    /// A new page, and the file of its memory: a worker shares it by that and the [bell](Self::bell).
    ///
    /// # Errors
    /// What the system gives.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let file = memfd_create(c"poold-page", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, PAGE_BYTES as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok((DaemonSide { page: Page::map(&file)?, bell, taken: 0 }, file))
    }

    /// What to poll for edges of readability: each is a ring.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Lets the worker begin an attempt that it is sent. Its number differs by less than [`CELLS`] from those
    /// of all attempts on their way.
    pub fn offer(&self, attempt: u64) {
        self.page.cell(attempt).store(cell_value(attempt, State::Offered), Ordering::Release);
    }

    /// Takes an attempt back, if it has not begun; then it never will.
    pub fn take_back(&self, attempt: u64) -> bool {
        self.page.advance(attempt, State::Offered, State::TakenBack)
    }

    /// Whether an attempt has begun.
    pub fn has_begun(&self, attempt: u64) -> bool {
        self.page.is(attempt, State::Begun)
    }

    /// Whether an attempt that was taken back was passed over.
    pub fn is_passed_over(&self, attempt: u64) -> bool {
        self.page.is(attempt, State::PassedOver)
    }

    /// Puts what was published and not taken behind what is in `into`; from here on the worker rings for more.
    ///
    /// # Errors
    /// [`Spoiled`]; what was taken before it is found stays taken.
    pub fn take(&mut self, into: &mut BytesMut) -> Result<(), Spoiled> {
        self.page.words()[RUNG].store(0, Ordering::Relaxed);
        // The worker fills, then looks whether it has rung: one of the two sees what the other did.
        fence(Ordering::SeqCst);
        let filled = self.page.words()[FILLED].load(Ordering::Acquire);
        let words = filled.wrapping_sub(self.taken);
        if words > RING_WORDS {
            return Err(Spoiled);
        }
        into.reserve(words as usize * WORD_BYTES);
        while self.taken != filled {
            let bytes = self.page.ring(self.taken).load(Ordering::Relaxed) as usize;
            let words = bytes.div_ceil(WORD_BYTES) as u64;
            if bytes > RECORD_BYTES_MAX || words >= filled - self.taken {
                return Err(Spoiled);
            }
            let start = into.len();
            into.resize(start + words as usize * WORD_BYTES, 0);
            for (word, room) in (1..).zip(into[start..].chunks_exact_mut(WORD_BYTES)) {
                let word = self.page.ring(self.taken + word).load(Ordering::Relaxed);
                room.copy_from_slice(&word.to_ne_bytes());
            }
            into.truncate(start + bytes);
            self.taken += 1 + words;
        }
        self.page.words()[TAKEN].store(self.taken, Ordering::Release);
        Ok(())
    }
}

/// A worker's side of a page.
#[derive(Debug)]
pub struct WorkerSide {
    page: Page,
    bell: OwnedFd,
    /// Words that were filled.
    filled: u64,
}

impl WorkerSide {
    /// The page that the daemon shares by these: its memory and its bell.
    ///
    /// # Errors
    /// `EINVAL` if that is no such page; else what the system gives.
    pub fn open([file, bell]: [OwnedFd; 2]) -> io::Result<Self> {
        let is_page = fstat(&file)?.st_size == PAGE_BYTES as i64 && fcntl_get_seals(&file)?.contains(SEALS);
        if !is_page {
            return Err(Errno::INVAL.into());
        }
        Ok(WorkerSide { page: Page::map(&file)?, bell, filled: 0 })
    }

    /// Begins an attempt; or passes it over, if it was taken back. Says whether it begins.
    pub fn begin(&self, attempt: u64) -> bool {
        let begins = self.page.advance(attempt, State::Offered, State::Begun);
        if !begins {
            self.page.advance(attempt, State::TakenBack, State::PassedOver);
        }
        begins
    }

    /// Publishes a record. Says whether there was room for it.
    pub fn publish(&mut self, record: &[u8]) -> bool {
        let words = 1 + record.len().div_ceil(WORD_BYTES) as u64;
        let taken = self.page.words()[TAKEN].load(Ordering::Acquire);
        if record.len() > RECORD_BYTES_MAX || self.filled.wrapping_sub(taken) > RING_WORDS - words {
            return false;
        }
        self.page.ring(self.filled).store(record.len() as u64, Ordering::Relaxed);
        let (chunks, rest) = record.as_chunks();
        let mut last = [0; WORD_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        for (word, bytes) in (1..words).zip(chunks.iter().chain([&last])) {
            self.page.ring(self.filled + word).store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.filled += words;
        self.page.words()[FILLED].store(self.filled, Ordering::Release);
        true
    }

    /// Tells the daemon that something was published, unless it was told so and has taken nothing since.
    ///
    /// # Errors
    /// What writing to the bell gives: somebody in this process has closed it, or rung it 2^64 times.
    pub fn ring(&self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        if self.page.words()[RUNG].swap(1, Ordering::Relaxed) == 0 {
            write(&self.bell, &1_u64.to_ne_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::read;

    fn sides() -> (DaemonSide, WorkerSide) {
        let (daemon, file) = DaemonSide::create().expect("a page");
        let bell = daemon.bell().try_clone_to_owned().expect("another descriptor");
        (daemon, WorkerSide::open([file, bell]).expect("the page"))
    }

    /// How often the bell was rung since it was asked last.
    fn rings(daemon: &DaemonSide) -> u64 {
        let mut count = [0; 8];
        match read(daemon.bell(), &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                0
            }
        }
    }

    fn taken(daemon: &mut DaemonSide) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        daemon.take(&mut bytes).expect("it is whole");
        bytes.into()
    }

    #[test]
    fn attempt_begins_once_it_is_offered_and_only_once() {
        let (daemon, worker) = sides();
        assert!(!worker.begin(1));
        daemon.offer(1);
        assert!(!daemon.has_begun(1));
        assert!(worker.begin(1));
        assert!(daemon.has_begun(1));
        assert!(!worker.begin(1));
        assert!(!daemon.take_back(1));
    }

    #[test]
    fn attempt_that_was_taken_back_never_begins() {
        let (daemon, worker) = sides();
        daemon.offer(1);
        assert!(daemon.take_back(1));
        assert!(!daemon.is_passed_over(1));
        assert!(!worker.begin(1));
        assert!(daemon.is_passed_over(1) && !daemon.has_begun(1));
        daemon.offer(1 + CELLS);
        assert!(!worker.begin(1));
        assert!(worker.begin(1 + CELLS));
        assert!(!daemon.is_passed_over(1 + CELLS));
    }

    #[test]
    fn records_are_taken_whole_and_in_order_however_often_the_ring_comes_round() {
        let (mut daemon, mut worker) = sides();
        for round in 0..10_000_usize {
            let records = [vec![round as u8; round % 100], b"second".to_vec()];
            for record in &records {
                assert!(worker.publish(record));
            }
            assert_eq!(taken(&mut daemon), records.concat());
        }
    }

    #[test]
    fn full_ring_takes_nothing_until_there_is_room() {
        let (mut daemon, mut worker) = sides();
        let record = vec![7; RECORD_BYTES_MAX - WORD_BYTES];
        let published = (0..10).take_while(|_| worker.publish(&record)).count();
        assert_eq!(published, 4);
        assert_eq!(taken(&mut daemon).len(), published * record.len());
        assert!(worker.publish(&record));
    }

    #[test]
    fn giant_record_is_not_published() {
        let (_, mut worker) = sides();
        assert!(!worker.publish(&vec![7; RECORD_BYTES_MAX + 1]));
    }

    #[test]
    fn daemon_is_told_once_until_it_takes() {
        let (mut daemon, mut worker) = sides();
        assert!(worker.publish(b"one"));
        assert_eq!(rings(&daemon), 0);
        worker.ring().expect("it rings");
        assert_eq!(rings(&daemon), 1);
        assert!(worker.publish(b"two"));
        worker.ring().expect("there is no need");
        assert_eq!(rings(&daemon), 0);
        assert_eq!(taken(&mut daemon), b"onetwo");
        assert!(worker.publish(b"three"));
        worker.ring().expect("it rings");
        assert_eq!(rings(&daemon), 1);
    }

    #[test]
    fn bell_that_cannot_be_rung_is_found_out() {
        let (_daemon, worker) = sides();
        write(&worker.bell, &(u64::MAX - 1).to_ne_bytes()).expect("it counts so far");
        assert!(worker.ring().is_err());
    }

    #[test]
    fn spoiled_ring_is_found_out() {
        let spoil = |position: usize, value: u64| {
            let (mut daemon, mut worker) = sides();
            assert!(worker.publish(b"record"));
            worker.page.words()[position].store(value, Ordering::Relaxed);
            daemon.take(&mut BytesMut::new())
        };
        assert_eq!(spoil(FILLED, RING_WORDS + 1), Err(Spoiled));
        assert_eq!(spoil(FILLED, u64::MAX), Err(Spoiled));
        assert_eq!(spoil(FIRST_OF_RING, RECORD_BYTES_MAX as u64 + 1), Err(Spoiled));
        assert_eq!(spoil(FIRST_OF_RING, u64::MAX), Err(Spoiled));
        assert_eq!(spoil(FIRST_OF_RING, 9), Err(Spoiled));
        assert_eq!(spoil(FIRST_OF_RING + 1, u64::MAX), Ok(()));
    }

    #[test]
    fn another_file_is_no_page() {
        let file = memfd_create(c"other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a file");
        let bell = eventfd(0, EventfdFlags::CLOEXEC).expect("a bell");
        let open = || {
            let files = [&file, &bell].map(|file| file.try_clone().expect("another descriptor"));
            WorkerSide::open(files)
        };
        assert!(open().is_err());
        ftruncate(&file, PAGE_BYTES as u64).expect("it can grow");
        assert!(open().is_err());
        fcntl_add_seals(&file, SEALS).expect("it can be sealed");
        open().expect("now it is one");
    }
}
