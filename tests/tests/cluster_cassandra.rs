//! A Cassandra ring that Trimtab scales under load: real nodes, the real agent and autoscaler.
//!
//! Needs the lab with three nodes: `cargo xtask lab-test cassandra` starts it and says where it is in `TRIMTAB_LAB`.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::Stage;
use support::cql::Load;
use support::lab;

/// Nodes that the lab started, and one that Trimtab may.
const NODES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

fn ring(min: u32, max: u32, mode: &str) -> String {
    format!(
        "apiVersion: trimtab/v1
kind: Workload
metadata: {{ name: ring }}
spec:
  type: cassandra
  replicas: {{ min: {min}, max: {max} }}
  target: {{ disk: 85% }}
  mode: {mode}
  cassandra:
    cluster: ring
    launcher: cassandra
    member: 127.0.0.{{slot}}
    slots: {{ from: 4, span: 2 }}
  behavior: {{ growAfter: 1s, growCooldown: 1s, shrinkAfter: 10s, shrinkCooldown: 10s, survivorsBelow: 90% }}
"
    )
}

fn state(stage: &mut Stage) -> Option<String> {
    let change = &stage.status("ring")["cluster"]["change"];
    change["state"].as_str().map(str::to_owned)
}

/// Follows a change to its end. The autoscaler dies in each of its states.
fn through(stage: &mut Stage) -> (Vec<String>, Value) {
    let mut seen: Vec<String> = Vec::new();
    stage.until("a change", state);
    loop {
        // Nothing is known of the cluster for a moment after each start: only that the change is not over.
        let now = stage.until("the change", |s| {
            let status = s.status("ring");
            let over = status["cluster"]["change"].is_null()
                && status["frozen"].as_array().is_some_and(Vec::is_empty);
            let now = status["cluster"]["change"]["state"].as_str().map(str::to_owned);
            let new = now.filter(|now| seen.last() != Some(now));
            if over { Some(None) } else { new.map(Some) }
        });
        let Some(now) = now else { break };
        println!("{now}: the autoscaler dies");
        seen.push(now);
        stage.kill_autoscaler();
        stage.start_autoscaler();
    }
    (seen, stage.status("ring")["cluster"]["past"][0].clone())
}

/// The host of the one that Trimtab started is emptied: another one joins elsewhere first, then that one leaves. What was
/// measured, and the other host.
fn emptied(lab: &Path, stage: &mut Stage) -> (Value, Stage) {
    let other = lab::beside(lab, stage, "n2").unwrap();
    stage.until("both nodes", |s| {
        Some(s.get("/nodes")["items"].as_array()?.len()).filter(|nodes| *nodes == 2)
    });
    stage.put("ring", &ring(4, 4, "auto"));
    stage.wait_for("ring", 4);
    let replicas = stage.status("ring")["replicas"].clone();
    let node = replicas[0]["node"].as_str().unwrap().to_owned();
    stage.says(&["drain", &node, "--reason", "a new kernel"]);
    lab::emptied(stage, &node, &["ring"], |_, _| ());
    stage.wait_for("ring", 4);
    assert_eq!(lab::on(stage, "ring", &node), 0);
    stage.says(&["uncordon", &node]);
    let went = lab::went(stage, "ring");
    assert_eq!(went["ended"], "done", "{went}");
    (went, other)
}

#[test]
fn a_node_joins_and_leaves_under_load_and_nothing_is_lost() {
    let Some(lab) = lab::directory() else { return };
    let Some(mut stage) = lab::whole(&lab) else { return };
    let load = Load::start(&NODES);
    stage.put("ring", &ring(3, 4, "auto"));
    stage.wait_for("ring", 3);

    let told = stage.until("its signals", |s| {
        let load = s.status("ring")["load"].clone();
        (load["disk"].is_f64() && load["latencyP99Ms"].is_number()).then_some(load)
    });
    assert!((0.0..1.0).contains(&told["disk"].as_f64().unwrap()), "{told}");

    // One node knows all members; each must have been heard itself, so that its silence can be seen.
    stage.until("the words of all three", |s| {
        let members = s.get("/members")["items"].as_array()?.clone();
        NODES[..3].iter().all(|node| members.iter().any(|m| m["member"] == *node)).then_some(())
    });
    // In a ring with a dead node nothing begins, and Cassandra is not asked.
    let (pid, mut again) = lab::process(&lab.join("cassandra/pids/n3.json"));
    support::signal(pid, Signal::KILL);
    // What nobody has noticed yet nobody can refuse.
    stage.until("a silent node", |s| {
        let members = s.get("/members")["items"].as_array().cloned().unwrap_or_default();
        let silent = |m: &Value| m["member"] == NODES[2] && m["ageMs"].as_u64() > Some(20_000);
        members.iter().any(silent).then_some(())
    });
    stage.put("ring", &ring(4, 4, "auto"));
    let why = stage.until("a refusal", |s| {
        let text = s.get("/workloads/ring/explain").to_string();
        text.contains("not now: no agent reports 127.0.0.3").then_some(text)
    });
    assert!(!why.contains("\"act\":true"), "nothing was asked");
    stage.run("n3-again", &mut again);

    let (joined, came) = through(&mut stage);
    println!("{joined:?} {came}");
    assert_eq!((&came["direction"], &came["ended"]), (&json!("out"), &json!("done")), "{came}");
    stage.wait_for("ring", 4);

    // Only on approval, and then whatever dies.
    stage.put("ring", &ring(3, 3, "recommend"));
    let said = stage
        .until("a recommendation", |s| s.status("ring")["cluster"]["recommends"].as_str().map(str::to_owned));
    let approved = stage.trimtab(&["approve", "ring", "--decision", &said]);
    assert!(approved.status.success(), "{approved:?}");
    let (left, went) = through(&mut stage);
    println!("{left:?} {went}");
    assert_eq!((&went["direction"], &went["ended"]), (&json!("in"), &json!("done")), "{went}");
    stage.wait_for("ring", 3);

    let drained = (!lab::short()).then(|| emptied(&lab, &mut stage));
    let tally = load.finish();
    let count = |number: &std::sync::atomic::AtomicU32| number.load(Ordering::Relaxed);
    let measured = json!({
        "errors": count(&tally.errors),
        "why": *tally.why.lock().unwrap(),
        "lost_rows": count(&tally.lost_rows),
        "wrong_rows": count(&tally.wrong_rows),
        "written": count(&tally.written),
        "retried_at_another_node": count(&tally.retried),
        "slowest_request_ms": tally.slowest_us.load(Ordering::Relaxed) / 1_000,
        "join_s": came["tookMs"].as_u64().unwrap() / 1_000,
        "leave_s": went["tookMs"].as_u64().unwrap() / 1_000,
        "leave_estimate_s": went["estimateS"],
        "drain_leave_s": drained.as_ref().and_then(|(went, _)| Some(went["tookMs"].as_u64()? / 1_000)),
        "autoscaler_killed_in": joined.iter().chain(&left).collect::<Vec<_>>(),
    });
    lab::report(&measured);
    for key in ["errors", "lost_rows", "wrong_rows"] {
        assert_eq!(measured[key], 0, "{measured}");
    }
}
