//! What one round of reading gave, before it is anybody's usage.

use model::id::CgroupId;
use model::sample::Values;
use serde::{Deserialize, Serialize};

/// The hierarchy's own id of its root cgroup.
pub const ROOT: CgroupId = CgroupId(1);

/// One cgroup in one round. All totals are of the cgroup with everything below it, as the kernel keeps them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawCgroup {
    /// Its id.
    pub id: CgroupId,
    /// Its parent's id; [`ROOT`]'s children have the root.
    pub parent: CgroupId,
    /// CPU time, ns.
    pub cpu_ns: u64,
    /// What else was read of it. `CpuTime` is not set here: [`crate::table`] sets it.
    pub values: Values,
}

/// One round. Cgroups are in pre-order: a parent before its children; the root itself is not among them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Raw {
    /// When, CLOCK_BOOTTIME ns.
    pub boot_ns: u64,
    /// The wall clock minus the boot clock then, ns.
    pub wall_offset_ns: i64,
    /// Every cgroup but the root.
    pub cgroups: Vec<RawCgroup>,
    /// What runs in the root cgroup itself (kernel threads among it): on-CPU time by the switch ledger, ns; and the stalls of the whole host.
    pub root: Values,
    /// Busy time of all CPUs by /proc/stat, µs.
    pub busy_us: Option<u64>,
}

/// One line of a recording of raw rounds (`trimtab-agent record`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When, CLOCK_BOOTTIME ns.
    pub boot_ns: u64,
    /// Wall clock minus boot clock, ns.
    pub wall_offset_ns: i64,
    /// Busy time of all CPUs, µs.
    pub busy_us: Option<u64>,
    /// Values of the root's own processes, as (metric index, value).
    pub root: Vec<(u8, u64)>,
    /// Every cgroup but the root.
    pub cgroups: Vec<RecordedCgroup>,
}

/// id, parent, CPU ns, values as (metric index, value).
pub type RecordedCgroup = (u64, u64, u64, Vec<(u8, u64)>);

fn pairs(values: &Values) -> Vec<(u8, u64)> {
    values.iter().map(|(m, v)| (m as u8, v)).collect()
}

fn unpair(pairs: &[(u8, u64)]) -> Values {
    let mut values = Values::default();
    for (index, value) in pairs {
        if let Some(metric) = model::metric::Metric::from_index(*index) {
            values.set(metric, *value);
        }
    }
    values
}

impl From<&Raw> for Recorded {
    fn from(raw: &Raw) -> Self {
        Recorded {
            boot_ns: raw.boot_ns,
            wall_offset_ns: raw.wall_offset_ns,
            busy_us: raw.busy_us,
            root: pairs(&raw.root),
            cgroups: raw.cgroups.iter().map(|c| (c.id.0, c.parent.0, c.cpu_ns, pairs(&c.values))).collect(),
        }
    }
}

impl From<&Recorded> for Raw {
    fn from(r: &Recorded) -> Self {
        let cgroup = |(id, parent, cpu_ns, values): &RecordedCgroup| RawCgroup {
            id: CgroupId(*id),
            parent: CgroupId(*parent),
            cpu_ns: *cpu_ns,
            values: unpair(values),
        };
        Raw {
            boot_ns: r.boot_ns,
            wall_offset_ns: r.wall_offset_ns,
            cgroups: r.cgroups.iter().map(cgroup).collect(),
            root: unpair(&r.root),
            busy_us: r.busy_us,
        }
    }
}
