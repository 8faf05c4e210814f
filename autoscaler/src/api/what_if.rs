//! What would have been, had something else been asked.

use autoscaler_core::what_if;
use autoscaler_core::what_if::fleet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decision::ReasonText;

/// What else is asked; what is absent stays as it is. Nothing is changed by asking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhatIfRequest {
    /// About these workloads; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    /// How far back recorded load is played: from `10m` to `31d`; absent = `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// Other targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<WhatIfTarget>,
    /// Other bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<WhatIfReplicas>,
    /// Another setting of risk, 0 (save most) to 1 (most cautious). It is one for all workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub risk: Option<f64>,
    /// The recorded load times this, 0.1 to 10: 1.2 = a fifth more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 10)]
    pub load: Option<f64>,
    /// Another size of replicas: what one used at its peak, and this share of it more, 0 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 5)]
    pub headroom: Option<f64>,
    /// So many nodes are lost, those with most room: does all still fit?
    #[serde(default)]
    #[schema(maximum = 10000)]
    pub lose: u32,
    /// Another type of node: how many would do?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<WhatIfNodeType>,
}

/// Targets to play with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhatIfTarget {
    /// CPU use as a share of what is given, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub cpu: Option<f64>,
    /// Queue delay, 95th percentile, ms (rails).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600000)]
    pub queue_delay_p95_ms: Option<u64>,
}

/// Bounds to play with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfReplicas {
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub min: Option<u32>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
}

/// A type of node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhatIfNodeType {
    /// Its CPUs, above 0.
    #[schema(exclusive_minimum = 0, maximum = 4096)]
    pub cpus: f64,
    /// Its memory, bytes.
    #[schema(minimum = 1, maximum = 1125899906842624u64)]
    pub memory_bytes: u64,
    /// Price of an hour of one, in whatever currency; without it no cost is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1000000)]
    pub price: Option<f64>,
}

/// The answer: recorded load, decided with the settings as they are and as asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatIf {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Start of what was played.
    pub from_ms: u64,
    /// Its end: the newest minutes are not recorded yet.
    pub to_ms: u64,
    /// Distance of recorded values, ms: 10 s up to 6 h, 1 min up to 3 d, else 10 min.
    pub step_ms: u64,
    /// Why it does not go back as far as was asked.
    pub limited: Option<String>,
    /// By name.
    pub workloads: Vec<WhatIfWorkload>,
    /// Nodes with the settings as they are: each workload at its most, the rest as it is used now.
    pub nodes_as_is: NodesNeeded,
    /// Nodes as asked.
    pub nodes_asked: NodesNeeded,
}

/// One workload, played twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfWorkload {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Unit of its load: `requests_per_second` or `cores`.
    pub unit: String,
    /// Time of which its load is known, ms.
    pub covered_ms: u64,
    /// Why it cannot be replayed; absent when it was.
    pub why: Option<String>,
    /// More history that is needed at least, ms; absent when that would not help.
    pub enough_in_ms: Option<u64>,
    /// With the settings as they are.
    pub as_is: Option<WhatIfOutcome>,
    /// As asked.
    pub asked: Option<WhatIfOutcome>,
    /// Over time.
    pub series: Option<WhatIfSeries>,
    /// The first times at which the two decided differently, at most 50.
    pub differences: Vec<WhatIfDifference>,
    /// How many such times there are.
    pub differed: u32,
    /// What was taken for granted, most important first.
    pub assumes: Vec<String>,
}

/// What came of one play, over the time of which the load is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfOutcome {
    /// Replicas given, in hours of one.
    pub replica_hours: f64,
    /// CPU given, in hours of one core.
    pub core_hours: f64,
    /// Memory given, in hours of one GiB; absent when none is given.
    pub gib_hours: Option<f64>,
    /// Minutes in which the load passed what the ready replicas carry at their target.
    pub breach_minutes: f64,
    /// Changes of the number of replicas.
    pub changes: u32,
    /// Most replicas at once.
    pub most: u32,
    /// CPU that one replica is given, thousandths of a core.
    pub cpu_millis: u64,
    /// Memory that one replica is given.
    pub memory_bytes: Option<u64>,
}

/// Values at even distances, at most 400, each the largest of its step; `null` where the load is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfSeries {
    /// Distance of values, ms.
    pub step_ms: u64,
    /// Load as recorded.
    pub load: Vec<Option<f64>>,
    /// Replicas that ran.
    pub recorded: Vec<Option<u32>>,
    /// Replicas wanted with the settings as they are.
    pub as_is: Vec<Option<u32>>,
    /// Replicas wanted as asked.
    pub asked: Vec<Option<u32>>,
}

