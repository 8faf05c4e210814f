//! Reports for tests.

use std::collections::BTreeMap;

use model::cassandra::{CassandraMode, CassandraReport, RequestTimes, RingView};
use model::hdfs::{AdminState, DataNode, HdfsReport};

use super::gate::Ring;

/// A file system of so many DataNodes, each with `used` of `capacity` bytes, and two replicas.
pub(crate) fn hdfs(nodes: u32, used: u64, capacity: u64) -> HdfsReport {
    let node = |n: u32| DataNode {
        address: format!("127.0.0.1:990{n}"),
        ..data_node(&format!("127.0.0.1{n}:990{n}"), used, capacity)
    };
    file_system((1..=nodes).map(node).collect())
}

/// One in service with `used` of `capacity` bytes.
pub(crate) fn data_node(name: &str, used: u64, capacity: u64) -> DataNode {
    DataNode {
        name: name.to_owned(),
        address: name.to_owned(),
        alive: true,
        state: AdminState::Normal,
        capacity_bytes: capacity,
        used_bytes: used,
        remaining_bytes: capacity - used,
        blocks: used / 10,
        to_copy: None,
        rack: "/default-rack".into(),
    }
}

/// Nothing is wrong with it, and what its nodes have are two replicas of each block.
pub(crate) fn file_system(nodes: Vec<DataNode>) -> HdfsReport {
    HdfsReport {
        cluster: "store".into(),
        started_ms: 1,
        safe_mode: String::new(),
        missing_blocks: 0,
        corrupt_blocks: 0,
        under_replicated_blocks: 0,
        blocks: nodes.iter().map(|node| node.blocks).sum::<u64>() / 2,
        replication: Some(2),
        transfers: None,
        nodes,
    }
}

/// A ring of so many nodes at rest, each with `used` of `disk` bytes, and a keyspace of three replicas.
pub(crate) fn ring(nodes: u32, used: u64, disk: u64) -> Ring {
    let address = |n: u32| format!("10.0.0.{n}");
    let members: Vec<String> = (1..=nodes).map(address).collect();
    let view = |n: u32| CassandraReport {
        cluster: "ring".into(),
        address: address(n),
        dc: "dc1".into(),
        rack: "rack1".into(),
        started_ms: 1,
        mode: CassandraMode::Normal,
        ring: RingView {
            members: members.clone(),
            live: members.clone(),
            seeds: members.iter().take(3).cloned().collect(),
            schema: "s1".into(),
            ..RingView::default()
        },
        replication: BTreeMap::from([("shop".to_owned(), 3)]),
        pending_compactions: 0,
        streams: 0,
        hints: 0,
        reads: RequestTimes::default(),
        writes: RequestTimes::default(),
        dropped: 0,
        load_bytes: used,
        disk_bytes: Some(disk),
        disk_free_bytes: Some(disk - used),
    };
    (1..=nodes).map(|n| (address(n), view(n))).collect()
}
