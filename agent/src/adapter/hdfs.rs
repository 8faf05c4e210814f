//! A NameNode on this host: read by JMX over HTTP, told by its list of hosts.
//!
//! A refresh says success for a list that could not be read, and lets every decommissioned node serve again; so the state of every node is
//! read before and after, and nothing but a node's administrative state counts. Blocks are moved between nodes by Hadoop's own balancer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::hosts::Hosts;
use agent_core::name_node::{self, Answers, PATHS};
use model::action::OutcomeKind;
use model::adapter::AdapterReport;
use model::hdfs::{AdminState, DataNode, HdfsReport, HdfsStep};
use tokio::sync::Mutex;

use super::in_force::{List, Look, shown};
use super::job::Jobs;
use super::{Effect, Failure, answered};
use crate::settings::HdfsFragment;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest run of the balancer: a day; it goes on from where it is when it is run again.
const BALANCE: Duration = Duration::from_secs(86_400);

/// What a step came to, and what was read back.
type Taken = Result<(OutcomeKind, BTreeMap<String, String>), Failure>;

/// A NameNode on this host.
#[derive(Debug, Clone)]
pub struct Hdfs {
    cluster: String,
    url: String,
    hosts: Option<List>,
    /// One change of the list at a time.
    changing: Arc<Mutex<()>>,
    /// The launcher of the balancer.
    balance: Option<String>,
    jobs: Jobs,
    /// One balancer at a time.
    balancing: Arc<Mutex<()>>,
}

impl Hdfs {
    /// The one that the owner configured.
    #[must_use]
    pub fn new(config: &HdfsFragment, jobs: Jobs) -> Self {
        Self {
            cluster: config.cluster.clone(),
            url: config.url.trim_end_matches('/').to_owned(),
            hosts: List::new(config.hosts.clone(), config.refresh.clone(), jobs.clone()),
            changing: Arc::default(),
            balance: config.balance.clone(),
            jobs,
            balancing: Arc::default(),
        }
    }

    /// Its cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Reads it.
    pub async fn read(&self) -> AdapterReport {
        match self.report().await {
            Ok(report) => AdapterReport::Hdfs(report),
            Err(why) => AdapterReport::Unreachable { endpoint: format!("hdfs {}", self.cluster), why },
        }
    }

    async fn report(&self) -> Result<HdfsReport, String> {
        let [system, state, info, replication] = PATHS.map(|path| answered(&self.url, path, TIMEOUT));
        let (system, state, info) = tokio::try_join!(system, state, info)?;
        // Who may not read settings may still read how it is.
        let replication = replication.await.ok();
        let answers =
            Answers { system: &system, state: &state, info: &info, replication: replication.as_deref() };
        name_node::report(&self.cluster, &answers).map_err(|why| format!("{}: {why}", self.url))
    }

    /// Whether its list of hosts is one; `None` without a list.
    pub fn listed(&self) -> Option<Result<(), String>> {
        let list = &self.hosts.as_ref()?.file;
        let says = |why: agent_core::hosts::HostsError| format!("{}: {why}", list.path().display());
        Some(list.read().and_then(|text| Hosts::read(&text).map(drop).map_err(says)))
    }

    /// Takes a step, and reads back what became of it.
    pub async fn step(&self, step: &HdfsStep) -> Effect {
        let took = match step {
            HdfsStep::Decommission { node } => self.list(node, true).await,
            HdfsStep::Recommission { node } => self.list(node, false).await,
            HdfsStep::Balance { .. } => self.balance().await,
        };
        match took {
            Ok((kind, read_back)) => (kind, String::new(), read_back),
            Err(failure) => failure.into(),
        }
    }

    /// Puts a node on the list, or takes it off. One that the NameNode does not know can be taken off: it is to start there.
    async fn list(&self, name: &str, out: bool) -> Taken {
        let Some(list) = &self.hosts else {
            let why = "no list of hosts is configured for it: set hosts and refresh of [[hdfs]]";
            return Err(Failure::Refused(format!("{}: {why}", self.cluster)));
        };
        let _one_at_a_time = self.changing.lock().await;
        let text = list.file.read().map_err(Failure::Refused)?;
        let at = list.file.path().display();
        let hosts =
            Hosts::read(&text).map_err(|why| Failure::Refused(format!("{at}: {why}: mend it first")))?;
        let before = self.report().await.map_err(Failure::Failed)?;
        let node = before.nodes.iter().find(|node| node.name == name);
        match node {
            None if out => return Err(Failure::Refused(unknown(name))),
            Some(node) if out => {
                if let Some(why) = too_few(&before, node) {
                    return Err(Failure::Refused(why));
                }
            }
            _ => {}
        }
        let address = node.map_or(name, |node| &node.address);
        let after = hosts.clone().with(name, address, out);
        let after = after.map_err(|why| Failure::Refused(format!("{at}: {why}")))?;
        if after == hosts && node.is_none_or(|node| is_so(node, out)) {
            return Ok((OutcomeKind::Already, read_back(node)));
        }
        let (written, shown) = (after.write(), self.shown(name, out, &before));
        let then = ", and is in force after the next refresh";
        let node = list.put_in_force((&text, &written), BTreeMap::new(), shown, then).await?;
        Ok((OutcomeKind::Applied, read_back(node.as_ref())))
    }

