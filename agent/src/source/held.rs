//! Values that are read every tenth round, in the rounds between: the last reading stands until the next one.
//!
//! So their resolution is ten rounds, and a value that could not be read is absent for ten rounds, never zero. A task
//! that was given no CPU since its last reading has not stalled either: its stalls are not read again. What the kernel
//! programs gave in every round is not held.

use std::collections::BTreeMap;

use agent_core::raw::RawCgroup;
use model::id::CgroupId;
use model::metric::Metric;

/// Rounds between two readings of a value.
const SLOW: usize = super::SLOW as usize;
const STALLS: [Metric; 3] = [Metric::CpuStall, Metric::MemoryStall, Metric::IoStall];
/// Begins with the [`STALLS`].
const HELD: [Metric; 8] = [
    Metric::CpuStall,
    Metric::MemoryStall,
    Metric::IoStall,
    Metric::MemoryCurrent,
    Metric::MemoryPeak,
    Metric::OomKills,
    Metric::IoRead,
    Metric::IoWritten,
];

/// By the position that a cgroup had in the last round.
#[derive(Default)]
pub(super) struct Held(Vec<(CgroupId, Last)>);

#[derive(Clone, Default)]
struct Last {
    /// There was a reading, and the times that the task had been given a CPU then; `None` without the switch ledger.
    runs: Option<Option<u64>>,
    values: [Option<u64>; HELD.len()],
}

impl Last {
    fn rests(&self, cgroup: &RawCgroup) -> bool {
        let runs = cgroup.values.get(Metric::RunCount);
        runs.is_some() && self.runs == Some(runs)
    }
}

impl Held {
    /// Follows the cgroups of a round: what is held of those that are gone is dropped.
    pub(super) fn follow(&mut self, cgroups: &[RawCgroup]) {
        if cgroups.iter().map(|c| c.id).eq(self.0.iter().map(|(id, _)| *id)) {
            return;
        }
        let mut before: BTreeMap<CgroupId, Last> = self.0.drain(..).collect();
        self.0.extend(cgroups.iter().map(|c| (c.id, before.remove(&c.id).unwrap_or_default())));
    }

    /// Whether the task at this position was given no CPU since its values were read.
    pub(super) fn rests(&self, position: usize, cgroup: &RawCgroup) -> bool {
        self.0.get(position).is_some_and(|(_, last)| last.rests(cgroup))
    }

    /// Keeps the stalls of the last turn for nine of ten cgroups, where the kernel programs give them: `turn` is the
    /// round's number among ten. The cgroups are those that [`Self::follow`] was told of.
    pub(super) fn keep_stalls(&mut self, cgroups: &mut [RawCgroup], turn: usize) {
        for (position, (cgroup, (_, last))) in cgroups.iter_mut().zip(&mut self.0).enumerate() {
            let due = position % SLOW == turn;
            for (metric, kept) in STALLS.iter().zip(&mut last.values) {
                match (*kept, cgroup.values.get(*metric)) {
                    (Some(value), Some(_)) if !due => cgroup.values.set(*metric, value),
                    (_, given) => *kept = given,
                }
            }
        }
    }

    /// After a `slow` round: remembers what was read. Otherwise: fills what was not read with what is remembered. The
    /// cgroups are those that [`Self::follow`] was told of.
    pub(super) fn carry(&mut self, cgroups: &mut [RawCgroup], slow: bool) {
        for (cgroup, (_, last)) in cgroups.iter_mut().zip(&mut self.0) {
            let rests = slow && last.rests(cgroup);
            for (metric, value) in HELD.iter().zip(&last.values) {
                let stands = !slow || (rests && STALLS.contains(metric));
                if let (true, None, Some(value)) = (stands, cgroup.values.get(*metric), value) {
                    cgroup.values.set(*metric, *value);
                }
            }
            if slow {
                last.runs = Some(cgroup.values.get(Metric::RunCount));
                last.values = HELD.map(|metric| cgroup.values.get(metric));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::sample::Values;

    use super::*;

    fn cgroup(pairs: &[(Metric, u64)]) -> RawCgroup {
        let mut values = Values::default();
        pairs.iter().for_each(|(m, v)| values.set(*m, *v));
        RawCgroup { id: CgroupId(7), parent: CgroupId(1), cpu_ns: 0, values }
    }

    fn carried(held: &mut Held, pairs: &[(Metric, u64)], slow: bool) -> Values {
        let mut round = [cgroup(pairs)];
        held.follow(&round);
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
        let rests = |held: &Held, runs| held.rests(0, &cgroup(&[(Metric::RunCount, runs)]));
        assert!(rests(&held, 5) && !rests(&held, 6));
        let rested = carried(&mut held, &[(Metric::RunCount, 5)], true);
        assert_eq!((rested.get(Metric::CpuStall), rested.get(Metric::MemoryCurrent)), (Some(30), None));
        assert!(!held.rests(0, &cgroup(&[])), "without the switch ledger nobody knows");
    }

    #[test]
    fn stalls_that_the_kernel_gives_are_taken_in_turn() {
        let mut held = Held::default();
        let mut seen = Vec::new();
        for round in 0..21 {
            let mut cgroups = [cgroup(&[(Metric::CpuStall, 100 + round as u64)])];
            held.follow(&cgroups);
            held.keep_stalls(&mut cgroups, round % SLOW);
            held.carry(&mut cgroups, round % SLOW == 0);
            seen.push(cgroups[0].values.get(Metric::CpuStall).unwrap());
        }
        let expected: Vec<u64> = (0..21).map(|round| 100 + round / 10 * 10).collect();
        assert_eq!(seen, expected);
        let mut absent = [cgroup(&[])];
        held.keep_stalls(&mut absent, 1);
        assert_eq!(
            absent[0].values.get(Metric::CpuStall),
            None,
            "what the kernel does not give is not made up"
        );
    }

    #[test]
    fn what_is_held_follows_its_cgroup_to_another_position() {
        let mut held = Held::default();
        let of = |id, pairs: &[(Metric, u64)]| RawCgroup { id: CgroupId(id), ..cgroup(pairs) };
        let mut round = [of(7, &[(Metric::CpuStall, 30)]), of(8, &[(Metric::CpuStall, 40)])];
        held.follow(&round);
        held.carry(&mut round, true);
        let mut round = [of(9, &[]), of(8, &[])];
        held.follow(&round);
        held.carry(&mut round, false);
        let stalls = round.map(|c| c.values.get(Metric::CpuStall));
        assert_eq!(stalls, [None, Some(40)]);
    }
}
