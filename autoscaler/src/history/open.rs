//! The minutes that are not written yet: per node the instants at which it was read, and in their order the changes.
//!
//! Problem: 50,000 samples a second, each of another task, and hours of them in a day. Method: a node's changes lie one
//! behind the other, 16 bytes each, and what is known of its tasks lies by slot, as in its batches, so that taking a
//! batch walks memory forwards; only when a minute is written are changes sorted by task.

use std::collections::{BTreeMap, HashMap};

use model::id::{BootId, NodeId};

use super::chunk::Run;
use super::{Observed, Reading, Series, WINDOW};

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
    tasks: Vec<Task>,
    by_cgroup: HashMap<u64, u32>,
    /// The task that had each slot last; it is checked against the cgroup.
    slots: Vec<u32>,
    /// In the order of ticks.
    changes: Vec<Change>,
}

/// Seconds that one batch speaks for, `from` and `to` included.
#[derive(Debug, Clone, Copy)]
struct Tick {
    from: u64,
    to: u64,
    /// The end of its changes.
    end: usize,
}

#[derive(Debug)]
struct Task {
    cgroup: u64,
    cpu_us: Option<u64>,
    delay_ns: Option<u64>,
    /// Memory before the first tick that is still open.
    carried: Unit,
    /// The tick from which on it is there.
    since: usize,
    /// The tick after which it is gone.
    until: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    task: u32,
    cpu: Unit,
    delay: Unit,
    memory: Unit,
}

/// A value in units of its series, or none, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit(u32);

impl Unit {
    const NONE: Self = Self(u32::MAX);

    fn of(value: Option<u64>) -> Self {
        value.map_or(Self::NONE, |value| Self(u32::try_from(value).unwrap_or(u32::MAX).min(u32::MAX - 1)))
    }

    fn get(self) -> Option<u32> {
        (self != Self::NONE).then_some(self.0)
    }
}

/// No task.
const NOBODY: u32 = u32::MAX;

impl Open {
    pub(super) fn observe(&mut self, batch: &Observed) {
        let key = (batch.node.clone(), batch.boot, batch.backlog);
        self.sources.entry(key).or_default().observe(batch);
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

impl Source {
    fn observe(&mut self, batch: &Observed) {
        let at = batch.at.0;
        let second = at / 1000;
        let before = self.last_ms.filter(|last| at > *last && at - last <= LONGEST_STEP * 1000);
        let follows = self.ticks.last().is_some_and(|tick| tick.to >= second);
        let from = match before {
            _ if follows => second,
            Some(last) => (last / 1000 + 1).min(second),
            None => second,
        };
        let tick = self.ticks.len();
        self.last_ms = Some(at);
        if batch.snapshot {
            self.end_all_but(batch, tick);
        }
        for (slot, cgroup) in &batch.appeared {
            self.appear(*slot, cgroup.0, tick);
        }
        // A task that appears on a running stream began since the last batch: its totals are its use in between.
        let from_zero = (before.is_some() && !batch.snapshot).then_some(0);
        let step_ms = before.map(|last| at - last);
        for reading in &batch.changed {
            self.change(reading, tick, step_ms, from_zero);
        }
        for reading in &batch.gone {
            if let Some(task) = self.change(reading, tick, step_ms, from_zero) {
                self.tasks[task as usize].until = Some(tick);
            }
        }
        self.ticks.push(Tick { from, to: second, end: self.changes.len() });
    }

    fn end_all_but(&mut self, batch: &Observed, tick: usize) {
        let here: std::collections::HashSet<u64> = batch.appeared.iter().map(|(_, c)| c.0).collect();
        for task in self.tasks.iter_mut().filter(|task| !here.contains(&task.cgroup)) {
            task.until.get_or_insert(tick);
        }
        self.slots.clear();
    }

    fn appear(&mut self, slot: u32, cgroup: u64, tick: usize) {
        let next = u32::try_from(self.tasks.len()).unwrap_or(NOBODY);
        let task = *self.by_cgroup.entry(cgroup).or_insert(next);
        if task == next {
            self.tasks.push(Task {
                cgroup,
                cpu_us: None,
                delay_ns: None,
                carried: Unit::NONE,
                since: tick,
                until: None,
            });
        }
        let at = slot as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, NOBODY);
        }
        self.slots[at] = task;
    }