/// A time at which one of the two changed the number and the other did not do the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfDifference {
    /// When.
    pub at_ms: u64,
    /// With the settings as they are.
    pub as_is: WhatIfSaid,
    /// As asked.
    pub asked: WhatIfSaid,
}

/// What one of the two did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhatIfSaid {
    /// Replicas wanted before.
    pub before: u32,
    /// Replicas wanted after.
    pub after: u32,
    /// Why, most important first.
    pub reasons: Vec<ReasonText>,
}

/// How many nodes it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesNeeded {
    /// CPU given to all replicas, thousandths of a core.
    pub given_cpu_millis: u64,
    /// Memory given to all replicas, or, where none is given, the most that was recorded.
    pub given_memory_bytes: u64,
    /// CPU that everything else uses now, as far as it is known.
    pub others_cpu_millis: u64,
    /// Memory that everything else uses now, as far as it is known.
    pub others_memory_bytes: u64,
    /// Nodes that are connected, may start something, and whose room is known.
    pub nodes: u32,
    /// Those of them that the replicas need.
    pub used: u32,
    /// What does not fit onto them.
    pub unplaced: Vec<Unplaced>,
    /// After the loss that is asked about.
    pub loss: Option<NodesLost>,
    /// Of the type that is asked about.
    pub of_type: Option<NodesOfType>,
    /// Workloads whose memory is neither given nor recorded: they are packed by CPU alone.
    pub memory_unknown: Vec<String>,
}

/// The fleet without some of its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodesLost {
    /// Those that were taken away: the ones with most room.
    pub lost: Vec<String>,
    /// What does not fit onto the others.
    pub unplaced: Vec<Unplaced>,
}

/// Nodes of one type, for all that there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesOfType {
    /// How many, with those that may be lost.
    pub nodes: u32,
    /// No packing does with fewer, without those that may be lost.
    pub least: u32,
    /// Price of an hour of all of them; absent when no price was given.
    pub price_per_hour: Option<f64>,
    /// What is larger than one of them.
    pub unplaced: Vec<Unplaced>,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unplaced {
    /// Replicas of this workload; absent: what is not asked about, on so many nodes.
    pub workload: Option<String>,
    /// How many.
    pub count: u32,
}

impl From<&what_if::Outcome> for WhatIfOutcome {
    fn from(outcome: &what_if::Outcome) -> Self {
        Self {
            replica_hours: outcome.replica_hours,
            core_hours: outcome.core_hours,
            gib_hours: outcome.gib_hours,
            breach_minutes: outcome.breach_ms as f64 / 60_000.0,
            changes: outcome.changes,
            most: outcome.most,
            cpu_millis: outcome.cpu_millis,
            memory_bytes: outcome.memory_bytes,
        }
    }
}

impl From<what_if::Series> for WhatIfSeries {
    fn from(series: what_if::Series) -> Self {
        let what_if::Series { step_ms, load, recorded, as_is, asked } = series;
        Self { step_ms, load, recorded, as_is, asked }
    }
}

impl From<&what_if::Difference> for WhatIfDifference {
    fn from(difference: &what_if::Difference) -> Self {
        let said = |said: &what_if::Said| WhatIfSaid {
            before: said.before,
            after: said.after,
            reasons: said.reasons.iter().map(ReasonText::from).collect(),
        };
        Self { at_ms: difference.at.0, as_is: said(&difference.as_is), asked: said(&difference.asked) }
    }
}

impl From<fleet::Need> for NodesNeeded {
    fn from(need: fleet::Need) -> Self {
        let over = |all: Vec<fleet::Unplaced>| -> Vec<Unplaced> {
            all.into_iter()
                .map(|one| Unplaced { workload: one.workload.map(String::from), count: one.count })
                .collect()
        };
        Self {
            given_cpu_millis: need.given.cpu_millis,
            given_memory_bytes: need.given.memory_bytes,
            others_cpu_millis: need.others.cpu_millis,
            others_memory_bytes: need.others.memory_bytes,
            nodes: need.nodes,
            used: need.used,
            unplaced: over(need.unplaced),
            loss: need.loss.map(|loss| NodesLost {
                lost: loss.lost.into_iter().map(String::from).collect(),
                unplaced: over(loss.unplaced),
            }),
            of_type: need.of_type.map(|of_type| NodesOfType {
                nodes: of_type.nodes,
                least: of_type.least,
                price_per_hour: of_type.price,
                unplaced: over(of_type.unplaced),
            }),
            memory_unknown: need.memory_unknown.into_iter().map(String::from).collect(),
        }
    }
}
