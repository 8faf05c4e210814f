//! A Cassandra node on this host, by its Jolokia agent.
//!
//! Cassandra's own guards are too weak: it lets a node leave that others need, or while another one joins. So what this node sees is looked
//! at before it is asked, nothing is ever forced, and nothing is asked to see whether it is refused: a refusal marks a healthy node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent_core::jolokia::{self, Beside};
use model::action::OutcomeKind;
use model::adapter::AdapterReport;
use model::cassandra::{CassandraMode, CassandraReport, CassandraStep, RingView};

use super::{Effect, Failure, post};
use crate::settings::CassandraFragment;

/// Longest wait for the answer to reads: they take some milliseconds, and seconds while the machine is loaded.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer of an operation: a cleanup rewrites what a node has.
const LONG: Duration = Duration::from_secs(24 * 3_600);
/// Time until a node that was asked to leave must be seen leaving.
const SHOWN: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// What seldom changes is asked again after so long, or when the members change.
const TOPOLOGY: Duration = Duration::from_secs(60);

/// What was learned of replication: for which members and keyspaces, and when.
#[derive(Debug, Default)]
struct Topology {
    known: BTreeMap<String, u32>,
    of: (Vec<String>, Vec<String>),
    at: Option<Instant>,
}

/// A Cassandra node on this host.
#[derive(Debug, Clone)]
pub struct Cassandra {
    cluster: String,
    url: String,
    /// Its address in the ring, once it is known.
    address: Arc<Mutex<Option<String>>>,
    topology: Arc<Mutex<Topology>>,
}

impl Cassandra {
    /// The one that the owner configured.
    #[must_use]
    pub fn new(config: &CassandraFragment) -> Self {
        let mut url = config.url.trim_end_matches('/').to_owned();
        if url.matches('/').count() == 2 {
            url.push_str("/jolokia");
        }
        let address = Arc::new(Mutex::new(config.address.map(|address| address.to_string())));
        Self { cluster: config.cluster.clone(), url: url + "/", address, topology: Arc::default() }
    }

    /// Its cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Reads it.
    pub async fn read(&self) -> AdapterReport {
        match self.report().await {
            Ok((report, _)) => AdapterReport::Cassandra(Box::new(report)),
            Err(why) => AdapterReport::Unreachable {
                endpoint: format!("cassandra {} {}", self.cluster, self.url),
                why,
            },
        }
    }

