//! Answers "what if": reads what was recorded of workloads, hands it to the core, and counts nodes.
//!
//! Problem: history has the CPU of cgroups, and a question is about workloads over weeks. Method: the live replicas and those that ended
//! say which cgroups were whose; their series are read in one pass ([`crate::history::Handle::gather`]), at a step that fits the range; a
//! replica's first seconds are its start and no load; a step in which a replica that must have run is missing is a hole, not a smaller
//! load. Bounds: [`RANGES`], [`MOST_ROUNDS`], [`MOST_REPLICAS`], and what history reads at most.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler_core::brain::Config;
use autoscaler_core::event::Time;
use autoscaler_core::fleet::{NodeView, Running};
use autoscaler_core::room::Room;
use autoscaler_core::what_if::fleet::{self, Asked, Need, NodeType, Present};
use autoscaler_core::what_if::{
    self, Outcome, Played, Question, Recorded, Subject, Unplayed, needed_ms, rounds,
};
use model::id::{NodeId, WorkloadName};

use crate::history::{self, Gather, GatherError, Series, Tasks, Tier};
use crate::store::{Reader, StoreError};

/// Shortest and longest time that is played, ms.
pub const RANGES: std::ops::RangeInclusive<u64> = 600_000..=31 * 86_400_000;
/// Rounds of all plays of one answer: some seconds of work at a few µs each.
pub const MOST_ROUNDS: u64 = 500_000;
/// Replicas of a workload that ended within the time, at most.
const MOST_REPLICAS: usize = 20_000;
/// What is not yet in the ten minutes is in the minutes: a window, its settling, and a window more.
const NOT_MERGED_S: u64 = 5 * 3_600;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// About these; empty: all.
    pub workloads: Vec<WorkloadName>,
    /// How far back, ms.
    pub range_ms: u64,
    /// What else is asked of them.
    pub question: Question,
    /// Nodes that may be lost.
    pub lose: u32,
    /// Another type of node.
    pub node_type: Option<NodeType>,
}

/// What the control loop knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// Controller time.
    pub now: Time,
    /// The brain's settings.
    pub config: Config,
    /// Ended tasks are known for so long, ms.
    pub tasks_retain_ms: u64,
    /// Workloads, by name.
    pub subjects: Vec<Subject>,
    /// Nodes, by name.
    pub nodes: Vec<NodeView>,
    /// Those that are to be empty.
    pub drained: BTreeSet<NodeId>,
    /// Replicas that run.
    pub running: Vec<Running>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody of that name.
    #[error("there is no workload `{0}`; GET /api/v1/workloads lists them")]
    NoWorkload(WorkloadName),
    /// Too much work.
    #[error(
        "{rounds} rounds would have to be played, at most {MOST_ROUNDS} are: ask about a shorter time or fewer workloads"
    )]
    TooMuch {
        /// How many there are.
        rounds: u64,
    },
    /// Too many replicas.
    #[error("more than {MOST_REPLICAS} replicas of `{0}` ended within this time: ask about a shorter one")]
    Restless(WorkloadName),
    /// History refuses or cannot be read.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// It, as it was asked about.
    pub subject: Subject,
    /// Time of which its load is known, ms.
    pub covered_ms: u64,
    /// More history that is needed at least, ms; absent when that would not help.
    pub enough_in_ms: Option<u64>,
    /// Both plays, or why there are none.
    pub played: Result<Box<Played>, Unplayed>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Start of the first step.
    pub from: Time,
    /// End of the last step.
    pub to: Time,
    /// Distance of recorded values, ms.
    pub step_ms: u64,
    /// Why it does not go back as far as was asked.
    pub limited: Option<String>,
    /// By name.
    pub workloads: Vec<Answer>,
    /// Nodes, with the settings as they are.
    pub as_is: Need,
    /// Nodes, as asked.
    pub asked: Need,
}