    /// Moves blocks until all nodes are about as full. Asked again meanwhile, it waits for the one that runs.
    async fn balance(&self) -> Taken {
        let Some(launcher) = &self.balance else {
            let why = "no balancer is configured for it: set balance of [[hdfs]]";
            return Err(Failure::Refused(format!("{}: {why}", self.cluster)));
        };
        let _one_at_a_time = self.balancing.lock().await;
        let before = self.report().await.map_err(Failure::Failed)?;
        if !before.safe_mode.is_empty() {
            return Err(Failure::Failed(format!("the NameNode is in safe mode: {}", before.safe_mode)));
        }
        if before.is_even() {
            return Ok((OutcomeKind::Already, off(&before)));
        }
        let ran = self.jobs.run(launcher, BTreeMap::new(), BALANCE).await;
        ran.map_err(|why| Failure::Failed(format!("the balancer: {why}")))?;
        let after = self.report().await.map_err(Failure::Failed)?;
        Ok((OutcomeKind::Applied, off(&after)))
    }

    /// Waits until the NameNode shows what a step asked for, and that nothing else changed.
    async fn shown(&self, name: &str, out: bool, before: &HdfsReport) -> Result<Option<DataNode>, Failure> {
        let known = before.nodes.iter().any(|node| node.name == name);
        shown(|| async {
            let report = match self.report().await {
                Ok(report) => report,
                Err(why) => return Look::NotYet(why),
            };
            if let Some(why) = others_changed(before, &report, name) {
                return Look::Wrong(why);
            }
            match report.nodes.into_iter().find(|node| node.name == name) {
                Some(node) if is_so(&node, out) => Look::Shown(Some(node)),
                Some(node) => Look::NotYet(format!("{} is {}", node.name, node.state)),
                None if !known => Look::Shown(None),
                None => Look::NotYet(unknown(name)),
            }
        })
        .await
    }
}

fn unknown(name: &str) -> String {
    format!("the NameNode knows no node {name}")
}

fn is_so(node: &DataNode, out: bool) -> bool {
    match node.state {
        AdminState::Decommissioning | AdminState::Decommissioned => out,
        state => !out && state == AdminState::Normal,
    }
}

/// How far the fullest or the emptiest node is from the mean, in words.
fn off(report: &HdfsReport) -> BTreeMap<String, String> {
    let off =
        report.unevenness().map_or("not known".to_owned(), |off| format!("{:.0} % of a disk", off * 100.0));
    BTreeMap::from([("off the mean".to_owned(), off)])
}

/// Why a node cannot leave: without it there would be no place for all replicas, or some are missing already.
fn too_few(report: &HdfsReport, leaving: &DataNode) -> Option<String> {
    let others = report
        .nodes
        .iter()
        .filter(|node| node.alive && node.state == AdminState::Normal && node.name != leaving.name)
        .count();
    let needed = report.replication.map_or(1, |n| n as usize);
    if others < needed {
        return Some(format!("{others} other nodes are in service, and a block has {needed} replicas"));
    }
    if !report.safe_mode.is_empty() {
        return Some(format!("the NameNode is in safe mode: {}", report.safe_mode));
    }
    (report.missing_blocks > 0).then(|| format!("{} blocks are missing", report.missing_blocks))
}

/// What a refresh did to nodes that it was not about.
fn others_changed(before: &HdfsReport, after: &HdfsReport, name: &str) -> Option<String> {
    let others = before.nodes.iter().filter(|node| node.name != name && node.alive);
    let changed = others.filter_map(|was| {
        let is = after.nodes.iter().find(|node| node.name == was.name);
        match is {
            Some(is) if is.alive && settled(was.state) == settled(is.state) => None,
            Some(is) if is.alive => Some(format!("{} was {} and is {}", was.name, was.state, is.state)),
            _ => Some(format!("{} was there and is not", was.name)),
        }
    });
    let changed: Vec<String> = changed.take(3).collect();
    (!changed.is_empty()).then(|| format!("the refresh changed other nodes, too: {}", changed.join("; ")))
}

/// States that a node passes through by itself are one.
fn settled(state: AdminState) -> AdminState {
    match state {
        AdminState::Decommissioning => AdminState::Decommissioned,
        AdminState::EnteringMaintenance => AdminState::InMaintenance,
        state => state,
    }
}

fn read_back(node: Option<&DataNode>) -> BTreeMap<String, String> {
    let said = |node: &DataNode| [("state", node.state.to_string()), ("blocks", node.blocks.to_string())];
    node.into_iter().flat_map(said).map(|(key, value)| (key.to_owned(), value)).collect()
}
