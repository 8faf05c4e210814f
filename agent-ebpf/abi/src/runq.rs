//! One region of memory per CPU, written by that CPU's scheduler alone and read by the agent through `mmap`.
//!
//! A region is a [`CpuHead`], one overflow [`RunqSlot`], and a power of two of further slots, found by open addressing: an id starts at
//! [`home_slot`] and may live in any of the [`WINDOW`] slots from there. An id that finds no slot is counted in the overflow slot, so the
//! sum over a region is exact whatever happens.
//!
//! # Who may write what
//! Only the CPU that owns the region claims a slot and adds to it, with interrupts off, so nothing needs to be atomic. User space gives a
//! slot back in two steps, a scan apart: it stores [`RETIRED`] in `cgroup_id`, which no program ever matches or claims; at the next
//! scan every program run that could still have seen the old id has long ended, so what is left in the slot is final: it is folded,
//! zeroed, and `cgroup_id` is stored as [`FREE`] last. A dying task that switches once more in between simply claims a new slot, which
//! the next scans retire in the same way.

use crate::histogram::BUCKETS;
use core::mem::{align_of, size_of};

/// `cgroup_id` of a slot that the owning CPU may claim.
pub const FREE: u64 = 0;
/// `cgroup_id` of a slot that user space is about to give back. Not an inode number that kernfs hands out.
pub const RETIRED: u64 = u64::MAX;
/// [`CpuHead::slot`] when the running task is counted in the overflow slot.
pub const OVERFLOW: u64 = u64::MAX;
/// How many consecutive slots an id may live in. With half of the slots taken, 32 leaves one id in 100,000 without a slot; 8 leaves four in
/// 1,000. Only an id that is displaced from its home slot pays for the search.
pub const WINDOW: u64 = 32;
/// Fewest slots per CPU, as a power of two: the window must fit.
pub const MIN_SLOT_BITS: u32 = 6;
/// Most slots per CPU, as a power of two (54 MB per CPU).
pub const MAX_SLOT_BITS: u32 = 16;

/// What one CPU counted for one cgroup, cumulative since the slot was claimed. 13 cache lines; the first holds the sums and the eight
/// linear buckets, so that a short delay touches one line only.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunqSlot {
    /// Inode number of the cgroup on the unified hierarchy, or [`FREE`], or [`RETIRED`].
    pub cgroup_id: u64,
    /// Time tasks of the cgroup ran here, ns, from differences of the scheduler's own `sum_exec_runtime`.
    pub oncpu_ns: u64,
    /// Time tasks of the cgroup waited on this CPU's run queue before running, ns: `rq->clock - sched_info.last_queued`.
    pub delay_ns: u64,
    /// Number of waits in `delay_ns`.
    pub switches: u64,
    /// The waits by length, see [`crate::histogram`]. Modulo 2³²: take differences with `wrapping_sub`.
    pub hist: [u32; BUCKETS],
}

/// What one CPU keeps besides its slots: who is running, and what could not be counted. One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuHead {
    /// Address of the task that was last switched to.
    pub running: u64,
    /// Its cgroup id, or [`FREE`] when it is the idle task.
    pub cgroup_id: u64,
    /// Address of its `css_set`: unchanged at switch-out means the same cgroup.
    pub css_set: u64,
    /// Its `sum_exec_runtime` when it was switched to, ns.
    pub exec_ns: u64,
    /// Index of the slot of `cgroup_id`, or [`OVERFLOW`].
    pub slot: u64,
    /// Switches whose `prev` was not the last `next`, because the tracepoint does not see every switch on every kernel. The slice of
    /// `prev` is counted as the fair class counts it; the one of the task that was switched from unseen is not.
    pub guard_misses: u64,
    /// Searches beyond the home slot, first claims included.
    pub collisions: u64,
    /// Searches that ended in the overflow slot.
    pub overflows: u64,
}

/// What the programs saw of the agent's own thread while the self-check ran. All counted since load.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Its cgroup on the unified hierarchy when it was last switched from.
    pub cgroup_id: u64,
    /// Its `sum_exec_runtime` then, ns.
    pub sum_exec_ns: u64,
    /// Sum of its waits, ns.
    pub delay_ns: u64,
    /// Times it was switched to after a wait.
    pub switches_in: u64,
    /// Times it was switched from.
    pub switches_out: u64,
}

const _: () = assert!(size_of::<Watch>() == 40);
const _: () = assert!(size_of::<RunqSlot>() == 13 * 64 && align_of::<RunqSlot>() == 64);
const _: () = assert!(size_of::<CpuHead>() == 64 && align_of::<CpuHead>() == 64);

/// Offset of the overflow slot in a region, bytes.
pub const OVERFLOW_OFFSET: usize = size_of::<CpuHead>();
/// Offset of slot 0 in a region, bytes.
pub const SLOTS_OFFSET: usize = OVERFLOW_OFFSET + size_of::<RunqSlot>();

/// Bytes of a region with `1 << slot_bits` slots.
pub const fn region_bytes(slot_bits: u32) -> usize {
    SLOTS_OFFSET + (size_of::<RunqSlot>() << slot_bits)
}

/// Where the search for an id starts, `0..1 << slot_bits`, given `slot_shift = 64 - slot_bits`.
///
/// Inode numbers of cgroups are close to an arithmetic progression (a cgroup's files take the numbers between), so masking them would use
/// one slot in 16 or 32, and a plain multiplication clusters at some steps. One xor-shift before multiplying by 2⁶⁴/φ and keeping the top
/// bits (Knuth, TAOCP vol. 3, 6.4) spreads every step from 1 to 300 like random numbers.
#[inline(always)]
pub const fn home_slot(cgroup_id: u64, slot_shift: u64) -> u64 {
    let mixed = cgroup_id ^ (cgroup_id >> 7);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> slot_shift
}

/// Slot bits for a node: room for twice the cgroups expected, halved until all CPUs fit into `budget_bytes`, never below
/// [`MIN_SLOT_BITS`].
pub const fn slot_bits_for(expected_cgroups: usize, cpus: usize, budget_bytes: usize) -> u32 {
    let mut bits = MIN_SLOT_BITS;
    while bits < MAX_SLOT_BITS
        && (1_usize << bits) < expected_cgroups.saturating_mul(2)
        && region_bytes(bits + 1).saturating_mul(cpus) <= budget_bytes
    {
        bits += 1;
    }
    bits
}
