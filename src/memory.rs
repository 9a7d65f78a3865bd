//! Bytes in memory that processes share and nobody can change any more: how big payloads travel.
//!
//! ```text
//!   sender                          daemon                       receiver
//!   MemoryFile ──seal──> SealedMemory ──> SealedMemory ──────────────> SealedMemory ──> mapped, read
//!    (written)            the same memory: a descriptor is passed on, and checked by each who takes it
//! ```
//!
//! It is a file without a name (memfd_create(2)) under four seals: its bytes and its size stay, and so do the
//! seals. Nothing here maps it, and only who makes it moves its bytes.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{MEMORY_DESCRIPTORS_KEPT_MAX, MEMORY_DESCRIPTORS_KEPT_SHARE};

/// What a memory file is called in /proc.
const NAME: &str = "poold";

/// Without these seals a file could shrink under whoever has it mapped, who would die of SIGBUS, or change
/// while it is read.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The file system of memory files (statfs(2)): those of huge pages have another, and can be mapped only whole.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Why a descriptor is not what a message announces as sealed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMemory {
    /// It is no memory file, or one that can still change.
    #[error("a big payload that is no memory file with the seals SEAL, SHRINK, GROW and WRITE")]
    NotSealed,
    /// It has another size than the message says.
    #[error("a big payload of {bytes} bytes that is announced with {announced}")]
    OtherSize {
        /// The size of the file.
        bytes: u64,
        /// What the message says.
        announced: u64,
    },
}

/// Bytes that nobody can change any more. Clones are the same memory, which lasts as long as one of them.
#[derive(Clone)]
pub struct SealedMemory {
    bytes: u64,
    /// None while it is not taken out of what was received with the message.
    held: Option<Arc<Held>>,
}

struct Held {
    /// There until this is dropped.
    file: Option<OwnedFd>,
    /// Where this process reads it, once it does.
    mapped: OnceLock<Bytes>,
    /// Who closes it, if not whoever drops it.
    closer: OnceLock<SyncSender<OwnedFd>>,
    /// There if it counts among those whose descriptors may be kept.
    kept: OnceLock<Kept>,
}

/// One of the descriptors of memory that this process keeps though it could do without.
struct Kept;

/// How many there are.
static KEPT: AtomicU64 = AtomicU64::new(0);

impl Kept {
    /// One more, if there may be.
    fn one() -> Option<Self> {
        let soft_limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let max = MEMORY_DESCRIPTORS_KEPT_MAX.min(soft_limit / MEMORY_DESCRIPTORS_KEPT_SHARE);
        let more = |kept| (kept < max).then_some(kept + 1);
        KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "the daemon and workers alone use all of it"))]
impl SealedMemory {
    /// The memory in `file`, which is announced with so many bytes.
    ///
    /// # Errors
    /// [`BadMemory`] when it is anything else.
    pub fn check(file: OwnedFd, announced: u64) -> Result<Self, BadMemory> {
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS));
        let is_plain = fstatfs(&file).is_ok_and(|system| system.f_type as u64 == TMPFS_MAGIC);
        let status = fstat(&file).map_err(|_| BadMemory::NotSealed)?;
        match u64::try_from(status.st_size) {
            Ok(bytes) if is_sealed && is_plain && bytes == announced => Ok(SealedMemory::of(file, bytes)),
            Ok(bytes) if is_sealed && is_plain => Err(BadMemory::OtherSize { bytes, announced }),
            Ok(_) | Err(_) => Err(BadMemory::NotSealed),
        }
    }

    fn of(file: OwnedFd, bytes: u64) -> Self {
        let held = Held {
            file: Some(file),
            mapped: OnceLock::new(),
            closer: OnceLock::new(),
            kept: OnceLock::new(),
        };
        SealedMemory { bytes, held: Some(Arc::new(held)) }
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file; none while it is not taken out of what was received with the message.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.held.as_ref()?.file.as_ref()?.as_fd())
    }

    /// The bytes, where `map` has put them: it is called once for all clones.
    ///
    /// # Errors
    /// What `map` gives.
    pub(crate) fn mapped(
        &self,
        map: impl FnOnce(BorrowedFd<'_>, u64) -> io::Result<Bytes>,
    ) -> io::Result<&Bytes> {
        let (Some(held), Some(file)) = (&self.held, self.file()) else { return Err(Errno::BADF.into()) };
        match held.mapped.get() {
            Some(mapped) => Ok(mapped),
            None => {
                let mapped = map(file, self.bytes)?;
                Ok(held.mapped.get_or_init(|| mapped))
            }
        }
    }

    /// Whether its descriptor may be kept though this process could do without: it is one of few, and counts from here on.
    pub(crate) fn may_be_kept(&self) -> bool {
        let Some(held) = &self.held else { return false };
        held.kept.get().is_some() || Kept::one().is_some_and(|kept| held.kept.set(kept).is_ok())
    }

    /// Whether `bytes` are all of it, as it is mapped here.
    pub(crate) fn is_all_of(&self, bytes: &Bytes) -> bool {
        let mapped = self.held.as_ref().and_then(|held| held.mapped.get());
        mapped.is_some_and(|mapped| mapped.as_ptr() == bytes.as_ptr() && mapped.len() == bytes.len())
    }

    /// Has `closer` close it, if it can take it, once nobody holds it: that gives back all its memory, which
    /// takes a while.
    pub(crate) fn close_by(&self, closer: &SyncSender<OwnedFd>) {
        if let Some(held) = &self.held {
            held.closer.get_or_init(|| closer.clone());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(file), Some(closer)) = (self.file.take(), self.closer.get()) {
            // What it does not take is closed here.
            drop(closer.try_send(file));
        }
    }
}

