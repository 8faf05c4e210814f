//! Members of clusters, as those that keep the lists see them.

use autoscaler_core::event::Time;
use autoscaler_core::fleet::{Clusters as Reports, Reported};
use model::cassandra::{CassandraMode, CassandraReport};
use model::hdfs::{AdminState, HdfsReport};
use model::yarn::{YarnReport, YarnState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Members of clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// `trimtab/v1`.
    pub api_version: String,
    /// By kind, cluster and member.
    pub items: Vec<Member>,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// `yarn`, `hdfs` or `cassandra`.
    pub kind: String,
    /// The cluster, as the agent's configuration names it.
    pub cluster: String,
    /// Host (yarn), host and port (hdfs) or address (cassandra).
    pub member: String,
    /// Its state, as the ResourceManager or the NameNode says, or as it says itself (cassandra).
    pub state: String,
    /// It takes its share.
    pub in_service: bool,
    /// What it offers, bytes: memory for containers (yarn), space for blocks (hdfs), its disk (cassandra).
    pub size_bytes: Option<u64>,
    /// What is in use of that.
    pub used_bytes: Option<u64>,
    /// More, in words.
    pub detail: String,
    /// The node whose agent reports it.
    pub node: String,
    /// How old that is, ms.
    pub age_ms: u64,
}

impl Members {
    /// Everybody whom agents report.
    #[must_use]
    pub fn of(clusters: &Reports, now: Time) -> Self {
        let yarn = clusters.yarn.values().flat_map(|one| yarn(one, now));
        let hdfs = clusters.hdfs.values().flat_map(|one| hdfs(one, now));
        let cassandra = clusters.cassandra.values().map(|one| cassandra(one, now));
        let mut items: Vec<Member> = yarn.chain(hdfs).chain(cassandra).collect();
        items.sort_by(|a, b| (&a.kind, &a.cluster, &a.member).cmp(&(&b.kind, &b.cluster, &b.member)));
        Self { api_version: super::API_VERSION.to_owned(), items }
    }
}

const MIB: u64 = 1 << 20;

fn yarn(reported: &Reported<YarnReport>, now: Time) -> Vec<Member> {
    let member = |node: &model::yarn::YarnNode| {
        let mut detail =
            format!("{} of {} vcores, {} containers", node.used.vcores, node.total.vcores, node.containers);
        if node.masters > 0 {
            detail.push_str(&format!(", {} masters", node.masters));
        }
        if !node.health.is_empty() {
            detail.push_str(&format!(", {}", node.health));
        }
        Member {
            kind: "yarn".to_owned(),
            cluster: reported.report.cluster.clone(),
            member: node.host.clone(),
            state: node.state.to_string(),
            in_service: node.state == YarnState::Running,
            size_bytes: Some(node.total.memory_mib.saturating_mul(MIB)),
            used_bytes: Some(node.used.memory_mib.saturating_mul(MIB)),
            detail,
            node: reported.node.to_string(),
            age_ms: now.since(reported.at),
        }
    };
    reported.report.nodes.iter().map(member).collect()
}

fn hdfs(reported: &Reported<HdfsReport>, now: Time) -> Vec<Member> {
    let member = |node: &model::hdfs::DataNode| {
        let mut detail = format!("{} blocks", node.blocks);
        if let Some(left) = node.to_copy {
            detail.push_str(&format!(", {left} to be copied"));
        }
        Member {
            kind: "hdfs".to_owned(),
            cluster: reported.report.cluster.clone(),
            member: node.name.clone(),
            state: if node.alive { node.state.to_string() } else { format!("dead, {}", node.state) },
            in_service: node.alive && node.state == AdminState::Normal,
            size_bytes: node.alive.then_some(node.capacity_bytes),
            used_bytes: node.alive.then_some(node.used_bytes),
            detail,
            node: reported.node.to_string(),
            age_ms: now.since(reported.at),
        }
    };
    reported.report.nodes.iter().map(member).collect()
}

fn cassandra(reported: &Reported<CassandraReport>, now: Time) -> Member {
    let report = &reported.report;
    let mut detail = format!(
        "{}/{}, {:.1} MiB of data, {} compactions wait",
        report.dc,
        report.rack,
        report.load_bytes as f64 / MIB as f64,
        report.pending_compactions
    );
    for (what, who) in [("joins", &report.ring.joining), ("leaves", &report.ring.leaving)] {
        who.iter().for_each(|one| detail.push_str(&format!(", {one} {what}")));
    }
    Member {
        kind: "cassandra".to_owned(),
        cluster: report.cluster.clone(),
        member: report.address.clone(),
        state: report.mode.to_string(),
        in_service: report.mode == CassandraMode::Normal,
        size_bytes: report.disk_bytes,
        used_bytes: report.disk_bytes.zip(report.disk_free_bytes).map(|(all, free)| all.saturating_sub(free)),
        detail,
        node: reported.node.to_string(),
        age_ms: now.since(reported.at),
    }
}