    /// Notes what a task used since its last reading. `None` when it is not known, or over.
    fn change(
        &mut self,
        reading: &Reading,
        tick: usize,
        step_ms: Option<u64>,
        from_zero: Option<u64>,
    ) -> Option<u32> {
        let number = *self.slots.get(reading.slot as usize)?;
        let task = self.tasks.get_mut(number as usize)?;
        if task.cgroup != reading.cgroup.0 || task.until.is_some_and(|until| until < tick) {
            return None;
        }
        let rise = |before: &mut Option<u64>, now: Option<u64>| {
            let now = now?;
            let rise = before.or(from_zero).and_then(|before| now.checked_sub(before));
            *before = Some(now);
            rise
        };
        let cpu = rise(&mut task.cpu_us, reading.cpu_us);
        let delay = rise(&mut task.delay_ns, reading.delay_ns);
        let rate = |rise: Option<u64>, per_unit: f64| {
            let seconds = step_ms? as f64 / 1000.0;
            Some((rise? as f64 / per_unit / seconds).round() as u64)
        };
        self.changes.push(Change {
            task: number,
            cpu: Unit::of(rate(cpu, 100.0)),
            delay: Unit::of(rate(delay, 10_000.0)),
            memory: Unit::of(reading.memory_bytes.map(|bytes| bytes.div_ceil(4096))),
        });
        Some(number)
    }

    fn drain(&mut self, node: &NodeId, boot: BootId, until: u64, parts: &mut Parts) {
        let done = self.ticks.iter().take_while(|tick| tick.to < until).count();
        let split = self.ticks.get(done).is_some_and(|tick| tick.from < until);
        if done == 0 && !split {
            return;
        }
        let open = &self.ticks[..done + usize::from(split)];
        let by_task = by_task(open, &self.changes, self.tasks.len());
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        order.sort_unstable_by_key(|at| self.tasks[*at].cgroup);
        let mut values = [Vec::new(), Vec::new(), Vec::new()];
        for at in order {
            let task = &mut self.tasks[at];
            let changes = &by_task.changes[by_task.ends[at]..by_task.ends[at + 1]];
            values.iter_mut().for_each(Vec::clear);
            task.values(open, until, changes, &mut values);
            for (series, values) in
                [Series::Cpu, Series::Memory, Series::RunDelay].into_iter().zip(&mut values)
            {
                for (window, run) in runs(task.cgroup, values) {
                    let key = PartKey { node: node.clone(), boot, window };
                    parts.entry(key).or_default().entry(series).or_default().push(run);
                }
            }
            if let Some((_, last)) = changes.iter().rfind(|(tick, _)| *tick < done) {
                task.carried = last.memory;
            }
        }
        self.forget(done);
        if split && let Some(tick) = self.ticks.first_mut() {
            tick.from = until;
        }
    }

    /// Forgets the first `done` ticks, which are written, and the tasks that ended in them.
    fn forget(&mut self, done: usize) {
        let gone = done.checked_sub(1).map_or(0, |last| self.ticks[last].end);
        self.ticks.drain(..done);
        self.ticks.iter_mut().for_each(|tick| tick.end -= gone);
        self.changes.drain(..gone);
        for task in &mut self.tasks {
            task.since = task.since.saturating_sub(done);
        }
        let over = |task: &Task| task.until.is_some_and(|until| until < done);
        if self.tasks.iter().any(over) {
            let mut now = vec![NOBODY; self.tasks.len()];
            let mut left = 0;
            for (task, now) in self.tasks.iter().zip(&mut now).filter(|(task, _)| !over(task)) {
                (*now, left) = (left, left + 1);
                self.by_cgroup.insert(task.cgroup, *now);
            }
            for task in self.tasks.extract_if(.., |task| over(task)) {
                self.by_cgroup.remove(&task.cgroup);
            }
            // A task that is over has no change after its end.
            self.changes.iter_mut().for_each(|change| change.task = now[change.task as usize]);
            for slot in &mut self.slots {
                *slot = now.get(*slot as usize).copied().unwrap_or(NOBODY);
            }
        }
        for task in &mut self.tasks {
            task.until = task.until.map(|until| until - done);
        }
    }

