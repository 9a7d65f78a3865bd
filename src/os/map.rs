//! Memory files mapped into this process (mmap(2)): read where another process has written them, or written
//! before they are sealed.

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::slice;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::memory::{MemoryFile, SealedMemory};

/// The bytes of `memory`, where they are. All clones share one mapping.
///
/// # Errors
/// What the system gives: the limit on this process's address space is met, say.
pub(crate) fn map(memory: &SealedMemory) -> io::Result<&Bytes> {
    memory.mapped(|file, bytes| {
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        // Kernels before 6.7 refuse a shared mapping of a file that is sealed against writing; of one that nobody can
        // write, a private one is the same.
        let mapping = Mapping::new(file, bytes, ProtFlags::READ, MapFlags::PRIVATE)?;
        Ok(Bytes::from_owner(SealedMapping(mapping)))
    })
}

/// A memory file of one size, whose bytes are written where they are.
#[derive(Debug)]
pub(crate) struct WritableMapping {
    /// None of a file without bytes.
    mapping: Option<Mapping>,
    file: MemoryFile,
}

/// A whole file in the memory of this process, until it is dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

/// One whose file is sealed.
struct SealedMapping(Mapping);

// SAFETY: a mapping belongs to the process and not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference it is only read.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, bytes: u64, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        let length = usize::try_from(bytes).map_err(|_| Errno::NOMEM)?;
        // All of it is used, and the kernel is quickest at finding its pages in one go.
        let flags = flags | MapFlags::POPULATE;
        // SAFETY: the kernel chooses a place where nothing is.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, file, 0) }?;
        Ok(Mapping { start: NonNull::new(start).ok_or(Errno::NOMEM)?, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped it, and whoever borrows from it does not outlive it.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.length) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}

impl AsRef<[u8]> for SealedMapping {
    fn as_ref(&self) -> &[u8] {
        let Mapping { start, length } = &self.0;
        // SAFETY: so many bytes are mapped there, for as long as `self`. Their file was checked to have that size and
        // all four seals: nobody changes its bytes, nor its size, which would be SIGBUS here.
        unsafe { slice::from_raw_parts(start.cast().as_ptr(), *length) }
    }
}

impl WritableMapping {
    /// A new file of so many bytes, all zero.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let mut file = MemoryFile::new()?;
        file.set_bytes(bytes as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let map = || Mapping::new(file.file(), bytes as u64, protection, MapFlags::SHARED);
        let mapping = (bytes > 0).then(map).transpose()?;
        Ok(WritableMapping { mapping, file })
    }

    /// What was written, for good.
    ///
    /// # Errors
    /// What the system gives.
    pub(crate) fn seal(self) -> io::Result<SealedMemory> {
        // The kernel refuses to seal what is mapped for writing.
        drop(self.mapping);
        self.file.seal()
    }
}

impl Deref for WritableMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(Mapping { start, length }) = &self.mapping else { return &[] };
        // SAFETY: so many bytes are mapped there, for as long as `self`. The file is nobody else's before it is
        // sealed, and written through `&mut self` alone.
        unsafe { slice::from_raw_parts(start.cast().as_ptr(), *length) }
    }
}

impl DerefMut for WritableMapping {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Some(Mapping { start, length }) = &mut self.mapping else { return &mut [] };
        // SAFETY: as in `deref`, and `self` is borrowed for as long as the slice.
        unsafe { slice::from_raw_parts_mut(start.cast().as_ptr(), *length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_where_they_were_written() {
        let mut written = WritableMapping::new(100_000).unwrap();
        assert!(written.iter().all(|byte| *byte == 0));
        written[99_999] = 7;
        let memory = written.seal().unwrap();
        let mapped = map(&memory).unwrap().clone();
        assert_eq!((mapped.len(), mapped[0], mapped[99_999]), (100_000, 0, 7));
        assert_eq!(map(&memory.clone()).unwrap().as_ptr(), mapped.as_ptr());
        drop(memory);
        assert_eq!(mapped[99_999], 7);
    }

    #[test]
    fn memory_without_bytes_is_an_empty_slice() {
        let written = WritableMapping::new(0).unwrap();
        assert!(written.is_empty());
        assert_eq!(*map(&written.seal().unwrap()).unwrap(), Bytes::new());
    }
}
