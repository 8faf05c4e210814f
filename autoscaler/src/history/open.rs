//! The minutes that are not written yet: per node the instants at which it was read, per task only its changes.

use std::collections::{BTreeMap, HashMap};

use model::id::{BootId, NodeId};
use model::metric::Metric;
use model::sample::Values;

use super::chunk::Run;
use super::{Observed, Series, WINDOW};

/// A node's values between two reads are the mean of the time between them, when that is at most this many seconds
/// (the longest send interval under backpressure is 15 s); beyond, the time between is a hole.
const LONGEST_STEP: u64 = 16;
/// Seconds that stay in memory when writing fails; older ones are dropped.
const KEPT: u64 = 1800;

/// Runs of the finest tier that are ready to be written, by node and window.
pub(super) type Parts = BTreeMap<PartKey, BTreeMap<Series, Vec<Run>>>;

/// Which window of which boot of which node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartKey {
    pub(super) node: NodeId,
    pub(super) boot: BootId,
    /// Start of the window, seconds of controller time.
    pub(super) window: u64,
}

#[derive(Debug, Default)]
pub(super) struct Open {
    sources: BTreeMap<(NodeId, BootId, bool), Source>,
    failed: Vec<Parts>,
}

/// One node's stream, live or from the spool.
#[derive(Debug, Default)]
struct Source {
    ticks: Vec<Tick>,
    last_ms: Option<u64>,
    tasks: HashMap<u64, Task>,
}

/// Seconds that one batch speaks for, `from` and `to` included.
#[derive(Debug, Clone, Copy)]
struct Tick {
    from: u64,
    to: u64,
}

#[derive(Debug, Default)]
struct Task {
    cpu_us: Option<u64>,
    delay_ns: Option<u64>,
    memory: Option<u32>,
    /// Memory before the first tick that is still open.
    carried: Option<u32>,
    /// The tick from which on it is there.
    since: usize,
    /// The tick after which it is gone.
    until: Option<usize>,
    /// All of it is written.
    over: bool,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    tick: usize,
    cpu: Option<u32>,
    delay: Option<u32>,
    memory: Option<u32>,
}

impl Open {
    pub(super) fn observe(&mut self, batch: &Observed) {
        let key = (batch.node.clone(), batch.boot, batch.backlog);
        let source = self.sources.entry(key).or_default();
        let at = batch.at.0;
        let second = at / 1000;
        let before = source.last_ms.filter(|last| at > *last && at - last <= LONGEST_STEP * 1000);
        let follows = source.ticks.last().is_some_and(|tick| tick.to >= second);
        let from = match before {
            _ if follows => second,
            Some(last) => (last / 1000 + 1).min(second),
            None => second,
        };
        let tick = source.ticks.len();
        source.ticks.push(Tick { from, to: second });
        source.last_ms = Some(at);
        for cgroup in &batch.appeared {
            source.tasks.entry(cgroup.0).or_insert_with(|| Task { since: tick, ..Task::default() });
        }
        if batch.snapshot {
            let here: std::collections::HashSet<u64> = batch.appeared.iter().map(|c| c.0).collect();
            for (cgroup, task) in &mut source.tasks {
                if !here.contains(cgroup) {
                    task.until.get_or_insert(tick);
                }
            }
        }
        // A task that appears on a running stream began since the last batch: its totals are its use in between.
        let fresh_from_zero = before.is_some() && !batch.snapshot;
        let step_ms = before.map(|last| at - last);
        for (cgroup, values) in batch.changed.iter().chain(&batch.gone) {
            let Some(task) = source.tasks.get_mut(&cgroup.0) else { continue };
            task.change(tick, step_ms, fresh_from_zero, values);
        }
        for (cgroup, _) in &batch.gone {
            if let Some(task) = source.tasks.get_mut(&cgroup.0) {
                task.until = Some(tick);
            }
        }
    }

    /// Takes out everything before the second `until`.
    pub(super) fn drain(&mut self, until: u64) -> Parts {
        let mut parts = Parts::new();
        for failed in self.failed.drain(..) {
            for (key, series) in failed {
                let into = parts.entry(key).or_default();
                series.into_iter().for_each(|(series, runs)| into.entry(series).or_default().extend(runs));
            }
        }
        parts.retain(|key, _| key.window + WINDOW + KEPT > until);
        for ((node, boot, _), source) in &mut self.sources {
            source.drain(node, *boot, until, &mut parts);
        }
        self.sources.retain(|_, source| !source.is_over(until));
        parts
    }

    /// Takes back what could not be written.
    pub(super) fn give_back(&mut self, parts: Parts) {
        self.failed.push(parts);
    }
}

