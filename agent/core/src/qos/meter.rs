//! What two readings say: totals in, delays, shares of stalled time and CPU use out.
//!
//! A mean of few waits says little, so it is taken of at least so many as [`RUNS_IN_STEP`]; a task that seldom runs is judged by the
//! mean over a second. The longest wait is left out of each mean: since 6.12 kernels count a thread's sleep as a wait now and then, a second of
//! it, and one thread that was unlucky is no breach. What was not read, or fell, is unknown, which is not zero.

use std::collections::{BTreeMap, VecDeque};

use model::histogram::{BUCKETS, bounds};
use model::id::TaskName;

use super::settings::{RUNS_IN_SECOND, RUNS_IN_STEP, SLOW_MS};

/// Rounds of the node as a whole that its use is remembered for: as long as it must be calm before anything grows.
const OTHERS_KEPT: usize = 10;

/// What was read at one moment. Totals, never rates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// When, ms on the boot clock.
    pub now_ms: u64,
    /// Latency-critical tasks.
    pub critical: Vec<Critical>,
    /// Best-effort tasks.
    pub best: Vec<BestEffort>,
    /// The node, in the readings that have it.
    pub node: Option<NodeUse>,
}

/// Totals of a latency-critical task.
#[derive(Debug, Clone, PartialEq)]
pub struct Critical {
    /// Which.
    pub task: TaskName,
    /// Waits for a CPU, where they are counted.
    pub delay: Option<Delay>,
    /// The same by length, modulo 2³² in each bucket.
    pub lengths: Option<Lengths>,
    /// Time in which some thread waited for a CPU, µs.
    pub cpu_stall_us: Option<u64>,
    /// Time in which some thread waited for memory, µs.
    pub memory_stall_us: Option<u64>,
    /// CPU time, µs.
    pub cpu_us: Option<u64>,
    /// Time for which its own quota held it back, in any unit: only that it grows is looked at.
    pub held: Option<u64>,
}

/// How many waits there were, by length.
pub type Lengths = Box<[u32; BUCKETS]>;

/// Waits on run queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// All of them, ns.
    pub total_ns: u64,
    /// How many.
    pub runs: u64,
}

/// Totals of a best-effort task.
#[derive(Debug, Clone, PartialEq)]
pub struct BestEffort {
    /// Which.
    pub task: TaskName,
    /// Whose class counts: a higher one is younger.
    pub age: u64,
    /// CPU time, µs.
    pub cpu_us: Option<u64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// The quota that its owner gave it, thousandths of a core.
    pub own_millis: Option<u32>,
    /// A command froze it.
    pub held: bool,
    /// It is in the kernel's idle class (`cpu.idle`): any other thread takes the CPU from it at once.
    pub idle: bool,
}

/// The node as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeUse {
    /// Busy time of all CPUs, µs.
    pub busy_us: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Memory that can be had without swapping, bytes (`MemAvailable`).
    pub available_bytes: u64,
}

/// Waiting since the reading before: of counted waits ns and how many, else µs in which somebody waited and µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Waits are counted.
    pub by_delay: bool,
    /// Time spent waiting.
    pub sum: u64,
    /// Of so many waits, or so much time.
    pub of: u64,
}

/// What is known of a latency-critical task now.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which.
    pub task: TaskName,
    /// Mean wait, ns.
    pub delay_ns: Option<u64>,
    /// Share of time, 0..=1.
    pub cpu_stall: Option<f64>,
    /// Share of time, 0..=1.
    pub memory_stall: Option<f64>,
    /// Waiting for CPUs in this reading alone.
    pub waited: Option<Waited>,
    /// CPU time in this reading, µs, and its length, ms.
    pub computed: Option<(u64, u64)>,
    /// Its own quota held it back: it had all the CPU that its owner gives it, and what its threads waited was not for others.
    pub limited: bool,
}

impl Reading {
    /// Its wait for CPUs, if that is known at all: the mean in ns where waits are counted (true), which is the finer measure, else the
    /// share of stalled time.
    #[must_use]
    pub fn wait(&self) -> Option<(bool, f64)> {
        let delay = self.delay_ns.map(|ns| (true, ns as f64));
        delay.or_else(|| self.cpu_stall.map(|share| (false, share)))
    }
}

/// What a step is decided on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// Each latency-critical task.
    pub critical: Vec<Reading>,
    /// CPU of each best-effort task over the last second, thousandths of a core.
    pub best: BTreeMap<TaskName, Option<u32>>,
    /// CPU of all best-effort tasks now or over the last second, whichever is more, thousandths of a core.
    pub best_millis: Option<u32>,
    /// This reading had the node in it.
    pub slow: bool,
    /// CPU of everything else in the last second, thousandths of a core.
    pub others_millis: Option<u32>,
    /// The mean of the last ten of these.
    pub others_mean_millis: Option<u32>,
    /// Available memory as a share of all.
    pub free: Option<f64>,
}

