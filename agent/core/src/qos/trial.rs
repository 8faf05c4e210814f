//! An experiment: what do latency-critical tasks suffer beside best-effort work that they do not suffer without it?
//!
//! **Problem.** What best-effort work adds to waits and to computing is smaller than what the load's own ups and downs do, and no counter shows
//! it. **Method.** Pairs of windows of a few readings, by the clock and whatever is read: one with best-effort work, one in a pause of it, one
//! right after the other, so that the load's ups and downs are in both. A mean of their differences is harm when it is far outside its standard
//! error and more than the owner bears. Looked at are mean waits, and the CPU time that the task takes: work that shares caches and siblings of
//! a core takes longer.
//! **Bounds.** Best-effort work pauses 1.5 % of the time, and 4.5 % of its first five minutes here. Too few pairs say nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::id::TaskName;
use serde::Serialize;

use super::meter::{Reading, Waited};
use super::own::Own;
use super::settings::{
    HARM_ERRORS, LEAST_MILLIS, PAIRS_KEPT, PAIRS_LEAST, RUNS_IN_STEP, STEP_MS, Settings, WINDOW_READINGS,
};

/// What best-effort work does during a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes on.
    With,
    /// It pauses.
    Without,
}

/// The order of windows, two of which are a pair: a drift of the load falls on both kinds alike.
const ORDER: [Kind; 4] = [Kind::With, Kind::Without, Kind::Without, Kind::With];

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// Mean wait for a CPU, ns.
    Delay,
    /// Share of time in which some thread waits for a CPU, where waits are not counted.
    Stall,
    /// CPU time, cores.
    Cpu,
}

/// What best-effort work adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    /// To what; the unit of the others.
    pub by: By,
    /// Mean of windows with it.
    pub with: f64,
    /// Mean of pauses.
    pub without: f64,
    /// Standard error of their difference.
    pub error: f64,
    /// How much more is harm; less is borne.
    pub borne: f64,
    /// Pairs that were measured.
    pub pauses: usize,
}

impl Added {
    /// What it adds; negative by chance.
    #[must_use]
    pub fn amount(&self) -> f64 {
        self.with - self.without
    }

    /// Not by chance, and more than is borne.
    #[must_use]
    pub fn harms(&self) -> bool {
        self.amount() > self.borne && self.amount() > self.error * HARM_ERRORS
    }
}

/// What the experiment says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Too few pairs, or none since the last verdict.
    Unknown,
    /// Nothing that is not borne.
    Harmless,
    /// This task suffers most.
    Harm(TaskName, Added),
}

#[derive(Debug, Clone)]
struct Window {
    kind: Kind,
    readings: u32,
    /// Totals: how much, of how many or how long.
    seen: BTreeMap<(TaskName, By), (u64, u64)>,
}

impl Window {
    fn add(&mut self, task: &TaskName, by: By, sum: u64, of: u64) {
        let seen = self.seen.entry((task.clone(), by)).or_default();
        *seen = (seen.0 + sum, seen.1 + of);
    }
}

impl Window {
    /// Means of what was seen often enough.
    fn means(self) -> impl Iterator<Item = ((TaskName, By), f64)> {
        let seen = self.seen.into_iter().filter(|(_, (_, of))| *of >= RUNS_IN_STEP);
        seen.map(|(of_what, (sum, of))| (of_what, sum as f64 / of as f64))
    }
}

/// Means of two windows, one right after the other.
#[derive(Debug, Clone, Copy)]
struct Pair {
    with: f64,
    without: f64,
}

/// The experiment.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    pairs: BTreeMap<(TaskName, By), VecDeque<Pair>>,
    window: Option<Window>,
    /// The first window of a pair whose second one has not ended.
    first: Option<Window>,
    begun: usize,
    /// When the last window began, boot ms.
    last_ms: Option<u64>,
    /// There is a pair that no verdict has seen.
    fresh: bool,
}

impl Trial {
    /// A reading is part of the window that is going on, if any. True when it is one without best-effort work.
    pub fn take(&mut self, critical: &[Reading]) -> bool {
        self.pairs.retain(|(task, _), _| critical.iter().any(|reading| reading.task == *task));
        let Some(window) = &mut self.window else { return false };
        window.readings += 1;
        // The first one has what was queued before in it.
        let counts = window.readings > 1;
        let alone = counts && window.kind == Kind::Without;
        if counts {
            for reading in critical {
                if let Some(Waited { by_delay, sum, of }) = reading.waited {
                    window.add(&reading.task, if by_delay { By::Delay } else { By::Stall }, sum, of);
                }
                if let Some((us, ms)) = reading.computed {
                    window.add(&reading.task, By::Cpu, us, ms * 1_000);
                }
            }
        }
        if window.readings >= WINDOW_READINGS {
            self.close();
        }
        alone
    }

