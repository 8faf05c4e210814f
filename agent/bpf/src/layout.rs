//! Which struct members stand behind the fields that the programs use, and where this kernel keeps them.
//!
//! Members move and change names between kernels, so each field has a list of candidates, newest first. A field that is not found
//! disables what needs it, and is named in the report.

use crate::btf::{BtfError, KernelBtf, Place};
use agent_abi::cgroup::valid;
use agent_abi::kernel::{FIELDS, Field};
use std::collections::BTreeMap;

/// Why a field has no usable offset on this kernel.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// None of the candidates exists.
    #[error("kernel has no {field:?} (looked for {tried})")]
    Missing {
        /// The field.
        field: Field,
        /// The candidates, as `struct.member`.
        tried: String,
    },
    /// The member's size is not what the programs load.
    #[error("kernel's {field:?} has {size} bytes, expected {expected}")]
    Size {
        /// The field.
        field: Field,
        /// Its size on this kernel, bytes.
        size: u32,
        /// The size the programs load, bytes.
        expected: u32,
    },
}

/// How a field is found.
enum Member {
    /// A member by path.
    Of(&'static str, &'static str),
    /// An element of an array member, its index an enumerator.
    Indexed { of: &'static str, path: &'static str, by: &'static str, value: &'static str },
}

use Member::{Indexed, Of};

/// `PSI_AVGS` in kernel/sched/psi.c: the first row of `psi_group.total[aggregator][state]`, which BTF shows as one array.
const AVERAGES: (&str, &str) = ("psi_aggregators", "PSI_AVGS");

/// Candidates and expected size in bytes.
const fn members(field: Field) -> (&'static [Member], u32) {
    const SUBSYS: &str = "cgroup_subsys_id";
    const EVENTS: &str = "memcg_memory_event";
    const STALLS: &str = "psi_states";
    match field {
        Field::TaskPid => (&[Of("task_struct", "pid")], 4),
        Field::TaskCgroups => (&[Of("task_struct", "cgroups")], 8),
        Field::TaskSumExec => (&[Of("task_struct", "se.sum_exec_runtime")], 8),
        Field::TaskPrevSumExec => (&[Of("task_struct", "se.prev_sum_exec_runtime")], 8),
        Field::TaskPrio => (&[Of("task_struct", "prio")], 4),
        Field::TaskLastQueued => (&[Of("task_struct", "sched_info.last_queued")], 8),
        Field::TaskCfsRq => (&[Of("task_struct", "se.cfs_rq")], 8),
        Field::CfsRqRq => (&[Of("cfs_rq", "rq")], 8),
        Field::RqClock => (&[Of("rq", "clock")], 8),
        Field::CssSetDflCgrp => (&[Of("css_set", "dfl_cgrp")], 8),
        Field::CgroupKn => (&[Of("cgroup", "kn")], 8),
        Field::KnId => (&[Of("kernfs_node", "id")], 8),
        Field::CgroupLevel => (&[Of("cgroup", "level")], 4),
        Field::CgroupCpu => (&[Of("cgroup", "bstat.cputime.sum_exec_runtime")], 8),
        Field::CgroupUser => (&[Of("cgroup", "bstat.cputime.utime")], 8),
        Field::CgroupSystem => (&[Of("cgroup", "bstat.cputime.stime")], 8),
        Field::CgroupSelfParent => (&[Of("cgroup", "self.parent")], 8),
        Field::CssCgroup => (&[Of("cgroup_subsys_state", "cgroup")], 8),
        Field::CgroupDescendants => (&[Of("cgroup", "nr_descendants")], 4),
        // Each controller counts its own since 7.x; `self` is the cgroup's.
        Field::CgroupPopulatedCsets => {
            (&[Of("cgroup", "nr_populated_csets"), Of("cgroup", "self.nr_populated_csets")], 4)
        }
        Field::CgroupPopulatedDomain => (&[Of("cgroup", "nr_populated_domain_children")], 4),
        Field::CgroupPopulatedThreaded => (&[Of("cgroup", "nr_populated_threaded_children")], 4),
        Field::CgroupCpuCss => {
            (&[Indexed { of: "cgroup", path: "subsys", by: SUBSYS, value: "cpu_cgrp_id" }], 8)
        }
        Field::CgroupMemoryCss => {
            (&[Indexed { of: "cgroup", path: "subsys", by: SUBSYS, value: "memory_cgrp_id" }], 8)
        }
        Field::GroupPeriods => (&[Of("task_group", "cfs_bandwidth.nr_periods")], 4),
        Field::GroupThrottled => (&[Of("task_group", "cfs_bandwidth.nr_throttled")], 4),
        Field::GroupThrottledTime => (&[Of("task_group", "cfs_bandwidth.throttled_time")], 8),
        Field::MemoryUsage => (&[Of("mem_cgroup", "memory.usage")], 8),
        Field::MemoryWatermark => (&[Of("mem_cgroup", "memory.watermark")], 8),
        Field::SwapUsage => (&[Of("mem_cgroup", "swap.usage")], 8),
        Field::MemoryHighEvents => {
            (&[Indexed { of: "mem_cgroup", path: "memory_events", by: EVENTS, value: "MEMCG_HIGH" }], 8)
        }
        Field::MemoryMaxEvents => {
            (&[Indexed { of: "mem_cgroup", path: "memory_events", by: EVENTS, value: "MEMCG_MAX" }], 8)
        }
        Field::MemoryOomEvents => {
            (&[Indexed { of: "mem_cgroup", path: "memory_events", by: EVENTS, value: "MEMCG_OOM" }], 8)
        }
        Field::MemoryOomKills => {
            (&[Indexed { of: "mem_cgroup", path: "memory_events", by: EVENTS, value: "MEMCG_OOM_KILL" }], 8)
        }
        Field::CgroupPsi => (&[Of("cgroup", "psi")], 8),
        Field::PsiEnabled => (&[Of("psi_group", "enabled")], 1),
        Field::PsiCpuSome => {
            (&[Indexed { of: "psi_group", path: "total", by: STALLS, value: "PSI_CPU_SOME" }], 8)
        }
        Field::PsiMemoryFull => {
            (&[Indexed { of: "psi_group", path: "total", by: STALLS, value: "PSI_MEM_FULL" }], 8)
        }
        Field::PsiIoSome => {
            (&[Indexed { of: "psi_group", path: "total", by: STALLS, value: "PSI_IO_SOME" }], 8)
        }
    }
}

