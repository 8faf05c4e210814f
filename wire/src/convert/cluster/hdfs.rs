//! HDFS.

use model::action::Verb;
use model::hdfs::{AdminState, DataNode, HdfsReport, HdfsStep};

use super::super::{few, fit, text, unspecified};
use super::NODES;
use crate::{WireError, pb};

impl TryFrom<pb::HdfsReport> for HdfsReport {
    type Error = WireError;
    fn try_from(m: pb::HdfsReport) -> Result<Self, WireError> {
        Ok(HdfsReport {
            cluster: text("cluster", m.cluster)?,
            started_ms: m.started_ms,
            safe_mode: text("safe mode", m.safe_mode)?,
            missing_blocks: m.missing_blocks,
            corrupt_blocks: m.corrupt_blocks,
            under_replicated_blocks: m.under_replicated_blocks,
            blocks: m.blocks,
            replication: m.replication,
            transfers: m.transfers,
            nodes: few("nodes", m.nodes, NODES)?.into_iter().map(node).collect::<Result<_, _>>()?,
        })
    }
}

impl From<HdfsReport> for pb::HdfsReport {
    fn from(r: HdfsReport) -> Self {
        pb::HdfsReport {
            cluster: fit(r.cluster),
            started_ms: r.started_ms,
            safe_mode: fit(r.safe_mode),
            missing_blocks: r.missing_blocks,
            corrupt_blocks: r.corrupt_blocks,
            under_replicated_blocks: r.under_replicated_blocks,
            blocks: r.blocks,
            replication: r.replication,
            transfers: r.transfers,
            nodes: r.nodes.into_iter().map(node_to_pb).collect(),
        }
    }
}

fn node(m: pb::DataNode) -> Result<DataNode, WireError> {
    let state = match m.state() {
        pb::AdminState::Normal => AdminState::Normal,
        pb::AdminState::Decommissioning => AdminState::Decommissioning,
        pb::AdminState::Decommissioned => AdminState::Decommissioned,
        pb::AdminState::EnteringMaintenance => AdminState::EnteringMaintenance,
        pb::AdminState::InMaintenance => AdminState::InMaintenance,
        pb::AdminState::Unspecified => return Err(unspecified("state of a DataNode")),
    };
    Ok(DataNode {
        name: text("name of a DataNode", m.name)?,
        address: text("address of a DataNode", m.address)?,
        alive: m.alive,
        state,
        capacity_bytes: m.capacity_bytes,
        used_bytes: m.used_bytes,
        remaining_bytes: m.remaining_bytes,
        blocks: m.blocks,
        to_copy: m.to_copy,
        rack: text("rack", m.rack)?,
    })
}

fn node_to_pb(n: DataNode) -> pb::DataNode {
    let state = match n.state {
        AdminState::Normal => pb::AdminState::Normal,
        AdminState::Decommissioning => pb::AdminState::Decommissioning,
        AdminState::Decommissioned => pb::AdminState::Decommissioned,
        AdminState::EnteringMaintenance => pb::AdminState::EnteringMaintenance,
        AdminState::InMaintenance => pb::AdminState::InMaintenance,
    };
    pb::DataNode {
        name: fit(n.name),
        address: fit(n.address),
        alive: n.alive,
        state: state.into(),
        capacity_bytes: n.capacity_bytes,
        used_bytes: n.used_bytes,
        remaining_bytes: n.remaining_bytes,
        blocks: n.blocks,
        to_copy: n.to_copy,
        rack: fit(n.rack),
    }
}

pub(in super::super) fn hdfs_verb(m: pb::HdfsVerb) -> Result<Verb, WireError> {
    use pb::hdfs_verb::Step;
    let (cluster, node) = (text("cluster", m.cluster)?, text("name of a DataNode", m.node)?);
    let step = match m.step.ok_or(WireError::Missing("step on an HDFS cluster"))? {
        Step::Decommission(_) => HdfsStep::Decommission { node },
        Step::Recommission(_) => HdfsStep::Recommission { node },
        Step::Balance(_) => HdfsStep::Balance { node },
    };
    Ok(Verb::Hdfs { cluster, step })
}

pub(in super::super) fn hdfs_verb_to_pb(cluster: String, step: HdfsStep) -> pb::HdfsVerb {
    use pb::hdfs_verb::Step;
    let (node, step) = match step {
        HdfsStep::Decommission { node } => (node, Step::Decommission(true)),
        HdfsStep::Recommission { node } => (node, Step::Recommission(true)),
        HdfsStep::Balance { node } => (node, Step::Balance(true)),
    };
    pb::HdfsVerb { cluster: fit(cluster), node: fit(node), step: Some(step) }
}