#[derive(Debug, Clone, Default)]
struct Waits {
    last: Option<Delay>,
    lengths: Option<Lengths>,
    /// Since the second began, or since the last cut.
    sum: Sum,
    since_ms: u64,
    cpu: Option<u64>,
    memory: Option<u64>,
    computed: Option<u64>,
    held: Option<u64>,
    /// It was held back in the reading before.
    limited: bool,
}

/// Waits of some time, and the longest of them, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    ns: u64,
    runs: u64,
    longest_ns: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        (self.ns, self.runs) = (self.ns + other.ns, self.runs + other.runs);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// Without the longest.
    fn others(self) -> (u64, u64) {
        let one = u64::from(self.longest_ns > 0);
        (self.ns.saturating_sub(self.longest_ns), self.runs.saturating_sub(one))
    }

    /// The mean of the others, of at least so many.
    fn mean(self, least: u64) -> u64 {
        let (ns, runs) = self.others();
        ns / runs.max(least)
    }
}

/// The longest wait between two readings, ns, at most: the end of its bucket. 0 = not known.
fn longest(before: Option<&Lengths>, now: Option<&Lengths>) -> u64 {
    let gained = before.zip(now).and_then(|(before, now)| (0..BUCKETS).rev().find(|&b| before[b] != now[b]));
    gained.and_then(bounds).map_or(0, |(_, end)| end)
}

/// Remembers the readings before.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    at_ms: Option<u64>,
    critical: BTreeMap<TaskName, Waits>,
    best: BTreeMap<TaskName, u64>,
    slow: Option<(u64, u64, BTreeMap<TaskName, u64>)>,
    each: BTreeMap<TaskName, Option<u32>>,
    others: VecDeque<u32>,
    others_millis: Option<u32>,
    free: Option<f64>,
}

impl Meter {
    /// Takes a reading; `None` when no time has passed since the one before.
    pub fn take(&mut self, seen: &Observation) -> Option<Measured> {
        let before_ms = self.at_ms;
        if before_ms.is_some_and(|before| seen.now_ms <= before) {
            return None;
        }
        self.at_ms = Some(seen.now_ms);
        let step_ms = before_ms.map(|before| seen.now_ms - before);
        let critical = seen.critical.iter().map(|c| self.waits(c, seen.now_ms, step_ms)).collect();
        self.critical.retain(|task, _| seen.critical.iter().any(|c| c.task == *task));
        let step = step_ms.and_then(|ms| self.used(seen, ms));
        self.best = seen.best.iter().filter_map(|b| Some((b.task.clone(), b.cpu_us?))).collect();
        if let Some(node) = seen.node {
            self.second(seen, node);
        }
        self.each.retain(|task, _| seen.best.iter().any(|b| b.task == *task));
        for task in &seen.best {
            self.each.entry(task.task.clone()).or_insert(None);
        }
        let second = self.each.values().copied().sum::<Option<u32>>();
        Some(Measured {
            critical,
            best: self.each.clone(),
            best_millis: [step, second].into_iter().flatten().max(),
            slow: seen.node.is_some(),
            others_millis: self.others_millis,
            others_mean_millis: mean(&self.others),
            free: self.free,
        })
    }

    /// What was seen before a cut says nothing about the time after it.
    pub fn cut(&mut self) {
        for waits in self.critical.values_mut() {
            (waits.sum, waits.since_ms) = (Sum::default(), self.at_ms.unwrap_or(0));
        }
    }