/// The resolution for a range.
fn tier(range_ms: u64) -> Tier {
    const HOUR: u64 = 3_600_000;
    match range_ms {
        ..=21_600_000 => Tier::S10,
        _ if range_ms <= 72 * HOUR => Tier::M1,
        _ => Tier::M10,
    }
}

/// Answers.
///
/// # Errors
/// [`Refused`]: a workload that is not there, too much work, or a file that cannot be read.
pub fn answer(
    asking: &Asking,
    known: &Known,
    reader: &Reader,
    history: &history::Handle,
) -> Result<Answered, Refused> {
    let subjects = subjects(asking, known)?;
    let tier = tier(asking.range_ms);
    let step_s = tier.seconds();
    let played = subjects.iter().filter(|subject| !subject.workload.spec.kind.is_cluster()).count() as u64;
    let rounds = 2 * played * rounds(asking.range_ms, step_s * 1_000);
    if rounds > MOST_ROUNDS {
        return Err(Refused::TooMuch { rounds });
    }
    let begin = known.now.0.saturating_sub(asking.range_ms);
    let told = known.now.0.saturating_sub(known.tasks_retain_ms);
    let limited = (begin < told).then(|| {
        "replicas that ended earlier are not known any more: `tasks.retain` of the autoscaler says for how long they are".to_owned()
    });
    let from_s = begin.max(told).div_ceil(step_s * 1_000) * step_s;
    let count = usize::try_from((known.now.0 / 1_000).saturating_sub(from_s) / step_s).unwrap_or(0);
    let mut record = Record { tasks: Tasks::new(), of: Vec::new(), places: 0, from_s, count, tier };
    for subject in &subjects {
        record.look_for(subject, known, reader)?;
    }
    let (cores, memory) = record.read(history)?;
    // The newest minutes are not written yet.
    let count = cores
        .iter()
        .filter_map(|values| values.iter().rposition(Option::is_some))
        .max()
        .map_or(0, |at| at + 1);
    let answers: Vec<(Answer, Option<u64>)> = subjects
        .into_iter()
        .zip(&record.of)
        .map(|(subject, replicas)| {
            let recorded = recorded(replicas, &cores, &memory, &record, count, subject.ready_ms);
            one(subject, &recorded, asking, known)
        })
        .collect();
    let need = |of: fn(&Played) -> &Outcome| {
        let asked: Vec<Asked> =
            answers.iter().filter_map(|(answer, memory)| replicas(answer, *memory, of)).collect();
        fleet::need(&asked, &present(&answers, known), asking.lose, asking.node_type)
    };
    Ok(Answered {
        from: Time(from_s * 1_000),
        to: Time((from_s + count as u64 * step_s) * 1_000),
        step_ms: step_s * 1_000,
        limited,
        as_is: need(|played| &played.as_is),
        asked: need(|played| &played.asked),
        workloads: answers.into_iter().map(|(answer, _)| answer).collect(),
    })
}

fn subjects(asking: &Asking, known: &Known) -> Result<Vec<Subject>, Refused> {
    if asking.workloads.is_empty() {
        return Ok(known.subjects.clone());
    }
    let names: BTreeSet<&WorkloadName> = asking.workloads.iter().collect();
    let found = names.into_iter().map(|name| {
        let found = known.subjects.iter().find(|subject| subject.workload.name == *name);
        found.cloned().ok_or_else(|| Refused::NoWorkload(name.clone()))
    });
    found.collect()
}

/// A replica by its name: the places of its cgroups' values, and whether it runs.
#[derive(Debug, Default)]
struct Replica {
    /// One that just ended may be known as both ended and running: its values count once.
    places: BTreeSet<usize>,
    runs: bool,
}

/// What is to be read.
struct Record {
    tasks: Tasks,
    /// Of each workload its replicas.
    of: Vec<BTreeMap<String, Replica>>,
    places: usize,
    from_s: u64,
    count: usize,
    tier: Tier,
}

