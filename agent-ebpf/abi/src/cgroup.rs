//! What one pass of the cgroup iterator says about each cgroup.

use core::mem::size_of;

/// Which groups of fields of a [`CgroupRecord`] hold a value; the others are zero and must be read from the cgroup's files.
pub mod valid {
    /// `cpu_ns`: not kept by the kernel for the root cgroup.
    pub const CPU: u32 = 1;
    /// `user_ns`, `system_ns`: sampled by the tick, approximate.
    pub const CPU_SPLIT: u32 = 1 << 1;
    /// `nr_periods`, `nr_throttled`, `throttled_ns`: the cpu controller is enabled here on the unified hierarchy.
    pub const THROTTLED: u32 = 1 << 2;
    /// `memory_*`: the memory controller is enabled here on the unified hierarchy.
    pub const MEMORY: u32 = 1 << 3;
    /// `swap_pages`, with the memory controller.
    pub const SWAP: u32 = 1 << 4;
    /// `memory_high_events`, `memory_max_events`, `oom_events`, `oom_kills`, with the memory controller.
    pub const MEMORY_EVENTS: u32 = 1 << 5;
    /// `nr_descendants`, `populated`.
    pub const TREE: u32 = 1 << 6;
    /// `parent_id`.
    pub const PARENT: u32 = 1 << 7;
    /// `*_stall_ns`: stall accounting is on here.
    pub const STALLS: u32 = 1 << 8;
}

/// One cgroup at one moment. All counters are cumulative since the cgroup was created.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupRecord {
    /// Inode number on the unified hierarchy.
    pub id: u64,
    /// Inode number of the parent, 0 at the root.
    pub parent_id: u64,
    /// CPU time, ns: `cgroup.bstat`, exact as of the last flush of an ancestor.
    pub cpu_ns: u64,
    /// User part of the CPU time, ns, tick-sampled.
    pub user_ns: u64,
    /// System part of the CPU time, ns, tick-sampled.
    pub system_ns: u64,
    /// Time run queues of the cgroup spent throttled by `cpu.max`, ns.
    pub throttled_ns: u64,
    /// Memory charged, pages: `page_counter.usage`.
    pub memory_pages: u64,
    /// Peak of `memory_pages` since creation, pages.
    pub memory_peak_pages: u64,
    /// Swap charged, pages.
    pub swap_pages: u64,
    /// Times memory was reclaimed above `memory.high`, with descendants.
    pub memory_high_events: u64,
    /// Times `memory.max` was about to be passed, with descendants.
    pub memory_max_events: u64,
    /// Times the out-of-memory path was entered, with descendants.
    pub oom_events: u64,
    /// Processes killed for want of memory, with descendants.
    pub oom_kills: u64,
    /// Time in which some task waited for a CPU, ns: `psi_group.total`. While tasks are active the kernel sums the stalls up every two
    /// seconds (`PSI_FREQ` in kernel/sched/psi.c), and once more after the last activity; so the three are up to two seconds old.
    pub cpu_stall_ns: u64,
    /// Time in which all tasks that were not idle waited for memory, ns.
    pub memory_stall_ns: u64,
    /// Time in which some task waited for IO, ns.
    pub io_stall_ns: u64,
    /// Enforcement periods elapsed under `cpu.max`.
    pub nr_periods: u32,
    /// Periods in which the cgroup was throttled.
    pub nr_throttled: u32,
    /// Live cgroups below this one.
    pub nr_descendants: u32,
    /// 1 when a task lives in it or below.
    pub populated: u32,
    /// Depth below the root of the hierarchy, root = 0.
    pub level: u32,
    /// Bits of [`valid`].
    pub valid: u32,
}

/// How far the running pass has come. The agent zeroes it before a pass.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassControl {
    /// Cgroups visited, also those that found no room.
    pub seen: u64,
    /// 1 when the pass reached its end.
    pub complete: u64,
}

const _: () = assert!(size_of::<CgroupRecord>() == 16 * 8 + 6 * 4);
const _: () = assert!(size_of::<PassControl>() == 16);
