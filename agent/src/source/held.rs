//! Values that are read every tenth round, in the rounds between: the last reading stands until the next one.
//!
//! So their resolution is ten rounds, and a value that could not be read is absent for ten rounds, never zero.

use std::collections::BTreeMap;

use agent_core::raw::RawCgroup;
use model::id::CgroupId;
use model::metric::Metric;
use model::sample::Values;

const SLOW: [Metric; 6] = [
    Metric::CpuStall,
    Metric::MemoryStall,
    Metric::IoStall,
    Metric::MemoryCurrent,
    Metric::MemoryPeak,
    Metric::OomKills,
];

#[derive(Default)]
pub(super) struct Held(BTreeMap<CgroupId, Values>);

impl Held {
    /// After a `slow` round: remembers what was read. Otherwise: fills what was not read with what is remembered.
    pub(super) fn carry(&mut self, cgroups: &mut [RawCgroup], slow: bool) {
        if slow {
            self.0.clear();
        }
        for cgroup in cgroups {
            if slow {
                let mut last = Values::default();
                for metric in SLOW {
                    if let Some(value) = cgroup.values.get(metric) {
                        last.set(metric, value);
                    }
                }
                self.0.insert(cgroup.id, last);
            } else if let Some(last) = self.0.get(&cgroup.id) {
                for (metric, value) in last.iter() {
                    if cgroup.values.get(metric).is_none() {
                        cgroup.values.set(metric, value);
                    }
                }
            }
        }
    }
}
