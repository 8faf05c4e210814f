//! A ResourceManager on this host: read by REST, told by REST and by its exclude list.
//!
//! Never anything but a graceful refresh, never a timeout that kills for want of memory, never a node with an ApplicationMaster on it: see
//! [`agent_core::resource_manager`] and [`agent_core::exclude`] for what goes wrong otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_core::exclude;
use agent_core::resource_manager::{self, Answers, PATHS};
use model::action::OutcomeKind;
use model::adapter::AdapterReport;
use model::yarn::{Excluded, YarnNode, YarnReport, YarnState, YarnStep};
use tokio::sync::Mutex;

use super::in_force::{List, Look, shown};
use super::job::Jobs;
use super::{Effect, Failure, answered, post};
use crate::settings::YarnFragment;

/// Longest wait for an answer: the list of some thousand nodes takes a second.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Least time that hosts on the list without a time of their own get, seconds: those are somebody else's, and an hour hurts nobody.
const OTHERS_S: u32 = 3_600;

/// A ResourceManager on this host.
#[derive(Debug, Clone)]
pub struct Yarn {
    cluster: String,
    url: String,
    exclude: Option<List>,
    /// One change of the list at a time.
    changing: Arc<Mutex<()>>,
}

impl Yarn {
    /// The one that the owner configured.
    #[must_use]
    pub fn new(config: &YarnFragment, jobs: Jobs) -> Self {
        Self {
            cluster: config.cluster.clone(),
            url: config.url.trim_end_matches('/').to_owned(),
            exclude: List::new(config.exclude.clone(), config.refresh.clone(), jobs),
            changing: Arc::default(),
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
            Ok(report) => AdapterReport::Yarn(report),
            Err(why) => AdapterReport::Unreachable { endpoint: format!("yarn {}", self.cluster), why },
        }
    }

    async fn report(&self) -> Result<YarnReport, String> {
        let [info, metrics, nodes, apps] = PATHS.map(|path| answered(&self.url, path, TIMEOUT));
        let (info, metrics, nodes, apps) = tokio::try_join!(info, metrics, nodes, apps)?;
        let answers = Answers { info: &info, metrics: &metrics, nodes: &nodes, apps: &apps };
        let excluded = self.exclude.as_ref().and_then(|list| listed(list).ok());
        resource_manager::report(&self.cluster, &answers, excluded)
            .map_err(|why| format!("{}: {why}", self.url))
    }

    /// Takes a step, and reads back what became of it.
    pub async fn step(&self, step: &YarnStep) -> Effect {
        let taken = match step {
            YarnStep::Advertise { .. } => self.advertise(step).await,
            YarnStep::Exclude { .. } | YarnStep::Include { .. } => self.list(step).await,
        };
        match taken {
            Ok((kind, node)) => (kind, String::new(), node.as_ref().map(read_back).unwrap_or_default()),
            Err(failure) => failure.into(),
        }
    }

    async fn advertise(&self, step: &YarnStep) -> Result<(OutcomeKind, Option<YarnNode>), Failure> {
        let YarnStep::Advertise { host, resources } = step else {
            return Err(Failure::Refused("not about resources".to_owned()));
        };
        let report = self.report().await.map_err(Failure::Failed)?;
        let node =
            report.nodes.iter().find(|node| node.host == *host).cloned().ok_or_else(|| unknown(host))?;
        let port = match (node.state, node.port) {
            (YarnState::Running | YarnState::Unhealthy, Some(port)) => port,
            (state, _) => return Err(Failure::Refused(format!("{host} is {state}"))),
        };
        if node.total == *resources {
            return Ok((OutcomeKind::Already, Some(node)));
        }
        let (path, body) = resource_manager::advertise(host, port, *resources);
        let url = format!("{}{path}", self.url);
        match post(&url, body, TIMEOUT).await.map_err(Failure::Failed)? {
            (200, _) => {}
            // Any other answer than these is odd here: 503 stands for a wrong method or content type, too.
            (status, body) => {
                let said = String::from_utf8_lossy(&body).chars().take(120).collect::<String>();
                return Err(Failure::Failed(format!("{url}: answered {status}: {said}")));
            }
        }
        self.shown(step).await.map(|node| (OutcomeKind::Applied, node))
    }

    /// Changes the list. A host that the ResourceManager does not know can be taken off it: it is to start there.
    async fn list(&self, step: &YarnStep) -> Result<(OutcomeKind, Option<YarnNode>), Failure> {
        let Some(list) = &self.exclude else {
            let why = "no exclude list is configured for it: set exclude and refresh of [[yarn]]";
            return Err(Failure::Refused(format!("{}: {why}", self.cluster)));
        };
        let _one_at_a_time = self.changing.lock().await;
        let text = list.file.read().map_err(Failure::Refused)?;
        let before = exclude::read(&text).map_err(|why| {
            Failure::Refused(format!("{}: {why}: mend it first", list.file.path().display()))
        })?;
        let report = self.report().await.map_err(Failure::Failed)?;
        let (host, node) = (step.host(), report.nodes.iter().find(|node| node.host == step.host()).cloned());
        let timeout_s = match step {
            YarnStep::Exclude { timeout_s, .. } => Some(*timeout_s),
            _ => None,
        };
        match (&node, timeout_s) {
            (None, Some(_)) => return Err(unknown(host)),
            (Some(node), Some(_)) if node.masters > 0 => {
                let why =
                    format!("an ApplicationMaster runs on {host}: draining it would end an application");
                return Err(Failure::Refused(why));
            }
            _ => {}
        }
        let after = exclude::with(before.clone(), host, timeout_s);
        if after == before && resource_manager::read_back(&report, step).is_ok() {
            return Ok((OutcomeKind::Already, node));
        }
        let seconds = after.iter().filter_map(|entry| entry.timeout_s).fold(OTHERS_S, u32::max);
        let parameters = BTreeMap::from([("seconds".to_owned(), seconds.to_string())]);
        let written = exclude::write(&after);
        let node = list.put_in_force((&text, &written), parameters, self.shown(step), "").await?;
        Ok((OutcomeKind::Applied, node))
    }

    /// Waits until the ResourceManager shows what a step asked for.
    async fn shown(&self, step: &YarnStep) -> Result<Option<YarnNode>, Failure> {
        shown(|| async {
            match self.report().await {
                Ok(report) => match resource_manager::read_back(&report, step) {
                    Ok(node) => Look::Shown(node.cloned()),
                    Err(why) => Look::NotYet(why.to_string()),
                },
                Err(why) => Look::NotYet(why),
            }
        })
        .await
    }
}

fn listed(list: &List) -> Result<Vec<Excluded>, String> {
    exclude::read(&list.file.read()?).map_err(|why| format!("{}: {why}", list.file.path().display()))
}

fn unknown(host: &str) -> Failure {
    Failure::Refused(format!("the ResourceManager knows no node {host}"))
}

fn read_back(node: &YarnNode) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("state".to_owned(), node.state.to_string()),
        ("memory_mib".to_owned(), node.total.memory_mib.to_string()),
        ("vcores".to_owned(), node.total.vcores.to_string()),
        ("containers".to_owned(), node.containers.to_string()),
    ])
}