    /// Its address in the ring: as it is known, or else as it answers.
    pub async fn address(&self) -> Option<String> {
        let known = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Some(known),
            None => self.report().await.ok().map(|(report, _)| report.address),
        }
    }

    async fn report(&self) -> Result<(CassandraReport, Beside), String> {
        let says = |why: jolokia::AnswerError| format!("{}: {why}", self.url);
        let body = self.ask(jolokia::questions().to_string(), TIMEOUT).await?;
        let (mut report, beside) = jolokia::report(&self.cluster, &body).map_err(says)?;
        self.know(&mut report.address);
        // While it is no member it has no word on who owns what.
        if report.ring.members.contains(&report.address) {
            report.replication = self.replication(&report, &beside).await?;
        }
        let disk = beside.data.first().and_then(|path| rustix::fs::statvfs(path.as_str()).ok());
        // What is kept for the superuser is neither in use nor to be had: counted as df does.
        let kept = |disk: &rustix::fs::StatVfs| disk.f_bfree.saturating_sub(disk.f_bavail);
        let size = |disk: &rustix::fs::StatVfs| {
            disk.f_blocks.saturating_sub(kept(disk)).saturating_mul(disk.f_frsize)
        };
        report.disk_bytes = disk.as_ref().map(size);
        report.disk_free_bytes = disk.as_ref().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok((report, beside))
    }

    /// Remembers its address, or fills it in: who has left is in no map of the ring.
    fn know(&self, address: &mut String) {
        let mut known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if address.is_empty() {
            *address = known.clone().unwrap_or_default();
        } else {
            *known = Some(address.clone());
        }
    }

    async fn replication(
        &self,
        report: &CassandraReport,
        beside: &Beside,
    ) -> Result<BTreeMap<String, u32>, String> {
        let of = (report.ring.members.clone(), beside.keyspaces.clone());
        {
            let topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
            if topology.of == of && topology.at.is_some_and(|at| at.elapsed() < TOPOLOGY) {
                return Ok(topology.known.clone());
            }
        }
        let (members, keyspaces) = (&of.0, &of.1);
        let questions = jolokia::topology_questions(keyspaces, members).to_string();
        let body = self.ask(questions, TIMEOUT).await?;
        let known = jolokia::replication(keyspaces, members, &report.dc, &body);
        let known = known.map_err(|why| format!("{}: {why}", self.url))?;
        let mut topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
        *topology = Topology { known: known.clone(), of, at: Some(Instant::now()) };
        Ok(known)
    }

    async fn ask(&self, json: String, timeout: Duration) -> Result<hyper::body::Bytes, String> {
        match post(&self.url, json, timeout).await? {
            (200, body) => Ok(body),
            (403, _) => Err(format!("{}: its policy refuses this agent: allow POST from loopback", self.url)),
            (status, _) => Err(format!("{}: answered {status}", self.url)),
        }
    }

    /// Takes a step. A decommission is answered when it is seen to be under way; a cleanup when it is over.
    pub async fn step(&self, node: &str, step: CassandraStep) -> Effect {
        let taken = match step {
            CassandraStep::Decommission => self.decommission(node).await,
            CassandraStep::Cleanup => self.cleanup(node).await,
        };
        match taken {
            Ok((kind, report)) => {
                let back = [("mode", report.mode.to_string()), ("load_bytes", report.load_bytes.to_string())];
                let back = back.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                (kind, String::new(), back)
            }
            Err(failure) => failure.into(),
        }
    }

    async fn look(&self, node: &str) -> Result<(CassandraReport, Beside), Failure> {
        let (report, beside) = self.report().await.map_err(Failure::Failed)?;
        if report.address == node {
            Ok((report, beside))
        } else {
            Err(Failure::Refused(format!("{} is {} in the ring, not {node}", self.url, report.address)))
        }
    }

    async fn decommission(&self, node: &str) -> Result<(OutcomeKind, CassandraReport), Failure> {
        let (report, _) = self.look(node).await?;
        match report.mode {
            CassandraMode::Leaving | CassandraMode::Decommissioned => {
                return Ok((OutcomeKind::Already, report));
            }
            // A refused decommission calls a healthy node failed until the next one.
            CassandraMode::Normal | CassandraMode::DecommissionFailed => {}
            mode => return Err(Failure::Refused(format!("{node} is {mode}"))),
        }
        if let Some(why) = must_stay(&report) {
            return Err(Failure::Refused(why));
        }
        let Some(request) = jolokia::requests(CassandraStep::Decommission, &[]).pop() else {
            return Err(Failure::Failed("no request for it".to_owned()));
        };
        // It answers when it is over, and goes on when nobody listens any more.
        let this = self.clone();
        let asked = tokio::spawn(async move { this.ask(request.to_string(), LONG).await });
        self.leaves(node, asked).await.map(|report| (OutcomeKind::Applied, report))
    }

    /// Waits until it is seen leaving, or says why not.
    async fn leaves(
        &self,
        node: &str,
        asked: tokio::task::JoinHandle<Result<hyper::body::Bytes, String>>,
    ) -> Result<CassandraReport, Failure> {
        let until = Instant::now() + SHOWN;
        loop {
            let over = asked.is_finished();
            let seen = self.report().await;
            if let Ok((report, _)) = &seen
                && matches!(report.mode, CassandraMode::Leaving | CassandraMode::Decommissioned)
            {
                return Ok(report.clone());
            }
            if over {
                let said = match asked.await {
                    Ok(Ok(body)) => jolokia::returned(CassandraStep::Decommission, &body)
                        .err()
                        .map_or_else(|| "it said yes, and does not leave".to_owned(), |why| why.to_string()),
                    Ok(Err(why)) => why,
                    Err(why) => why.to_string(),
                };
                return Err(Failure::Failed(format!("{node}: {said}")));
            }
            if Instant::now() >= until {
                let mode = seen.map_or_else(|why| why, |(report, _)| report.mode.to_string());
                return Err(Failure::Failed(format!(
                    "{node}: {mode}, {} s after it was asked",
                    SHOWN.as_secs()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn cleanup(&self, node: &str) -> Result<(OutcomeKind, CassandraReport), Failure> {
        let (report, beside) = self.look(node).await?;
        if report.mode != CassandraMode::Normal && report.mode != CassandraMode::DecommissionFailed {
            return Err(Failure::Refused(format!("{node} is {}", report.mode)));
        }
        if let Some(why) = moving(&report.ring) {
            return Err(Failure::Refused(why));
        }
        for request in jolokia::requests(CassandraStep::Cleanup, &beside.keyspaces) {
            let body = self.ask(request.to_string(), LONG).await.map_err(Failure::Failed)?;
            let refused = |why: jolokia::AnswerError| Failure::Failed(format!("{node}: {why}"));
            jolokia::returned(CassandraStep::Cleanup, &body).map_err(refused)?;
        }
        self.look(node).await.map(|(report, _)| (OutcomeKind::Applied, report))
    }
}

/// What changes in the ring now, if anything.
fn moving(ring: &RingView) -> Option<String> {
    let all = [("joins", &ring.joining), ("leaves", &ring.leaving), ("moves", &ring.moving)];
    all.into_iter().find_map(|(how, who)| Some(format!("{} {how}", who.first()?)))
}

/// Why this node must stay, as far as it can see: the ring changes, or too few would be left.
fn must_stay(report: &CassandraReport) -> Option<String> {
    let ring = &report.ring;
    if let Some(why) = moving(ring) {
        return Some(why);
    }
    let down = ring.unreachable.iter().find(|one| ring.members.contains(one));
    if let Some(down) = down {
        return Some(format!("{down} is a member and does not answer"));
    }
    let Some((keyspace, replicas)) = report.replication.iter().max_by_key(|(_, replicas)| **replicas) else {
        return Some("it is not known how often data is replicated".to_owned());
    };
    let left = ring.members.len().saturating_sub(1);
    (left < *replicas as usize)
        .then(|| format!("{left} members would be left, and {keyspace} has {replicas} replicas"))
}
