use model::cassandra::CassandraMode;
use model::yarn::{Excluded, YarnNode};

use super::*;
use crate::cluster::testing::{self, data_node, file_system};

const GIB: u64 = 1 << 30;

fn words(gates: &[Gate]) -> String {
    gates.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn resources(memory_mib: u64, vcores: u32) -> Resources {
    Resources { memory_mib, vcores }
}

fn manager(host: &str, used: u64) -> YarnNode {
    YarnNode {
        host: host.to_owned(),
        port: Some(8041),
        state: YarnState::Running,
        total: resources(1_024, 4),
        used: resources(used, 1),
        containers: 1,
        masters: 0,
        health: String::new(),
    }
}

fn yarn() -> YarnReport {
    YarnReport {
        cluster: "batch".into(),
        started_ms: 1,
        labels: false,
        pending: Resources::default(),
        containers_pending: 0,
        apps_running: 1,
        apps_pending: 0,
        excluded: Some(Vec::<Excluded>::new()),
        nodes: vec![manager("a", 512), manager("b", 512), manager("c", 512)],
    }
}

fn leave(report: &YarnReport, least: usize) -> String {
    words(&yarn_leave(report, "c", least, Resources::default()))
}

#[test]
fn a_node_manager_leaves_where_the_others_have_room() {
    assert_eq!(leave(&yarn(), 2), "");
    assert_eq!(leave(&yarn(), 3), "2 would be left, and the cluster needs 3");
    let mut full = yarn();
    full.nodes[0].used = resources(1_024, 4);
    full.nodes[1].used = resources(768, 1);
    assert!(leave(&full, 2).contains("the others have 256 MiB and 3 vcores left"), "{}", leave(&full, 2));
}

#[test]
fn everything_that_stands_in_a_node_managers_way_is_said() {
    let mut report = yarn();
    report.labels = true;
    report.excluded = None;
    report.nodes[0].state = YarnState::Lost;
    report.nodes[1].state = YarnState::Decommissioning;
    report.nodes[2].masters = 1;
    let said = leave(&report, 1);
    for part in ["labels", "exclude list", "a is lost", "b is being drained", "ApplicationMaster", "needs 1"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(words(&yarn_leave(&yarn(), "x", 0, Resources::default())), "x is no member");
}

fn hdfs() -> HdfsReport {
    let node = |name| DataNode { remaining_bytes: 80 * GIB, ..data_node(name, 10 * GIB, 100 * GIB) };
    file_system(["a:1", "b:1", "c:1"].map(node).to_vec())
}

#[test]
fn a_data_node_leaves_where_all_replicas_have_a_place() {
    let said = |report: &HdfsReport| words(&hdfs_leave(report, "c:1", 1));
    assert_eq!(said(&hdfs()), "");
    let of = |change: fn(&mut HdfsReport)| {
        let mut report = hdfs();
        change(&mut report);
        said(&report)
    };
    assert_eq!(of(|r| r.replication = Some(3)), "2 would be left, and a block needs 3");
    assert!(of(|r| r.replication = None).contains("how often"));
    assert!(of(|r| r.safe_mode = "on".into()).contains("safe mode: on"));
    assert!(of(|r| r.under_replicated_blocks = 1).contains("1 have too few replicas"));
    assert!(of(|r| r.nodes[0].alive = false).contains("1 would be left, and a block needs 2"));
    assert!(of(|r| r.nodes[0].state = AdminState::Decommissioning).contains("a:1 is being decommissioned"));
    assert!(of(|r| r.nodes[2].used_bytes = 200 * GIB).contains("the others have 160.0 GiB free"));
    assert!(of(|r| r.nodes[2].rack = "/s".into()).contains("nobody would be left in rack /s"));
    assert!(of(|r| r.nodes[2].state = AdminState::Decommissioned).contains("c:1 is decommissioned"));
}

/// Four members, three replicas.
fn ring() -> Ring {
    let mut ring = testing::ring(4, 20 * GIB, 100 * GIB);
    for view in ring.values_mut() {
        view.load_bytes = 5 * GIB;
        view.ring.unreachable = vec!["10.0.0.9".into()];
        view.ring.seeds.truncate(2);
        view.replication = [("system_distributed".to_owned(), 3), ("system_auth".to_owned(), 1)].into();
    }
    ring
}

fn all(change: impl Fn(&mut CassandraReport)) -> Ring {
    let mut ring = ring();
    ring.values_mut().for_each(change);
    ring
}

fn leaves(ring: &Ring) -> String {
    words(&ring_leave(ring, "10.0.0.4", 1, DISK_AFTER))
}

#[test]
fn a_member_leaves_a_ring_at_rest_that_keeps_its_replicas() {
    assert_eq!(leaves(&ring()), "", "who left long ago is among the unreachable, and no member");
    let three = all(|view| view.ring.members.truncate(3));
    let three: Ring = three.into_iter().filter(|(address, _)| address != "10.0.0.4").collect();
    let said = words(&ring_leave(&three, "10.0.0.3", 1, DISK_AFTER));
    assert_eq!(said, "2 would be left, and keyspace system_distributed needs 3");
}

#[test]
fn cassandras_own_guard_counts_members_and_ours_those_that_answer() {
    // It accepted this one, and failed.
    let mut dead = all(|view| view.ring.unreachable.push("10.0.0.2".into()));
    dead.remove("10.0.0.2");
    let said = leaves(&dead);
    for part in ["no agent reports 10.0.0.2", "10.0.0.2 does not answer 10.0.0.1", "needs 3"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn nobody_leaves_beside_another_change_or_from_a_ring_that_is_busy() {
    let of = |change: fn(&mut CassandraReport)| leaves(&all(change));
    assert!(of(|v| v.ring.joining = vec!["10.0.0.5".into()]).contains("10.0.0.5 joins"));
    assert!(of(|v| v.ring.leaving = vec!["10.0.0.3".into()]).contains("10.0.0.3 leaves"));
    assert!(of(|v| v.streams = 1).contains("10.0.0.1 has streams"));
    assert!(of(|v| v.hints = 1).contains("keeps hints for"));
    assert!(of(|v| v.pending_compactions = 21).contains("waiting compactions"));
    assert!(of(|v| v.replication.clear()).contains("how often"));
    assert!(of(|v| v.disk_free_bytes = Some(GIB)).contains("3.0 GiB free"));
    assert!(of(|v| v.disk_free_bytes = Some(51 * GIB)).contains("51 % full afterwards"));
    assert!(of(|v| v.disk_free_bytes = None).contains("free"));
    assert!(of(|v| v.ring.seeds = vec!["10.0.0.4".into(), "10.0.0.1".into()]).contains("seeds"));
    let mut split = ring();
    split.get_mut("10.0.0.2").unwrap().ring.schema = "other".into();
    assert!(leaves(&split).contains("10.0.0.1 and 10.0.0.2 do not agree on the schema"));
    let mut racks = ring();
    racks.get_mut("10.0.0.4").unwrap().rack = "r2".into();
    assert!(leaves(&racks).contains("nobody would be left in rack r2"));
    let mut drained = ring();
    drained.get_mut("10.0.0.3").unwrap().mode = CassandraMode::Drained;
    assert!(leaves(&drained).contains("10.0.0.3 is drained"));
}

#[test]
fn a_node_is_where_all_others_see_it_and_its_own_view_does_not_count() {
    let four = "10.0.0.4";
    assert_eq!(place(&ring(), four), Place::Normal);
    assert_eq!(place(&all(|v| v.ring.leaving = vec![four.into()]), four), Place::Leaving);
    // Its tokens are in everybody's map while it joins.
    assert_eq!(place(&all(|v| v.ring.joining = vec![four.into()]), four), Place::Joining);
    assert_eq!(place(&all(|v| v.ring.unreachable.push(four.into())), four), Place::Down);
    // Who left keeps a frozen view in which it is a member.
    let mut left = all(|v| v.ring.members.retain(|m| m != four));
    let own = left.get_mut(four).unwrap();
    (own.mode, own.ring.members) = (CassandraMode::Decommissioned, vec![four.into()]);
    assert_eq!(place(&left, four), Place::Out);
    // Gossip has not reached everybody.
    let mut some = all(|v| v.ring.leaving = vec![four.into()]);
    some.get_mut("10.0.0.1").unwrap().ring.members.retain(|m| m != four);
    assert_eq!(place(&some, four), Place::Leaving);
    assert_eq!(place(&Ring::new(), four), Place::Unclear, "nobody says anything");
    // A refused decommission leaves a healthy node that calls itself failed.
    let failed = all(|v| v.mode = CassandraMode::DecommissionFailed);
    assert_eq!(place(&failed, four), Place::Normal);
}
