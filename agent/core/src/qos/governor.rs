//! One step of the loop: a reading in, acts and their reasons out.

use std::collections::{BTreeMap, BTreeSet};

use model::id::TaskName;

use super::act::Act;
use super::allowance::{Allowance, Cpu, Harmless};
use super::decisions::{Decision, Log};
use super::memory::{self, Grade, Possible, State};
use super::meter::{BestEffort, Measured, Meter, Observation, Reading};
use super::own::Own;
use super::reason::{Cause, Reason};
use super::settings::{CALM, FIRST_MS, HARDLY, LEAST_MILLIS, PAIR_EVERY_MS, PAIR_SOON_MS, SLOW_MS, Settings};
use super::split::{Claim, split};
use super::trial::{Added, Kind, Trial, Verdict};

/// Share of a task's memory that one grade asks back, or slows it below.
const BACK: f64 = 0.1;

/// What one step gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// What to do, in this order.
    pub acts: Vec<Act>,
    /// About CPU and about memory: always one of each, and one more when a pause begins.
    pub reasons: Vec<Reason>,
}

/// The loop's memory.
#[derive(Debug, Clone)]
pub struct Governor {
    settings: Settings,
    possible: Possible,
    meter: Meter,
    cpu: Cpu,
    own: Own,
    trial: Trial,
    /// Quotas before the pause that is going on.
    before_pause: Option<BTreeMap<TaskName, Option<u32>>>,
    /// When best-effort and latency-critical work met, boot ms.
    met_ms: u64,
    /// Until when a second's use has a pause in it, boot ms.
    distorted_until_ms: u64,
    memory: State,
    cause: Option<Cause>,
    memory_calm: bool,
    /// Quotas as they were ordered.
    given: BTreeMap<TaskName, Option<u32>>,
    frozen: BTreeSet<TaskName>,
    lowered: BTreeSet<TaskName>,
    best: Vec<BestEffort>,
    measured: Measured,
    log: Log,
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
            own: Own::default(),
            trial: Trial::default(),
            before_pause: None,
            met_ms: 0,
            distorted_until_ms: 0,
            memory: State::default(),
            cause: None,
            memory_calm: true,
            given: BTreeMap::new(),
            frozen: BTreeSet::new(),
            lowered: BTreeSet::new(),
            best: Vec::new(),
            measured: Measured::default(),
            log: Log::default(),
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
        let same_tasks =
            before.len() == seen.best.len() && seen.best.iter().all(|b| before.contains(&b.task));
        let (about_cpu, about_pause) = self.take_cpu(seen.now_ms, measured, same_tasks, &mut step.acts);
        for reason in [Some(about_cpu), Some(about_memory), about_pause].into_iter().flatten() {
            self.log.note(seen.now_ms, &reason);
            step.reasons.push(reason);
        }
        step
    }

    fn take_cpu(
        &mut self,
        now_ms: u64,
        measured: Measured,
        same_tasks: bool,
        acts: &mut Vec<Act>,
    ) -> (Reason, Option<Reason>) {
        let (tasks, allowed) = (self.best.len(), self.cpu.allowance());
        self.cpu.yields(self.best.iter().all(|task| task.idle));
        let floor = self.cpu.floor(tasks);
        let hardly = f64::from(floor) * HARDLY;
        let runs = measured.best_millis.is_some_and(|used| f64::from(used) > hardly);
        if self.best.is_empty() {
            self.trial.forget();
        } else if !same_tasks || measured.critical.is_empty() {
            self.trial.abort();
        }
        let alone = self.trial.take(&measured.critical) || measured.best_millis.is_some() && !runs;
        let slow = measured.slow;
        self.measured = measured;
        if self.trial.pauses() {
            self.own.learn(now_ms, &self.measured.critical, alone);
            return (Reason::PauseHolds, None);
        }
        self.resume(now_ms, acts);
        let mut about_cpu = self.cpu.step(now_ms, tasks, &self.measured, &self.own, self.memory_calm);
        if matches!(about_cpu, Reason::DelayAbove { .. } | Reason::CpuStallAbove { .. }) {
            self.meter.cut();
        } else if !about_cpu.acts()
            && let Some(judged) = self.judge(now_ms, tasks)
        {
            about_cpu = judged;
        }
        self.own.learn(now_ms, &self.measured.critical, alone);
        let distorted = now_ms < self.distorted_until_ms;
        if allowed != self.cpu.allowance() || !same_tasks || (slow && !distorted) {
            self.divide(acts);
        }
        // What was read now has no say in it: windows would differ by it.
        let above = matches!(allowed, Allowance::Capped { millis } if f64::from(millis) > hardly);
        let ready = above && runs && same_tasks && self.memory == State::Calm && self.settings.pauses;
        if matches!(about_cpu, Reason::Began { .. }) {
            self.met_ms = now_ms;
        }
        let soon = now_ms.saturating_sub(self.met_ms) < FIRST_MS;
        let every_ms = if soon { PAIR_SOON_MS } else { PAIR_EVERY_MS };
        let pause = if ready { self.trial.begin(now_ms, every_ms) } else { None };
        (about_cpu, (pause == Some(Kind::Without)).then(|| self.pause(acts)))
    }

    /// What the experiment has found, and what comes of it. What it saw was at another level then.
    fn judge(&mut self, now_ms: u64, tasks: usize) -> Option<Reason> {
        let reason = match self.trial.verdict(&self.own, &self.settings) {
            Verdict::Unknown => None,
            Verdict::Harmless => Some(match self.cpu.harmless(tasks, &self.measured)? {
                Harmless::Limit { from, to } => Reason::HarmlessSoFar { from, to },
                Harmless::Headroom { from, to } => Reason::HeadroomEarned { from, to },
            }),
            Verdict::Harm(task, added) => {
                let (from, to) = self.cpu.harmed(now_ms, tasks, &self.measured)?;
                Some(Reason::Harms { task, added, from, to })
            }
        }?;
        self.trial.forget();
        Some(reason)
    }

    fn pause(&mut self, acts: &mut Vec<Act>) -> Reason {
        // The mean over a second would have waits from before in it.
        self.meter.cut();
        self.before_pause = Some(self.given.clone());
        let tasks = self.best_tasks();
        for task in &tasks {
            self.cap(task.clone(), Some(LEAST_MILLIS), acts);
        }
        Reason::Paused { tasks: tasks.len() }
    }

    /// Gives back what a pause has taken.
    fn resume(&mut self, now_ms: u64, acts: &mut Vec<Act>) {
        let Some(before) = self.before_pause.take() else { return };
        self.distorted_until_ms = now_ms + 2 * SLOW_MS;
        for (task, share) in before {
            if self.best.iter().any(|b| b.task == task) {
                self.cap(task, share, acts);
            }
        }
    }

    fn best_tasks(&self) -> Vec<TaskName> {
        self.best.iter().map(|b| b.task.clone()).collect()
    }

    /// Orders a quota; of two orders in one step the later one holds.
    fn cap(&mut self, task: TaskName, millis: Option<u32>, acts: &mut Vec<Act>) {
        if self.given.insert(task.clone(), millis) != Some(millis) {
            acts.retain(|act| !matches!(act, Act::Cap { task: capped, .. } if *capped == task));
            acts.push(Act::Cap { task, millis });
        }
    }

    /// Nothing was read since the last step.
    pub fn silent(&mut self, now_ms: u64) -> Step {
        let mut step = Step::default();
        if let Some(reason) = self.cpu.silent(now_ms, self.best.len()) {
            self.trial.abort();
            self.resume(now_ms, &mut step.acts);
            self.divide(&mut step.acts);
            self.log.note(now_ms, &reason);
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
        (self.own, self.trial, self.before_pause) = (Own::default(), Trial::default(), None);
        self.cpu.step(0, 0, &Measured::default(), &self.own, true);
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
            Allowance::Capped { millis } if self.cpu.is_all(millis) => vec![None; self.best.len()],
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
        for (task, share) in self.best_tasks().into_iter().zip(shares) {
            self.cap(task, share, acts);
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

    /// What the experiment allows at most, thousandths of a core; `None` = it has found no harm.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.cpu.limit()
    }

    /// Share of the node's CPUs that is left free now.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        self.cpu.headroom()
    }

    /// The same, before pauses have shown anything.
    #[must_use]
    pub fn usual_headroom(&self) -> f64 {
        self.cpu.usual_headroom()
    }

    /// What tasks wait by themselves.
    #[must_use]
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// What best-effort work adds to a task's waits and computing, as far as pauses have shown it.
    pub fn added<'a>(&'a self, task: &'a TaskName) -> impl Iterator<Item = Added> + 'a {
        self.trial.added(task, &self.own, &self.settings)
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
        self.log.entries()
    }

    /// How often each reason was given.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        self.log.counts()
    }
}
