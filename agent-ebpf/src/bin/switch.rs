//! The hot program: run-queue delay and on-CPU time per cgroup, at every context switch, with no lock, no hash and no clock read.
//!
//! At the tracepoint `next->sched_info.last_queued` still says since when the task waited, and the run queue's clock has just been
//! updated: their difference is the kernel's own `run_delay` of this wait. `prev->se.sum_exec_runtime` less its value at switch-in is
//! what `prev` ran. Both go to a slot of this CPU's region (see [`agent_abi::runq`]).
#![no_std]
#![no_main]

use agent_abi::histogram::{BUCKETS, bucket_of};
use agent_abi::kernel::{Constant, constant_mark};
use agent_abi::runq::{CpuHead, FREE, OVERFLOW, OVERFLOW_OFFSET, RunqSlot, SLOTS_OFFSET, WINDOW, home_slot};
use agent_ebpf::{Task, constant, hide_range};
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::BtfTracePointContext;

/// One region per CPU. The loader sets the size of a region and the number of CPUs.
#[map]
static REGIONS: Array<CpuHead> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counts one context switch.
#[btf_tracepoint(function = "sched_switch")]
pub fn count_switch(ctx: BtfTracePointContext) -> i32 {
    let (prev, next) = (Task(ctx.arg(1)), Task(ctx.arg(2)));
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(head) = REGIONS.get_ptr_mut(cpu) {
        // SAFETY: this CPU's region, which no one else adds to; the tasks are the tracepoint's.
        unsafe {
            switch_out(head, prev);
            switch_in(head, next);
        }
    }
    0
}

/// Charges `prev` with what it ran, if it is the task that was last switched to.
#[inline(always)]
unsafe fn switch_out(head: *mut CpuHead, prev: Task) {
    // SAFETY: see count_switch.
    unsafe {
        if (*head).running != prev.address() {
            return recover(head, prev);
        }
        let mut id = (*head).cgroup_id;
        if id == FREE {
            return; // The idle task.
        }
        let css_set = prev.css_set();
        if css_set.0 as u64 != (*head).css_set {
            id = css_set.cgroup().id(); // It was moved while it ran.
        }
        let ran = prev.sum_exec_ns() - (*head).exec_ns;
        let slot = slot_at(head, (*head).slot);
        if (*slot).cgroup_id == id {
            (*slot).oncpu_ns += ran;
        } else {
            charge_elsewhere(head, id, ran);
        }
    }
}

/// Charges a cgroup whose slot is not known: off the hot path, to keep its code and registers small.
#[inline(never)]
unsafe fn charge_elsewhere(head: *mut CpuHead, id: u64, ran: u64) {
    // SAFETY: see count_switch.
    unsafe { (*slot_or_overflow(head, search(head, id))).oncpu_ns += ran }
}

/// The switch to `prev` was hidden: charges it with its slice as the scheduler itself counts it.
#[inline(never)]
unsafe fn recover(head: *mut CpuHead, prev: Task) {
    // SAFETY: see count_switch.
    unsafe {
        if (*head).running == 0 {
            return; // The first switch after attaching: the slice began before.
        }
        (*head).guard_misses += 1;
        if let Some(ran) = prev.slice_ns() {
            charge_elsewhere(head, prev.css_set().cgroup().id(), ran);
        }
    }
}

/// Charges `next` with what it waited, and remembers it.
#[inline(always)]
unsafe fn switch_in(head: *mut CpuHead, next: Task) {
    // SAFETY: see count_switch.
    unsafe {
        (*head).running = next.address();
        let queued = next.last_queued_ns();
        if queued == 0 && next.pid() == 0 {
            (*head).cgroup_id = FREE;
            return;
        }
        let css_set = next.css_set();
        let id = css_set.cgroup().id();
        (*head).cgroup_id = id;
        (*head).css_set = css_set.0 as u64;
        (*head).exec_ns = next.sum_exec_ns();

        let mut index = home_slot(id, constant::<{ constant_mark(Constant::SlotShift) }>());
        let mut slot = slot_at(head, index);
        if (*slot).cgroup_id != id {
            index = search(head, id);
            slot = slot_or_overflow(head, index);
        }
        (*head).slot = index;

        if queued != 0 {
            let clock = next.run_queue_clock_ns();
            if clock < queued {
                return; // One clock that never goes back; a kernel where that fails must not poison the sums.
            }
            let delay = clock - queued;
            (*slot).delay_ns += delay;
            (*slot).switches += 1;
            let bucket = hide_range(bucket_of(delay) as u64);
            if bucket < BUCKETS as u64 {
                *(&raw mut (*slot).hist).cast::<u32>().add(bucket as usize) += 1;
            }
        }
    }
}

/// The slot with this index; any number is a valid one.
#[inline(always)]
unsafe fn slot_at(head: *mut CpuHead, index: u64) -> *mut RunqSlot {
    let index = index & constant::<{ constant_mark(Constant::SlotMask) }>();
    // SAFETY: the mask keeps the index inside the region.
    unsafe { head.byte_add(SLOTS_OFFSET + index as usize * size_of::<RunqSlot>()).cast() }
}

/// The slot with this index, or the overflow slot for [`OVERFLOW`].
#[inline(always)]
unsafe fn slot_or_overflow(head: *mut CpuHead, index: u64) -> *mut RunqSlot {
    if index == OVERFLOW {
        // SAFETY: the overflow slot follows the head.
        return unsafe { head.byte_add(OVERFLOW_OFFSET).cast() };
    }
    // SAFETY: as above.
    unsafe { slot_at(head, index) }
}

/// Finds the slot of `id`, or claims the first free one of its window; [`OVERFLOW`] when there is none.
#[inline(never)]
unsafe fn search(head: *mut CpuHead, id: u64) -> u64 {
    // SAFETY: see count_switch.
    unsafe {
        (*head).collisions += 1;
        let home = home_slot(id, constant::<{ constant_mark(Constant::SlotShift) }>());
        let mask = constant::<{ constant_mark(Constant::SlotMask) }>();
        let mut free = OVERFLOW;
        for step in 0..WINDOW {
            let index = (home + step) & mask;
            let holder = (*slot_at(head, index)).cgroup_id;
            if holder == id {
                return index;
            }
            if holder == FREE && free == OVERFLOW {
                free = index;
            }
        }
        if free == OVERFLOW {
            (*head).overflows += 1;
        } else {
            (*slot_at(head, free)).cgroup_id = id;
        }
        free
    }
}
