use std::collections::BTreeMap;

use model::action::{Command, Verb};
use model::adapter::AdapterReport;
use model::cassandra::{CassandraMode, CassandraReport, CassandraStep, RequestTimes, RingView};
use model::hdfs::{AdminState, DataNode, HdfsReport, HdfsStep};
use model::id::{CommandId, ControllerEpoch, Generation};
use model::yarn::{Excluded, Resources, YarnNode, YarnReport, YarnState, YarnStep};

use super::*;
use crate::pb;

fn survives(report: AdapterReport) {
    assert_eq!(AdapterReport::try_from(pb::AdapterReport::from((9, report.clone()))), Ok(report));
}

fn yarn_node(state: YarnState) -> YarnNode {
    let total = Resources { memory_mib: 1_024, vcores: 4 };
    let port = Some(8041).filter(|_| state != YarnState::Decommissioned);
    let health = "disks".to_owned();
    YarnNode {
        host: "w1".into(),
        port,
        state,
        total,
        used: Resources::default(),
        containers: 3,
        masters: 1,
        health,
    }
}

#[test]
fn every_state_of_a_node_manager_survives_the_wire() {
    let states = [
        YarnState::New,
        YarnState::Running,
        YarnState::Unhealthy,
        YarnState::Decommissioning,
        YarnState::Decommissioned,
        YarnState::Lost,
        YarnState::Rebooted,
        YarnState::Shutdown,
    ];
    let listed = vec![
        Excluded { host: "w2".into(), timeout_s: None },
        Excluded { host: "w3".into(), timeout_s: Some(600) },
    ];
    for excluded in [None, Some(Vec::new()), Some(listed)] {
        survives(AdapterReport::Yarn(YarnReport {
            cluster: "batch".into(),
            started_ms: 5,
            labels: true,
            pending: Resources { memory_mib: 7, vcores: 8 },
            containers_pending: 9,
            apps_running: 10,
            apps_pending: 11,
            excluded,
            nodes: states.map(yarn_node).into(),
        }));
    }
}

#[test]
fn every_state_of_a_data_node_survives_the_wire() {
    let states = [
        AdminState::Normal,
        AdminState::Decommissioning,
        AdminState::Decommissioned,
        AdminState::EnteringMaintenance,
        AdminState::InMaintenance,
    ];
    let node = |state| DataNode {
        name: "w1:9866".into(),
        address: "192.0.2.1:9866".into(),
        alive: state == AdminState::Normal,
        state,
        capacity_bytes: 1,
        used_bytes: 2,
        remaining_bytes: 3,
        blocks: 4,
        to_copy: Some(0).filter(|_| state == AdminState::Decommissioning),
        rack: "/r1".into(),
    };
    for replication in [None, Some(3)] {
        survives(AdapterReport::Hdfs(HdfsReport {
            cluster: "store".into(),
            started_ms: 5,
            safe_mode: "on".into(),
            missing_blocks: 1,
            corrupt_blocks: 2,
            under_replicated_blocks: 3,
            blocks: 4,
            replication,
            transfers: replication.map(u64::from),
            nodes: states.map(node).into(),
        }));
    }
}

#[test]
fn every_mode_of_a_cassandra_node_survives_the_wire() {
    let modes = [
        CassandraMode::Starting,
        CassandraMode::Normal,
        CassandraMode::Joining,
        CassandraMode::Leaving,
        CassandraMode::Decommissioned,
        CassandraMode::DecommissionFailed,
        CassandraMode::Moving,
        CassandraMode::Draining,
        CassandraMode::Drained,
    ];
    let list = |name: &str| vec![name.to_owned()];
    for mode in modes {
        survives(AdapterReport::Cassandra(Box::new(CassandraReport {
            cluster: "ring".into(),
            address: "192.0.2.1".into(),
            dc: "dc1".into(),
            rack: "r1".into(),
            started_ms: 1,
            mode,
            ring: RingView {
                members: list("a"),
                live: list("b"),
                unreachable: list("c"),
                joining: list("d"),
                leaving: list("e"),
                moving: list("f"),
                seeds: list("g"),
                schema: "s".into(),
            },
            replication: BTreeMap::from([("system_auth".to_owned(), 1)]),
            pending_compactions: 2,
            streams: 3,
            hints: 4,
            reads: RequestTimes { count: 0, p99_us: None },
            writes: RequestTimes { count: 5, p99_us: Some(6) },
            dropped: 7,
            load_bytes: 8,
            disk_bytes: Some(9),
            disk_free_bytes: None,
        })));
    }
}

#[test]
fn every_step_survives_the_wire() {
    let yarn = |step| Verb::Yarn { cluster: "batch".into(), step };
    let hdfs = |step| Verb::Hdfs { cluster: "store".into(), step };
    let cassandra = |step| Verb::Cassandra { cluster: "ring".into(), node: "192.0.2.1".into(), step };
    let host = || "w1".to_owned();
    for verb in [
        yarn(YarnStep::Advertise { host: host(), resources: Resources { memory_mib: 1, vcores: 2 } }),
        yarn(YarnStep::Exclude { host: host(), timeout_s: 600 }),
        yarn(YarnStep::Include { host: host() }),
        hdfs(HdfsStep::Decommission { node: host() }),
        hdfs(HdfsStep::Recommission { node: host() }),
        cassandra(CassandraStep::Decommission),
        cassandra(CassandraStep::Cleanup),
    ] {
        let sent = Command {
            id: CommandId(7),
            epoch: ControllerEpoch(3),
            generation: Generation(11),
            workload: "batch".parse().unwrap(),
            task: "batch-4".parse().unwrap(),
            verb,
            deadline_ms: 5,
        };
        assert_eq!(Command::try_from(pb::Command::from(sent.clone())), Ok(sent));
    }
}

#[test]
fn what_no_cluster_says_is_refused() {
    let node = |state: i32| pb::YarnNode { state, total: None, ..Default::default() };
    let unknown = pb::YarnReport { nodes: vec![node(99)], ..Default::default() };
    assert!(YarnReport::try_from(unknown).is_err());
    let bare = pb::YarnReport { nodes: vec![node(2)], ..Default::default() };
    assert!(YarnReport::try_from(bare).is_err(), "a node without its resources is not one with none");
    let many = pb::YarnReport { nodes: vec![pb::YarnNode::default(); NODES + 1], ..Default::default() };
    assert!(YarnReport::try_from(many).is_err());
    let keyspaces = (0..=KEYSPACES).map(|n| (n.to_string(), 1)).collect();
    let wide = pb::CassandraReport { mode: 2, replication: keyspaces, ..Default::default() };
    assert!(CassandraReport::try_from(wide).is_err());
    assert!(CassandraReport::try_from(pb::CassandraReport { mode: 2, ..Default::default() }).is_err());
}
