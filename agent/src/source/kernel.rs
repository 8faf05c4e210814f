//! The kernel programs as a source: the pass over all cgroups, and the run-queue figures beside it.

use std::collections::BTreeSet;

use agent_bpf::abi::cgroup::valid;
use agent_bpf::abi::histogram::BUCKETS;
use agent_bpf::{Feature, FeatureState, KernelProbe, ProbeConfig, Visit};
use agent_core::qos::{Delay, Lengths};
use agent_core::raw::{ROOT, Raw, RawCgroup};
use model::gap::Unavailable;
use model::id::CgroupId;
use model::metric::Metric;
use model::sample::Values;

use super::histograms::Histograms;
use super::{Health, SourceError};
use crate::settings::Settings;

/// Delays by task since the last histogram.
pub type HistogramDeltas = Vec<(CgroupId, Vec<(u16, u64)>)>;

/// Which of [`super::SLOW`] shares of the tasks is read in a round, so that no round has the work of all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn(pub(super) u64);

impl Turn {
    /// Every id has its turn once in [`super::SLOW`] rounds; ids in an arithmetic progression are spread too.
    fn is_of(self, cgroup_id: u64) -> bool {
        (cgroup_id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % super::SLOW == self.0
    }
}

pub(super) struct Kernel {
    probe: KernelProbe,
    histograms: Histograms,
    page_bytes: u64,
    measured: bool,
}

impl Kernel {
    pub(super) fn load(settings: &Settings, unavailable: &mut Vec<Unavailable>) -> Result<Self, SourceError> {
        let config = ProbeConfig { pin_dir: settings.pin.clone(), ..ProbeConfig::new(&settings.cgroup) };
        let probe = KernelProbe::load(&config)?;
        for report in probe.features() {
            if let FeatureState::Refused(why) = &report.state {
                unavailable.push(Unavailable { what: report.feature.to_string(), why: why.to_string() });
            }
        }
        let page_bytes = rustix::param::page_size() as u64;
        Ok(Self { probe, histograms: Histograms::default(), page_bytes, measured: false })
    }

    pub(super) fn counts(&self) -> bool {
        self.probe.is_active(Feature::RunQueue)
    }

    pub(super) fn passes(&self) -> bool {
        self.probe.is_active(Feature::CgroupPass) && self.probe.is_active(Feature::Parent)
    }

    pub(super) fn features(&self) -> Vec<String> {
        Feature::ALL.iter().filter(|f| self.probe.is_active(**f)).map(ToString::to_string).collect()
    }

    pub(super) fn measure(&mut self, on: bool) -> Result<(), SourceError> {
        self.measured = on;
        Ok(self.probe.measure_run_time(on)?)
    }

    /// One pass: every cgroup below the root, parents first.
    pub(super) fn pass(&mut self, raw: &mut Raw) -> Result<(), SourceError> {
        let page = self.page_bytes;
        self.probe.read_cgroups(|r| {
            if r.parent_id == 0 || r.valid & valid::CPU == 0 {
                return;
            }
            let mut values = Values::default();
            if r.valid & valid::CPU_SPLIT != 0 {
                values.set(Metric::CpuUser, r.user_ns / 1000);
                values.set(Metric::CpuSystem, r.system_ns / 1000);
            }
            if r.valid & valid::THROTTLED != 0 {
                values.set(Metric::Throttled, r.throttled_ns / 1000);
                values.set(Metric::ThrottledPeriods, r.nr_throttled.into());
            }
            if r.valid & valid::MEMORY != 0 {
                values.set(Metric::MemoryCurrent, r.memory_pages * page);
                values.set(Metric::MemoryPeak, r.memory_peak_pages * page);
            }
            if r.valid & valid::MEMORY_EVENTS != 0 {
                values.set(Metric::OomKills, r.oom_kills);
            }
            if r.valid & valid::STALLS != 0 {
                values.set(Metric::CpuStall, r.cpu_stall_ns / 1000);
                values.set(Metric::MemoryStall, r.memory_stall_ns / 1000);
                values.set(Metric::IoStall, r.io_stall_ns / 1000);
            }
            let (id, parent) = (CgroupId(r.id), CgroupId(r.parent_id));
            raw.cgroups.push(RawCgroup { id, parent, cpu_ns: r.cpu_ns, values });
        })?;
        Ok(())
    }

