//! What a pass cannot see: a cgroup came or went. Metadata only.
#![no_std]
#![no_main]

use agent_abi::event::{CgroupEvent, EventKind};
use agent_ebpf::{Cgroup, add_atomic};
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns,
};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, RingBuf};
use aya_ebpf::programs::BtfTracePointContext;

/// The events. The loader sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Events that found the ring full, since load.
#[map]
static LOST: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A cgroup was created.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_created(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's cgroup.
    unsafe { report_cgroup(EventKind::Created, Cgroup(ctx.arg(0))) }
}

/// A cgroup was removed.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_removed(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's cgroup.
    unsafe { report_cgroup(EventKind::Removed, Cgroup(ctx.arg(0))) }
}

#[inline(always)]
unsafe fn report_cgroup(kind: EventKind, cgroup: Cgroup) -> i32 {
    // SAFETY: the caller's cgroup is alive.
    unsafe { if cgroup.is_unified() { report(kind, cgroup.id(), cgroup.level()) } else { 0 } }
}

#[inline(always)]
fn report(kind: EventKind, cgroup_id: u64, level: u32) -> i32 {
    let Some(mut entry) = EVENTS.reserve::<CgroupEvent>(0) else {
        if let Some(lost) = LOST.get_ptr_mut(0) {
            // SAFETY: a map element.
            unsafe { add_atomic(lost, 1) };
        }
        return 0;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: the reserved entry is ours until it is submitted, and every byte of it is written.
    unsafe {
        (*event).cgroup_id = cgroup_id;
        (*event).boot_ns = bpf_ktime_get_boot_ns();
        (*event).kind = kind as u32;
        (*event).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*event).level = level;
        (*event).reserved = 0;
        bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
    }
    entry.submit(0);
    0
}
