//! Kernel objects as the programs see them: a pointer, and only the fields that are needed.
//!
//! Every method is `unsafe` for one reason: the object must be alive. Tracepoint arguments and what they point to are, for the length of
//! the program; the verifier checks the types.
#![allow(clippy::missing_safety_doc, reason = "said once, above")]

use crate::field::{at, load_u8, load_u32, load_u64, number, offset_of};
use agent_abi::kernel::Field;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;

/// `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task(pub *const c_void);

/// `struct css_set`: which cgroup a task is in, per hierarchy.
#[derive(Clone, Copy)]
pub struct CssSet(pub *const c_void);

/// `struct cgroup`.
#[derive(Clone, Copy)]
pub struct Cgroup(pub *const c_void);

/// `struct cgroup_subsys_state`: a controller's state in a cgroup. The controller's own struct begins with it.
#[derive(Clone, Copy)]
pub struct Css(pub *const c_void);

/// `struct psi_group`: a cgroup's stall accounting.
#[derive(Clone, Copy)]
pub struct Stalls(pub *const c_void);

impl Task {
    /// Address, for comparison only.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Thread id in the initial pid namespace; 0 for the idle task.
    #[inline(always)]
    pub unsafe fn pid(self) -> u32 {
        // SAFETY: a live task.
        unsafe { load_u32::<{ at(Field::TaskPid) }>(self.0) }
    }

    /// Its cgroups.
    #[inline(always)]
    pub unsafe fn css_set(self) -> CssSet {
        // SAFETY: a live task.
        CssSet(unsafe { load_u64::<{ at(Field::TaskCgroups) }>(self.0) } as *const c_void)
    }

    /// Time it has run, ns; up to date at a switch.
    #[inline(always)]
    pub unsafe fn sum_exec_ns(self) -> u64 {
        // SAFETY: a live task.
        unsafe { load_u64::<{ at(Field::TaskSumExec) }>(self.0) }
    }

    /// Time it has run since the fair class last picked it, ns; `None` for the idle task and in other classes.
    #[inline(always)]
    pub unsafe fn slice_ns(self) -> Option<u64> {
        const MAX_RT_PRIO: u32 = 100; // include/linux/sched/prio.h
        // SAFETY: a live task.
        unsafe {
            if self.pid() == 0
                || load_u32::<{ at(Field::TaskPrio) }>(self.0).wrapping_sub(MAX_RT_PRIO) > i32::MAX as u32
            {
                return None;
            }
            Some(self.sum_exec_ns().saturating_sub(load_u64::<{ at(Field::TaskPrevSumExec) }>(self.0)))
        }
    }

    /// When it was queued, in ns of [`Task::run_queue_clock_ns`]; 0 when it does not wait.
    #[inline(always)]
    pub unsafe fn last_queued_ns(self) -> u64 {
        // SAFETY: a live task.
        unsafe { load_u64::<{ at(Field::TaskLastQueued) }>(self.0) }
    }

    /// The clock of its run queue, ns. At a switch the queue is locked and its clock is fresh.
    #[inline(always)]
    pub unsafe fn run_queue_clock_ns(self) -> u64 {
        // SAFETY: a live task has a fair run queue, whatever its class, and that one a run queue.
        unsafe {
            let fair = load_u64::<{ at(Field::TaskCfsRq) }>(self.0) as *const c_void;
            let queue = load_u64::<{ at(Field::CfsRqRq) }>(fair) as *const c_void;
            load_u64::<{ at(Field::RqClock) }>(queue)
        }
    }
}

impl CssSet {
    /// The cgroup on the unified hierarchy.
    #[inline(always)]
    pub unsafe fn cgroup(self) -> Cgroup {
        // SAFETY: a css_set always has one.
        Cgroup(unsafe { load_u64::<{ at(Field::CssSetDflCgrp) }>(self.0) } as *const c_void)
    }
}

impl Cgroup {
    /// Inode number.
    #[inline(always)]
    pub unsafe fn id(self) -> u64 {
        // SAFETY: a cgroup always has a kernfs node.
        unsafe {
            let node = load_u64::<{ at(Field::CgroupKn) }>(self.0) as *const c_void;
            load_u64::<{ at(Field::KnId) }>(node)
        }
    }

    /// Depth, root = 0.
    #[inline(always)]
    pub unsafe fn level(self) -> u32 {
        // SAFETY: a live cgroup.
        unsafe { load_u32::<{ at(Field::CgroupLevel) }>(self.0) }
    }

    /// Inode number of the parent, 0 at the root.
    #[inline(always)]
    pub unsafe fn parent_id(self) -> u64 {
        // SAFETY: a subsystem state points to its parent's until the cgroup is freed.
        unsafe {
            let parent = load_u64::<{ at(Field::CgroupSelfParent) }>(self.0) as *const c_void;
            if parent.is_null() {
                return 0;
            }
            Cgroup(load_u64::<{ at(Field::CssCgroup) }>(parent) as *const c_void).id()
        }
    }

