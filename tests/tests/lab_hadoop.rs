//! The agent beside a real ResourceManager and a real NameNode: every verb, what it refuses, and what others do to the lists meanwhile.
//!
//! Needs the lab with three workers: `cargo xtask lab-test adapters` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::path::PathBuf;

use model::action::{OutcomeKind, Verb};
use model::adapter::AdapterReport;
use model::hdfs::{AdminState, DataNode, HdfsReport, HdfsStep};
use model::yarn::{Resources, YarnNode, YarnReport, YarnState, YarnStep};
use support::controller::Controller;
use support::lab;

const WORKER: &str = "127.0.0.12";
const OTHER: &str = "127.0.0.13";

fn yarn(report: &AdapterReport) -> Option<&YarnReport> {
    match report {
        AdapterReport::Yarn(report) => Some(report),
        _ => None,
    }
}

fn node(controller: &Controller, host: &str, is: impl Fn(&YarnNode) -> bool) -> YarnNode {
    controller.report(&format!("NodeManager {host}"), |report| {
        yarn(report)?.nodes.iter().find(|node| node.host == host && is(node)).cloned()
    })
}

fn order(controller: &mut Controller, step: YarnStep) -> (OutcomeKind, String) {
    let outcome = controller.order("lab-1", Verb::Yarn { cluster: "batch".into(), step });
    println!("{:?} {} {:?}", outcome.kind, outcome.why, outcome.read_back);
    (outcome.kind, outcome.why)
}

fn advertise(memory_mib: u64, vcores: u32) -> YarnStep {
    YarnStep::Advertise { host: WORKER.into(), resources: Resources { memory_mib, vcores } }
}

fn exclude(host: &str) -> YarnStep {
    YarnStep::Exclude { host: host.into(), timeout_s: 600 }
}

fn include(host: &str) -> YarnStep {
    YarnStep::Include { host: host.into() }
}

#[test]
fn a_node_manager_advertises_what_it_is_told_and_drains_until_it_is_told_otherwise() {
    let Some(lab) = lab::directory() else { return };
    let Some((stage, mut controller)) = lab::agent(&lab) else { return };
    assert_eq!(lab::check(&stage), [], "nothing of the lab is dangerous");
    let before = node(&controller, WORKER, |node| node.state == YarnState::Running);
    println!("{before:?}");
    assert!(before.port.is_some() && before.total.memory_mib > 0);

    // Up and down, read back, and once more is no change.
    let Resources { memory_mib, vcores } = before.total;
    assert_eq!(order(&mut controller, advertise(memory_mib + 512, vcores + 1)).0, OutcomeKind::Applied);
    let after = node(&controller, WORKER, |node| node.total.memory_mib == memory_mib + 512);
    assert_eq!(after.total.vcores, vcores + 1);
    assert_eq!(order(&mut controller, advertise(memory_mib + 512, vcores + 1)).0, OutcomeKind::Already);
    assert_eq!(order(&mut controller, advertise(memory_mib, vcores)).0, OutcomeKind::Applied);
    let (kind, why) = order(&mut controller, advertise(0, 0));
    assert_eq!(kind, OutcomeKind::Refused, "{why}");
    let unknown = YarnStep::Advertise { host: "127.0.0.99".into(), resources: before.total };
    let (kind, why) = order(&mut controller, unknown);
    assert!(kind == OutcomeKind::Refused && why.contains("no node 127.0.0.99"), "{why}");

    // While an application holds a container on it, it drains; taken back, it is as it was.
    let job = lab::Job::sleep(&lab, 3, 3_600);
    // Its master asks for more containers than it needs, and gives some back: three maps and itself are what stays.
    let stays = |report: &AdapterReport| {
        let nodes = &yarn(report)?.nodes;
        let all: u32 = nodes.iter().map(|node| node.containers).sum();
        let master = nodes.iter().find(|node| node.masters > 0).filter(|_| all == 4)?;
        let busy = nodes.iter().find(|node| node.containers > 0 && node.masters == 0)?;
        Some((master.host.clone(), busy.host.clone()))
    };
    let (master, busy) = loop {
        let before = controller.report("four containers", stays);
        let after = controller.report("four containers, again", stays);
        if before == after {
            break after;
        }
    };
    let (kind, why) = order(&mut controller, exclude(&master));
    assert!(kind == OutcomeKind::Refused && why.contains("ApplicationMaster"), "{why}");
    assert_eq!(order(&mut controller, exclude(&busy)).0, OutcomeKind::Applied);
    let drained = node(&controller, &busy, |node| node.state == YarnState::Decommissioning);
    assert!(drained.containers > 0, "{drained:?}");
    assert_eq!(order(&mut controller, exclude(&busy)).0, OutcomeKind::Already);
    let listed = controller.report("the exclude list", |report| yarn(report)?.excluded.clone());
    assert!(listed.iter().any(|entry| entry.host == busy && entry.timeout_s == Some(600)), "{listed:?}");
    assert_eq!(order(&mut controller, include(&busy)).0, OutcomeKind::Applied);
    let back = node(&controller, &busy, |node| node.state == YarnState::Running);
    assert_eq!((back.total, back.containers > 0), (before.total, true), "nothing was killed: {back:?}");
    assert_eq!(order(&mut controller, include(&busy)).0, OutcomeKind::Already);
    drop(job);

    // A list that somebody broke is left alone, and said.
    let list = lab.join("hadoop/conf/yarn-exclude.xml");
    let good = fs::read_to_string(&list).unwrap();
    fs::write(&list, "<hosts><host>").unwrap();
    let (kind, why) = order(&mut controller, exclude(OTHER));
    assert!(kind == OutcomeKind::Refused && why.contains("mend it first"), "{why}");
    assert_eq!(fs::read_to_string(&list).unwrap(), "<hosts><host>");
    fs::write(&list, good).unwrap();
}

