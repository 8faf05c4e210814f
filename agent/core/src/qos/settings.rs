//! What the owner can say about isolation, and the constants that nobody should need to change.

use serde::Serialize;

/// Time between two readings while best-effort work runs here, ms: a breach must have its effect within 200 ms (node.md §6), also one that
/// just missed a reading, and 50 ms of them are for systemd. The kernel's own stall triggers cannot do this: their window is at least
/// 500 ms (Documentation/accounting/psi.rst).
pub const STEP_MS: u64 = 150;
/// Time between two readings of the node as a whole, two divisions of the allowance, and two steps of growth, ms.
pub const SLOW_MS: u64 = 1_000;
/// All must have been calm this long before anything grows or is undone, ms (node.md §6).
pub const CLEAN_MS: u64 = 10_000;
/// Growth per second at most, as a share of the node's CPUs (node.md §6; Heracles, ISCA 2015, grows by one core in 2 s on 36).
pub const GROWTH: f64 = 0.10;
/// Near the level at which it broke last, growth is this share of [`GROWTH`]: it is approached, not jumped at.
pub const NEAR_GROWTH: f64 = 0.1;
/// "Near": above this share of the level at which it broke last.
pub const NEAR: f64 = 0.8;
/// The level at which it broke is remembered for this long, ms: load changes within minutes.
pub const REMEMBERED_MS: u64 = 300_000;
/// And only while the others use at least this share of what they used then.
pub const ALIKE: f64 = 0.8;
/// A breach leaves this share of what best-effort work used: from all of a node to the floor in four or five readings.
pub const CUT: f64 = 0.5;
/// A delay of this many targets goes to the floor at once.
pub const SEVERE: f64 = 4.0;
/// Below this share of each threshold it is calm; between here and the threshold nothing grows, so that the level does not flap.
pub const CALM: f64 = 0.7;
/// A mean delay within one reading is of at least this many waits: one unlucky thread is no breach.
pub const RUNS_IN_STEP: u64 = 8;
/// The same for the mean over a second, which sees tasks that seldom run.
pub const RUNS_IN_SECOND: u64 = 4;
/// Share of the node's CPUs that is left free for the next burst, where the kernel does not take the CPU from best-effort work at once (node.md §6).
pub const HEADROOM: f64 = 0.20;
/// The others' ups of a second may take this share of the headroom before best-effort work gives way, so that it does not follow their every
/// breath: that is what headroom is for.
pub const BAND: f64 = 0.5;
/// Without data the allowance stands for this long, ms, and then goes to the floor: ten rounds of one second.
pub const STALE_MS: u64 = 10_000;
/// Time between the ends and beginnings of two pairs of windows, ms, with a pause in each: with [`WINDOW_READINGS`] of [`STEP_MS`] that is 1.5 % of the
/// time (node.md §6: 1 to 2 %).
pub const PAIR_EVERY_MS: u64 = 30_000;
/// The same when best-effort work is new here, ms: a first verdict within a minute and a half, for 4.5 % of that time.
pub const PAIR_SOON_MS: u64 = 10_000;
/// New for so long, ms: three verdicts.
pub const FIRST_MS: u64 = 300_000;
/// Readings of a window; the first does not count.
pub const WINDOW_READINGS: u32 = 3;
/// Pairs of windows that say something: below, Student's distribution is much wider than the normal one.
pub const PAIRS_LEAST: usize = 8;
/// Pairs that are kept: ten minutes.
pub const PAIRS_KEPT: usize = 20;
/// A difference of fewer standard errors is chance: by Student's distribution one in a thousand is larger with twenty pairs, five with eight.
pub const HARM_ERRORS: f64 = 3.5;
/// Best-effort work that uses no more than this many times its floor hardly runs: a quota of 100 ms gives two periods' worth to one reading.
pub const HARDLY: f64 = 1.5;
/// Half of what is known of own waits is of the last so many readings without best-effort work: six seconds at its floor.
pub const OWN_HALF: f64 = 40.0;
/// Readings vary by themselves; up to so many standard deviations above the mean is usual. Mean waits of short times are about exponentially
/// distributed, which one in a thousand is seven times its mean.
pub const OWN_SPREADS: f64 = 6.0;
/// Half of what counts as usual is of so many ms.
pub const USUAL_HALF_MS: f64 = 10_000.0;
/// Own waits are believed until what is usual is less than this share of them.
pub const USUAL_LEAST: f64 = 0.5;
/// Half of what counts as calm or not is of so many ms: ten readings and more, since one says little.
pub const CALM_HALF_MS: f64 = 2_000.0;
/// Smallest share of one task, thousandths of a core: the kernel takes no quota under 1 ms in its period of 100 ms
/// (kernel/sched/core.c: `min_cfs_quota_period`).
pub const LEAST_MILLIS: u32 = 10;

