//! A program was executed in a watched cgroup. Everywhere else an execution costs one look-up and says nothing. Metadata only, never
//! arguments or environment.
#![no_std]
#![no_main]

use agent_abi::execution::Execution;
use agent_ebpf::add_atomic;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{Array, HashMap, RingBuf};
use aya_ebpf::programs::BtfTracePointContext;

/// The watched cgroups, by their number. The loader sets the size.
#[map]
static WATCHED: HashMap<u64, u8> = HashMap::with_max_entries(1, 0);

/// The executions. The loader sets the size.
#[map]
static EXECUTIONS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Executions that found the ring full, since load.
#[map]
static LOST: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A process executed a program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn program_executed(_ctx: BtfTracePointContext) -> i32 {
    // SAFETY: a helper without arguments.
    let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: only whether it is there is asked.
    if unsafe { WATCHED.get(&cgroup_id) }.is_none() {
        return 0;
    }
    let Some(mut entry) = EXECUTIONS.reserve::<Execution>(0) else {
        if let Some(lost) = LOST.get_ptr_mut(0) {
            // SAFETY: a map element.
            unsafe { add_atomic(lost, 1) };
        }
        return 0;
    };
    let execution = entry.as_mut_ptr();
    // SAFETY: the reserved entry is ours until it is submitted, and every byte of it is written.
    unsafe {
        (*execution).cgroup_id = cgroup_id;
        (*execution).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*execution).reserved = 0;
    }
    entry.submit(0);
    0
}