impl Record {
    fn look_for(&mut self, subject: &Subject, known: &Known, reader: &Reader) -> Result<(), Refused> {
        let mut replicas: BTreeMap<String, Replica> = BTreeMap::new();
        if !subject.workload.spec.kind.is_cluster() {
            let name = &subject.workload.name;
            let ended = reader.ended_replicas(name, Time(self.from_s * 1_000), MOST_REPLICAS + 1)?;
            if ended.len() > MOST_REPLICAS {
                return Err(Refused::Restless(name.clone()));
            }
            for row in ended {
                let place = self.place(row.node, row.boot, row.cgroup);
                replicas.entry(row.task).or_default().places.insert(place);
            }
            for running in known.running.iter().filter(|running| running.workload == *name) {
                let place = self.place(running.node.to_string(), running.boot.to_string(), running.cgroup.0);
                let replica = replicas.entry(running.task.to_string()).or_default();
                replica.places.insert(place);
                replica.runs = true;
            }
        }
        self.of.push(replicas);
        Ok(())
    }

    fn place(&mut self, node: String, boot: String, cgroup: u64) -> usize {
        let place = self.places;
        let known = *self.tasks.entry((node, boot)).or_default().entry(cgroup).or_insert(place);
        self.places = self.places.max(known + 1);
        known
    }

    /// CPU in cores and largest memory in bytes of each place, step by step.
    fn read(&self, history: &history::Handle) -> Result<(Values, Values), GatherError> {
        Ok((self.series(history, Series::Cpu)?, self.series(history, Series::MemoryMax)?))
    }

    fn series(&self, history: &history::Handle, series: Series) -> Result<Values, GatherError> {
        let ask = |tier: Tier, from: u64, count: usize| {
            let mut values: Values = vec![vec![None; count]; self.places];
            history.gather(&Gather { tasks: &self.tasks, series, tier, from, count }, &mut values)?;
            Ok::<_, GatherError>(values)
        };
        let mut values = ask(self.tier, self.from_s, self.count)?;
        if self.tier == Tier::M10 {
            let by = (Tier::M10.seconds() / Tier::M1.seconds()) as usize;
            let first = self.count.saturating_sub((NOT_MERGED_S / Tier::M10.seconds()) as usize);
            let from = self.from_s + first as u64 * Tier::M10.seconds();
            let minutes = ask(Tier::M1, from, (self.count - first) * by)?;
            for (coarse, fine) in values.iter_mut().zip(minutes) {
                for (value, part) in coarse[first..].iter_mut().zip(fine.chunks(by)) {
                    let known = || part.iter().flatten().copied();
                    let mean = || known().sum::<f64>() / known().count() as f64;
                    let all = if series == Series::Cpu {
                        known().next().map(|_| mean())
                    } else {
                        known().reduce(f64::max)
                    };
                    *value = value.or(all);
                }
            }
        }
        Ok(values)
    }
}

type Values = Vec<Vec<Option<f64>>>;

/// What was recorded of one workload.
fn recorded(
    replicas: &BTreeMap<String, Replica>,
    cores: &Values,
    memory: &Values,
    record: &Record,
    count: usize,
    ready_ms: u64,
) -> Recorded {
    let step_ms = record.tier.seconds() * 1_000;
    let starting = usize::try_from((ready_ms + step_ms / 2) / step_ms).unwrap_or(usize::MAX);
    let mut sums: Vec<Option<f64>> = vec![None; count];
    let mut numbers = vec![0u32; count];
    let mut hole = vec![false; count];
    let mut each: Vec<f64> = Vec::new();
    let mut largest: Option<f64> = None;
    for replica in replicas.values() {
        let at = |step: usize| {
            let known = replica.places.iter().filter_map(|place| *cores.get(*place)?.get(step)?);
            known.reduce(|sum, more| sum + more)
        };
        let values: Vec<Option<f64>> = (0..count).map(at).collect();
        let Some(first) = values.iter().position(Option::is_some) else { continue };
        let last = values.iter().rposition(Option::is_some).unwrap_or(first);
        let end = if replica.runs { count } else { last + 1 };
        // What was there from the beginning did not start then.
        let began = if first == 0 { 0 } else { first.saturating_add(starting) };
        for step in first..end {
            let Some(value) = values[step] else {
                hole[step] = true;
                continue;
            };
            numbers[step] += 1;
            if step >= began {
                sums[step] = Some(sums[step].unwrap_or(0.0) + value);
                each.push(value);
            }
        }
        let most = replica.places.iter().filter_map(|place| memory.get(*place)).flatten().flatten();
        largest = most.copied().fold(largest, |a, b| Some(a.map_or(b, |a| a.max(b))));
    }
    let cores = sums.into_iter().zip(hole).map(|(sum, hole)| sum.filter(|_| !hole)).collect();
    Recorded {
        from: Time(record.from_s * 1_000),
        step_ms,
        cores,
        replicas: numbers.into_iter().map(|number| (number > 0).then_some(number)).collect(),
        replica_cores_p95: p95(each),
        replica_memory: largest.map(|bytes| bytes as u64),
    }
}

