//! One step of the loop: a reading in, acts and their reasons out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::id::TaskName;
use serde::Serialize;

use super::allowance::{Allowance, Cpu};
use super::memory::{self, Grade, Possible, State};
use super::meter::{BestEffort, Measured, Meter, Observation, Reading};
use super::reason::{Cause, Reason};
use super::settings::{CALM, Settings};
use super::split::{Claim, split};

/// Decisions kept for people.
const KEPT: usize = 64;
/// Two decisions within this time may be one line for people, ms.
const SOON_MS: u64 = 2_000;
/// Share of a task's memory that one grade asks back, or slows it below.
const BACK: f64 = 0.1;

/// Something to do to one best-effort task. None of them can name another task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Set its CPU quota, thousandths of a core; `None` = its own.
    Cap {
        /// Which.
        task: TaskName,
        /// How much.
        millis: Option<u32>,
    },
    /// Ask memory back.
    Reclaim {
        /// From whom.
        task: TaskName,
        /// How much.
        bytes: u64,
    },
    /// Slow it above so much memory; `None` = as its class says.
    High {
        /// Which.
        task: TaskName,
        /// Above which.
        bytes: Option<u64>,
    },
    /// Stop scheduling it.
    Freeze {
        /// Which.
        task: TaskName,
    },
    /// Schedule it again.
    Thaw {
        /// Which.
        task: TaskName,
    },
    /// End it.
    Stop {
        /// Which.
        task: TaskName,
        /// What its owner is told.
        why: String,
    },
}

impl Act {
    /// Whom it is done to.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        match self {
            Act::Cap { task, .. }
            | Act::Reclaim { task, .. }
            | Act::High { task, .. }
            | Act::Freeze { task }
            | Act::Thaw { task }
            | Act::Stop { task, .. } => task,
        }
    }
}

/// What was decided, when and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When, ms on the boot clock.
    pub at_ms: u64,
    /// Something was changed.
    pub acts: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// What one step gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// What to do, in this order.
    pub acts: Vec<Act>,
    /// About CPU and about memory: always one of each.
    pub reasons: Vec<Reason>,
}

/// The loop's memory.
#[derive(Debug, Clone)]
pub struct Governor {
    settings: Settings,
    possible: Possible,
    meter: Meter,
    cpu: Cpu,
    memory: State,
    cause: Option<Cause>,
    memory_calm: bool,
    /// Quotas as they were ordered.
    given: BTreeMap<TaskName, Option<u32>>,
    frozen: BTreeSet<TaskName>,
    lowered: BTreeSet<TaskName>,
    best: Vec<BestEffort>,
    measured: Measured,
    decisions: VecDeque<Decision>,
    counts: BTreeMap<&'static str, u64>,
}

