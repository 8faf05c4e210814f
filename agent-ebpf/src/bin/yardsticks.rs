//! What the hot program is measured against: an empty program on the same tracepoint, and the design found in textbooks, which stamps a
//! task at wakeup in a hash by pid, reads the clock at every switch, and adds to a hash by cgroup.
#![no_std]
#![no_main]

use agent_abi::histogram::{BUCKETS, bucket_of};
use agent_ebpf::{Task, hide_range};
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{HashMap, PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::BtfTracePointContext;

/// Totals of a cgroup on a CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Totals {
    oncpu_ns: u64,
    delay_ns: u64,
    switches: u64,
    hist: [u32; BUCKETS],
}

/// When a task was queued, by thread id.
#[map]
static QUEUED_AT: HashMap<u32, u64> = HashMap::with_max_entries(16384, 0);
/// When the running task was switched to.
#[map]
static SINCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Totals by cgroup.
#[map]
static TOTALS: PerCpuHashMap<u64, Totals> = PerCpuHashMap::with_max_entries(4096, 0);

static ZERO: Totals = Totals { oncpu_ns: 0, delay_ns: 0, switches: 0, hist: [0; BUCKETS] };

/// Does nothing: the floor.
#[btf_tracepoint(function = "sched_switch")]
pub fn empty_switch(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// Stamps a task that becomes runnable.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn textbook_wakeup(ctx: BtfTracePointContext) -> i32 {
    stamp(Task(ctx.arg(0)))
}

/// Stamps a new task.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn textbook_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    stamp(Task(ctx.arg(0)))
}

/// Charges both tasks of a switch.
#[btf_tracepoint(function = "sched_switch")]
pub fn textbook_switch(ctx: BtfTracePointContext) -> i32 {
    let (prev, next, state): (_, _, u64) = (Task(ctx.arg(1)), Task(ctx.arg(2)), ctx.arg(3));
    // SAFETY: the tasks are the tracepoint's; per-CPU elements are this CPU's.
    unsafe {
        let now = bpf_ktime_get_ns();
        let Some(since) = SINCE.get_ptr_mut(0) else { return 0 };
        let prev_pid = prev.pid();
        if prev_pid != 0 {
            if *since != 0
                && let Some(totals) = totals(bpf_get_current_cgroup_id())
            {
                (*totals).oncpu_ns += now - *since;
            }
            if state as u32 == 0 {
                let _ = QUEUED_AT.insert(&prev_pid, &now, 0);
            }
        }
        *since = now;
        let next_pid = next.pid();
        if next_pid != 0
            && let Some(queued) = QUEUED_AT.get_ptr_mut(&next_pid)
        {
            let delay = now - *queued;
            let _ = QUEUED_AT.remove(&next_pid);
            if let Some(totals) = totals(next.css_set().cgroup().id()) {
                (*totals).delay_ns += delay;
                (*totals).switches += 1;
                let bucket = hide_range(bucket_of(delay) as u64);
                if bucket < BUCKETS as u64 {
                    *(&raw mut (*totals).hist).cast::<u32>().add(bucket as usize) += 1;
                }
            }
        }
    }
    0
}

#[inline(always)]
fn stamp(task: Task) -> i32 {
    // SAFETY: the tracepoint's task.
    unsafe {
        let now = bpf_ktime_get_ns();
        let _ = QUEUED_AT.insert(&task.pid(), &now, 0);
    }
    0
}

#[inline(always)]
fn totals(cgroup_id: u64) -> Option<*mut Totals> {
    if let Some(totals) = TOTALS.get_ptr_mut(&cgroup_id) {
        return Some(totals);
    }
    let _ = TOTALS.insert(&cgroup_id, &ZERO, 1 /* BPF_NOEXIST */);
    TOTALS.get_ptr_mut(&cgroup_id)
}