/// What the owner says (`[qos]` of the agent's configuration).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The loop acts on best-effort work.
    pub enabled: bool,
    /// Mean wait for a CPU of a latency-critical task's threads that is borne, ns.
    pub delay_ns: u64,
    /// Share of time in which some thread of it waits for a CPU that is borne, 0..=1.
    pub cpu_stall: f64,
    /// Share of time in which some thread of it waits for memory that is borne, 0..=1.
    pub memory_stall: f64,
    /// Share of the node's CPUs that nobody is to use on purpose, 0..=0.9; `None` = [`HEADROOM`] where the kernel has no idle class for best-effort work,
    /// otherwise none.
    pub headroom: Option<f64>,
    /// Share of the node's CPUs that best-effort work keeps whatever happens, 0..=0.5.
    pub floor: f64,
    /// Share of the node's memory that must be available, 0..=0.5.
    pub memory_free: f64,
    /// Share by which best-effort work may lengthen waits and computing of a latency-critical task, 0.01..=1.
    pub harm: f64,
    /// Best-effort work pauses now and then, so that this is measured.
    pub pauses: bool,
}

impl Default for Settings {
    /// `delay`: EEVDF's base slice is 0.7 ms times 1 to 4 with the number of CPUs (kernel/sched/fair.c: `sysctl_sched_base_slice`); a mean of
    /// 1 ms is every third wait lasting for a whole slice of somebody else. `cpu_stall`: by Erlang's C formula two CPUs at 75 % load have somebody
    /// waiting half of the time without any help from others; where waits are counted they are the finer measure, and this a backstop. `memory_stall`: systemd-oomd
    /// kills at 60 % (systemd.resource-control(5)), and this begins well before. `headroom`: [`HEADROOM`], and none where work in the idle class leaves the CPU at once (docs/decisions/0032). `floor`: one core of twenty, so that
    /// a job of a night still ends. `memory_free`: Koordinator evicts above 70 % use; protected memory allows to wait until 90 %.
    fn default() -> Self {
        Self {
            enabled: true,
            delay_ns: 1_000_000,
            cpu_stall: 0.50,
            memory_stall: 0.10,
            headroom: None,
            floor: 0.05,
            memory_free: 0.10,
            harm: 0.10,
            pauses: true,
        }
    }
}

impl Settings {
    /// What is wrong with them, each fault with its key; empty when they can be used.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut within = |key: &'static str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                let percent = |share: f64| format!("{}%", share * 100.0);
                faults.push((
                    key,
                    format!("{} is outside {}..={}", percent(value), percent(low), percent(high)),
                ));
            }
        };
        within("cpu_stall", self.cpu_stall, 0.01, 1.0);
        within("memory_stall", self.memory_stall, 0.01, 1.0);
        let headroom = self.headroom.unwrap_or(HEADROOM);
        within("headroom", headroom, 0.0, 0.9);
        within("floor", self.floor, 0.001, 0.5);
        within("harm", self.harm, 0.01, 1.0);
        within("memory_free", self.memory_free, 0.0, 0.5);
        if !(1_000_000..=10_000_000_000).contains(&self.delay_ns) {
            faults.push(("run_queue_delay", format!("{} ns is outside 1ms..=10s", self.delay_ns)));
        }
        if self.floor > 1.0 - headroom {
            faults.push(("floor", "it is more than headroom leaves: lower one of them".to_owned()));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_each_fault_names_its_key() {
        let good = Settings::default();
        assert!(good.faults().is_empty(), "{:?}", good.faults());
        for (bad, key) in [
            (Settings { cpu_stall: 0.0, ..good }, "cpu_stall"),
            (Settings { memory_stall: f64::NAN, ..good }, "memory_stall"),
            (Settings { headroom: Some(0.95), ..good }, "headroom"),
            (Settings { floor: 0.0, ..good }, "floor"),
            (Settings { floor: 0.5, headroom: Some(0.6), ..good }, "floor"),
            (Settings { harm: 0.0, ..good }, "harm"),
            (Settings { memory_free: 0.6, ..good }, "memory_free"),
            (Settings { delay_ns: 0, ..good }, "run_queue_delay"),
        ] {
            assert_eq!(bad.faults().first().map(|(key, _)| *key), Some(key), "{:?}", bad.faults());
        }
    }
}
