//! What is dangerous about a cluster beside this agent, and what to do about it: `trimtab-agent check` says it, nothing acts on it.

use std::net::IpAddr;

use model::cassandra::CassandraReport;
use model::hdfs::HdfsReport;
use model::yarn::{YarnReport, YarnState};
use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// About what.
    pub check: String,
    /// It is as it should be.
    pub good: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty when it is good.
    pub fix: String,
}

impl Finding {
    /// Something that is as it should be.
    #[must_use]
    pub fn good(check: &str, found: String) -> Self {
        Self { check: check.to_owned(), good: true, found, fix: String::new() }
    }

    /// Something that is not.
    #[must_use]
    pub fn bad(check: &str, found: String, fix: &str) -> Self {
        Self { check: check.to_owned(), good: false, found, fix: fix.to_owned() }
    }
}

/// About a YARN cluster. `recovery` = applications survive a restart of the ResourceManager, as far as it says; `listens` = where something
/// listens on the port of its REST interface.
#[must_use]
pub fn yarn(report: &YarnReport, recovery: Option<bool>, listens: &[IpAddr]) -> Vec<Finding> {
    let check = format!("yarn {}", report.cluster);
    let running = report.nodes.iter().filter(|node| node.state == YarnState::Running).count();
    let mut findings = vec![Finding::good(&check, format!("{running} of {} nodes run", report.nodes.len()))];
    let mut bad = |found: String, fix: &str| findings.push(Finding::bad(&check, found, fix));
    if let Some(open) = listens.iter().find(|ip| !ip.is_loopback()) {
        bad(
            format!(
                "its REST interface listens on {open}: whoever reaches it can take a node's resources away, whatever yarn.admin.acl says"
            ),
            "set yarn.resourcemanager.webapp.address to a loopback address, or let a firewall keep others away",
        );
    }
    if recovery == Some(false) {
        bad(
            "a restart of the ResourceManager ends all applications".to_owned(),
            "set yarn.resourcemanager.recovery.enabled = true, and a state store",
        );
    }
    if report.labels {
        bad(
            "nodes have labels: totals do not say where a container can go".to_owned(),
            "nodes of a cluster with labels are not drained; what they advertise can be changed",
        );
    }
    if report.excluded.is_none() {
        bad(
            "no exclude list: nodes are not drained".to_owned(),
            "set exclude and refresh in [[yarn]], and yarn.resourcemanager.nodes.exclude-path to the same file",
        );
    }
    findings
}

/// About an HDFS file system. `listed` = its list of hosts can be read, if one is configured, or why not.
#[must_use]
pub fn hdfs(report: &HdfsReport, listed: Option<Result<(), String>>) -> Vec<Finding> {
    let check = format!("hdfs {}", report.cluster);
    let alive = report.nodes.iter().filter(|node| node.alive).count();
    let mut findings =
        vec![Finding::good(&check, format!("{alive} of {} nodes are alive", report.nodes.len()))];
    let mut bad = |found: String, fix: &str| findings.push(Finding::bad(&check, found, fix));
    match listed {
        None => bad(
            "no list of hosts: nodes are not decommissioned".to_owned(),
            "set hosts and refresh in [[hdfs]], dfs.hosts to the same file, and CombinedHostFileManager",
        ),
        Some(Err(why)) => bad(why, "mend it: a refresh would put decommissioned nodes back in service"),
        Some(Ok(())) => {}
    }
    if report.replication.is_none() {
        bad(
            "dfs.replication cannot be read".to_owned(),
            "let this agent read /conf: without it no node is decommissioned",
        );
    }
    if report.missing_blocks > 0 {
        bad(format!("{} blocks are missing", report.missing_blocks), "hdfs fsck / names their files");
    }
    findings
}