impl Governor {
    /// For a node with so many CPUs, thousandths, on a host that can do so much.
    #[must_use]
    pub fn new(settings: Settings, cpu_millis: u32, possible: Possible) -> Self {
        Self {
            settings,
            possible,
            meter: Meter::default(),
            cpu: Cpu::new(settings, cpu_millis),
            memory: State::default(),
            cause: None,
            memory_calm: true,
            given: BTreeMap::new(),
            frozen: BTreeSet::new(),
            lowered: BTreeSet::new(),
            best: Vec::new(),
            measured: Measured::default(),
            decisions: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    /// The owner changed the settings.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.cpu.set(settings);
    }

    /// Takes a reading, and says what to do now.
    pub fn step(&mut self, seen: &Observation) -> Step {
        let Some(measured) = self.meter.take(seen) else { return Step::default() };
        let before: BTreeSet<TaskName> = self.given.keys().cloned().collect();
        self.best.clone_from(&seen.best);
        let live = |task: &TaskName| seen.best.iter().any(|b| b.task == *task);
        self.given.retain(|task, _| live(task));
        self.frozen.retain(&live);
        self.lowered.retain(&live);
        let mut step = Step::default();
        let event = self.memory_event(&measured);
        let about_memory = self.take_memory(seen.now_ms, event, &mut step.acts);
        let allowed = self.cpu.allowance();
        let about_cpu = self.cpu.step(seen.now_ms, seen.best.len(), &measured, self.memory_calm);
        if matches!(about_cpu, Reason::DelayAbove { .. } | Reason::CpuStallAbove { .. }) {
            self.meter.cut();
        }
        self.measured = measured;
        let same_tasks =
            before.len() == seen.best.len() && seen.best.iter().all(|b| before.contains(&b.task));
        if allowed != self.cpu.allowance() || !same_tasks || self.measured.slow {
            self.divide(&mut step.acts);
        }
        for reason in [about_cpu, about_memory] {
            self.note(seen.now_ms, &reason);
            step.reasons.push(reason);
        }
        step
    }

    /// Nothing was read since the last step.
    pub fn silent(&mut self, now_ms: u64) -> Step {
        let mut step = Step::default();
        if let Some(reason) = self.cpu.silent(now_ms, self.best.len()) {
            self.divide(&mut step.acts);
            self.note(now_ms, &reason);
            step.reasons.push(reason);
        }
        step
    }

    /// When [`Self::silent`] has something to do, boot ms.
    #[must_use]
    pub fn silent_at_ms(&self) -> Option<u64> {
        self.cpu.silent_at_ms(self.best.len())
    }

    /// An order was not carried out: a quota is ordered again at the next division; what is `impossible` here, not at all.
    pub fn failed(&mut self, act: &Act, impossible: bool) {
        match act {
            Act::Cap { task, .. } => drop(self.given.remove(task)),
            Act::Freeze { task } => drop(self.frozen.remove(task)),
            _ => {}
        }
        match act {
            Act::Reclaim { .. } if impossible => self.possible.reclaim = false,
            Act::High { .. } if impossible => self.possible.high = false,
            Act::Freeze { .. } if impossible => self.possible.freeze = false,
            _ => {}
        }
    }

    /// The loop is off from now on: everything that it holds back is let go.
    pub fn release(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        self.undo(&mut acts);
        let given = std::mem::take(&mut self.given).into_keys();
        acts.extend(given.map(|task| Act::Cap { task, millis: None }));
        self.memory = State::default();
        self.best.clear();
        self.measured = Measured::default();
        self.cpu.step(0, 0, &Measured::default(), true);
        acts
    }

    fn memory_event(&mut self, measured: &Measured) -> memory::Event {
        let threshold = self.settings.memory_stall;
        let stalls = || measured.critical.iter().filter_map(|r| Some((r, r.memory_stall?)));
        let worst = stalls().max_by(|a, b| a.1.total_cmp(&b.1));
        let short = measured.free.is_some_and(|free| free < self.settings.memory_free);
        let stalled = worst.filter(|(_, share)| *share > threshold);
        self.cause = match (stalled, measured.free.filter(|_| short)) {
            (_, Some(free)) => Some(Cause::Short { free, threshold: self.settings.memory_free }),
            (Some((reading, share)), None) => {
                Some(Cause::Stall { task: reading.task.clone(), share, threshold })
            }
            (None, None) => None,
        };
        // Without latency-critical work nobody is protected, but the node itself still is.
        if self.cause.is_some() && !self.best.is_empty() {
            self.memory_calm = false;
            return memory::Event::Breach { short, possible: self.possible };
        }
        let known = stalls().count() == measured.critical.len() || stalls().count() == 0;
        let calm = worst.is_none_or(|(_, share)| share <= threshold * CALM)
            && measured.free.is_none_or(|free| free * CALM >= self.settings.memory_free);
        self.memory_calm = known && calm;
        if self.memory_calm { memory::Event::Calm } else { memory::Event::Between }
    }

    fn take_memory(&mut self, now_ms: u64, event: memory::Event, acts: &mut Vec<Act>) -> Reason {
        let before = self.memory;
        let (state, effect) = before.on(event, now_ms);
        self.memory = state;
        if let State::Pressed { grade: Grade::Freeze | Grade::Stop, .. } = state {
            self.freeze_all(acts);
        }
        let cause =
            self.cause.clone().unwrap_or(Cause::Short { free: 0.0, threshold: self.settings.memory_free });
        match (effect, state) {
            (Some(memory::Effect::Apply(grade)), _) => self.apply(grade, cause, acts),
            (Some(memory::Effect::Undo(clean_ms)), _) => {
                self.undo(acts);
                Reason::Undone { clean_ms }
            }
            (Some(memory::Effect::GiveUp(for_ms)), _) => {
                self.undo(acts);
                Reason::FreezingDidNotHelp { for_ms, rest_ms: memory::REST_MS }
            }
            (Some(memory::Effect::Nothing), _) => Reason::NothingPossible { cause },
            (None, State::Pressed { grade, .. }) if matches!(event, memory::Event::Breach { .. }) => {
                Reason::GradeHolds { cause, grade: grade.name() }
            }
            (None, State::Pressed { grade, .. }) => Reason::GradeKept { grade: grade.name() },
            (None, State::Resting { until_ms }) => Reason::Rests { left_ms: until_ms.saturating_sub(now_ms) },
            (None, State::Calm) => Reason::MemoryCalm,
        }
    }

    fn apply(&mut self, grade: Grade, cause: Cause, acts: &mut Vec<Act>) -> Reason {
        let known = || self.best.iter().filter_map(|b| Some((b.task.clone(), b.memory_bytes?)));
        match grade {
            Grade::Reclaim => {
                let asked: Vec<_> = known().map(|(task, has)| (task, (has as f64 * BACK) as u64)).collect();
                let bytes = asked.iter().map(|(_, bytes)| bytes).sum();
                acts.extend(asked.into_iter().map(|(task, bytes)| Act::Reclaim { task, bytes }));
                Reason::Reclaimed { cause, bytes }
            }
            Grade::High => {
                let lower: Vec<_> =
                    known().map(|(task, has)| (task, (has as f64 * (1.0 - BACK)) as u64)).collect();
                self.lowered.extend(lower.iter().map(|(task, _)| task.clone()));
                let tasks = lower.len();
                acts.extend(lower.into_iter().map(|(task, bytes)| Act::High { task, bytes: Some(bytes) }));
                Reason::SlowedEarlier { cause, tasks }
            }
            Grade::Freeze => {
                self.freeze_all(acts);
                Reason::Frozen { cause, tasks: self.frozen.len() }
            }
            Grade::Stop => {
                let youngest = self.best.iter().filter(|b| !b.held).max_by_key(|b| b.age);
                let Some(task) = youngest.map(|b| b.task.clone()) else {
                    return Reason::NothingPossible { cause };
                };
                // A frozen process hears no SIGTERM.
                acts.retain(|act| !matches!(act, Act::Freeze { task: frozen } if *frozen == task));
                if self.frozen.remove(&task) {
                    acts.push(Act::Thaw { task: task.clone() });
                }
                let why = format!("stopped to protect others of this node: {cause}");
                acts.push(Act::Stop { task: task.clone(), why });
                Reason::Stopped { cause, task }
            }
        }
    }

    /// Those that came since are frozen, too; those that are being ended are not frozen again.
    fn freeze_all(&mut self, acts: &mut Vec<Act>) {
        if !self.possible.freeze || matches!(self.memory, State::Pressed { grade: Grade::Stop, .. }) {
            return;
        }
        for b in self.best.iter().filter(|b| !b.held) {
            if self.frozen.insert(b.task.clone()) {
                acts.push(Act::Freeze { task: b.task.clone() });
            }
        }
    }

    fn undo(&mut self, acts: &mut Vec<Act>) {
        acts.extend(
            std::mem::take(&mut self.lowered).into_iter().map(|task| Act::High { task, bytes: None }),
        );
        acts.extend(std::mem::take(&mut self.frozen).into_iter().map(|task| Act::Thaw { task }));
    }

    /// Divides the allowance over the tasks; what does not change is not ordered again.
    fn divide(&mut self, acts: &mut Vec<Act>) {
        let shares: Vec<Option<u32>> = match self.cpu.allowance() {
            Allowance::Idle => return,
            Allowance::Open => vec![None; self.best.len()],
            Allowance::Capped { millis } => {
                let claim = |b: &BestEffort| Claim {
                    used: self.measured.best.get(&b.task).copied().flatten(),
                    given: self.given.get(&b.task).copied().flatten(),
                    own: b.own_millis,
                };
                let claims: Vec<Claim> = self.best.iter().map(claim).collect();
                split(millis, &claims).into_iter().map(Some).collect()
            }
        };
        for (b, share) in self.best.iter().zip(shares) {
            if self.given.get(&b.task) != Some(&share) {
                self.given.insert(b.task.clone(), share);
                acts.push(Act::Cap { task: b.task.clone(), millis: share });
            }
        }
    }

    fn note(&mut self, at_ms: u64, reason: &Reason) {
        *self.counts.entry(reason.code()).or_default() += 1;
        // It grows again within the second: that is one decision.
        if matches!(reason, Reason::Paced { .. }) {
            return;
        }
        let acts = reason.acts();
        let memory = is_about_memory(reason);
        let last = self.decisions.iter_mut().rev().find(|d| is_about_memory(&d.reason) == memory);
        if let Some(last) = last {
            let soon = at_ms.saturating_sub(last.at_ms) <= SOON_MS;
            match (&mut last.reason, reason) {
                // Growth of many seconds is one line.
                (Reason::Grown { to, clean_ms, .. }, Reason::Grown { to: now, clean_ms: since, .. })
                    if soon =>
                {
                    (*to, *clean_ms, last.at_ms) = (*now, *since, at_ms);
                    return;
                }
                (before, now) if !acts && before.code() == now.code() => return,
                // The newest of many that change nothing.
                (before, now) if !acts && !last.acts => {
                    (*before, last.at_ms) = (now.clone(), at_ms);
                    return;
                }
                _ => {}
            }
        }
        self.decisions.push_back(Decision { at_ms, acts, reason: reason.clone() });
        if self.decisions.len() > KEPT {
            self.decisions.pop_front();
        }
    }

    /// What is in force.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        self.cpu.allowance()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What memory is at.
    #[must_use]
    pub fn memory(&self) -> State {
        self.memory
    }

    /// What was known of each latency-critical task at the last step.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.measured.critical
    }

    /// What was measured at the last step.
    #[must_use]
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// The quota that a task was given; the inner `None` = its own.
    #[must_use]
    pub fn given(&self, task: &TaskName) -> Option<Option<u32>> {
        self.given.get(task).copied()
    }

    /// Tasks that this loop froze.
    #[must_use]
    pub fn frozen(&self) -> &BTreeSet<TaskName> {
        &self.frozen
    }

    /// Decisions, oldest first.
    pub fn decisions(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// How often each reason was given.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

fn is_about_memory(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Reclaimed { .. }
            | Reason::SlowedEarlier { .. }
            | Reason::Frozen { .. }
            | Reason::Stopped { .. }
            | Reason::Undone { .. }
            | Reason::FreezingDidNotHelp { .. }
            | Reason::MemoryCalm
            | Reason::GradeHolds { .. }
            | Reason::GradeKept { .. }
            | Reason::Rests { .. }
            | Reason::NothingPossible { .. }
    )
}
