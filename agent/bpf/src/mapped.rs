//! Memory of a BPF array, mapped into this process: reading it costs no system call.

use agent_abi::Plain;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A shared mapping of a whole array map. The kernel may write to it at any time, so it is read by copies and atomics only.
#[derive(Debug)]
pub(crate) struct Mapped {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is owned, and all access goes through volatile copies and atomics.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `bytes` of an array created with `BPF_F_MMAPABLE`.
    pub(crate) fn new(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { base, bytes })
    }

    /// Bytes mapped.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A copy of the value at a byte offset.
    ///
    /// # Panics
    /// When the value would lie outside or unaligned: a mistake in this crate.
    pub(crate) fn copy<T: Plain>(&self, offset: usize) -> T {
        // SAFETY: inside the mapping and aligned (checked), and `Plain` types are valid for any bits.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// Overwrites the value at a byte offset. The caller knows that no program writes there now.
    ///
    /// # Panics
    /// As [`Mapped::copy`].
    pub(crate) fn store<T: Plain>(&mut self, offset: usize, value: T) {
        // SAFETY: as in `copy`.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }

    /// A number that the kernel may change meanwhile.
    ///
    /// # Panics
    /// As [`Mapped::copy`].
    pub(crate) fn number(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `copy`; an aligned eight-byte access is never torn.
        unsafe { AtomicU64::from_ptr(self.at::<u64>(offset)) }
    }

    /// A row of 32-bit numbers that the kernel may change meanwhile.
    ///
    /// # Panics
    /// As [`Mapped::copy`].
    pub(crate) fn row(&self, offset: usize, count: usize) -> &[AtomicU32] {
        assert!(offset.is_multiple_of(4) && count * 4 <= self.bytes.saturating_sub(offset));
        // SAFETY: inside the mapping and aligned; `AtomicU32` has the layout of `u32`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast(), count) }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset.is_multiple_of(align_of::<T>()) && size_of::<T>() <= self.bytes.saturating_sub(offset)
        );
        // SAFETY: inside the mapping.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nothing borrows any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
impl Mapped {
    /// Anonymous zeroed memory, for tests without a kernel program.
    pub(crate) fn anonymous(bytes: usize) -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert!(base != libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self { base: NonNull::new(base.cast()).expect("an address"), bytes }
    }
}
