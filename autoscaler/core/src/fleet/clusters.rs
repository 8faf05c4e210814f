//! The newest report of each cluster: who reported it, when, what.

use std::collections::BTreeMap;

use model::adapter::AdapterReport;
use model::cassandra::CassandraReport;
use model::hdfs::HdfsReport;
use model::id::NodeId;
use model::workload::{Workload, WorkloadKind};
use model::yarn::YarnReport;

use crate::event::{ClusterDigest, ClusterReport, Time};

/// A report with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported<T> {
    /// The node whose agent reported it: steps go there.
    pub node: NodeId,
    /// When it came.
    pub at: Time,
    /// What it says.
    pub report: T,
}

/// All clusters that agents report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clusters {
    /// YARN, by name.
    pub yarn: BTreeMap<String, Reported<YarnReport>>,
    /// HDFS, by name.
    pub hdfs: BTreeMap<String, Reported<HdfsReport>>,
    /// Cassandra, by name and by the member's address.
    pub cassandra: BTreeMap<(String, String), Reported<CassandraReport>>,
}

impl Clusters {
    /// Takes a report; other ones are not for it.
    pub(super) fn take(&mut self, node: &NodeId, report: AdapterReport, at: Time) {
        let node = node.clone();
        match report {
            AdapterReport::Yarn(report) => {
                self.yarn.insert(report.cluster.clone(), Reported { node, at, report });
            }
            AdapterReport::Hdfs(report) => {
                self.hdfs.insert(report.cluster.clone(), Reported { node, at, report });
            }
            AdapterReport::Cassandra(report) => {
                let key = (report.cluster.clone(), report.address.clone());
                self.cassandra.insert(key, Reported { node, at, report: *report });
            }
            AdapterReport::Balancer(_) | AdapterReport::Puma(_) | AdapterReport::Unreachable { .. } => {}
        }
    }

    /// What came of the cluster of this workload after `since`, and when the last of it came.
    pub(super) fn digests(
        &self,
        workload: &Workload,
        since: Option<Time>,
    ) -> (Vec<ClusterDigest>, Option<Time>) {
        let Some(spec) = workload.spec.cluster() else { return (Vec::new(), since) };
        let digest = |node: &NodeId, at: Time, report: ClusterReport| {
            let (workload, node) = (workload.name.clone(), node.clone());
            since.is_none_or(|since| at > since).then_some(ClusterDigest { workload, node, at, report })
        };
        let digests: Vec<ClusterDigest> = match workload.spec.kind {
            WorkloadKind::Yarn => self
                .yarn
                .get(&spec.cluster)
                .into_iter()
                .filter_map(|one| digest(&one.node, one.at, ClusterReport::Yarn(one.report.clone())))
                .collect(),
            WorkloadKind::Hdfs => self
                .hdfs
                .get(&spec.cluster)
                .into_iter()
                .filter_map(|one| digest(&one.node, one.at, ClusterReport::Hdfs(one.report.clone())))
                .collect(),
            WorkloadKind::Cassandra => {
                let of = self.cassandra.iter().filter(|((cluster, _), _)| *cluster == spec.cluster);
                of.filter_map(|(_, one)| {
                    digest(&one.node, one.at, ClusterReport::Cassandra(Box::new(one.report.clone())))
                })
                .collect()
            }
            WorkloadKind::Rails | WorkloadKind::Service => Vec::new(),
        };
        let newest = digests.iter().map(|digest| digest.at).max();
        (digests, newest.max(since))
    }

    /// Forgets what was reported longer than `ms` ago.
    pub(super) fn forget(&mut self, ms: u64, now: Time) {
        self.yarn.retain(|_, one| now.since(one.at) < ms);
        self.hdfs.retain(|_, one| now.since(one.at) < ms);
        self.cassandra.retain(|_, one| now.since(one.at) < ms);
    }
}