    /// CPU, user and system time of it and all below, ns, as of the last flush.
    #[inline(always)]
    pub unsafe fn cpu_ns(self) -> u64 {
        // SAFETY: a live cgroup.
        unsafe { load_u64::<{ at(Field::CgroupCpu) }>(self.0) }
    }

    /// User and system part of [`Cgroup::cpu_ns`], ns, sampled by the tick.
    #[inline(always)]
    pub unsafe fn cpu_split_ns(self) -> (u64, u64) {
        // SAFETY: a live cgroup.
        unsafe {
            (load_u64::<{ at(Field::CgroupUser) }>(self.0), load_u64::<{ at(Field::CgroupSystem) }>(self.0))
        }
    }

    /// Live cgroups below it.
    #[inline(always)]
    pub unsafe fn descendants(self) -> u32 {
        // SAFETY: a live cgroup.
        unsafe { load_u32::<{ at(Field::CgroupDescendants) }>(self.0) }
    }

    /// True when a task lives in it or below.
    #[inline(always)]
    pub unsafe fn is_populated(self) -> bool {
        // SAFETY: a live cgroup.
        unsafe {
            load_u32::<{ at(Field::CgroupPopulatedCsets) }>(self.0)
                | load_u32::<{ at(Field::CgroupPopulatedDomain) }>(self.0)
                | load_u32::<{ at(Field::CgroupPopulatedThreaded) }>(self.0)
                != 0
        }
    }

    /// Its stall accounting, null when the kernel keeps none.
    #[inline(always)]
    pub unsafe fn stalls(self) -> Stalls {
        // SAFETY: a live cgroup.
        Stalls(unsafe { load_u64::<{ at(Field::CgroupPsi) }>(self.0) } as *const c_void)
    }

    /// The cpu controller's state, null when it is not enabled here.
    #[inline(always)]
    pub unsafe fn cpu_css(self) -> Css {
        // SAFETY: a live cgroup.
        Css(unsafe { load_u64::<{ at(Field::CgroupCpuCss) }>(self.0) } as *const c_void)
    }

    /// The memory controller's state, null when it is not enabled here.
    #[inline(always)]
    pub unsafe fn memory_css(self) -> Css {
        // SAFETY: a live cgroup.
        Css(unsafe { load_u64::<{ at(Field::CgroupMemoryCss) }>(self.0) } as *const c_void)
    }
}

impl Stalls {
    /// Whether stalls are counted. A null pointer reads as no.
    #[inline(always)]
    pub unsafe fn is_on(self) -> bool {
        // SAFETY: lives as long as its cgroup.
        unsafe { load_u8::<{ at(Field::PsiEnabled) }>(self.0) != 0 }
    }

    /// Time stalled for CPU (some), memory (full) and IO (some), ns, as of the last summing up.
    #[inline(always)]
    pub unsafe fn totals_ns(self) -> (u64, u64, u64) {
        // SAFETY: as above.
        unsafe {
            (
                load_u64::<{ at(Field::PsiCpuSome) }>(self.0),
                load_u64::<{ at(Field::PsiMemoryFull) }>(self.0),
                load_u64::<{ at(Field::PsiIoSome) }>(self.0),
            )
        }
    }
}

/// Reads fields of the struct that begins with this subsystem state. The verifier knows only the beginning, hence the helper, which
/// yields 0 where it cannot read.
macro_rules! behind_css {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $field:ident;)*) => {
        impl Css {
            $($(#[$doc])*
            #[inline(always)]
            pub unsafe fn $name(self) -> $type {
                let mut value: $type = 0;
                let from = self.0.wrapping_byte_add(offset_of::<{ number(Field::$field) }>());
                // SAFETY: the destination is a local of the size given; the helper checks the source.
                unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<$type>() as u32, from) };
                value
            })*
        }
    };
}

behind_css! {
    /// Periods elapsed under `cpu.max`.
    periods: u32 = GroupPeriods;
    /// Periods in which it was throttled.
    throttled: u32 = GroupThrottled;
    /// Time throttled, ns.
    throttled_ns: u64 = GroupThrottledTime;
    /// Pages charged.
    memory_pages: u64 = MemoryUsage;
    /// Peak of pages charged.
    memory_peak_pages: u64 = MemoryWatermark;
    /// Swap pages charged.
    swap_pages: u64 = SwapUsage;
    /// Breaches of `memory.high`.
    high_events: u64 = MemoryHighEvents;
    /// Hits of `memory.max`.
    max_events: u64 = MemoryMaxEvents;
    /// Out-of-memory situations.
    oom_events: u64 = MemoryOomEvents;
    /// Processes killed.
    oom_kills: u64 = MemoryOomKills;
}