    fn waits(&mut self, seen: &Critical, now_ms: u64, step_ms: Option<u64>) -> Reading {
        let waits = self.critical.entry(seen.task.clone()).or_default();
        let delta = |before: Option<u64>, after: Option<u64>| after?.checked_sub(before?);
        let share = |us: u64| step_ms.map(|ms| (us as f64 / (ms as f64 * 1e3)).clamp(0.0, 1.0));
        // A wait is counted when it is over, which may be in the next reading.
        let held = delta(waits.held, seen.held).is_some_and(|grown| grown > 0);
        waits.held = seen.held;
        let limited = std::mem::replace(&mut waits.limited, held) || held;
        let cpu_stall =
            delta(waits.cpu, seen.cpu_stall_us).map(|us| if limited { 0 } else { us }).and_then(share);
        let memory_stall = delta(waits.memory, seen.memory_stall_us).and_then(share);
        let longest_ns = longest(waits.lengths.as_ref(), seen.lengths.as_ref());
        let gained = seen.delay.zip(waits.last).and_then(|(now, last)| {
            let (ns, runs) = (now.total_ns.checked_sub(last.total_ns)?, now.runs.checked_sub(last.runs)?);
            Some(if limited { Sum::default() } else { Sum { ns, runs, longest_ns } })
        });
        let delay_ns = gained.map(|gained| {
            if now_ms.saturating_sub(waits.since_ms) > SLOW_MS {
                (waits.sum, waits.since_ms) = (Sum::default(), now_ms);
            }
            waits.sum.add(gained);
            gained.mean(RUNS_IN_STEP).max(waits.sum.mean(RUNS_IN_SECOND))
        });
        let stalled = delta(waits.cpu, seen.cpu_stall_us).zip(step_ms.map(|ms| ms * 1_000));
        let waited = match gained {
            _ if limited => None,
            Some(gained) => {
                let (sum, of) = gained.others();
                Some(Waited { by_delay: true, sum, of })
            }
            None => stalled.map(|(sum, of)| Waited { by_delay: false, sum: sum.min(of), of }),
        };
        let computed = delta(waits.computed, seen.cpu_us).zip(step_ms);
        waits.computed = seen.cpu_us;
        waits.lengths.clone_from(&seen.lengths);
        (waits.last, waits.cpu, waits.memory) = (seen.delay, seen.cpu_stall_us, seen.memory_stall_us);
        Reading { task: seen.task.clone(), delay_ns, cpu_stall, memory_stall, waited, computed, limited }
    }

    /// CPU of all best-effort tasks since the last reading, thousandths of a core.
    fn used(&self, seen: &Observation, step_ms: u64) -> Option<u32> {
        let one = |b: &BestEffort| b.cpu_us?.checked_sub(*self.best.get(&b.task)?);
        let us = seen.best.iter().map(one).sum::<Option<u64>>()?;
        Some(u32::try_from(us / step_ms).unwrap_or(u32::MAX))
    }

    fn second(&mut self, seen: &Observation, node: NodeUse) {
        let now: BTreeMap<TaskName, u64> =
            seen.best.iter().filter_map(|b| Some((b.task.clone(), b.cpu_us?))).collect();
        self.free = (node.memory_bytes > 0).then(|| node.available_bytes as f64 / node.memory_bytes as f64);
        let last = self.slow.replace((seen.now_ms, node.busy_us, now.clone()));
        let Some((at_ms, busy_us, before)) = last else { return };
        let ms = seen.now_ms.saturating_sub(at_ms);
        if ms == 0 {
            return;
        }
        let millis = |us: u64| u32::try_from(us / ms).unwrap_or(u32::MAX);
        let gained = |task: &TaskName| now.get(task)?.checked_sub(*before.get(task)?);
        self.each = seen.best.iter().map(|b| (b.task.clone(), gained(&b.task).map(millis))).collect();
        // Ended tasks' last CPU counts as the others': that errs towards a smaller allowance.
        let best: u64 = seen.best.iter().filter_map(|b| gained(&b.task)).sum();
        self.others_millis = node.busy_us.checked_sub(busy_us).map(|busy| millis(busy.saturating_sub(best)));
        if let Some(others) = self.others_millis {
            self.others.push_back(others);
            if self.others.len() > OTHERS_KEPT {
                self.others.pop_front();
            }
        }
    }
}

