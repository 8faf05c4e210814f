//! Cassandra.

use std::collections::BTreeMap;

use model::action::Verb;
use model::cassandra::{CassandraMode, CassandraReport, CassandraStep, RequestTimes, RingView};

use super::super::{few, fit, text, unspecified};
use super::{KEYSPACES, NODES};
use crate::{WireError, pb};

impl TryFrom<pb::CassandraReport> for CassandraReport {
    type Error = WireError;
    fn try_from(m: pb::CassandraReport) -> Result<Self, WireError> {
        let mode = match m.mode() {
            pb::CassandraMode::Starting => CassandraMode::Starting,
            pb::CassandraMode::Normal => CassandraMode::Normal,
            pb::CassandraMode::Joining => CassandraMode::Joining,
            pb::CassandraMode::Leaving => CassandraMode::Leaving,
            pb::CassandraMode::Decommissioned => CassandraMode::Decommissioned,
            pb::CassandraMode::DecommissionFailed => CassandraMode::DecommissionFailed,
            pb::CassandraMode::Moving => CassandraMode::Moving,
            pb::CassandraMode::Draining => CassandraMode::Draining,
            pb::CassandraMode::Drained => CassandraMode::Drained,
            pb::CassandraMode::Unspecified => return Err(unspecified("mode of a Cassandra node")),
        };
        if m.replication.len() > KEYSPACES {
            let (what, found) = ("keyspaces", m.replication.len());
            return Err(WireError::OverLimit { what, found, limit: KEYSPACES });
        }
        let replication = m.replication.into_iter().map(|(k, n)| Ok((text("keyspace", k)?, n)));
        Ok(CassandraReport {
            cluster: text("cluster", m.cluster)?,
            address: text("address", m.address)?,
            dc: text("data centre", m.dc)?,
            rack: text("rack", m.rack)?,
            started_ms: m.started_ms,
            mode,
            ring: ring(m.ring.ok_or(WireError::Missing("view of the ring"))?)?,
            replication: replication.collect::<Result<BTreeMap<_, _>, WireError>>()?,
            pending_compactions: m.pending_compactions,
            streams: m.streams,
            hints: m.hints,
            reads: m.reads.map(times).unwrap_or_default(),
            writes: m.writes.map(times).unwrap_or_default(),
            dropped: m.dropped,
            load_bytes: m.load_bytes,
            disk_bytes: m.disk_bytes,
            disk_free_bytes: m.disk_free_bytes,
        })
    }
}

impl From<CassandraReport> for pb::CassandraReport {
    fn from(r: CassandraReport) -> Self {
        let mode = match r.mode {
            CassandraMode::Starting => pb::CassandraMode::Starting,
            CassandraMode::Normal => pb::CassandraMode::Normal,
            CassandraMode::Joining => pb::CassandraMode::Joining,
            CassandraMode::Leaving => pb::CassandraMode::Leaving,
            CassandraMode::Decommissioned => pb::CassandraMode::Decommissioned,
            CassandraMode::DecommissionFailed => pb::CassandraMode::DecommissionFailed,
            CassandraMode::Moving => pb::CassandraMode::Moving,
            CassandraMode::Draining => pb::CassandraMode::Draining,
            CassandraMode::Drained => pb::CassandraMode::Drained,
        };
        pb::CassandraReport {
            cluster: fit(r.cluster),
            address: fit(r.address),
            dc: fit(r.dc),
            rack: fit(r.rack),
            started_ms: r.started_ms,
            mode: mode.into(),
            ring: Some(ring_to_pb(r.ring)),
            replication: r.replication.into_iter().map(|(k, n)| (fit(k), n)).collect(),
            pending_compactions: r.pending_compactions,
            streams: r.streams,
            hints: r.hints,
            reads: Some(times_to_pb(r.reads)),
            writes: Some(times_to_pb(r.writes)),
            dropped: r.dropped,
            load_bytes: r.load_bytes,
            disk_bytes: r.disk_bytes,
            disk_free_bytes: r.disk_free_bytes,
        }
    }
}

fn ring(m: pb::RingView) -> Result<RingView, WireError> {
    let all = |list: Vec<String>| {
        let list = few("members of a ring", list, NODES)?;
        list.into_iter().map(|one| text("address", one)).collect::<Result<Vec<_>, _>>()
    };
    Ok(RingView {
        members: all(m.members)?,
        live: all(m.live)?,
        unreachable: all(m.unreachable)?,
        joining: all(m.joining)?,
        leaving: all(m.leaving)?,
        moving: all(m.moving)?,
        seeds: all(m.seeds)?,
        schema: text("schema", m.schema)?,
    })
}

fn ring_to_pb(r: RingView) -> pb::RingView {
    let all = |list: Vec<String>| list.into_iter().map(fit).collect();
    pb::RingView {
        members: all(r.members),
        live: all(r.live),
        unreachable: all(r.unreachable),
        joining: all(r.joining),
        leaving: all(r.leaving),
        moving: all(r.moving),
        seeds: all(r.seeds),
        schema: fit(r.schema),
    }
}

fn times(m: pb::RequestTimes) -> RequestTimes {
    RequestTimes { count: m.count, p99_us: m.p99_us }
}

fn times_to_pb(t: RequestTimes) -> pb::RequestTimes {
    pb::RequestTimes { count: t.count, p99_us: t.p99_us }
}

pub(in super::super) fn cassandra_verb(m: pb::CassandraVerb) -> Result<Verb, WireError> {
    use pb::cassandra_verb::Step;
    let step = match m.step.ok_or(WireError::Missing("step on a Cassandra node"))? {
        Step::Decommission(_) => CassandraStep::Decommission,
        Step::Cleanup(_) => CassandraStep::Cleanup,
    };
    Ok(Verb::Cassandra { cluster: text("cluster", m.cluster)?, node: text("node", m.node)?, step })
}

pub(in super::super) fn cassandra_verb_to_pb(
    cluster: String,
    node: String,
    step: CassandraStep,
) -> pb::CassandraVerb {
    use pb::cassandra_verb::Step;
    let step = match step {
        CassandraStep::Decommission => Step::Decommission(true),
        CassandraStep::Cleanup => Step::Cleanup(true),
    };
    pb::CassandraVerb { cluster: fit(cluster), node: fit(node), step: Some(step) }
}