impl Task {
    fn change(&mut self, tick: usize, step_ms: Option<u64>, from_zero: bool, values: &Values) {
        let rise = |before: &mut Option<u64>, now: Option<u64>| {
            let now = now?;
            let first = from_zero.then_some(0);
            let rise = before.or(first).and_then(|before| now.checked_sub(before));
            *before = Some(now);
            rise
        };
        let cpu = rise(&mut self.cpu_us, values.get(Metric::CpuTime));
        let delay = rise(&mut self.delay_ns, values.get(Metric::RunDelay));
        let rate = |rise: Option<u64>, per_unit: f64| {
            let seconds = step_ms? as f64 / 1000.0;
            Some((rise? as f64 / per_unit / seconds).round().min(f64::from(u32::MAX)) as u32)
        };
        self.memory =
            values.get(Metric::MemoryCurrent).map(|b| u32::try_from(b.div_ceil(4096)).unwrap_or(u32::MAX));
        self.changes.push(Change {
            tick,
            cpu: rate(cpu, 100.0),
            delay: rate(delay, 10_000.0),
            memory: self.memory,
        });
    }

    /// Values of a series in the drained ticks, as (second, value).
    fn slots(&self, series: Series, ticks: &[Tick], until: u64) -> BTreeMap<u64, u32> {
        let mut slots = BTreeMap::new();
        let mut changes = self.changes.iter().peekable();
        let mut memory = self.carried;
        for (index, tick) in ticks.iter().enumerate().skip(self.since) {
            if self.until.is_some_and(|last| index > last) || tick.from >= until {
                break;
            }
            let change = changes.next_if(|change| change.tick == index);
            if let Some(change) = change {
                memory = change.memory;
            }
            let value = match (series, change) {
                (Series::Memory, _) => memory,
                (Series::RunDelay, Some(change)) => change.delay,
                (_, Some(change)) => change.cpu,
                // Read and unchanged: no CPU was used. Unknown until there was a first reading.
                (_, None) => self.cpu_us.map(|_| 0),
            };
            if let Some(value) = value {
                (tick.from..=tick.to.min(until - 1)).for_each(|second| {
                    slots.insert(second, value);
                });
            }
        }
        slots
    }
}

impl Source {
    fn drain(&mut self, node: &NodeId, boot: BootId, until: u64, parts: &mut Parts) {
        let done = self.ticks.iter().take_while(|tick| tick.to < until).count();
        let split = self.ticks.get(done).is_some_and(|tick| tick.from < until);
        if done == 0 && !split {
            return;
        }
        let mut cgroups: Vec<u64> = self.tasks.keys().copied().collect();
        cgroups.sort_unstable();
        for cgroup in cgroups {
            let Some(task) = self.tasks.get_mut(&cgroup) else { continue };
            for series in [Series::Cpu, Series::Memory, Series::RunDelay] {
                let slots = task.slots(series, &self.ticks, until);
                for run in runs(cgroup, &slots) {
                    let key = PartKey { node: node.clone(), boot, window: run.0 };
                    parts.entry(key).or_default().entry(series).or_default().push(run.1);
                }
            }
            task.forget(done);
        }
        self.tasks.retain(|_, task| !task.over);
        self.ticks.drain(..done);
        if split && let Some(tick) = self.ticks.first_mut() {
            tick.from = until;
        }
    }

    /// Nothing came for so long that the stream is surely over.
    fn is_over(&self, until: u64) -> bool {
        self.ticks.is_empty() && self.last_ms.is_none_or(|last| last / 1000 + 600 < until)
    }
}

impl Task {
    /// Forgets the first `done` ticks, which are written.
    fn forget(&mut self, done: usize) {
        if let Some(last) = self.changes.iter().take_while(|change| change.tick < done).last() {
            self.carried = last.memory;
        }
        self.changes.retain(|change| change.tick >= done);
        self.changes.iter_mut().for_each(|change| change.tick -= done);
        self.since = self.since.saturating_sub(done);
        self.over = self.until.is_some_and(|last| last < done);
        self.until = self.until.map(|last| last.saturating_sub(done));
    }
}

/// Runs by window; a run that crosses the border of two windows is cut there.
fn runs(cgroup: u64, slots: &BTreeMap<u64, u32>) -> Vec<(u64, Run)> {
    let mut runs: Vec<(u64, Run)> = Vec::new();
    for (second, value) in slots {
        let (window, slot) = (second / WINDOW * WINDOW, u32::try_from(second % WINDOW).unwrap_or(0));
        match runs.last_mut() {
            Some((w, run)) if *w == window && run.first as usize + run.values.len() == slot as usize => {
                run.values.push(*value);
            }
            _ => runs.push((window, Run { cgroup, first: slot, values: vec![*value] })),
        }
    }
    runs
}
