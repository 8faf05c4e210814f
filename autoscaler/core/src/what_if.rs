//! What would have been, had something else been asked: recorded load, played through the parts that decide.
//!
//! Problem: a target, a bound or a size is chosen before anybody knows what it costs, and trying it takes days and a fleet. Method: the
//! load of a workload is known from history; [`play`] hands it, step by step, to the same [`crate::forecast`], [`crate::horizontal`],
//! kinds of workload, [`crate::decide`] and [`crate::stabilise`] as the brain does, once with the settings as they are and once as asked,
//! and counts for both what is given, how often it changes and for how long the load passes what is ready. Neither is compared with what
//! really happened: both begin knowing nothing and see the same load, so what differs follows from the question. [`fleet`] says how many
//! nodes that takes. Bounds: work grows with rounds × workloads ([`rounds`]), what is answered is limited by [`POINTS`] and
//! [`DIFFERENCES_KEPT`]. What cannot be replayed is answered with a reason ([`Unplayed`]), never with a number.

pub mod fleet;
pub mod pack;
mod play;
#[cfg(test)]
mod tests;
mod words;

pub use words::Unplayed;

use std::collections::BTreeMap;

use model::id::NodeId;
use model::reason::Reason;
use model::units::{Bytes, MilliCpu, Millis, Share};
use model::workload::{Policy, Workload, WorkloadKind, WorkloadSpec};

use crate::brain::Config;
use crate::event::Time;
use crate::horizontal::{Capacity, Work};
use play::Player;
use words::assumes;

/// Differing decisions that are answered; all are counted.
pub const DIFFERENCES_KEPT: usize = 50;
/// Most values of a series that is answered.
pub const POINTS: usize = 400;
/// Least number of recorded steps that a play is made of.
pub const LEAST_STEPS: u64 = 12;
/// Least CPU of a replica that a headroom gives, thousandths of a core: the floor of the VPA's recommender, see [`crate::vpa`].
const LEAST_MILLIS: f64 = 25.0;

/// A workload, and what is known of it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// What is asked of it, with the size in force.
    pub workload: Workload,
    /// Replicas wanted now.
    pub wanted: u32,
    /// What one replica can do, as learned.
    pub capacity: Capacity,
    /// What one request takes, as learned.
    pub work: Work,
    /// Time from an order to a ready replica, ms, as measured.
    pub ready_ms: u64,
    /// What its replicas use now on each node.
    pub uses: BTreeMap<NodeId, Uses>,
}

impl Subject {
    /// One of which nothing is learned, because it is not replayed.
    pub(crate) fn unplayed(workload: &Workload) -> Self {
        Self {
            workload: workload.clone(),
            wanted: workload.spec.replicas.min,
            capacity: Capacity::new(1, None),
            work: Work { service_ms: 0.0, cpu_ms: None },
            ready_ms: 0,
            uses: BTreeMap::new(),
        }
    }
}

/// Use of both resources; `None` = it was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Uses {
    /// Cores.
    pub cores: Option<f64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
}

/// What is asked instead; what is absent stays as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// Target of CPU use, share of what is given.
    pub cpu: Option<Share>,
    /// Target of the queue delay, 95th percentile.
    pub queue_delay: Option<Millis>,
    /// Replicas at least.
    pub min: Option<u32>,
    /// Replicas at most.
    pub max: Option<u32>,
    /// The risk setting, 0 (save most) ..= 1 (most cautious).
    pub risk: Option<f64>,
    /// The recorded load times this, > 0.
    pub load: f64,
    /// Each replica is given what one of them used at its peak, and this share of it more, ≥ 0.
    pub headroom: Option<f64>,
}

impl Default for Question {
    /// Nothing else.
    fn default() -> Self {
        Self { cpu: None, queue_delay: None, min: None, max: None, risk: None, load: 1.0, headroom: None }
    }
}

/// What was recorded of a workload, at even distances.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recorded {
    /// Start of the first step.
    pub from: Time,
    /// Distance of values, ms; > 0.
    pub step_ms: u64,
    /// CPU of all its replicas, cores, mean of each step; `None` where a part of it is not known.
    pub cores: Vec<Option<f64>>,
    /// Replicas of which something was recorded; `None` where none was.
    pub replicas: Vec<Option<u32>>,
    /// CPU of one replica: 95 % of all steps of all replicas have at most this, cores.
    pub replica_cores_p95: Option<f64>,
    /// Largest memory of one replica, bytes.
    pub replica_memory: Option<u64>,
}

impl Recorded {
    /// Time of which the load is known, ms.
    #[must_use]
    pub fn covered_ms(&self) -> u64 {
        self.cores.iter().flatten().count() as u64 * self.step_ms
    }