/// The fields that a group of a record needs, by bit of [`valid`].
const GROUPS: [(u32, &[Field]); 9] = {
    use Field::*;
    [
        (valid::CPU, &[CgroupCpu]),
        (valid::CPU_SPLIT, &[CgroupUser, CgroupSystem]),
        (valid::THROTTLED, &[CgroupCpuCss, GroupPeriods, GroupThrottled, GroupThrottledTime]),
        (valid::MEMORY, &[CgroupMemoryCss, MemoryUsage, MemoryWatermark]),
        (valid::SWAP, &[SwapUsage]),
        (valid::MEMORY_EVENTS, &[MemoryHighEvents, MemoryMaxEvents, MemoryOomEvents, MemoryOomKills]),
        (
            valid::TREE,
            &[CgroupDescendants, CgroupPopulatedCsets, CgroupPopulatedDomain, CgroupPopulatedThreaded],
        ),
        (valid::PARENT, &[CgroupSelfParent, CssCgroup]),
        (valid::STALLS, &[CgroupPsi, PsiEnabled, PsiCpuSome, PsiMemoryFull, PsiIoSome]),
    ]
};

/// Structs that must begin with a `cgroup_subsys_state`, and the fields found behind it.
const BEHIND_CSS: [(&str, &str, &[Field]); 3] = {
    use Field::*;
    [
        ("task_group", "css", &[GroupPeriods, GroupThrottled, GroupThrottledTime]),
        (
            "mem_cgroup",
            "css",
            &[
                MemoryUsage,
                MemoryWatermark,
                SwapUsage,
                MemoryHighEvents,
                MemoryMaxEvents,
                MemoryOomEvents,
                MemoryOomKills,
            ],
        ),
        ("cgroup", "self", &[CgroupSelfParent]),
    ]
};

/// Where this kernel keeps every field, or why not.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    offsets: BTreeMap<Field, Result<u32, LayoutError>>,
}

impl Layout {
    /// Looks every field up.
    pub(crate) fn of(btf: &KernelBtf<'_>) -> Self {
        let mut offsets: BTreeMap<_, _> = FIELDS.iter().map(|field| (*field, find(btf, *field))).collect();
        for (name, css, fields) in BEHIND_CSS {
            if btf.member(name, css).is_ok_and(|place| place.offset == 0) {
                continue;
            }
            for field in fields {
                let tried = format!("{name}.{css} at offset 0");
                offsets.insert(*field, Err(LayoutError::Missing { field: *field, tried }));
            }
        }
        if btf.enumerator(AVERAGES.0, AVERAGES.1) != Ok(0) {
            for field in [Field::PsiCpuSome, Field::PsiMemoryFull, Field::PsiIoSome] {
                let tried = format!("{}.{} = 0", AVERAGES.0, AVERAGES.1);
                offsets.insert(field, Err(LayoutError::Missing { field, tried }));
            }
        }
        Self { offsets }
    }

    /// Offset of a field, bytes.
    pub(crate) fn offset(&self, field: Field) -> Result<u32, LayoutError> {
        match self.offsets.get(&field) {
            Some(result) => result.clone(),
            None => Err(LayoutError::Missing { field, tried: String::new() }),
        }
    }

    /// Bits of [`valid`] whose fields this kernel has, and the first missing field of each other group.
    pub(crate) fn record_groups(&self) -> (u32, Vec<(u32, LayoutError)>) {
        let (mut present, mut missing) = (0, Vec::new());
        for (bit, fields) in GROUPS {
            match fields.iter().find_map(|field| self.offset(*field).err()) {
                None => present |= bit,
                Some(error) => missing.push((bit, error)),
            }
        }
        (present, missing)
    }
}

fn find(btf: &KernelBtf<'_>, field: Field) -> Result<u32, LayoutError> {
    let (candidates, expected) = members(field);
    let Some(place) = candidates.iter().find_map(|member| look_up(btf, member).ok()) else {
        let names: Vec<_> = candidates.iter().map(name).collect();
        return Err(LayoutError::Missing { field, tried: names.join(", ") });
    };
    if place.size == expected {
        Ok(place.offset)
    } else {
        Err(LayoutError::Size { field, size: place.size, expected })
    }
}

fn look_up(btf: &KernelBtf<'_>, member: &Member) -> Result<Place, BtfError> {
    match member {
        Of(of, path) => btf.member(of, path),
        Indexed { of, path, by, value } => btf.element(of, path, btf.enumerator(by, value)?),
    }
}

fn name(member: &Member) -> String {
    match member {
        Of(of, path) => format!("{of}.{path}"),
        Indexed { of, path, value, .. } => format!("{of}.{path}[{value}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_every_field() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("SKIP: no /sys/kernel/btf/vmlinux on this machine");
            return;
        };
        let layout = Layout::of(&KernelBtf::parse(&bytes).expect("the kernel's own BTF"));
        for field in FIELDS {
            assert!(layout.offset(field).is_ok(), "{}", layout.offset(field).unwrap_err());
        }
        assert_eq!(layout.record_groups().0, 0x1ff);
    }
}
