//! What has room, and whether a loss is survived.

use autoscaler_core::survive as core;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Losses that one answer tells of: those that are not survived, and what cannot be told.
const MOST: usize = 100;

/// Whether the fleet survives the loss of a node or a rack, and what has room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Headroom {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The loss of any one node.
    pub node: Survival,
    /// The loss of any one rack.
    pub rack: Survival,
    /// Losses that are not survived, then those of which it cannot be told; at most 100.
    pub losses: Vec<Loss>,
    /// Free on nodes where something may be started: capacity less what others use, and less the greater of given and used of each of
    /// Trimtab's own. Null when that is known of none.
    pub free: Option<Free>,
    /// How many nodes that is.
    pub free_on: usize,
    /// Nodes where something may be started, and of which it is not known what is free.
    pub without: Vec<String>,
    /// What would fit there, each workload alone.
    pub more: Vec<More>,
}

/// All losses of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Survival {
    /// `yes`, `no`, or `unknown`: the worst of all.
    pub survives: String,
    /// Why it is not `yes`.
    pub why: Option<String>,
    /// Losses that were looked at.
    pub asked: usize,
    /// Of those, how many are survived.
    pub survived: usize,
    /// Replicas that are somewhere among them: a `yes` of none says little.
    pub replicas: u64,
}

/// One loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// `node` or `rack`.
    pub of: String,
    /// Its name.
    pub name: String,
    /// `no` or `unknown`.
    pub survives: String,
    /// Why.
    pub why: String,
    /// Replicas that would be started elsewhere.
    pub replicas: u64,
    /// Members of clusters that would be missing: they are not started elsewhere, their cluster goes on with those that are left.
    pub members: u64,
    /// Replicas without a place.
    pub short: Vec<Short>,
}

/// Replicas of one workload without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Short {
    /// The workload.
    pub workload: String,
    /// How many.
    pub replicas: u64,
    /// Of how many that would be lost.
    pub of: u64,
    /// What each takes, thousandths of a core; null when the specification does not say it.
    pub cpu_millis: Option<u64>,
    /// The same of memory.
    pub memory_bytes: Option<u64>,
    /// The node that may start it and lacks least; null when no other node may start it.
    pub best: Option<String>,
    /// What is left there then, thousandths of a core.
    pub best_cpu_millis: Option<u64>,
    /// The same of memory.
    pub best_memory_bytes: Option<u64>,
}

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Free {
    /// Cores.
    pub cpu_cores: f64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// Room for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct More {
    /// The workload.
    pub workload: String,
    /// So many more replicas would fit, if nothing else took the room; null when its specification does not give both CPU and memory.
    pub replicas: Option<u64>,
}

impl From<core::Headroom> for Headroom {
    fn from(answer: core::Headroom) -> Self {
        let losses = answer.losses.into_iter().filter(|loss| loss.verdict != core::Verdict::Yes);
        Self {
            api_version: super::API_VERSION.to_owned(),
            node: answer.node.into(),
            rack: answer.rack.into(),
            losses: losses.take(MOST).map(Loss::from).collect(),
            free: answer.free.map(|room| Free {
                cpu_cores: room.cpu_millis as f64 / 1e3,
                memory_bytes: room.memory_bytes,
            }),
            free_on: answer.free_on,
            without: answer.without.into_iter().map(String::from).collect(),
            more: answer
                .more
                .into_iter()
                .map(|more| More { workload: more.workload.into(), replicas: more.replicas })
                .collect(),
        }
    }
}

impl From<core::Answer> for Survival {
    fn from(answer: core::Answer) -> Self {
        Self {
            survives: said(answer.verdict).to_owned(),
            why: answer.why,
            asked: answer.asked,
            survived: answer.survived,
            replicas: answer.replicas,
        }
    }
}

impl From<core::Loss> for Loss {
    fn from(loss: core::Loss) -> Self {
        let why = loss.why().unwrap_or_default();
        let (of, name) = match loss.lost {
            core::Lost::Node(node) => ("node", String::from(node)),
            core::Lost::Rack(rack) => ("rack", String::from(rack)),
        };
        Self {
            of: of.to_owned(),
            name,
            survives: said(loss.verdict).to_owned(),
            why,
            replicas: loss.replicas,
            members: loss.members,
            short: loss.short.into_iter().map(Short::from).collect(),
        }
    }
}

impl From<core::Short> for Short {
    fn from(short: core::Short) -> Self {
        let (best, room) = short.best.unzip();
        Self {
            workload: short.workload.into(),
            replicas: short.replicas,
            of: short.of,
            cpu_millis: short.given.0,
            memory_bytes: short.given.1,
            best: best.map(String::from),
            best_cpu_millis: room.map(|room| room.cpu_millis),
            best_memory_bytes: room.map(|room| room.memory_bytes),
        }
    }
}

fn said(verdict: core::Verdict) -> &'static str {
    match verdict {
        core::Verdict::Yes => "yes",
        core::Verdict::No => "no",
        core::Verdict::Unknown => "unknown",
    }
}
