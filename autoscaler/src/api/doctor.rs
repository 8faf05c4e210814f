//! What is not as it should be with the service and its agents, and how to mend it.
//!
//! Each check looks at one thing, passes or says what it found, and then what to do. Where an alert (dashboards/alerts.yaml) looks
//! at the same moment, its threshold is used and named, so that a person who looks and a pager agree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Node, Status};

/// Names of nodes that one finding lists.
const NAMED: usize = 5;
/// Different reasons that one node or another cannot be measured for, which are listed.
const LACKING: usize = 20;
/// A connected node whose newest sample is older than this sends none, ms: TrimtabDataStale.
const STALE_MS: u64 = 60_000;
/// A clock this far from the autoscaler's is worth a look, ms.
const SKEWED_MS: u64 = 1_000;
/// Rounds on an agent's disk that are no mere hiccup: a minute of them.
const BACKLOG: u64 = 60;
/// Share of samples refused that is more than what a restart leaves.
const REFUSED: f64 = 0.01;
/// Difference of a node's two CPU ledgers that rounding and hidden switches do not explain.
const LEDGERS: f64 = 0.05;
/// With less in use than this, cores, the moment between reading the one and the other is most of their difference.
const COMPARED: f64 = 0.1;
/// A certificate that ends within this time should have been renewed long ago, s: TrimtabCertificateExpires.
const EXPIRES_S: u64 = 4 * 3600;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Worth a look: it works without.
    Warn,
    /// Something does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; absent when it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn pass(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Pass, found: found.into(), fix: None }
    }

    /// It works without, but `fix` would be better.
    pub fn warn(check: &str, found: impl Into<String>, fix: &str) -> Self {
        Self {
            check: check.to_owned(),
            verdict: Verdict::Warn,
            found: found.into(),
            fix: Some(fix.to_owned()),
        }
    }

    /// It does not work until `fix`.
    pub fn fail(check: &str, found: impl Into<String>, fix: &str) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, found, fix) }
    }
}

/// All checks of the service and its agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Doctor {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Nothing failed.
    pub ok: bool,
    /// Each check, always in the same order.
    pub findings: Vec<Finding>,
}

/// What the service knows of itself, beside its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// When its certificate ends, Unix seconds; `None` without TLS.
    pub certificate_expiry_s: Option<u64>,
    /// Writes of history that failed, since its start.
    pub history_failed: u64,
    /// Batches that history did not take, since its start.
    pub history_dropped: u64,
}

impl Doctor {
    /// Looks at everything.
    #[must_use]
    pub fn of(status: &Status, service: &Service, nodes: &[Node]) -> Self {
        let mut findings = vec![
            store(status),
            acting(status),
            history(service),
            certificate(service, status.now_ms / 1000),
            agents(&nodes.iter().collect::<Vec<_>>()),
        ];
        let connected: Vec<&Node> = nodes.iter().filter(|node| node.connected).collect();
        // Of those that are away the line before says all that is to be done.
        if !connected.is_empty() {
            findings.push(versions(&status.version, &connected));
            findings.extend([samples, clocks, backlog, refused, ledgers].map(|check| check(&connected)));
            findings.extend(measured(&connected));
        }
        let ok = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
        Self { api_version: super::API_VERSION.to_owned(), ok, findings }
    }
}

fn store(status: &Status) -> Finding {
    match &status.frozen {
        None => Finding::pass("store", "takes what happens"),
        Some(why) => {
            Finding::fail("store", why, "free space in the state directory; it acts again by itself")
        }
    }
}

fn acting(status: &Status) -> Finding {
    if status.frozen.is_some() {
        return Finding::fail(
            "acting",
            "frozen: what cannot be made durable is not done",
            "as for the store",
        );
    }
    let all = status.pauses.iter().filter(|pause| pause.workload.is_none());
    let mut why = all.map(|pause| pause.reason.as_str()).filter(|why| !why.is_empty());
    match (status.state.as_str(), why.next()) {
        ("paused", Some(why)) => Finding::warn("acting", format!("paused: {why}"), "trimtab resume"),
        ("paused", None) => Finding::warn("acting", "paused", "trimtab resume"),
        _ => Finding::pass("acting", "what is decided is carried out, where a workload's mode is auto"),
    }
}

fn history(service: &Service) -> Finding {
    match (service.history_failed, service.history_dropped) {
        (0, 0) => Finding::pass("history", "has taken all that came"),
        (failed, dropped) => Finding::warn(
            "history",
            format!("since its start {failed} writes failed and {dropped} batches were dropped"),
            "look at the disk of the state directory, and at the log; charts and recommended sizes lack that time",
        ),
    }
}

fn certificate(service: &Service, now_s: u64) -> Finding {
    let Some(ends) = service.certificate_expiry_s else {
        return Finding::pass("certificate", "none is needed: no listener has TLS");
    };
    match ends.saturating_sub(now_s) {
        0 => Finding::fail("certificate", "it has ended: agents cannot connect", RENEW),
        left if left < EXPIRES_S => {
            Finding::fail("certificate", format!("it ends in {} min", left.div_ceil(60)), RENEW)
        }
        left => Finding::pass("certificate", format!("good for {} h, renewed in time", left / 3600)),
    }
}