    /// Time between the first and the last step with a load, ms.
    fn extent_ms(&self) -> u64 {
        let known = |value: &Option<f64>| value.is_some();
        let first = self.cores.iter().position(known);
        let last = self.cores.iter().rposition(known);
        first.zip(last).map_or(0, |(first, last)| (last - first + 1) as u64 * self.step_ms)
    }
}

/// What came of one play, over the time of which the load is known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Replicas given, in hours of one.
    pub replica_hours: f64,
    /// CPU given, in hours of one core.
    pub core_hours: f64,
    /// Memory given, in hours of one GiB; `None` when no replica is given any.
    pub gib_hours: Option<f64>,
    /// Time in which the load passed what the ready replicas carry at their target, ms.
    pub breach_ms: u64,
    /// Changes of the number of replicas.
    pub changes: u32,
    /// Most replicas wanted at once.
    pub most: u32,
    /// What one replica is given: thousandths of a core (one core when the specification says nothing, as decisions have it).
    pub cpu_millis: u64,
    /// What one replica is given, bytes.
    pub memory_bytes: Option<u64>,
}

/// What one of the two plays did at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Replicas wanted before.
    pub before: u32,
    /// Replicas wanted after.
    pub after: u32,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
}

/// A time at which one of the two changed the number and the other did not do the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// When.
    pub at: Time,
    /// With the settings as they are.
    pub as_is: Said,
    /// As asked.
    pub asked: Said,
}

/// Values over time; `None` where the load is not known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Distance of values, ms; each is the largest of its step.
    pub step_ms: u64,
    /// Load: requests per second (rails) or cores (service), as recorded.
    pub load: Vec<Option<f64>>,
    /// Replicas of which something was recorded.
    pub recorded: Vec<Option<u32>>,
    /// Replicas wanted with the settings as they are.
    pub as_is: Vec<Option<u32>>,
    /// Replicas wanted as asked.
    pub asked: Vec<Option<u32>>,
}

/// A workload, played twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// What was asked of it in the second play.
    pub spec: WorkloadSpec,
    /// With the settings as they are.
    pub as_is: Outcome,
    /// As asked.
    pub asked: Outcome,
    /// Time of which the load is known, ms.
    pub covered_ms: u64,
    /// Distance of rounds, ms.
    pub round_ms: u64,
    /// Over time.
    pub series: Series,
    /// The first times at which the two decided differently.
    pub differences: Vec<Difference>,
    /// How many such times there are.
    pub differed: u32,
    /// What was taken for granted, in words.
    pub assumes: Vec<String>,
}

/// Distance of the rounds of a play, ms: short beside the time that a need must last, long beside what a month of them costs.
#[must_use]
pub fn round_ms(step_ms: u64) -> u64 {
    match step_ms {
        0..=30_000 => step_ms.max(1),
        30_001..=60_000 => step_ms / 2,
        _ => 60_000,
    }
}

/// Rounds of one play over so much time: its cost.
#[must_use]
pub fn rounds(range_ms: u64, step_ms: u64) -> u64 {
    range_ms.div_ceil(round_ms(step_ms))
}

/// Load that must be known, ms: some steps, and long enough that something could shrink at all.
#[must_use]
pub fn needed_ms(spec: &WorkloadSpec, ready_ms: u64, step_ms: u64) -> u64 {
    (LEAST_STEPS * step_ms).max(spec.behavior.shrink_after.0 + ready_ms + 2 * step_ms)
}

/// Plays what was recorded, as it is and as asked.
///
/// # Errors
/// [`Unplayed`]: why it cannot be.
pub fn replay(
    subject: &Subject,
    recorded: &Recorded,
    question: &Question,
    config: &Config,
) -> Result<Played, Unplayed> {
    let now = &subject.workload.spec;
    if now.kind.is_cluster() {
        return Err(Unplayed::Cluster { kind: now.kind.word() });
    }
    let spec = asked(now, recorded, question)?;
    if now.kind == WorkloadKind::Rails && subject.work.cpu_ms.is_none_or(|ms| ms <= 0.0) {
        return Err(Unplayed::NoCost);
    }
    if [now, &spec].iter().any(|spec| spec.policy == Policy::Hpa && spec.target.cpu.is_none()) {
        return Err(Unplayed::NoDelays);
    }
    let covered_ms = recorded.covered_ms();
    if covered_ms == 0 {
        return Err(Unplayed::NoHistory);
    }
    let needed_ms = needed_ms(now, subject.ready_ms, recorded.step_ms);
    if covered_ms < needed_ms {
        return Err(Unplayed::TooShort { covered_ms, needed_ms });
    }
    let risky = Config { risk: question.risk.unwrap_or(config.risk), ..*config };
    let asked = Workload { name: subject.workload.name.clone(), spec };
    let as_is = Player::new(&subject.workload, subject, recorded, config);
    let as_asked = Player::new(&asked, subject, recorded, &risky);
    let mut two = Two { as_is, asked: as_asked, differences: Vec::new(), differed: 0 };
    let series = two.play(recorded, question.load);
    Ok(Played {
        as_is: two.as_is.outcome(),
        asked: two.asked.outcome(),
        covered_ms,
        round_ms: round_ms(recorded.step_ms),
        series,
        differences: two.differences,
        differed: two.differed,
        assumes: assumes(subject, &asked.spec, recorded, question),
        spec: asked.spec,
    })
}