    fn close(&mut self) {
        let Some(window) = self.window.take() else { return };
        let Some(first) = self.first.take() else {
            self.first = Some(window);
            return;
        };
        self.fresh = true;
        let (with, without) = if window.kind == Kind::With { (window, first) } else { (first, window) };
        let mut without: BTreeMap<_, _> = without.means().collect();
        for (of_what, with) in with.means() {
            let Some(without) = without.remove(&of_what) else { continue };
            let pairs = self.pairs.entry(of_what).or_default();
            pairs.push_back(Pair { with, without });
            if pairs.len() > PAIRS_KEPT {
                pairs.pop_front();
            }
        }
    }

    /// Begins a window: the second of a pair at once, a first one when the time since the last pair has passed.
    pub fn begin(&mut self, now_ms: u64, every_ms: u64) -> Option<Kind> {
        let last = *self.last_ms.get_or_insert(now_ms);
        if self.window.is_some() {
            return None;
        }
        if self.first.is_some() && now_ms > last + u64::from(WINDOW_READINGS + 1) * STEP_MS {
            // Something came between: they are no pair.
            self.abort();
        }
        if self.first.is_none() && now_ms < last + every_ms {
            return None;
        }
        let kind = ORDER[self.begun % ORDER.len()];
        self.begun += 1;
        self.last_ms = Some(now_ms);
        self.window = Some(Window { kind, readings: 0, seen: BTreeMap::new() });
        Some(kind)
    }

    /// Best-effort work pauses now.
    #[must_use]
    pub fn pauses(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.kind == Kind::Without)
    }

    /// The pair that is going on says nothing.
    pub fn abort(&mut self) {
        if self.first.is_some() || self.window.is_some() {
            // The next one is of the other order.
            self.begun = self.begun.next_multiple_of(2);
        }
        (self.window, self.first) = (None, None);
    }

    /// What was found is no longer so: best-effort work has less now.
    pub fn forget(&mut self) {
        self.abort();
        self.pairs.clear();
    }

    /// What best-effort work adds to a task's waits and computing, as far as that is known.
    pub fn added<'a>(
        &'a self,
        task: &'a TaskName,
        own: &'a Own,
        settings: &'a Settings,
    ) -> impl Iterator<Item = Added> + 'a {
        [By::Delay, By::Stall, By::Cpu].into_iter().filter_map(move |by| {
            let pairs = self.pairs.get(&(task.clone(), by)).filter(|pairs| pairs.len() >= PAIRS_LEAST)?;
            let (with, without) = (mean(pairs, |pair| pair.with), mean(pairs, |pair| pair.without));
            let squares = mean(pairs, |pair| (pair.with - pair.without - (with - without)).powi(2));
            let error = (squares / (pairs.len() - 1) as f64).sqrt();
            // Of little, a large share is little.
            let least = match by {
                By::Delay => (settings.delay_ns as f64).max(own.mean(task, true)),
                By::Stall => settings.cpu_stall,
                By::Cpu => without.max(f64::from(LEAST_MILLIS) / 1e3),
            };
            Some(Added { by, with, without, error, borne: settings.harm * least, pauses: pairs.len() })
        })
    }

    /// What a new pair has shown, once: the worst harm, as a share of what is borne.
    pub fn verdict(&mut self, own: &Own, settings: &Settings) -> Verdict {
        if !std::mem::take(&mut self.fresh) {
            return Verdict::Unknown;
        }
        let tasks: BTreeSet<&TaskName> = self.pairs.keys().map(|(task, _)| task).collect();
        let found: Vec<_> = tasks
            .into_iter()
            .flat_map(|task| self.added(task, own, settings).map(move |added| (task, added)))
            .collect();
        if found.is_empty() {
            return Verdict::Unknown;
        }
        let harms = found.into_iter().filter(|(_, added)| added.harms());
        let worst = harms.max_by(|(_, a), (_, b)| (a.amount() / a.borne).total_cmp(&(b.amount() / b.borne)));
        worst.map_or(Verdict::Harmless, |(task, added)| Verdict::Harm(task.clone(), added))
    }
}