    /// Adds run-queue figures to the round, and what the histograms gained of those tasks whose turn it is.
    pub(super) fn run_queue(
        &mut self,
        raw: &mut Raw,
        turn: Turn,
        delays: &mut HistogramDeltas,
    ) -> Result<(), SourceError> {
        if !self.counts() {
            return Ok(());
        }
        self.probe.scan_runq()?;
        let set = |values: &mut Values, t: agent_bpf::RunqTotals| {
            values.set(Metric::RunDelay, t.delay_ns);
            values.set(Metric::RunCount, t.switches);
            values.set(Metric::OnCpu, t.oncpu_ns);
        };
        for cgroup in &mut raw.cgroups {
            let totals = self.probe.runq(cgroup.id.0).map(|r| r.totals).unwrap_or_default();
            set(&mut cgroup.values, totals);
        }
        if let Some(r) = self.probe.runq(ROOT.0) {
            set(&mut raw.root, r.totals);
        }
        self.histograms(turn, delays);
        Ok(())
    }

    /// Waits of one cgroup now, in all and by length, and its time on CPUs, ns; `None` when they are not counted.
    pub(super) fn delay_now(&self, id: CgroupId) -> Option<(Delay, Lengths, u64)> {
        if !self.counts() {
            return None;
        }
        // A task that has not been switched to has not waited.
        let mut lengths = Box::new([0; BUCKETS]);
        let totals = self.probe.runq_now(id.0, &mut lengths).unwrap_or_default();
        Some((Delay { total_ns: totals.delay_ns, runs: totals.switches }, lengths, totals.oncpu_ns))
    }

    fn histograms(&mut self, turn: Turn, delays: &mut HistogramDeltas) {
        let histograms = &mut self.histograms;
        self.probe.for_each_runq(Visit::All, |r| {
            if !turn.is_of(r.cgroup_id) {
                return;
            }
            let mut now = [0; BUCKETS];
            r.add_histogram(&mut now);
            let gained = histograms.gained(r.cgroup_id, &now);
            if !gained.is_empty() {
                delays.push((CgroupId(r.cgroup_id), gained));
            }
        });
        if turn.0 == 0 {
            let mut live = BTreeSet::new();
            self.probe.for_each_runq(Visit::All, |r| {
                live.insert(r.cgroup_id);
            });
            histograms.retain(|id| live.contains(&id));
        }
    }

    pub(super) fn report(&self, health: &mut Health) {
        let counters = self.probe.counters();
        health.guard_misses = counters.guard_misses;
        health.overflow_switches = counters.overflow.switches;
        health.map_bytes = self.probe.map_bytes();
        (health.slots_used, health.slots) = (counters.slots_used, counters.slots);
        if self.measured {
            let mut total = 0;
            let read = self.probe.program_costs(|cost| total += cost.run_time_ns);
            health.program_ns = read.ok().map(|()| total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_one_turn_and_turns_are_alike_in_size() {
        for step in [1, 16, 24, 32] {
            let mut sizes = [0; super::super::SLOW as usize];
            for id in (1000..).step_by(step).take(1000) {
                let turns: Vec<_> = (0..super::super::SLOW).filter(|turn| Turn(*turn).is_of(id)).collect();
                assert_eq!(turns.len(), 1);
                sizes[turns[0] as usize] += 1;
            }
            assert!(sizes.iter().all(|size| (50..200).contains(size)), "step {step}: {sizes:?}");
        }
    }
}
