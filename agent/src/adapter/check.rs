//! A look at every configured cluster, for `trimtab-agent check`: whether it answers, and what is dangerous about it.

use std::time::Duration;

use agent_core::advice::{self, Finding};
use agent_core::name_node::setting;
use model::adapter::AdapterReport;
use tokio::sync::mpsc;

use super::cassandra::Cassandra;
use super::get;
use super::hdfs::Hdfs;
use super::job::Jobs;
use super::listeners::{self, TABLES};
use super::yarn::Yarn;
use crate::settings::{Clusters, cluster};

/// Longest wait for a setting of the ResourceManager.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at all of them, one after the other.
pub async fn clusters(clusters: &Clusters) -> Vec<Finding> {
    // Nothing is changed, so no job is asked for.
    let jobs = Jobs::new(mpsc::channel(1).0);
    let mut findings = Vec::new();
    for config in &clusters.yarn {
        match Yarn::new(config, jobs.clone()).read().await {
            AdapterReport::Yarn(report) => {
                let port = cluster::address(&config.url).map(|address| address.port());
                let on = |port: u16| TABLES.iter().flat_map(move |table| listeners::on(table, port));
                let listens: Vec<_> = port.into_iter().flat_map(on).map(|listener| listener.ip).collect();
                findings.extend(advice::yarn(&report, recovery(&config.url).await, &listens));
            }
            other => findings.extend(silent(&format!("yarn {}", config.cluster), other)),
        }
    }
    for config in &clusters.hdfs {
        let hdfs = Hdfs::new(config, jobs.clone());
        match hdfs.read().await {
            AdapterReport::Hdfs(report) => findings.extend(advice::hdfs(&report, hdfs.listed())),
            other => findings.extend(silent(&format!("hdfs {}", config.cluster), other)),
        }
    }
    for config in &clusters.cassandra {
        match Cassandra::new(config).read().await {
            AdapterReport::Cassandra(report) => findings.extend(advice::cassandra(&report)),
            other => findings.extend(silent(&format!("cassandra {} {}", config.cluster, config.url), other)),
        }
    }
    findings
}

fn silent(check: &str, report: AdapterReport) -> Option<Finding> {
    let AdapterReport::Unreachable { why, .. } = report else { return None };
    Some(Finding::bad(check, why, "start it, or correct its url in agent.toml"))
}

/// Whether the ResourceManager says that it recovers.
async fn recovery(url: &str) -> Option<bool> {
    let asked = format!("{}/conf?name=yarn.resourcemanager.recovery.enabled", url.trim_end_matches('/'));
    let (status, body) = get(&asked, TIMEOUT).await.ok()?;
    setting(&body).filter(|_| status == 200).map(|value| value == "true")
}
