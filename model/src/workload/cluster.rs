//! Clusters of daemons that keep their own list of members: YARN, HDFS, Cassandra.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::WorkloadKind;
use crate::id::{LauncherName, NodeId};
use crate::units::{Bytes, Millis};

/// A cluster: which, and what a member of it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The cluster, as the configuration of the agents beside it names it.
    pub cluster: String,
    /// What starts one member; absent = members are seen, and none comes or goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<LauncherName>,
    /// Further parameters of the launcher.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// How the cluster names a member: `{node}` is its node, `{slot}` its slot.
    #[serde(default = "node")]
    pub member: String,
    /// Several members on one node: each gets a slot of its own, and the launcher the parameter `slot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// YARN: how long a node may drain before the drain is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Millis>,
    /// YARN: what a node may advertise; absent = what it advertises is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<Advertise>,
}

/// What a NodeManager may advertise, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Advertise {
    /// At least.
    pub least: Offer,
    /// At most.
    pub most: Offer,
    /// Virtual cores that one core is worth.
    #[serde(default = "one")]
    pub vcores_per_core: u32,
}

/// Memory and virtual cores of a NodeManager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Memory for containers.
    pub memory: Bytes,
    /// Virtual cores.
    pub vcores: u32,
}

/// Numbers by which members on one node are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(test, feature = "spec"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// The first.
    pub from: u32,
    /// How many.
    pub span: u32,
}

fn node() -> String {
    "{node}".to_owned()
}

fn one() -> u32 {
    1
}

impl ClusterSpec {
    /// Default of `drain`: most jobs end within the hour, and what does not is not killed for it.
    pub const DRAIN: Millis = Millis(3_600_000);

    /// How long a NodeManager may drain.
    #[must_use]
    pub fn drain_ms(&self) -> u64 {
        self.drain.unwrap_or(Self::DRAIN).0
    }

    /// The slot of the member with this number, from 1; `None` without slots.
    #[must_use]
    pub fn slot(&self, number: u32) -> Option<u32> {
        self.slots.map(|slots| slots.from + number.saturating_sub(1) % slots.span.max(1))
    }

    /// The name that the cluster knows a member by.
    #[must_use]
    pub fn name(&self, node: &NodeId, slot: Option<u32>) -> String {
        let name = self.member.replace("{node}", node.as_str());
        slot.map_or(name.clone(), |slot| name.replace("{slot}", &slot.to_string()))
    }
}

impl WorkloadKind {
    /// It keeps its own list of members.
    #[must_use]
    pub fn is_cluster(self) -> bool {
        matches!(self, Self::Yarn | Self::Hdfs | Self::Cassandra)
    }

    /// Its word in specifications.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rails => "rails",
            Self::Service => "service",
            Self::Yarn => "yarn",
            Self::Hdfs => "hdfs",
            Self::Cassandra => "cassandra",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_on_one_node_are_told_apart_by_their_slots() {
        let mut spec: ClusterSpec =
            serde_json::from_value(serde_json::json!({ "cluster": "batch", "launcher": "nodemanager" }))
                .unwrap();
        let node = NodeId::new("w3").unwrap();
        assert_eq!((spec.name(&node, spec.slot(7)), spec.drain_ms()), ("w3".to_owned(), 3_600_000));
        spec.member = "127.0.0.1{slot}".to_owned();
        spec.slots = Some(Slots { from: 1, span: 9 });
        assert_eq!(spec.name(&node, spec.slot(12)), "127.0.0.13");
    }
}
