//! What the kernel side says through ring buffers: a cgroup came, went, or a program was executed in one that is watched.

use core::mem::size_of;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A cgroup was created on the unified hierarchy; `comm` and `pid` are its creator's.
    Created = 1,
    /// A cgroup was removed from the unified hierarchy.
    Removed = 2,
    /// A process executed a program; `comm` is the new one, `cgroup_id` where it runs.
    Executed = 3,
}

impl EventKind {
    /// The kind with this code; `None` for a code of another version.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Created),
            2 => Some(Self::Removed),
            3 => Some(Self::Executed),
            _ => None,
        }
    }
}

/// One event as it lies in the ring buffer.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupEvent {
    /// Inode number of the cgroup on the unified hierarchy.
    pub cgroup_id: u64,
    /// When, ns of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// A code of [`EventKind`].
    pub kind: u32,
    /// Process id (thread group) of the process that caused it, in the initial pid namespace.
    pub pid: u32,
    /// Depth of the cgroup below the root; 0 for [`EventKind::Executed`].
    pub level: u32,
    /// Always zero.
    pub reserved: u32,
    /// Command name, NUL-padded, any bytes.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<CgroupEvent>() == 48);
