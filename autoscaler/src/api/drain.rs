//! What keeps a node, and what emptying it takes.

use autoscaler_core::view;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ReasonText;

/// What a drain of a node would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainPreview {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The node's name.
    pub node: String,
    /// What Trimtab has there, by workload; nothing else keeps it from being drained. What others started there is not in it,
    /// and stays.
    pub items: Vec<Keeps>,
}

/// What a workload has on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keeps {
    /// Whose.
    pub workload: String,
    /// Replicas, or members of its cluster that Trimtab started.
    pub tasks: u32,
    /// How long it is expected to take, s.
    pub seconds: u64,
    /// Data that moves, bytes.
    pub bytes: u64,
    /// What can be lost by it, in words; empty when it is not known.
    pub risk: String,
    /// What they wait for now before they leave: a drain begins nevertheless.
    pub waits_for: Vec<ReasonText>,
    /// Why none could leave now, so that a drain is refused unless it is said to be partly; null when they can.
    pub stays: Option<ReasonText>,
}

impl From<view::Keeps> for Keeps {
    fn from(keeps: view::Keeps) -> Self {
        Self {
            workload: keeps.workload.to_string(),
            tasks: keeps.tasks,
            seconds: keeps.price.seconds,
            bytes: keeps.price.bytes,
            risk: keeps.price.risk,
            waits_for: keeps.gates.iter().map(ReasonText::from).collect(),
            stays: keeps.stays.as_ref().map(ReasonText::from),
        }
    }
}