/// About a Cassandra node.
#[must_use]
pub fn cassandra(report: &CassandraReport) -> Vec<Finding> {
    let check = format!("cassandra {} {}", report.cluster, report.address);
    let members = report.ring.members.len();
    let mut findings = vec![Finding::good(&check, format!("{}, {members} members", report.mode))];
    let mut bad = |found: String, fix: &str| findings.push(Finding::bad(&check, found, fix));
    if members > 1 && report.replication.get("system_auth") == Some(&1) {
        bad(
            "keyspace system_auth has one replica: with that node down nobody can log in".to_owned(),
            "ALTER KEYSPACE system_auth with as many replicas as other keyspaces have, then repair it",
        );
    }
    if report.replication.is_empty() && report.ring.members.contains(&report.address) {
        bad(
            "it is not known how often data is replicated".to_owned(),
            "allow effectiveOwnership* of StorageService in Jolokia's policy",
        );
    }
    if report.disk_bytes.is_none() {
        bad(
            "the disk of its data cannot be read".to_owned(),
            "let this agent see its data directory (ReadOnlyPaths=): without it no node leaves",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::cassandra::{CassandraMode, RequestTimes, RingView};
    use model::yarn::Resources;

    use super::*;

    fn words(findings: &[Finding]) -> String {
        assert!(findings.iter().all(|finding| finding.good == finding.fix.is_empty()));
        findings.iter().filter(|finding| !finding.good).map(|finding| finding.found.clone() + "; ").collect()
    }

    fn yarn_report() -> YarnReport {
        YarnReport {
            cluster: "batch".into(),
            started_ms: 1,
            labels: false,
            pending: Resources::default(),
            containers_pending: 0,
            apps_running: 0,
            apps_pending: 0,
            excluded: Some(Vec::new()),
            nodes: Vec::new(),
        }
    }

    #[test]
    fn an_open_port_and_what_a_restart_would_end_are_said() {
        let local: IpAddr = "127.0.0.10".parse().unwrap();
        assert_eq!(words(&yarn(&yarn_report(), Some(true), &[local])), "");
        let open: IpAddr = "0.0.0.0".parse().unwrap();
        let report = YarnReport { labels: true, excluded: None, ..yarn_report() };
        let said = words(&yarn(&report, Some(false), &[local, open]));
        for part in ["listens on 0.0.0.0", "restart of the ResourceManager", "labels", "no exclude list"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_list_that_a_refresh_would_misread_is_said() {
        let report = HdfsReport {
            cluster: "store".into(),
            started_ms: 1,
            safe_mode: String::new(),
            missing_blocks: 0,
            corrupt_blocks: 0,
            under_replicated_blocks: 0,
            blocks: 0,
            replication: Some(3),
            transfers: None,
            nodes: Vec::new(),
        };
        assert_eq!(words(&hdfs(&report, Some(Ok(())))), "");
        assert!(words(&hdfs(&report, Some(Err("hosts.json: broken".into())))).contains("broken"));
        let said = words(&hdfs(&HdfsReport { replication: None, missing_blocks: 2, ..report }, None));
        assert!(said.contains("no list of hosts") && said.contains("2 blocks are missing"), "{said}");
    }

    #[test]
    fn one_replica_of_who_may_log_in_is_said_where_there_could_be_more() {
        let ring = RingView { members: vec!["a".into(), "b".into()], ..RingView::default() };
        let report = CassandraReport {
            cluster: "ring".into(),
            address: "a".into(),
            dc: "dc1".into(),
            rack: "r1".into(),
            started_ms: 1,
            mode: CassandraMode::Normal,
            ring,
            replication: BTreeMap::from([("system_auth".to_owned(), 1)]),
            pending_compactions: 0,
            streams: 0,
            hints: 0,
            reads: RequestTimes::default(),
            writes: RequestTimes::default(),
            dropped: 0,
            load_bytes: 0,
            disk_bytes: Some(1),
            disk_free_bytes: Some(1),
        };
        assert!(words(&cassandra(&report)).contains("nobody can log in"));
        let more = BTreeMap::from([("system_auth".to_owned(), 2)]);
        assert_eq!(words(&cassandra(&CassandraReport { replication: more, ..report.clone() })), "");
        let blind = CassandraReport { replication: BTreeMap::new(), disk_bytes: None, ..report };
        assert!(
            words(&cassandra(&blind)).contains("not known") && words(&cassandra(&blind)).contains("disk")
        );
    }
}