const RENEW: &str = "it should have been renewed: look for \"certificate\" in the autoscaler's log";

fn agents(nodes: &[&Node]) -> Finding {
    let (lost, names) = named(nodes, |node| !node.connected);
    match (nodes.len(), lost) {
        (0, _) => Finding::warn(
            "agents",
            "no node has connected yet",
            "start trimtab-agent here, or on another host after `trimtab node join-token NAME`",
        ),
        (all, 0) => Finding::pass("agents", format!("{all} of {all} connected")),
        _ => Finding::warn(
            "agents",
            format!("{} of {} connected; not {names}", nodes.len() - lost, nodes.len()),
            "there: systemctl status trimtab-agent; for a node that is gone for good nothing is left to do",
        ),
    }
}

/// Passes when none is `so`; otherwise it is `ill`, and their names follow.
fn of_each(
    nodes: &[&Node],
    check: &str,
    so: impl Fn(&Node) -> bool,
    well: &str,
    ill: &str,
    fix: &str,
) -> Finding {
    match named(nodes, so) {
        (0, _) => Finding::pass(check, well),
        (_, names) => Finding::warn(check, format!("{ill}{names}"), fix),
    }
}

fn versions(own: &str, nodes: &[&Node]) -> Finding {
    of_each(
        nodes,
        "versions",
        |node| node.agent_version.as_deref() != Some(own),
        &format!("{own} everywhere"),
        &format!("another than {own}, or one that does not tell it: "),
        "upgrade trimtab-agent there; tasks go on meanwhile",
    )
}

fn samples(nodes: &[&Node]) -> Finding {
    of_each(
        nodes,
        "samples",
        |node| node.age_ms.is_some_and(|age| age > STALE_MS),
        "arrive from each connected node",
        "connected, and none for over a minute: ",
        "nothing shrinks there; look at the agent's log and at the CPU that is left to it",
    )
}

fn clocks(nodes: &[&Node]) -> Finding {
    let far = |node: &Node| node.clock_skew_ms.is_some_and(|ms| ms.unsigned_abs() >= SKEWED_MS);
    of_each(
        nodes,
        "clocks",
        far,
        "within a second of the autoscaler's, where a batch has come",
        "a second or more from the autoscaler's: ",
        "run a time service there (chrony, systemd-timesyncd): certificates and charts need clocks that agree",
    )
}

fn backlog(nodes: &[&Node]) -> Finding {
    of_each(
        nodes,
        "backlog",
        |node| node.spooled_rounds.is_some_and(|rounds| rounds >= BACKLOG),
        "no agent has a minute or more on its disk",
        "a minute or more waits on the disk of ",
        "it is sent by and by; if it does not become less, look at the network between, and at the agent's log",
    )
}

fn refused(nodes: &[&Node]) -> Finding {
    let much = |node: &Node| {
        let all = node.samples.saturating_add(node.refused_samples);
        node.refused_samples as f64 > all as f64 * REFUSED
    };
    of_each(
        nodes,
        "refused samples",
        much,
        "less than one in a hundred, since they connected",
        "more than one in a hundred, since they connected: ",
        "some are normal after a restart; if it goes on, keep the agent's log and report it",
    )
}

fn ledgers(nodes: &[&Node]) -> Finding {
    let differ = |node: &Node| {
        node.accounting_error_ratio.is_some_and(|error| error > LEDGERS)
            && node.cpu_cores.is_some_and(|cores| cores >= COMPARED)
    };
    of_each(
        nodes,
        "CPU ledgers",
        differ,
        "agree, where there are two and they have something to compare",
        "differ by more than 5 %: ",
        "the kernel's own is shown; restart the agent there, and report it if it comes back",
    )
}

/// One finding for each reason that something cannot be measured for.
fn measured(nodes: &[&Node]) -> Vec<Finding> {
    let mut lacking: BTreeMap<(&str, &str), Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        for one in &node.unavailable {
            lacking.entry((&one.what, &one.why)).or_default().push(node);
        }
    }
    if lacking.is_empty() {
        return vec![Finding::pass("measured", "everything, on each connected node")];
    }
    let more = lacking.len().saturating_sub(LACKING);
    let mut findings: Vec<Finding> = lacking
        .into_iter()
        .take(LACKING)
        .map(|((what, why), without)| {
            let (count, names) = named(&without, |_| true);
            let found = format!("not on {count} of {}: {names}", nodes.len());
            Finding::warn(&format!("measured: {what}"), found, why)
        })
        .collect();
    if more > 0 {
        let found = format!("{more} other reasons");
        findings.push(Finding::warn("measured", found, "`trimtab get nodes -o json` has them all"));
    }
    findings
}

/// How many those are that are `so`, and the first of their names.
fn named(nodes: &[&Node], so: impl Fn(&Node) -> bool) -> (usize, String) {
    let names: Vec<&str> = nodes.iter().filter(|node| so(node)).map(|node| node.name.as_str()).collect();
    let mut text = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED {
        text += &format!(" and {} more", names.len() - NAMED);
    }
    (names.len(), text)
}

#[cfg(test)]
mod tests;
