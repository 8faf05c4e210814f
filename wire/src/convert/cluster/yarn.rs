//! YARN.

use model::action::Verb;
use model::yarn::{Excluded, Resources, YarnNode, YarnReport, YarnState, YarnStep};

use super::super::{few, fit, text, unspecified};
use super::NODES;
use crate::{WireError, pb};

impl TryFrom<pb::YarnReport> for YarnReport {
    type Error = WireError;
    fn try_from(m: pb::YarnReport) -> Result<Self, WireError> {
        let excluded = m.excluded.map(|list| {
            few("excluded hosts", list.hosts, NODES)?
                .into_iter()
                .map(|e| Ok(Excluded { host: text("host", e.host)?, timeout_s: e.timeout_s }))
                .collect::<Result<Vec<_>, WireError>>()
        });
        Ok(YarnReport {
            cluster: text("cluster", m.cluster)?,
            started_ms: m.started_ms,
            labels: m.labels,
            pending: m.pending.map(resources).unwrap_or_default(),
            containers_pending: m.containers_pending,
            apps_running: m.apps_running,
            apps_pending: m.apps_pending,
            excluded: excluded.transpose()?,
            nodes: few("nodes", m.nodes, NODES)?.into_iter().map(node).collect::<Result<_, _>>()?,
        })
    }
}

impl From<YarnReport> for pb::YarnReport {
    fn from(r: YarnReport) -> Self {
        let excluded = |e: Excluded| pb::Excluded { host: fit(e.host), timeout_s: e.timeout_s };
        pb::YarnReport {
            cluster: fit(r.cluster),
            started_ms: r.started_ms,
            labels: r.labels,
            pending: Some(resources_to_pb(r.pending)),
            containers_pending: r.containers_pending,
            apps_running: r.apps_running,
            apps_pending: r.apps_pending,
            excluded: r
                .excluded
                .map(|list| pb::ExcludeList { hosts: list.into_iter().map(excluded).collect() }),
            nodes: r.nodes.into_iter().map(node_to_pb).collect(),
        }
    }
}

fn node(m: pb::YarnNode) -> Result<YarnNode, WireError> {
    let state = match m.state() {
        pb::YarnState::New => YarnState::New,
        pb::YarnState::Running => YarnState::Running,
        pb::YarnState::Unhealthy => YarnState::Unhealthy,
        pb::YarnState::Decommissioning => YarnState::Decommissioning,
        pb::YarnState::Decommissioned => YarnState::Decommissioned,
        pb::YarnState::Lost => YarnState::Lost,
        pb::YarnState::Rebooted => YarnState::Rebooted,
        pb::YarnState::Shutdown => YarnState::Shutdown,
        pb::YarnState::Unspecified => return Err(unspecified("state of a NodeManager")),
    };
    let port = u16::try_from(m.port)
        .map_err(|_| WireError::Invalid { what: "port of a NodeManager", why: m.port.to_string() })?;
    Ok(YarnNode {
        host: text("host", m.host)?,
        port: Some(port).filter(|port| *port > 0),
        state,
        total: m.total.map(resources).ok_or(WireError::Missing("resources of a NodeManager"))?,
        used: m.used.map(resources).ok_or(WireError::Missing("used resources of a NodeManager"))?,
        containers: m.containers,
        masters: m.masters,
        health: text("health", m.health)?,
    })
}

fn node_to_pb(n: YarnNode) -> pb::YarnNode {
    let state = match n.state {
        YarnState::New => pb::YarnState::New,
        YarnState::Running => pb::YarnState::Running,
        YarnState::Unhealthy => pb::YarnState::Unhealthy,
        YarnState::Decommissioning => pb::YarnState::Decommissioning,
        YarnState::Decommissioned => pb::YarnState::Decommissioned,
        YarnState::Lost => pb::YarnState::Lost,
        YarnState::Rebooted => pb::YarnState::Rebooted,
        YarnState::Shutdown => pb::YarnState::Shutdown,
    };
    pb::YarnNode {
        host: fit(n.host),
        port: n.port.unwrap_or(0).into(),
        state: state.into(),
        total: Some(resources_to_pb(n.total)),
        used: Some(resources_to_pb(n.used)),
        containers: n.containers,
        masters: n.masters,
        health: fit(n.health),
    }
}

fn resources(m: pb::Resources) -> Resources {
    Resources { memory_mib: m.memory_mib, vcores: m.vcores }
}

fn resources_to_pb(r: Resources) -> pb::Resources {
    pb::Resources { memory_mib: r.memory_mib, vcores: r.vcores }
}

pub(in super::super) fn yarn_verb(m: pb::YarnVerb) -> Result<Verb, WireError> {
    use pb::yarn_verb::Step;
    let (cluster, host) = (text("cluster", m.cluster)?, text("host", m.host)?);
    let step = match m.step.ok_or(WireError::Missing("step on a YARN cluster"))? {
        Step::Advertise(r) => YarnStep::Advertise { host, resources: resources(r) },
        Step::ExcludeTimeoutS(timeout_s) => YarnStep::Exclude { host, timeout_s },
        Step::Include(_) => YarnStep::Include { host },
    };
    Ok(Verb::Yarn { cluster, step })
}

pub(in super::super) fn yarn_verb_to_pb(cluster: String, step: YarnStep) -> pb::YarnVerb {
    use pb::yarn_verb::Step;
    let (host, step) = match step {
        YarnStep::Advertise { host, resources } => (host, Step::Advertise(resources_to_pb(resources))),
        YarnStep::Exclude { host, timeout_s } => (host, Step::ExcludeTimeoutS(timeout_s)),
        YarnStep::Include { host } => (host, Step::Include(true)),
    };
    pb::YarnVerb { cluster: fit(cluster), host: fit(host), step: Some(step) }
}