    /// Nothing came for so long that the stream is surely over.
    fn is_over(&self, until: u64) -> bool {
        self.ticks.is_empty() && self.last_ms.is_none_or(|last| last / 1000 + 600 < until)
    }
}

/// Changes by task: those of task `n` are `changes[ends[n]..ends[n + 1]]`, each with its tick, ascending.
struct ByTask {
    ends: Vec<usize>,
    changes: Vec<(usize, Change)>,
}

/// Sorts by counting: the order of ticks stays.
fn by_task(ticks: &[Tick], changes: &[Change], tasks: usize) -> ByTask {
    let used = &changes[..ticks.last().map_or(0, |tick| tick.end)];
    let mut ends = vec![0; tasks + 1];
    used.iter().for_each(|change| ends[change.task as usize + 1] += 1);
    for task in 0..tasks {
        ends[task + 1] += ends[task];
    }
    let Some(first) = used.first() else { return ByTask { ends, changes: Vec::new() } };
    let mut sorted = vec![(0, *first); used.len()];
    let mut next = ends.clone();
    let mut begin = 0;
    for (index, tick) in ticks.iter().enumerate() {
        for change in &used[begin..tick.end] {
            let at = &mut next[change.task as usize];
            sorted[*at] = (index, *change);
            *at += 1;
        }
        begin = tick.end;
    }
    ByTask { ends, changes: sorted }
}

impl Task {
    /// Adds the CPU, memory and delay of the open ticks before the second `until`, as (second, value).
    fn values(
        &self,
        ticks: &[Tick],
        until: u64,
        changes: &[(usize, Change)],
        into: &mut [Vec<(u64, u32)>; 3],
    ) {
        let mut changes = changes.iter().peekable();
        let mut memory = self.carried;
        // Read and unchanged: no CPU was used. Unknown until there was a first reading.
        let idle = Unit::of(self.cpu_us.map(|_| 0));
        for (index, tick) in ticks.iter().enumerate().skip(self.since) {
            if self.until.is_some_and(|last| index > last) || tick.from >= until {
                break;
            }
            let (mut cpu, mut delay) = (idle, idle);
            while let Some((_, change)) = changes.next_if(|(at, _)| *at <= index) {
                (cpu, delay, memory) = (change.cpu, change.delay, change.memory);
            }
            let [cpus, memories, delays] = &mut *into;
            for (series, value) in [(cpus, cpu), (memories, memory), (delays, delay)] {
                let Some(value) = value.get() else { continue };
                if tick.from == tick.to {
                    series.push((tick.from, value));
                } else {
                    series.extend((tick.from..=tick.to.min(until - 1)).map(|second| (second, value)));
                }
            }
        }
    }
}

/// Runs by window; a run that crosses the border of two windows is cut there. Of values of the same second the last
/// counts.
fn runs(cgroup: u64, values: &mut [(u64, u32)]) -> Vec<(u64, Run)> {
    if values.windows(2).any(|pair| pair[1].0 < pair[0].0) {
        // A clock that was set back.
        values.sort_by_key(|(second, _)| *second);
    }
    let mut runs: Vec<(u64, Run)> = Vec::new();
    let mut before = None;
    for (at, (second, value)) in values.iter().enumerate() {
        let (window, slot) = (second / WINDOW * WINDOW, u32::try_from(second % WINDOW).unwrap_or(0));
        match runs.last_mut() {
            Some((_, run)) if before == Some(*second) => {
                // Two batches in a second.
                if let Some(last) = run.values.last_mut() {
                    *last = *value;
                }
            }
            Some((w, run)) if *w == window && run.first as usize + run.values.len() == slot as usize => {
                run.values.push(*value);
            }
            _ => {
                let mut of = Vec::with_capacity(values.len() - at);
                of.push(*value);
                runs.push((window, Run { cgroup, first: slot, values: of }));
            }
        }
        before = Some(*second);
    }
    runs
}
