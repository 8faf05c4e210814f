//! One record per cgroup in one pass: what the agent would otherwise read from several files each.
#![no_std]
#![no_main]

use agent_abi::cgroup::{CgroupRecord, PassControl, valid};
use agent_abi::kernel::{Constant, constant_mark};
use agent_ebpf::{Cgroup, constant};
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use core::ffi::c_void;

/// The records of the last pass, in the order of the walk. The loader sets their number.
#[map]
static RECORDS: Array<CgroupRecord> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The state of the pass.
#[map]
static PASS: Array<PassControl> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// `struct bpf_iter__cgroup`. The kernel promises this layout to programs.
#[repr(C)]
pub struct Visit {
    _meta: *const c_void,
    cgroup: *const c_void,
}

/// Visits one cgroup; a null one ends the pass.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/cgroup")]
pub extern "C" fn visit_cgroup(ctx: *const Visit) -> i32 {
    let Some(pass) = PASS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the kernel runs one pass of this link at a time, and `ctx` is the iterator's.
    unsafe {
        let cgroup = core::ptr::read_volatile(&raw const (*ctx).cgroup);
        if cgroup.is_null() {
            (*pass).complete = 1;
            return 0;
        }
        let index = (*pass).seen;
        (*pass).seen = index + 1;
        if index <= u64::from(u32::MAX)
            && let Some(record) = RECORDS.get_ptr_mut(index as u32)
        {
            fill(record, Cgroup(cgroup));
        }
    }
    0
}

/// Fills a record. The loader knows which groups of fields this kernel has; the verifier drops the code of the others.
#[inline(always)]
unsafe fn fill(record: *mut CgroupRecord, cgroup: Cgroup) {
    let groups = constant::<{ constant_mark(Constant::RecordGroups) }>() as u32;
    // SAFETY: `record` is an element of RECORDS, the cgroup is alive while it is visited.
    unsafe {
        let mut present = 0;
        (*record).id = cgroup.id();
        let level = cgroup.level();
        (*record).level = level;
        if groups & valid::PARENT != 0 {
            (*record).parent_id = cgroup.parent_id();
            present |= valid::PARENT;
        }
        if groups & valid::TREE != 0 {
            (*record).nr_descendants = cgroup.descendants();
            (*record).populated = u32::from(cgroup.is_populated());
            present |= valid::TREE;
        }
        if groups & valid::CPU != 0 && level != 0 {
            (*record).cpu_ns = cgroup.cpu_ns();
            present |= valid::CPU;
        }
        if groups & valid::CPU_SPLIT != 0 && level != 0 {
            ((*record).user_ns, (*record).system_ns) = cgroup.cpu_split_ns();
            present |= valid::CPU_SPLIT;
        }
        if groups & valid::THROTTLED != 0 {
            let group = cgroup.cpu_css();
            if !group.0.is_null() {
                (*record).nr_periods = group.periods();
                (*record).nr_throttled = group.throttled();
                (*record).throttled_ns = group.throttled_ns();
                present |= valid::THROTTLED;
            }
        }
        if groups & valid::MEMORY != 0 {
            let memory = cgroup.memory_css();
            if !memory.0.is_null() {
                (*record).memory_pages = memory.memory_pages();
                (*record).memory_peak_pages = memory.memory_peak_pages();
                present |= valid::MEMORY;
                if groups & valid::SWAP != 0 {
                    (*record).swap_pages = memory.swap_pages();
                    present |= valid::SWAP;
                }
                if groups & valid::MEMORY_EVENTS != 0 {
                    (*record).memory_high_events = memory.high_events();
                    (*record).memory_max_events = memory.max_events();
                    (*record).oom_events = memory.oom_events();
                    (*record).oom_kills = memory.oom_kills();
                    present |= valid::MEMORY_EVENTS;
                }
            }
        }
        if groups & valid::STALLS != 0 {
            let stalls = cgroup.stalls();
            if !stalls.0.is_null() && stalls.is_on() {
                ((*record).cpu_stall_ns, (*record).memory_stall_ns, (*record).io_stall_ns) = stalls.totals_ns();
                present |= valid::STALLS;
            }
        }
        (*record).valid = present;
    }
}
