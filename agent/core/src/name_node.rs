//! What HDFS's NameNode says (`/jmx`, `/conf`).
//!
//! A node's administrative state is the only word on its decommission: counters of blocks are still 0 in its first second, and a node that
//! is through is not in `DecomNodes` any more. `LiveNodes`, `DeadNodes` and `DecomNodes` are JSON in a string. What `FSNamesystem` says is up
//! to ten seconds old (its metrics are cached); the other two beans are asked anew each time.

use std::collections::BTreeMap;

use model::hdfs::{AdminState, DataNode, HdfsReport};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::classify::display;

/// Most nodes that are reported.
pub const NODES: usize = 4_096;

/// Paths that are read for a report, in the order of [`Answers`].
pub const PATHS: [&str; 4] = [
    "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystem",
    "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState",
    "/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo",
    "/conf?name=dfs.replication",
];

/// Bodies of the answers to [`PATHS`].
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// `FSNamesystem`.
    pub system: &'a [u8],
    /// `FSNamesystemState`.
    pub state: &'a [u8],
    /// `NameNodeInfo`.
    pub info: &'a [u8],
    /// The setting `dfs.replication`, if it was answered.
    pub replication: Option<&'a [u8]>,
}

/// Why an answer is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not the JSON that was expected.
    #[error("its answer about {0} cannot be read: {1}")]
    Unreadable(&'static str, String),
    /// The bean is not there: it starts.
    #[error("it has no {0} yet: it starts")]
    Starting(&'static str),
    /// It waits for another NameNode to fail.
    #[error("it is the {0} of its pair: ask the active one")]
    NotActive(String),
    /// More nodes than can be reported.
    #[error("it has {0} nodes, more than {NODES}")]
    TooManyNodes(usize),
}

#[derive(Deserialize)]
struct Beans<T> {
    beans: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct System {
    corrupt_blocks: u64,
    total_load: Option<u64>,
    #[serde(rename = "tag.HAState")]
    ha_state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blocks {
    blocks_total: u64,
    under_replicated_blocks: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    safemode: String,
    live_nodes: String,
    dead_nodes: String,
    decom_nodes: String,
    number_of_missing_blocks: u64,
    #[serde(rename = "NNStartedTimeInMillis")]
    started_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    admin_state: String,
    capacity: u64,
    used: u64,
    remaining: u64,
    num_blocks: u64,
    xferaddr: String,
    #[serde(default)]
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dead {
    #[serde(default)]
    xferaddr: String,
    #[serde(default)]
    admin_state: Option<String>,
    #[serde(default)]
    decommissioned: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decommissioning {
    under_replicated_blocks: u64,
}

/// Reads a report.
///
/// # Errors
/// [`AnswerError`] with the answer that cannot be used.
pub fn report(cluster: &str, answers: &Answers<'_>) -> Result<HdfsReport, AnswerError> {
    let system: System = bean("FSNamesystem", answers.system)?;
    let blocks: Blocks = bean("FSNamesystemState", answers.state)?;
    let info: Info = bean("NameNodeInfo", answers.info)?;
    if let Some(state) = system.ha_state.filter(|state| state != "active") {
        return Err(AnswerError::NotActive(display(&state)));
    }
    let live: BTreeMap<String, Live> = inner("LiveNodes", &info.live_nodes)?;
    let dead: BTreeMap<String, Dead> = inner("DeadNodes", &info.dead_nodes)?;
    let leaving: BTreeMap<String, Decommissioning> = inner("DecomNodes", &info.decom_nodes)?;
    if live.len() + dead.len() > NODES {
        return Err(AnswerError::TooManyNodes(live.len() + dead.len()));
    }
    let mut nodes = Vec::new();
    for (name, node) in live {
        let state = state(&node.admin_state)?;
        nodes.push(DataNode {
            to_copy: leaving.get(&name).map(|node| node.under_replicated_blocks),
            name: display(&name),
            address: display(&node.xferaddr),
            alive: true,
            state,
            capacity_bytes: node.capacity,
            used_bytes: node.used,
            remaining_bytes: node.remaining,
            blocks: node.num_blocks,
            rack: node.location.as_deref().map(display).unwrap_or_default(),
        });
    }
    for (name, node) in dead {
        let by_flag = if node.decommissioned { AdminState::Decommissioned } else { AdminState::Normal };
        nodes.push(DataNode {
            name: display(&name),
            address: display(&node.xferaddr),
            alive: false,
            state: node.admin_state.as_deref().map_or(Ok(by_flag), state)?,
            capacity_bytes: 0,
            used_bytes: 0,
            remaining_bytes: 0,
            blocks: 0,
            to_copy: None,
            rack: String::new(),
        });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(HdfsReport {
        cluster: cluster.to_owned(),
        started_ms: info.started_ms,
        safe_mode: display(&info.safemode),
        missing_blocks: info.number_of_missing_blocks,
        corrupt_blocks: system.corrupt_blocks,
        under_replicated_blocks: blocks.under_replicated_blocks,
        blocks: blocks.blocks_total,
        transfers: system.total_load,
        replication: answers.replication.and_then(setting).and_then(|value| value.parse().ok()),
        nodes,
    })
}

/// The value of the one setting that a daemon of Hadoop was asked for (`/conf?name=…`): XML, in the form of its own files.
#[must_use]
pub fn setting(body: &[u8]) -> Option<String> {
    let document = roxmltree::Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let property = document.root_element().children().find(|node| node.has_tag_name("property"))?;
    property.children().find(|node| node.has_tag_name("value"))?.text().map(|text| text.trim().to_owned())
}

fn bean<T: DeserializeOwned>(name: &'static str, body: &[u8]) -> Result<T, AnswerError> {
    let beans: Beans<T> =
        serde_json::from_slice(body).map_err(|e| AnswerError::Unreadable(name, e.to_string()))?;
    beans.beans.into_iter().next().ok_or(AnswerError::Starting(name))
}

fn inner<T: DeserializeOwned>(name: &'static str, text: &str) -> Result<BTreeMap<String, T>, AnswerError> {
    serde_json::from_str(text).map_err(|e| AnswerError::Unreadable(name, e.to_string()))
}

fn state(text: &str) -> Result<AdminState, AnswerError> {
    Ok(match text {
        "In Service" => AdminState::Normal,
        "Decommission In Progress" => AdminState::Decommissioning,
        "Decommissioned" => AdminState::Decommissioned,
        "Entering Maintenance" => AdminState::EnteringMaintenance,
        "In Maintenance" => AdminState::InMaintenance,
        other => return Err(AnswerError::Unreadable("a node's state", format!("{other:?}"))),
    })
}

#[cfg(test)]
mod tests;
