//! How long the tasks of a node wait: for a CPU, and stalled.
//!
//! Problem: the wait of one second swings, and its 99th percentile needs many seconds, since a task's histogram comes every tenth round. Method:
//! sums and histograms lie in slots of [`SLOT_NS`], of which the newest [`SLOTS`] count; stalls are differences of the root cgroup's totals, which
//! are those of the whole node (the stalls of cgroups overlap, so that they cannot be added up). Bounds: one histogram of 1.6 kB a slot.

use std::collections::VecDeque;

use model::histogram::DelayHistogram;
use model::metric::Metric;
use model::sample::Values;
use serde::Serialize;

/// Length of a slot, ns: half again as long as it takes until each task has sent a histogram.
const SLOT_NS: u64 = 15_000_000_000;
/// Slots that count: about a minute.
const SLOTS: usize = 5;
/// Nothing is said of less time than this, ns: the first histograms come within ten seconds.
const LEAST_NS: u64 = 10_000_000_000;
/// Stalls of a node, in the order of [`WaitView`].
const STALLS: [Metric; 3] = [Metric::CpuStall, Metric::MemoryStall, Metric::IoStall];

/// How long tasks of a node waited, over about the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct WaitView {
    /// Length of that time, s.
    pub seconds: f64,
    /// Mean run-queue delay of all runs of all tasks, s; `None` when waits are not counted there.
    pub run_delay_mean_seconds: Option<f64>,
    /// 99 % of them were at most so long, s; likewise, and when nothing ran.
    pub run_delay_p99_seconds: Option<f64>,
    /// Share of the time in which some task waited for a CPU, 0..=1; `None` when the kernel keeps no stalls, or the agent tells none of the node.
    pub cpu_stall_ratio: Option<f64>,
    /// The same of all tasks at once, for memory.
    pub memory_stall_ratio: Option<f64>,
    /// The same of some task, for IO.
    pub io_stall_ratio: Option<f64>,
}

#[derive(Debug, Default)]
struct Slot {
    began_ns: u64,
    /// The root's stalls when it began, µs.
    stalls: [Option<u64>; 3],
    /// Run-queue delay in ns, and runs; `None` where no task counts them.
    runs: Option<(u64, u64)>,
    lengths: DelayHistogram,
}

/// What is kept of a node.
#[derive(Debug, Default)]
pub(super) struct Waits {
    slots: VecDeque<Slot>,
    newest_ns: u64,
    stalls: [Option<u64>; 3],
}

impl Waits {
    /// A task's totals went from `before` to `after`.
    pub(super) fn moved(&mut self, before: &Values, after: &Values) {
        let rise = |metric| after.get(metric)?.checked_sub(before.get(metric)?);
        let rises = rise(Metric::RunDelay).zip(rise(Metric::RunCount));
        if let Some(((delay, runs), slot)) = rises.zip(self.slots.back_mut()) {
            let (all_delay, all_runs) = slot.runs.get_or_insert_default();
            *all_delay = all_delay.saturating_add(delay);
            *all_runs = all_runs.saturating_add(runs);
        }
    }

    /// Waits of some task since its last histogram, by length.
    pub(super) fn lengths(&mut self, gained: &[(u16, u64)]) {
        if let Some(slot) = self.slots.back_mut() {
            gained.iter().for_each(|(bucket, count)| slot.lengths.add(*bucket, *count));
        }
    }

