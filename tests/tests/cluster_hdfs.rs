//! A file system that Trimtab scales: real NameNode, DataNodes and files, the real agent and autoscaler.
//!
//! Needs the lab with Hadoop's masters alone: `cargo xtask lab-test hdfs` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use serde_json::{Value, json};
use support::Stage;
use support::lab::{self, Missing};

/// Replicas on a node, by the NameNode.
fn blocks(node: &str) -> u64 {
    let url = "http://127.0.0.10:9870/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo";
    let said: Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
    let live: Value = serde_json::from_str(said["beans"][0]["LiveNodes"].as_str().unwrap()).unwrap();
    live[node]["numBlocks"].as_u64().unwrap()
}

fn last(stage: &Stage) -> Value {
    stage.status("store")["cluster"]["past"][0].clone()
}

#[test]
fn a_data_node_leaves_and_comes_with_every_byte_in_its_place() {
    let Some(lab) = lab::directory() else { return };
    let Some(mut stage) = lab::whole(&lab) else { return };
    stage.put("store", &lab::store(3));
    stage.wait_for("store", 3);
    stage.until("how full its disks are", |s| s.status("store")["load"]["disk"].as_f64());
    // A quarter of each of two disks, and a sixth of each of three.
    let files = lab::write_files(&lab, 16, 8 << 20);
    let missing = Missing::watch();

    stage.put("store", &lab::store(2));
    stage.until("blocks that are copied", |s| {
        (s.status("store")["cluster"]["change"]["state"] == "copying").then_some(())
    });
    stage.kill_autoscaler();
    stage.start_autoscaler();
    stage.wait_for("store", 2);
    let went = last(&stage);
    println!("{went}");
    assert_eq!((&went["direction"], &went["ended"]), (&json!("in"), &json!("done")), "{went}");
    lab::same_files(&lab, &files);

    stage.put("store", &lab::store(3));
    stage.wait_for("store", 3);
    let came = last(&stage);
    assert_eq!((&came["direction"], &came["ended"]), (&json!("out"), &json!("done")), "{came}");
    // It was empty, and the balancer filled it.
    let moved = blocks(came["member"].as_str().unwrap());
    println!("{moved} blocks were moved to it");
    assert!(moved > 0, "{}", stage.log("agent"));
    lab::same_files(&lab, &files);

    // A DataNode dies: it is started again with its blocks.
    let before: Vec<Value> = stage.status("store")["replicas"].as_array().unwrap().clone();
    let pid = lab::pid_of("org.apache.hadoop.hdfs.server.datanode.DataNode");
    support::signal(pid, rustix::process::Signal::KILL);
    stage.until("the replacement", |s| (last(s)["beganMs"] != came["beganMs"]).then_some(()));
    stage.wait_for("store", 3);
    let names = |replicas: &[Value]| replicas.iter().map(|r| r["task"].clone()).collect::<Vec<_>>();
    let after = stage.status("store")["replicas"].as_array().unwrap().clone();
    assert_eq!(names(&before), names(&after), "the same members");
    lab::same_files(&lab, &files);
    let measured = json!({
        "missing_blocks": missing.most(),
        "files_differing": 0,
        "blocks_moved": moved,
        "leave_s": went["tookMs"].as_u64().unwrap() / 1_000,
        "estimate_s": went["estimateS"],
    });
    lab::report(&measured);
    assert_eq!(measured["missing_blocks"], 0);
}