/// The specification with what is asked.
fn asked(spec: &WorkloadSpec, recorded: &Recorded, question: &Question) -> Result<WorkloadSpec, Unplayed> {
    let mut spec = spec.clone();
    if question.queue_delay.is_some() && spec.kind != WorkloadKind::Rails {
        return Err(Unplayed::NoQueue);
    }
    spec.target.cpu = question.cpu.or(spec.target.cpu);
    spec.target.queue_delay_p95 = question.queue_delay.or(spec.target.queue_delay_p95);
    let (min, max) = (question.min.unwrap_or(spec.replicas.min), question.max.unwrap_or(spec.replicas.max));
    if min > max || min == 0 {
        return Err(Unplayed::Bounds { min, max });
    }
    (spec.replicas.min, spec.replicas.max) = (min, max);
    if let Some(headroom) = question.headroom {
        let cores = recorded.replica_cores_p95.ok_or(Unplayed::NoPeak)?;
        let more = 1.0 + headroom.max(0.0);
        spec.size.cpu = Some(MilliCpu((cores * more * 1e3).ceil().max(LEAST_MILLIS) as u32));
        spec.size.memory = recorded.replica_memory.map(|bytes| Bytes((bytes as f64 * more).ceil() as u64));
    }
    Ok(spec)
}

/// Both plays, in step.
struct Two<'a> {
    as_is: Player<'a>,
    asked: Player<'a>,
    differences: Vec<Difference>,
    differed: u32,
}

impl Two<'_> {
    fn play(&mut self, recorded: &Recorded, factor: f64) -> Series {
        let round = round_ms(recorded.step_ms);
        let mut series = Series { step_ms: recorded.step_ms, ..Series::default() };
        series.recorded.clone_from(&recorded.replicas);
        for (at, cores) in (0u64..).zip(&recorded.cores) {
            let start = recorded.from.after(at * recorded.step_ms);
            let Some(cores) = *cores else {
                self.as_is.blind(start.after(recorded.step_ms));
                self.asked.blind(start.after(recorded.step_ms));
                series.load.push(None);
                series.as_is.push(None);
                series.asked.push(None);
                continue;
            };
            let mut most = (0, 0);
            let mut now = start;
            while now.since(start) < recorded.step_ms {
                now = now.after(round);
                self.round(cores, cores * factor, now, round);
                most = (most.0.max(self.as_is.wanted()), most.1.max(self.asked.wanted()));
            }
            series.load.push(Some(self.as_is.load_of(cores)));
            series.as_is.push(Some(most.0));
            series.asked.push(Some(most.1));
        }
        series.thinned()
    }

    fn round(&mut self, as_is: f64, asked: f64, now: Time, round_ms: u64) {
        let one = self.as_is.round(as_is, now, round_ms);
        let other = self.asked.round(asked, now, round_ms);
        let acts = |said: &Said| (said.before != said.after).then_some(said.after);
        if acts(&one) == acts(&other) {
            return;
        }
        self.differed = self.differed.saturating_add(1);
        if self.differences.len() < DIFFERENCES_KEPT {
            self.differences.push(Difference { at: now, as_is: one, asked: other });
        }
    }
}

impl Series {
    /// At most [`POINTS`] values each, the largest of what is put together: a peak must not get lost.
    fn thinned(self) -> Self {
        let by = self.load.len().div_ceil(POINTS).max(1);
        if by == 1 {
            return self;
        }
        let counts = |values: &[Option<u32>]| -> Vec<Option<u32>> {
            values.chunks(by).map(|part| part.iter().flatten().copied().max()).collect()
        };
        Self {
            step_ms: self.step_ms * by as u64,
            load: self.load.chunks(by).map(|part| part.iter().flatten().copied().reduce(f64::max)).collect(),
            recorded: counts(&self.recorded),
            as_is: counts(&self.as_is),
            asked: counts(&self.asked),
        }
    }
}