    /// All of a batch that was read at `boot_ns` is told; `root` are the root cgroup's totals then.
    pub(super) fn read(&mut self, boot_ns: u64, root: Option<&Values>) {
        if boot_ns < self.newest_ns {
            return;
        }
        self.newest_ns = boot_ns;
        self.stalls = STALLS.map(|metric| root?.get(metric));
        let over = |slot: &Slot| boot_ns.saturating_sub(slot.began_ns) >= SLOT_NS;
        if self.slots.back().is_none_or(over) {
            self.slots.push_back(Slot { began_ns: boot_ns, stalls: self.stalls, ..Slot::default() });
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
    }

    /// What is known; `None` until there is enough of it.
    pub(super) fn view(&self) -> Option<WaitView> {
        let first = self.slots.front()?;
        let ns = self.newest_ns.saturating_sub(first.began_ns);
        if ns < LEAST_NS {
            return None;
        }
        let runs = self.slots.iter().filter_map(|slot| slot.runs);
        let runs = runs.reduce(|(delay, runs), (more, others)| {
            (delay.saturating_add(more), runs.saturating_add(others))
        });
        let share = |at: usize| {
            let us = self.stalls[at]?.checked_sub(first.stalls[at]?)?;
            Some((us as f64 * 1e3 / ns as f64).min(1.0))
        };
        Some(WaitView {
            seconds: ns as f64 / 1e9,
            run_delay_mean_seconds: runs.map(|(delay, runs)| delay as f64 / runs.max(1) as f64 / 1e9),
            run_delay_p99_seconds: self.histogram().quantile_ns(0.99).map(|ns| ns as f64 / 1e9),
            cpu_stall_ratio: share(0),
            memory_stall_ratio: share(1),
            io_stall_ratio: share(2),
        })
    }

    /// All waits of that time by length.
    pub(super) fn histogram(&self) -> DelayHistogram {
        let mut all = DelayHistogram::default();
        self.slots.iter().for_each(|slot| all.merge(&slot.lengths));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn values(delay_ns: u64, runs: u64) -> Values {
        let mut values = Values::default();
        values.set(Metric::RunDelay, delay_ns);
        values.set(Metric::RunCount, runs);
        values
    }

    fn stalls(cpu_us: u64) -> Values {
        let mut values = Values::default();
        values.set(Metric::CpuStall, cpu_us);
        values
    }

    #[test]
    fn waits_are_means_of_runs_and_stalls_are_shares_of_the_time() {
        let mut waits = Waits::default();
        waits.read(0, Some(&stalls(7)));
        assert_eq!(waits.view(), None, "nothing is known of no time");
        for second in 1..=20 {
            // Two tasks: one waits 1 ms ten times a second, one 10 µs thirty times.
            waits.moved(&values(0, 0), &values(10_000_000, 10));
            waits.moved(&values(5, 5), &values(300_005, 35));
            waits.lengths(&[(20, 39), (90, 1)]);
            waits.read(second * SECOND, Some(&stalls(7 + second * 250_000)));
        }
        let view = waits.view().unwrap();
        assert_eq!(view.seconds, 20.0);
        let mean = view.run_delay_mean_seconds.unwrap();
        assert!((mean - 10.3e-3 / 40.0).abs() < 1e-9, "{mean}");
        assert_eq!(view.cpu_stall_ratio, Some(0.25));
        assert_eq!((view.memory_stall_ratio, view.io_stall_ratio), (None, None), "they were never told");
        let longest = model::histogram::midpoint(90).unwrap() as f64 / 1e9;
        assert_eq!(view.run_delay_p99_seconds, Some(longest), "more than one in a hundred");
    }

    #[test]
    fn what_is_not_counted_is_not_zero_and_what_is_old_is_forgotten() {
        let mut waits = Waits::default();
        let mut none = Values::default();
        none.set(Metric::CpuTime, 5);
        for second in 0..=30 {
            waits.moved(&none, &none);
            waits.read(second * SECOND, None);
        }
        let view = waits.view().unwrap();
        assert_eq!(WaitView { seconds: view.seconds, ..WaitView::default() }, view);
        waits.moved(&values(0, 0), &values(SECOND, 1));
        waits.lengths(&[(150, 1)]);
        assert_eq!(waits.view().unwrap().run_delay_mean_seconds, Some(1.0));
        for second in 31..=200 {
            waits.moved(&values(0, 0), &values(0, 1));
            waits.read(second * SECOND, None);
        }
        let view = waits.view().unwrap();
        assert_eq!((view.run_delay_mean_seconds, view.run_delay_p99_seconds), (Some(0.0), None));
        assert!(view.seconds <= (SLOTS as u64 * SLOT_NS / SECOND) as f64, "{view:?}");
    }

    proptest! {
        /// Whatever an agent says, in whatever order.
        #[test]
        fn any_totals_give_shares_within_bounds(
            steps in prop::collection::vec((0u64..100 * SECOND, any::<u64>(), any::<u64>(), prop::option::of(any::<u64>()),
                any::<u16>(), any::<u64>()), 0..60)
        ) {
            let mut waits = Waits::default();
            for (boot_ns, delay, runs, stall, bucket, count) in steps {
                waits.moved(&values(delay / 2, runs / 2), &values(delay, runs));
                waits.lengths(&[(bucket, count)]);
                waits.read(boot_ns, stall.map(stalls).as_ref());
                if let Some(view) = waits.view() {
                    prop_assert!(view.seconds >= 10.0);
                    prop_assert!(view.run_delay_mean_seconds.is_none_or(|mean| mean >= 0.0));
                    prop_assert!(view.cpu_stall_ratio.is_none_or(|share| (0.0..=1.0).contains(&share)));
                }
            }
        }
    }
}
