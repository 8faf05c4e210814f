//! Values that are read every tenth round, in the rounds between: the last reading stands until the next one.
//!
//! So their resolution is ten rounds, and a value that could not be read is absent for ten rounds, never zero. A task
//! that was given no CPU since its last reading has not stalled either: its stalls are not read again.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::raw::RawCgroup;
use model::id::CgroupId;
use model::metric::Metric;
use model::sample::Values;

const STALLS: [Metric; 3] = [Metric::CpuStall, Metric::MemoryStall, Metric::IoStall];
const MEMORY: [Metric; 3] = [Metric::MemoryCurrent, Metric::MemoryPeak, Metric::OomKills];

#[derive(Default)]
pub(super) struct Held(BTreeMap<CgroupId, Last>);

struct Last {
    /// Times given a CPU as of the reading; `None` without the switch ledger.
    runs: Option<u64>,
    values: Values,
}

impl Held {
    /// Whether the task was given no CPU since its values were read.
    pub(super) fn rests(&self, cgroup: &RawCgroup) -> bool {
        let runs = cgroup.values.get(Metric::RunCount);
        runs.is_some() && self.0.get(&cgroup.id).is_some_and(|last| last.runs == runs)
    }

    /// After a `slow` round: remembers what was read. Otherwise: fills what was not read with what is remembered.
    pub(super) fn carry(&mut self, cgroups: &mut [RawCgroup], slow: bool) {
        if self.0.len() > cgroups.len() {
            let live: BTreeSet<CgroupId> = cgroups.iter().map(|c| c.id).collect();
            self.0.retain(|id, _| live.contains(id));
        }
        for cgroup in cgroups {
            let rests = slow && self.rests(cgroup);
            if let Some(last) = self.0.get(&cgroup.id) {
                let carried = STALLS.iter().filter(|_| !slow || rests).chain(MEMORY.iter().filter(|_| !slow));
                for metric in carried {
                    if let (None, Some(value)) = (cgroup.values.get(*metric), last.values.get(*metric)) {
                        cgroup.values.set(*metric, value);
                    }
                }
            }
            if slow {
                let mut values = Values::default();
                for metric in STALLS.iter().chain(&MEMORY) {
                    if let Some(value) = cgroup.values.get(*metric) {
                        values.set(*metric, value);
                    }
                }
                self.0.insert(cgroup.id, Last { runs: cgroup.values.get(Metric::RunCount), values });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(pairs: &[(Metric, u64)]) -> RawCgroup {
        let mut values = Values::default();
        pairs.iter().for_each(|(m, v)| values.set(*m, *v));
        RawCgroup { id: CgroupId(7), parent: CgroupId(1), cpu_ns: 0, values }
    }

    fn carried(held: &mut Held, pairs: &[(Metric, u64)], slow: bool) -> Values {
        let mut round = [cgroup(pairs)];
        held.carry(&mut round, slow);
        round[0].values
    }

    #[test]
    fn a_reading_stands_for_ten_rounds_and_a_failed_one_is_absent_for_ten() {
        let mut held = Held::default();
        carried(
            &mut held,
            &[(Metric::RunCount, 5), (Metric::CpuStall, 30), (Metric::MemoryCurrent, 4096)],
            true,
        );
        let between = carried(&mut held, &[(Metric::RunCount, 6)], false);
        assert_eq!(
            (between.get(Metric::CpuStall), between.get(Metric::MemoryCurrent)),
            (Some(30), Some(4096))
        );
        let failed = carried(&mut held, &[(Metric::RunCount, 9)], true);
        assert_eq!((failed.get(Metric::CpuStall), failed.get(Metric::MemoryCurrent)), (None, None));
        assert_eq!(carried(&mut held, &[(Metric::RunCount, 9)], false).get(Metric::CpuStall), None);
    }

    #[test]
    fn a_task_that_rests_keeps_its_stalls_but_its_memory_is_read_again() {
        let mut held = Held::default();
        carried(
            &mut held,
            &[(Metric::RunCount, 5), (Metric::CpuStall, 30), (Metric::MemoryCurrent, 4096)],
            true,
        );
        assert!(
            held.rests(&cgroup(&[(Metric::RunCount, 5)])) && !held.rests(&cgroup(&[(Metric::RunCount, 6)]))
        );
        let rested = carried(&mut held, &[(Metric::RunCount, 5)], true);
        assert_eq!((rested.get(Metric::CpuStall), rested.get(Metric::MemoryCurrent)), (Some(30), None));
        assert!(!held.rests(&cgroup(&[])), "without the switch ledger nobody knows");
    }
}