#[test]
fn a_tool_that_fails_leaves_the_exclude_list_as_it_was() {
    let Some(lab) = lab::directory() else { return };
    let Some((stage, mut controller)) = lab::agent(&lab) else { return };
    node(&controller, OTHER, |node| node.state == YarnState::Running);
    let list = lab.join("hadoop/conf/yarn-exclude.xml");
    let before = fs::read_to_string(&list).unwrap();
    let launcher = stage.path("launch.d/yarn-refresh.toml");
    for (command, said) in [
        ("[\"/bin/false\"]", "status 1"),
        ("[\"/nonexistent\"]", "refreshing"),
        ("[\"/bin/true\"]", "was not read"),
    ] {
        fs::write(&launcher, format!("command = {command}\nallow_root = true\n")).unwrap();
        support::signal(stage.agent_pid(), rustix::process::Signal::HUP);
        let (kind, why) = order(&mut controller, exclude(OTHER));
        assert!(kind == OutcomeKind::Failed && why.contains(said), "{command}: {why}");
        assert_eq!(fs::read_to_string(&list).unwrap(), before, "{command}");
    }
    node(&controller, OTHER, |node| node.state == YarnState::Running);
}

fn hdfs(report: &AdapterReport) -> Option<&HdfsReport> {
    match report {
        AdapterReport::Hdfs(report) => Some(report),
        _ => None,
    }
}

fn data_node(controller: &Controller, name: &str, is: impl Fn(&DataNode) -> bool) -> DataNode {
    controller.report(&format!("DataNode {name}"), |report| {
        hdfs(report)?.nodes.iter().find(|node| node.name == name && is(node)).cloned()
    })
}

fn order_hdfs(controller: &mut Controller, step: HdfsStep) -> (OutcomeKind, String) {
    let outcome = controller.order("lab-2", Verb::Hdfs { cluster: "store".into(), step });
    println!("{:?} {} {:?}", outcome.kind, outcome.why, outcome.read_back);
    (outcome.kind, outcome.why)
}

#[test]
fn a_data_node_is_decommissioned_and_taken_back_without_a_missing_block() {
    let Some(lab) = lab::directory() else { return };
    let Some((_stage, mut controller)) = lab::agent(&lab) else { return };
    let third = format!("{OTHER}:9903");
    let files = lab::write_files(&lab, 12, 8 << 20);
    let before = controller.report("the NameNode", |report| hdfs(report).filter(|r| r.blocks >= 24).cloned());
    println!("{before:?}");
    assert_eq!((before.nodes.len(), before.replication, before.missing_blocks), (3, Some(2), 0));
    assert!(before.nodes.iter().all(|node| node.rack == "/default-rack"), "{before:?}");
    let out = HdfsStep::Decommission { node: third.clone() };
    assert_eq!(order_hdfs(&mut controller, out.clone()).0, OutcomeKind::Applied);
    let gone = data_node(&controller, &third, |node| node.state == AdminState::Decommissioned);
    println!("{gone:?}");
    assert_eq!(order_hdfs(&mut controller, out).0, OutcomeKind::Already);
    let second = HdfsStep::Decommission { node: format!("{WORKER}:9902") };
    let (kind, why) = order_hdfs(&mut controller, second);
    assert!(kind == OutcomeKind::Refused && why.contains("1 other nodes are in service"), "{why}");
    lab::same_files(&lab, &files);
    let back = HdfsStep::Recommission { node: third.clone() };
    assert_eq!(order_hdfs(&mut controller, back.clone()).0, OutcomeKind::Applied);
    data_node(&controller, &third, |node| node.state == AdminState::Normal);
    assert_eq!(order_hdfs(&mut controller, back).0, OutcomeKind::Already);
    // What was on it is on it still: there is nothing to move.
    assert_eq!(order_hdfs(&mut controller, HdfsStep::Balance { node: third }).0, OutcomeKind::Already);
    let after = controller.report("the NameNode", |report| hdfs(report).cloned());
    assert_eq!((after.missing_blocks, after.corrupt_blocks), (0, 0));
    lab::same_files(&lab, &files);
}

#[test]
fn lists_that_name_all_nodes_stay_so_and_broken_ones_are_left_alone() {
    let Some(lab) = lab::directory() else { return };
    let Some((_stage, mut controller)) = lab::agent(&lab) else { return };
    let list: PathBuf = lab.join("hadoop/conf/dfs-hosts.json");
    let before = fs::read_to_string(&list).unwrap();
    let node = format!("{OTHER}:9903");
    for (text, said) in [
        ("[{\"hostName\":\"127.0.0.1\",\"port\":9901}]", "not among them"),
        ("[", "mend it first"),
        ("", "mend it first"),
    ] {
        fs::write(&list, text).unwrap();
        let (kind, why) = order_hdfs(&mut controller, HdfsStep::Decommission { node: node.clone() });
        assert!(kind == OutcomeKind::Refused && why.contains(said), "{text}: {why}");
        assert_eq!(fs::read_to_string(&list).unwrap(), text);
    }
    fs::write(&list, before).unwrap();
    data_node(&controller, &node, |node| node.state == AdminState::Normal);
}
