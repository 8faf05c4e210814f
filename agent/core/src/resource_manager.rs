//! What YARN's ResourceManager says (`/ws/v1/cluster/…`), and the one thing that is asked of it there.
//!
//! Fields that may be away: `apps.app` while nothing runs, `nodes.node` before the first registered, `nodeLabels` without labels. Numbers
//! may be negative: what is left of an over-committed node, and totals that somebody set so; both count as nothing.

use model::yarn::{Excluded, Resources, YarnNode, YarnReport, YarnState, YarnStep};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::classify::display;

/// Most nodes that are reported.
pub const NODES: usize = 4_096;

/// Paths that are read for a report, in the order of [`Answers`].
pub const PATHS: [&str; 4] = [
    "/ws/v1/cluster/info",
    "/ws/v1/cluster/metrics",
    "/ws/v1/cluster/nodes",
    "/ws/v1/cluster/apps?states=RUNNING",
];

/// Bodies of the answers to [`PATHS`].
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// `info`.
    pub info: &'a [u8],
    /// `metrics`.
    pub metrics: &'a [u8],
    /// `nodes`.
    pub nodes: &'a [u8],
    /// `apps`.
    pub apps: &'a [u8],
}

/// Why an answer is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not the JSON that was expected.
    #[error("its answer about {0} cannot be read: {1}")]
    Unreadable(&'static str, String),
    /// It waits for another ResourceManager to fail.
    #[error("it is the standby of its pair ({0}): ask the active one")]
    NotActive(String),
    /// More nodes than can be reported.
    #[error("it has {0} nodes, more than {NODES}")]
    TooManyNodes(usize),
    /// What was asked was done otherwise.
    #[error("{0}")]
    NotSo(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InfoAnswer {
    cluster_info: Info,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    started_on: u64,
    ha_state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricsAnswer {
    cluster_metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "appsPending")]
    apps_pending: i64,
    #[serde(rename = "pendingMB")]
    pending_mb: i64,
    #[serde(rename = "pendingVirtualCores")]
    pending_vcores: i64,
    #[serde(rename = "containersPending")]
    containers_pending: i64,
}

#[derive(Deserialize)]
struct NodesAnswer {
    nodes: Option<Nodes>,
}

#[derive(Deserialize)]
struct Nodes {
    #[serde(default)]
    node: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    node_host_name: String,
    state: String,
    num_containers: i64,
    total_resource: Option<Amount>,
    used_resource: Option<Amount>,
    #[serde(rename = "usedMemoryMB")]
    used_mb: i64,
    used_virtual_cores: i64,
    #[serde(rename = "availMemoryMB")]
    available_mb: i64,
    available_virtual_cores: i64,
    #[serde(default)]
    health_report: Option<String>,
    #[serde(default)]
    node_labels: Vec<String>,
}

#[derive(Deserialize, Clone, Copy)]
struct Amount {
    memory: i64,
    #[serde(rename = "vCores")]
    vcores: i64,
}

#[derive(Deserialize)]
struct AppsAnswer {
    apps: Option<Apps>,
}

#[derive(Deserialize)]
struct Apps {
    #[serde(default)]
    app: Vec<App>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    /// `HOST:PORT`; not there before its master runs.
    master_node_id: Option<String>,
}

/// Reads a report.
///
/// # Errors
/// [`AnswerError`] with the answer that cannot be used.
pub fn report(
    cluster: &str,
    answers: &Answers<'_>,
    excluded: Option<Vec<Excluded>>,
) -> Result<YarnReport, AnswerError> {
    let info: InfoAnswer = read("itself", answers.info)?;
    if let Some(state) = info.cluster_info.ha_state.filter(|state| state != "ACTIVE") {
        return Err(AnswerError::NotActive(display(&state)));
    }
    let MetricsAnswer { cluster_metrics: metrics } = read("the cluster", answers.metrics)?;
    let nodes: NodesAnswer = read("nodes", answers.nodes)?;
    let apps: AppsAnswer = read("applications", answers.apps)?;
    let nodes = nodes.nodes.map(|nodes| nodes.node).unwrap_or_default();
    if nodes.len() > NODES {
        return Err(AnswerError::TooManyNodes(nodes.len()));
    }
    let apps = apps.apps.map(|apps| apps.app).unwrap_or_default();
    let masters: Vec<&str> = apps.iter().filter_map(|app| host_of(app.master_node_id.as_deref()?)).collect();
    let labels = nodes.iter().any(|node| !node.node_labels.is_empty());
    Ok(YarnReport {
        cluster: cluster.to_owned(),
        started_ms: info.cluster_info.started_on,
        labels,
        pending: resources(metrics.pending_mb, metrics.pending_vcores),
        containers_pending: count(metrics.containers_pending),
        apps_running: u32::try_from(apps.len()).unwrap_or(u32::MAX),
        apps_pending: count(metrics.apps_pending),
        excluded,
        nodes: nodes.iter().filter_map(|node| node.report(&masters)).collect(),
    })
}

impl Node {
    /// `None` for a state that this version does not know.
    fn report(&self, masters: &[&str]) -> Option<YarnNode> {
        let used = self.used_resource.map_or_else(
            || resources(self.used_mb, self.used_virtual_cores),
            |used| resources(used.memory, used.vcores),
        );
        let total = self.total_resource.map_or_else(
            || {
                let mb = self.used_mb.saturating_add(self.available_mb);
                resources(mb, self.used_virtual_cores.saturating_add(self.available_virtual_cores))
            },
            |total| resources(total.memory, total.vcores),
        );
        let state = state(&self.state)?;
        let on_it = masters.iter().filter(|host| **host == self.node_host_name).count();
        let port = self.id.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).filter(|port| *port > 0);
        let ill = self.health_report.as_deref().filter(|_| state == YarnState::Unhealthy);
        Some(YarnNode {
            host: display(&self.node_host_name),
            port,
            state,
            total,
            used,
            containers: count(self.num_containers),
            masters: u32::try_from(on_it).unwrap_or(u32::MAX),
            health: ill.map(display).unwrap_or_default(),
        })
    }
}

