//! The agent's disk fills up while the autoscaler is away: measuring goes on, the hole is told, and it recovers.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Stage, signal};

fn file(path: &Path) -> std::fs::File {
    std::fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_full_disk_stops_neither_measuring_nor_reporting() {
    let mounts = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !mounts {
        println!("SKIP: mount namespaces need root and unshare(1)");
        return;
    }
    let Some(mut stage) = Stage::prepare("") else { return };
    let state = stage.path("agent");
    // A small file system that only this agent and its tasks see; what follows is executed in it.
    let script =
        format!("mount -t tmpfs -o size=2m,mode=755 tmpfs {} && exec \"$0\" \"$@\"", state.display());
    stage.run_agent_behind(&["unshare", "-m", "sh", "-c", &script]);
    stage.start_autoscaler();
    stage.start_agent();
    // The state directory as the agent sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", stage.agent_pid(), state.display()));
    stage.agent_state = Some(inside.clone());
    stage.until("the node", |s| (s.get("/nodes")["items"][0]["connected"] == true).then_some(()));
    // A hole in the data begins the proof anew that it may shrink: long enough to be seen.
    stage.service_within("burn", (2, 2), "1h");
    stage.wait_for("jobs", 2);
    let pids = stage.ledger.pids();
    let totals = stage.live_totals("jobs");

    stage.kill_autoscaler();
    let mut filler = file(&inside.join("filler"));
    while filler.write_all(&[7; 4096]).is_ok() {}
    drop(filler);
    let rounds = stage.until("metrics", |s| s.agent_metric("rounds_total"));
    stage.until("rounds that cannot be kept", |s| {
        (s.agent_metric("spool_dropped_total")? >= 3.0).then_some(())
    });
    stage.until("rounds that are read", |s| (s.agent_metric("rounds_total")? >= rounds + 3.0).then_some(()));
    assert!(stage.lives("agent") && stage.ledger.pids() == pids);
    let (name, pid) = stage.ledger.pids().pop_first().unwrap();
    // Its end cannot be noted on the full disk: it is told from memory.
    signal(pid, rustix::process::Signal::KILL);
    stage.until("its end", |s| (s.ledger.finals().len() == 1).then_some(()));

    stage.start_autoscaler();
    stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
    stage.until("the hole in the data, in words", |s| {
        s.get("/workloads/jobs/explain").to_string().contains("data_gap").then_some(())
    });
    let node = stage.get("/nodes/n1");
    assert!(node["gaps"].as_u64() >= Some(1), "{node}");
    assert_eq!(node["lastGap"]["kind"], "lost", "{node}");
    stage.until("totals that went on", |s| {
        let now = s.live_totals("jobs");
        let more = |(id, us): &(u64, u64)| totals.iter().any(|(other, then)| other == id && us > then);
        now.iter().any(more).then_some(())
    });
    stage.until("the end of the task", |s| s.ended("jobs").into_iter().find(|t| t["task"] == *name));
    // A task that cannot be noted is not started: it would be lost at the next restart.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(stage.lives("agent"));
    std::fs::remove_file(inside.join("filler")).unwrap();
    stage.wait_for("jobs", 2);
    stage.compare_ended("jobs", 1);
    stage.until("the spool to be sent", |s| (s.agent_metric("spool_rounds")? == 0.0).then_some(()));
    assert!(stage.log("agent").contains("could not be spooled"), "{}", stage.log("agent"));
}