/// The least value that at least 95 % are not above.
fn p95(mut values: Vec<f64>) -> Option<f64> {
    let at = (values.len() * 95).div_ceil(100).checked_sub(1)?;
    let (_, value, _) = values.select_nth_unstable_by(at, f64::total_cmp);
    Some(*value)
}

/// One workload's answer, and the most memory of one replica of it.
fn one(subject: Subject, recorded: &Recorded, asking: &Asking, known: &Known) -> (Answer, Option<u64>) {
    let played = what_if::replay(&subject, recorded, &asking.question, &known.config);
    let needed = needed_ms(&subject.workload.spec, subject.ready_ms, recorded.step_ms);
    let enough_in_ms = played.as_ref().err().and_then(|why| why.enough_in_ms(needed));
    let covered_ms = recorded.covered_ms();
    let answer = Answer { subject, covered_ms, enough_in_ms, played: played.map(Box::new) };
    (answer, recorded.replica_memory)
}

/// What a workload's replicas take at their most.
fn replicas(answer: &Answer, memory: Option<u64>, of: fn(&Played) -> &Outcome) -> Option<Asked> {
    let outcome = of(answer.played.as_ref().ok()?);
    let memory = outcome.memory_bytes.or(memory);
    Some(Asked {
        workload: answer.subject.workload.name.clone(),
        launcher: fleet::launcher(&answer.subject.workload.spec),
        size: Room { cpu_millis: outcome.cpu_millis, memory_bytes: memory.unwrap_or(0) },
        memory_unknown: memory.is_none(),
        count: outcome.most,
    })
}

/// Nodes that are connected, with what everything else uses there.
fn present(answers: &[(Answer, Option<u64>)], known: &Known) -> Vec<Present> {
    let played = || answers.iter().map(|(answer, _)| answer).filter(|answer| answer.played.is_ok());
    let nodes = known.nodes.iter().filter(|node| node.connected);
    nodes
        .map(|node| {
            let mut others = node.cpu_cores.zip(node.memory_bytes);
            for uses in played().filter_map(|answer| answer.subject.uses.get(&node.node)) {
                // What is not known of a replica is still in what the node uses.
                others = others.map(|(cores, memory)| {
                    (cores - uses.cores.unwrap_or(0.0), memory.saturating_sub(uses.memory_bytes.unwrap_or(0)))
                });
            }
            let may = node.inventory.acts && !known.drained.contains(&node.node);
            Present {
                node: node.node.clone(),
                has: Room {
                    cpu_millis: u64::from(node.inventory.cpus) * 1_000,
                    memory_bytes: node.inventory.memory_bytes,
                },
                others: others.map(|(cores, memory)| Room {
                    cpu_millis: (cores.max(0.0) * 1e3).ceil() as u64,
                    memory_bytes: memory,
                }),
                launchers: if may { node.inventory.launchers.clone() } else { Vec::new() },
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "what_if_tests.rs"]
mod tests;