fn read<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, AnswerError> {
    serde_json::from_slice(body).map_err(|e| AnswerError::Unreadable(what, e.to_string()))
}

fn host_of(id: &str) -> Option<&str> {
    id.rsplit_once(':').map(|(host, _)| host)
}

fn count(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn resources(memory_mib: i64, vcores: i64) -> Resources {
    Resources { memory_mib: memory_mib.max(0).unsigned_abs(), vcores: count(vcores) }
}

fn state(text: &str) -> Option<YarnState> {
    Some(match text {
        "NEW" => YarnState::New,
        "RUNNING" => YarnState::Running,
        "UNHEALTHY" => YarnState::Unhealthy,
        "DECOMMISSIONING" => YarnState::Decommissioning,
        "DECOMMISSIONED" => YarnState::Decommissioned,
        "LOST" => YarnState::Lost,
        "REBOOTED" => YarnState::Rebooted,
        "SHUTDOWN" => YarnState::Shutdown,
        _ => return None,
    })
}

/// Path and body of the request that lets a node advertise other resources.
///
/// Always whole: without its `resource`, or without one of the two numbers, the node would get nothing, with status 200. And always with −1:
/// any other timeout kills containers, at once when it is missing, and cannot be taken back.
#[must_use]
pub fn advertise(host: &str, port: u16, resources: Resources) -> (String, String) {
    let Resources { memory_mib, vcores } = resources;
    let body =
        format!(r#"{{"resource":{{"memory":{memory_mib},"vCores":{vcores}}},"overCommitTimeout":-1}}"#);
    (format!("/ws/v1/cluster/nodes/{host}:{port}/resource"), body)
}

/// The node after a step, as the ResourceManager sees it, `None` for one that it does not know and need not know; an error when it is not what
/// the step asked for.
///
/// # Errors
/// [`AnswerError::NotSo`] in words.
pub fn read_back<'a>(report: &'a YarnReport, step: &YarnStep) -> Result<Option<&'a YarnNode>, AnswerError> {
    let not_so = |why: String| Err(AnswerError::NotSo(why));
    let host = step.host();
    let listed = report.excluded.iter().flatten().find(|entry| entry.host == host);
    let node = match (report.nodes.iter().find(|node| node.host == host), step) {
        (Some(node), _) => node,
        (None, YarnStep::Include { .. }) if listed.is_none() => return Ok(None),
        (None, _) => return not_so(format!("the ResourceManager knows no node {host}")),
    };
    match step {
        YarnStep::Advertise { resources, .. } if node.total != *resources => {
            not_so(format!("{host} advertises {}, not {resources}", node.total))
        }
        YarnStep::Exclude { timeout_s, .. } if listed.is_none_or(|e| e.timeout_s != Some(*timeout_s)) => {
            not_so(format!("{host} is not on the exclude list with {timeout_s} s"))
        }
        // An unhealthy one that is excluded is decommissioning, too.
        YarnStep::Exclude { .. }
            if matches!(node.state, YarnState::New | YarnState::Running | YarnState::Unhealthy) =>
        {
            not_so(format!("{host} is on the exclude list and {}: the list was not read", node.state))
        }
        YarnStep::Include { .. } if listed.is_some() => {
            not_so(format!("{host} is still on the exclude list"))
        }
        YarnStep::Include { .. } if node.state == YarnState::Decommissioning => {
            not_so(format!("{host} is off the exclude list and still {}: the list was not read", node.state))
        }
        _ => Ok(Some(node)),
    }
}

#[cfg(test)]
mod tests;
