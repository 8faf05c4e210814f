//! The newest report of each cluster: who reported it, when, what.

use std::collections::BTreeMap;

use model::adapter::AdapterReport;
use model::cassandra::CassandraReport;
use model::hdfs::HdfsReport;
use model::id::NodeId;
use model::yarn::YarnReport;

use crate::event::Time;

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

    /// Forgets what was reported longer than `ms` ago.
    pub(super) fn forget(&mut self, ms: u64, now: Time) {
        self.yarn.retain(|_, one| now.since(one.at) < ms);
        self.hdfs.retain(|_, one| now.since(one.at) < ms);
        self.cassandra.retain(|_, one| now.since(one.at) < ms);
    }
}
