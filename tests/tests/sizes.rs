//! Limits of real tasks in real cgroups: more CPU until healthy, another size on one replica first, and back.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;

use serde_json::Value;
use support::Stage;

/// Two replicas of `launcher` with this size.
fn apply(stage: &Stage, launcher: &str, size: &str) {
    let document = format!(
        "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: jobs }}\nspec:\n  type: service\n  \
         replicas: {{ min: 2, max: 2 }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  size: {size}\n  \
         service: {{ launcher: {launcher} }}\n  behavior: {{ growAfter: 1s, growCooldown: 1s, shrinkAfter: 1s, \
         shrinkCooldown: 5s, stopGrace: 2s }}\n"
    );
    stage.put("jobs", &document);
}

/// Waits until the kernel's quotas of both replicas are so.
fn quotas(
    stage: &mut Stage,
    what: &str,
    mut so: impl FnMut(&BTreeMap<String, Option<u32>>) -> bool,
) -> BTreeMap<String, Option<u32>> {
    stage.until(what, |s| {
        let quotas = s.ledger.quotas();
        (quotas.len() == 2 && so(&quotas)).then_some(quotas)
    })
}

fn decisions(stage: &Stage) -> Vec<Value> {
    let explained = stage.get("/workloads/jobs/explain");
    explained["decisions"].as_array().cloned().unwrap_or_default()
}

fn said(stage: &Stage, code: &str) -> bool {
    decisions(stage).iter().any(|d| {
        d["kind"] == "resize"
            && d["reasons"].as_array().is_some_and(|all| all.iter().any(|r| r["code"] == code))
    })
}

#[test]
fn a_start_has_more_cpu_until_it_is_healthy_and_keeps_its_own_after_a_restart_of_the_agent() {
    let Some(mut stage) = Stage::start() else { return };
    // Healthy as soon as this test listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let burn = fs::read_to_string(stage.path("launch.d/burn.toml")).unwrap();
    // The owner allows 700m where 900m are asked for.
    let text = format!("{burn}startup_cpu = \"700m\"\n[health]\ntcp = \"{address}\"\n");
    fs::write(stage.path("launch.d/slow.toml"), text).unwrap();
    stage.kill_agent();
    stage.start_agent();
    stage.until("the launcher", |s| {
        let launchers = s.get("/nodes/n1")["launchers"].to_string();
        (s.get("/nodes/n1")["connected"] == true && launchers.contains("slow")).then_some(())
    });
    apply(&stage, "slow", "{ cpu: 200m, startupCpu: 900m }");
    quotas(&mut stage, "more CPU at the start", |q| q.values().all(|millis| *millis == Some(700)));
    // An agent that starts anew knows that they still start.
    stage.kill_agent();
    stage.start_agent();
    stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
    assert!(stage.ledger.quotas().values().all(|millis| *millis == Some(700)));
    let _healthy = TcpListener::bind(address).unwrap();
    quotas(&mut stage, "its own CPU when healthy", |q| q.values().all(|millis| *millis == Some(200)));
    stage.wait_for("jobs", 2);
}

#[test]
fn a_size_goes_to_one_replica_then_to_the_other_and_a_full_one_brings_both_back() {
    let Some(mut stage) = Stage::start() else { return };
    apply(&stage, "surge", "{ mode: apply, cpu: 400m, after: 5s, verify: 5s }");
    stage.wait_for("jobs", 2);
    quotas(&mut stage, "the size asked for", |q| q.values().all(|millis| *millis == Some(400)));

    // Down by a step, on one replica while the other keeps what it has, and then on both.
    let mut seen = BTreeSet::new();
    quotas(&mut stage, "the first step on both", |q| {
        let mut now: Vec<u32> = q.values().flatten().copied().collect();
        now.sort_unstable();
        seen.insert(now.clone());
        now == [320, 320]
    });
    assert!(seen.contains(&vec![320, 400]), "one first: {seen:?}");
    // The second replica has it before its answer is recorded.
    stage.until("both reasons", |s| (said(s, "size_canary") && said(s, "size_verified")).then_some(()));

    // The next one: the replica that tries it needs all of a core, and everybody is back at 320m.
    let canary = stage.until("the next step", |s| {
        let size = s.status("jobs")["size"].clone();
        let task = size["canary"].as_str()?.to_owned();
        (size["phase"] == "canary" && s.ledger.quotas().get(&task) == Some(&Some(256))).then_some(task)
    });
    fs::write(stage.path(&format!("surge-{canary}")), "").unwrap();
    quotas(&mut stage, "the size before on both", |q| q.values().all(|millis| *millis == Some(320)));
    stage.until("the reason", |s| said(s, "size_returned").then_some(()));
    let size = stage.until("everybody is back", |s| {
        let size = s.status("jobs")["size"].clone();
        (size["phase"] == "steady").then_some(size)
    });
    assert_eq!(size["cpuMillis"], 320, "{size}");
    assert!(size["held"].as_str().is_some_and(|why| why.contains(&canary)), "{size}");
    assert!(stage.lives("agent"));
}