fn mean(pairs: &VecDeque<Pair>, of: impl Fn(&Pair) -> f64) -> f64 {
    pairs.iter().map(of).sum::<f64>() / pairs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qos::settings::{PAIR_EVERY_MS, STEP_MS};

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as f64 / u64::MAX as f64
        }
    }

    fn reading(wait_ns: f64, cpu: f64) -> Reading {
        Reading {
            task: "web-1".parse().unwrap(),
            delay_ns: Some(wait_ns as u64),
            cpu_stall: None,
            memory_stall: None,
            waited: Some(Waited { by_delay: true, sum: (wait_ns * 100.0) as u64, of: 100 }),
            computed: Some(((cpu * STEP_MS as f64 * 1e3) as u64, STEP_MS)),
            limited: false,
        }
    }

    /// Runs the experiment for so many minutes on a service whose waits are exponentially distributed, and whose load goes up and down.
    fn experiment(seed: u64, minutes: u64, added_wait: f64, added_cpu: f64) -> (Verdict, f64) {
        let (mut random, mut trial, mut paused) = (Random(seed), Trial::default(), 0u64);
        let steps = minutes * 60_000 / STEP_MS;
        for step in 0..steps {
            let now_ms = step * STEP_MS;
            let load = 1.0 + 0.3 * (now_ms as f64 / 40_000.0).sin();
            let pauses = trial.pauses();
            paused += u64::from(pauses);
            let (wait, cpu) = if pauses { (0.0, 0.0) } else { (added_wait, added_cpu) };
            let own = -(1.0 - random.next()).max(1e-9).ln() * 5e5 * load;
            let noise = (random.next() - 0.5) * 0.2;
            trial.take(&[reading(own + wait, load * (1.0 + noise) * (1.0 + cpu))]);
            trial.begin(now_ms, PAIR_EVERY_MS);
        }
        (trial.verdict(&Own::default(), &Settings::default()), paused as f64 / steps as f64)
    }

    #[test]
    fn nothing_is_found_where_nothing_is_and_it_pauses_seldom() {
        for seed in 0..200 {
            let (verdict, paused) = experiment(seed, 12, 0.0, 0.0);
            assert_eq!(verdict, Verdict::Harmless, "seed {seed}");
            assert!((0.01..=0.02).contains(&paused), "paused {paused} of the time");
        }
    }

    #[test]
    fn harm_is_found_within_minutes() {
        let mut missed = Vec::new();
        for seed in 0..50 {
            for (wait, cpu, by) in [(2e6, 0.0, By::Delay), (0.0, 0.4, By::Cpu)] {
                match experiment(seed, 12, wait, cpu).0 {
                    Verdict::Harm(task, added) => {
                        assert_eq!((task.as_str(), added.by), ("web-1", by), "seed {seed}");
                        assert!(added.pauses >= PAIRS_LEAST && added.harms(), "{added:?}");
                    }
                    verdict => missed.push((seed, by, verdict)),
                }
            }
        }
        assert!(missed.len() <= 5, "of 100: {missed:?}");
    }

    /// A load that is three times as high in every fourth half minute: means of all windows with and without would differ by that.
    #[test]
    fn what_the_load_does_is_in_both_windows_of_a_pair() {
        for seed in 0..50 {
            let (mut random, mut trial) = (Random(seed), Trial::default());
            for step in 0..12 * 60_000 / STEP_MS {
                let now_ms = step * STEP_MS;
                let load = if now_ms / 30_000 % 4 == 3 { 3.0 } else { 1.0 };
                let harm = if trial.pauses() { 1.0 } else { 1.25 };
                let noise = (random.next() - 0.5) * 0.2;
                trial.take(&[reading(1e5, load * (1.0 + noise) * harm)]);
                trial.begin(now_ms, PAIR_EVERY_MS);
            }
            let verdict = trial.verdict(&Own::default(), &Settings::default());
            assert!(
                matches!(&verdict, Verdict::Harm(_, added) if added.by == By::Cpu),
                "seed {seed}: {verdict:?}"
            );
        }
    }

    #[test]
    fn two_windows_with_something_between_them_are_no_pair() {
        let mut trial = Trial::default();
        let mut window = |now_ms: u64| {
            let kind = trial.begin(now_ms, PAIR_EVERY_MS)?;
            for _ in 0..WINDOW_READINGS {
                trial.take(&[reading(1e5, 0.1)]);
            }
            Some((kind, trial.first.is_some()))
        };
        assert_eq!(window(0), None, "the first one has its time, too");
        assert_eq!(window(30_000), Some((Kind::With, true)));
        assert_eq!(window(30_450), Some((Kind::Without, false)));
        assert_eq!(window(60_000), None);
        assert_eq!(window(61_000), Some((Kind::Without, true)));
        assert_eq!(window(70_000), None, "the other one did not follow");
        assert_eq!(window(91_000), Some((Kind::With, true)));
    }

    #[test]
    fn few_windows_say_nothing_and_what_was_found_can_be_forgotten() {
        assert_eq!(experiment(1, 3, 5e6, 0.5).0, Verdict::Unknown);
        let mut trial = Trial::default();
        let own = Own::default();
        for step in 0..8_000u64 {
            let wait = if trial.pauses() { 1e5 } else { 5e6 };
            trial.take(&[reading(wait, 0.0)]);
            trial.begin(step * STEP_MS, PAIR_EVERY_MS);
        }
        let found = |trial: &mut Trial| trial.verdict(&own, &Settings::default());
        assert!(matches!(found(&mut trial), Verdict::Harm(..)));
        trial.forget();
        assert_eq!(found(&mut trial), Verdict::Unknown);
    }

    #[test]
    fn windows_come_by_the_clock_in_an_order_that_no_drift_favours() {
        let (mut trial, mut kinds) = (Trial::default(), Vec::new());
        for step in 0..1_000u64 {
            trial.take(&[reading(1e5, 0.1)]);
            kinds.extend(trial.begin(step * STEP_MS, PAIR_EVERY_MS));
        }
        assert_eq!(kinds[..5], [Kind::With, Kind::Without, Kind::Without, Kind::With, Kind::With]);
        // A window that nobody closes any more does not go on for ever.
        assert!(trial.begin(150_000 + PAIR_EVERY_MS, PAIR_EVERY_MS).is_some());
        assert!(trial.pauses() || trial.window.is_some());
        trial.abort();
        assert!(!trial.pauses() && trial.window.is_none());
    }
}