fn mean(values: &VecDeque<u32>) -> Option<u32> {
    let sum: u64 = values.iter().map(|value| u64::from(*value)).sum();
    u32::try_from(sum.checked_div(values.len() as u64)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::histogram::bucket_of;

    fn at(now_ms: u64, delay: Option<(u64, u64)>, stall_us: Option<u64>) -> Observation {
        let critical = Critical {
            task: "web-1".parse().unwrap(),
            delay: delay.map(|(total_ns, runs)| Delay { total_ns, runs }),
            lengths: None,
            cpu_stall_us: stall_us,
            memory_stall_us: None,
            cpu_us: None,
            held: None,
        };
        Observation { now_ms, critical: vec![critical], ..Observation::default() }
    }

    #[test]
    fn one_wait_of_a_second_is_no_breach_and_a_second_one_is() {
        let mut meter = Meter::default();
        let (mut lengths, mut ns) = (vec![0_u32; BUCKETS], 0);
        let mut take = |now_ms, waits: &[u64]| {
            for wait in waits {
                lengths[bucket_of(*wait)] += 1;
                ns += wait;
            }
            let runs = lengths.iter().map(|count| u64::from(*count)).sum();
            let mut seen = at(now_ms, Some((ns, runs)), None);
            seen.critical[0].lengths = Some(lengths.clone().try_into().unwrap());
            meter.take(&seen).unwrap().critical.remove(0)
        };
        let short = [100_000; 8];
        take(100, &[]);
        let usual = take(200, &short).delay_ns;
        assert!(usual.is_some_and(|ns| (90_000..110_000).contains(&ns)), "{usual:?}");
        let slept = take(300, &[&short[..], &[1_002_000_000]].concat());
        assert!(slept.delay_ns < Some(200_000), "{slept:?}");
        assert!(slept.waited.is_some_and(|waited| waited.sum < 2_000_000), "{slept:?}");
        let starved = take(2_400, &[&short[..], &[30_000_000; 2]].concat());
        assert!(starved.delay_ns > Some(3_000_000), "{starved:?}");
    }

    #[test]
    fn what_its_own_quota_makes_it_wait_is_nobodys_harm() {
        let mut meter = Meter::default();
        let mut take = |now_ms, ns, held| {
            let mut seen = at(now_ms, Some((ns, now_ms)), Some(ns / 1_000));
            seen.critical[0].held = Some(held);
            meter.take(&seen).unwrap().critical.remove(0)
        };
        take(100, 0, 7);
        assert_eq!(take(200, 1_000_000, 7).delay_ns, Some(10_000), "of a hundred waits");
        let held = take(300, 901_000_000, 90);
        assert!(held.limited && held.waited.is_none() && held.cpu_stall == Some(0.0));
        assert_eq!(held.delay_ns, Some(10_000), "what it waited before in this second");
        assert!(take(400, 950_000_000, 90).limited, "waits that end late are of the time before");
        let free = take(500, 951_000_000, 90);
        assert_eq!((free.delay_ns, free.limited), (Some(10_000), false));
    }

    #[test]
    fn a_mean_is_of_enough_waits_and_a_task_that_seldom_runs_is_seen_over_a_second() {
        let mut meter = Meter::default();
        let delay = |meter: &mut Meter, ms, ns, runs| {
            meter.take(&at(ms, Some((ns, runs)), None)).unwrap().critical[0].delay_ns
        };
        assert_eq!(delay(&mut meter, 100, 5, 1), None, "one reading says nothing");
        assert_eq!(delay(&mut meter, 200, 40_000_005, 11), Some(4_000_000));
        meter.cut();
        assert_eq!(delay(&mut meter, 300, 43_000_005, 12), Some(750_000), "one wait of 3 ms is one of four");
        let mut last = None;
        for step in 1..=3 {
            last = delay(&mut meter, 300 + step * 100, 43_000_005 + step * 3_000_000, 12 + step);
        }
        assert_eq!(last, Some(3_000_000), "four of them are what the task sees");
    }

    #[test]
    fn what_falls_or_is_absent_is_unknown() {
        let mut meter = Meter::default();
        meter.take(&at(100, Some((500, 5)), Some(50))).unwrap();
        let fallen = meter.take(&at(200, Some((400, 6)), Some(20))).unwrap();
        assert!(fallen.critical[0].wait().is_none());
        let absent = meter.take(&at(300, None, Some(20_020))).unwrap();
        assert_eq!((absent.critical[0].delay_ns, absent.critical[0].cpu_stall), (None, Some(0.2)));
        assert_eq!(meter.take(&at(300, None, None)), None, "no time has passed");
    }

    #[test]
    fn what_others_use_is_the_nodes_use_less_best_efforts() {
        let mut meter = Meter::default();
        let seen = |now_ms, cpu_us, busy_us| Observation {
            now_ms,
            best: vec![BestEffort {
                task: "jobs-1".parse().unwrap(),
                age: 0,
                cpu_us: Some(cpu_us),
                memory_bytes: None,
                own_millis: None,
                held: false,
                idle: true,
            }],
            node: Some(NodeUse { busy_us, memory_bytes: 100, available_bytes: 25 }),
            ..Observation::default()
        };
        let first = meter.take(&seen(1_000, 0, 0)).unwrap();
        assert_eq!((first.others_millis, first.best_millis, first.free), (None, None, Some(0.25)));
        let second = meter.take(&seen(2_000, 600_000, 1_500_000)).unwrap();
        assert_eq!((second.others_millis, second.best_millis), (Some(900), Some(600)));
        let third = meter.take(&seen(3_000, 600_000, 1_700_000)).unwrap();
        assert_eq!((third.others_millis, third.others_mean_millis), (Some(200), Some(550)));
    }
}
