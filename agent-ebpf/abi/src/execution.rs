//! What the kernel side says through its ring buffer: a program was executed in a cgroup that is watched.

use core::mem::size_of;

/// One execution as it lies in the ring buffer.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// Inode number of the cgroup on the unified hierarchy.
    pub cgroup_id: u64,
    /// Process id (thread group) of the process that executed it, in the initial pid namespace.
    pub pid: u32,
    /// Always zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Execution>() == 16);
