//! The self-check: what the programs see of one thread, which the agent compares with /proc before it trusts the rest.
#![no_std]
#![no_main]

use agent_abi::kernel::{Constant, constant_mark};
use agent_abi::runq::Watch;
use agent_ebpf::{Task, constant};
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::BtfTracePointContext;

/// What was seen.
#[map]
static WATCH: Array<Watch> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Notes the watched thread's switches.
#[btf_tracepoint(function = "sched_switch")]
pub fn watch_switch(ctx: BtfTracePointContext) -> i32 {
    let (prev, next) = (Task(ctx.arg(1)), Task(ctx.arg(2)));
    let watched = constant::<{ constant_mark(Constant::WatchedPid) }>() as u32;
    let Some(watch) = WATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: one thread is watched, so one CPU at a time writes; the tasks are the tracepoint's.
    unsafe {
        if prev.pid() == watched {
            (*watch).cgroup_id = prev.css_set().cgroup().id();
            (*watch).sum_exec_ns = prev.sum_exec_ns();
            (*watch).switches_out += 1;
        }
        if next.pid() == watched && next.last_queued_ns() != 0 {
            (*watch).delay_ns += next.run_queue_clock_ns() - next.last_queued_ns();
            (*watch).switches_in += 1;
        }
    }
    0
}
