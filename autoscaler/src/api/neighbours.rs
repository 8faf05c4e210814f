//! With whose CPU a workload's waits move.

use autoscaler_core::neighbours::Found;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tasks beside a workload's replicas, ranked by how its waits for a CPU move with their CPU. What moves together need not be cause and effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Neighbours {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The workload.
    pub workload: String,
    /// Start of what was looked at.
    pub from_ms: u64,
    /// Its end: what was measured within the last two minutes may not be stored yet.
    pub to_ms: u64,
    /// Distance of the points, ms.
    pub step_ms: u64,
    /// What was found, in a sentence.
    pub summary: String,
    /// Each node with replicas; at most 8, those with most replicas first.
    pub nodes: Vec<NeighboursOn>,
    /// Nodes with replicas that were not looked at.
    pub left_out: usize,
    /// Neighbours that were compared, on all nodes.
    pub compared: usize,
    /// Those that stand out first, most waiting first, then by what they explain; at most 50.
    pub items: Vec<Neighbour>,
}

/// A node with replicas of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NeighboursOn {
    /// The node.
    pub node: String,
    /// Seconds that the workload's tasks there waited for a CPU, per second, on average; null when it is not known.
    pub waited_per_second: Option<f64>,
    /// Points at which the waits and the CPU of the workload are known.
    pub points: usize,
    /// Why nothing can be said of it, if so.
    pub unknown: Option<String>,
}

/// A neighbour on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// On which node.
    pub node: String,
    /// The workload that its tasks belong to, or its own name.
    pub name: String,
    /// It is a workload.
    pub workload: bool,
    /// Its mean CPU, cores.
    pub mean_cores: f64,
    /// Seconds that were waited more per second of its CPU.
    pub waited_per_cpu_second: f64,
    /// Seconds of waiting per second that went with its mean CPU.
    pub waited_per_second: f64,
    /// Share of the variance of the waits that goes with its CPU, after the workload's own CPU, 0 to 1.
    pub explained: f64,
    /// Standard errors between this and no connection.
    pub standard_errors: f64,
    /// Points at which all is known.
    pub points: usize,
    /// It is unlikely to be chance, and large enough to be worth a look.
    pub stands_out: bool,
}

impl Neighbour {
    /// What was found of a neighbour of this name.
    #[must_use]
    pub fn of(node: &str, name: &str, workload: bool, found: &Found) -> Self {
        Self {
            node: node.to_owned(),
            name: name.to_owned(),
            workload,
            mean_cores: found.mean_cores,
            waited_per_cpu_second: found.slope,
            waited_per_second: found.effect,
            explained: found.explained,
            standard_errors: found.sure,
            points: found.points,
            stands_out: found.stands_out,
        }
    }
}

impl Neighbours {
    /// What was found, in a sentence.
    #[must_use]
    pub fn summary(nodes: &[NeighboursOn], compared: usize, items: &[Neighbour]) -> String {
        if nodes.is_empty() {
            return "no task of it runs now".to_owned();
        }
        if let Some(why) = nodes.iter().find_map(|node| node.unknown.as_ref())
            && nodes.iter().all(|node| node.unknown.is_some())
        {
            return format!("nothing can be said: {why}");
        }
        match items.first().filter(|first| first.stands_out) {
            Some(first) => format!(
                "on {} its waits for a CPU move most with {}: {:.0} % of what changes in them goes with its CPU",
                first.node,
                first.name,
                first.explained * 100.0
            ),
            None => format!(
                "nothing stands out among {compared} neighbours: no one's CPU moves with its waits beyond chance"
            ),
        }
    }
}