impl PartialEq for SealedMemory {
    /// Whether they are the same memory, which copies of the same bytes are not.
    fn eq(&self, other: &Self) -> bool {
        let is_same_memory = match (&self.held, &other.held) {
            (Some(held), Some(others)) => Arc::ptr_eq(held, others),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.bytes == other.bytes && is_same_memory
    }
}

impl Eq for SealedMemory {}

impl fmt::Debug for SealedMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedMemory({} bytes)", self.bytes)
    }
}

impl Serialize for SealedMemory {
    /// How many bytes there are: they themselves are no part of a message.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SealedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(SealedMemory { bytes: u64::deserialize(deserializer)?, held: None })
    }
}

/// Memory that is still written, by its end: what is written there is copied once and never again.
#[derive(Debug)]
pub struct MemoryFile {
    file: OwnedFd,
    bytes: u64,
}

impl MemoryFile {
    /// An empty one.
    ///
    /// # Errors
    /// What the system gives: there are too many descriptors, say.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // A system can be set to refuse files that could be executed; one before Linux 6.3 knows no others.
        let file = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(NAME, flags),
            created => created,
        };
        Ok(MemoryFile { file: file?, bytes: 0 })
    }

    /// How many bytes there are so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file itself.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives it so many bytes, all zero, whatever it had.
    ///
    /// # Errors
    /// What the system gives; that it is larger than this process may make files.
    pub(crate) fn set_bytes(&mut self, bytes: u64) -> io::Result<()> {
        check_file_size(bytes)?;
        ftruncate(&self.file, bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// What was written, for good. Nobody may have it mapped for writing.
    ///
    /// # Errors
    /// What the system gives.
    pub fn seal(self) -> io::Result<SealedMemory> {
        fcntl_add_seals(&self.file, SEALS)?;
        Ok(SealedMemory::of(self.file, self.bytes))
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_file_size(self.bytes.saturating_add(bytes.len() as u64))?;
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.file, bytes))?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether this process may make a file of so many bytes: the system would tell it by SIGXFSZ, and end it.
fn check_file_size(bytes: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(bytes_max) if bytes > bytes_max => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "{bytes} bytes of shared memory are more than the limit on the size of files, {bytes_max}"
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn sealed(bytes: &[u8]) -> SealedMemory {
        let mut memory = MemoryFile::new().unwrap();
        memory.write_all(bytes).unwrap();
        memory.seal().unwrap()
    }

    fn copy(memory: &SealedMemory) -> OwnedFd {
        memory.file().unwrap().try_clone_to_owned().unwrap()
    }

    #[test]
    fn few_descriptors_are_kept_and_each_that_is_dropped_makes_room() {
        let mut kept = Vec::new();
        let refused = loop {
            let memory = sealed(b"x");
            if !memory.may_be_kept() {
                break memory;
            }
            kept.push(memory);
        };
        assert!(!kept.is_empty() && kept.len() as u64 <= MEMORY_DESCRIPTORS_KEPT_MAX, "{}", kept.len());
        assert!(kept[0].may_be_kept(), "it is counted once");
        assert!(!refused.may_be_kept());
        drop(kept.pop());
        assert!(refused.may_be_kept());
    }

    fn unsealed(seals: SealFlags) -> OwnedFd {
        let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 1).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn sealed_memory_is_recognized() {
        let memory = sealed(b"seven");
        assert_eq!(SealedMemory::check(copy(&memory), 5).map(|memory| memory.bytes()), Ok(5));
        let other = SealedMemory::check(copy(&memory), 6);
        assert_eq!(other, Err(BadMemory::OtherSize { bytes: 5, announced: 6 }));
    }

    #[test]
    fn sealed_memory_cannot_be_changed() {
        let memory = sealed(b"seven");
        let file = copy(&memory);
        assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&file, 4), Err(Errno::PERM));
        assert_eq!(ftruncate(&file, 6), Err(Errno::PERM));
    }

    #[test]
    fn file_that_lacks_a_seal_is_refused() {
        for seal in [SealFlags::SEAL, SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE] {
            let file = unsealed(SEALS.difference(seal));
            assert_eq!(SealedMemory::check(file, 1), Err(BadMemory::NotSealed), "{seal:?}");
        }
        assert!(SealedMemory::check(unsealed(SEALS), 1).is_ok());
    }

    #[test]
    fn what_is_no_memory_file_is_refused() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let others: [OwnedFd; 4] = [
            File::open("/dev/zero").unwrap().into(),
            File::open(".").unwrap().into(),
            tempfile::tempfile().unwrap().into(),
            socket.into(),
        ];
        for other in others {
            assert_eq!(SealedMemory::check(other, 0), Err(BadMemory::NotSealed));
        }
    }

    #[test]
    fn memory_file_of_huge_pages_is_refused() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        let Ok(file) = memfd_create("test", flags) else { return eprintln!("skipped: no huge pages") };
        fcntl_add_seals(&file, SEALS).unwrap();
        assert_eq!(SealedMemory::check(file, 0), Err(BadMemory::NotSealed));
    }

    #[test]
    fn last_holder_leaves_it_to_the_closer() {
        let (closer, closed) = std::sync::mpsc::sync_channel(1);
        let memory = sealed(b"seven");
        memory.close_by(&closer);
        let other = memory.clone();
        drop(memory);
        assert!(closed.try_recv().is_err());
        drop(other);
        assert!(closed.try_recv().is_ok());
    }
}
