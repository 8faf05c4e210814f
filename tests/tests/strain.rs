//! Tasks that reach their own limits of memory and processes: said with the cause, and their neighbours notice nothing.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;

use rustix::process::Signal;
use support::{Stage, bin};

fn launcher(stage: &Stage, name: &str, limits: &str) {
    let text = format!(
        "command = [{:?}, {name:?}]\nallow_root = true\n[limits]\ncpu = \"300m\"\n{limits}\n",
        bin("e2e-task")
    );
    fs::write(stage.path(&format!("launch.d/{name}.toml")), text).unwrap();
}

fn apply(stage: &Stage, name: &str, launcher: &str) {
    let document = format!(
        "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: {name} }}\nspec:\n  type: service\n  \
         replicas: {{ min: 1, max: 1 }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  service: {{ launcher: {launcher} }}\n"
    );
    stage.put(name, &document);
}

/// Cgroups of the neighbours: the same ones as long as no task was started anew.
fn neighbours(stage: &Stage) -> Vec<u64> {
    let mut cgroups: Vec<u64> = stage.live_totals("jobs").into_iter().map(|(cgroup, _)| cgroup).collect();
    cgroups.sort_unstable();
    cgroups
}

#[test]
fn what_a_limit_does_to_a_task_is_said_and_its_neighbours_go_on() {
    let Some(mut stage) = Stage::start() else { return };
    launcher(&stage, "hog", "memory = \"64Mi\"");
    launcher(&stage, "bomb", "processes = 12");
    let agent = stage.agent_pid();
    support::signal(agent, Signal::HUP);
    stage.until("the launchers", |s| {
        let launchers = s.get("/nodes/n1")["launchers"].to_string();
        (launchers.contains("hog") && launchers.contains("bomb")).then_some(())
    });
    stage.service("burn", 2);
    stage.wait_for("jobs", 2);
    let before = stage.until("both neighbours", |s| Some(neighbours(s)).filter(|all| all.len() == 2));

    apply(&stage, "bombs", "bomb");
    let said = stage.until("the word about processes", |s| {
        let detail = s.status("bombs")["replicas"][0]["detail"].as_str()?.to_owned();
        detail.contains("more processes or threads").then_some(detail)
    });
    assert!(said.starts_with("takes requests") || said.starts_with("waits for"), "it lives: {said}");

    apply(&stage, "hogs", "hog");
    stage.until("the cause of its end", |s| {
        let explained = s.get("/workloads/hogs/explain").to_string();
        explained.contains("for lack of memory below its limit").then_some(())
    });
    stage.until("its end", |s| s.ended("hogs").iter().any(|task| task["signal"] == 9).then_some(()));

    assert_eq!(neighbours(&stage), before, "no neighbour was started anew");
    assert_eq!(stage.agent_pid(), agent, "nor the agent");
    assert!(stage.lives("agent") && stage.lives("autoscaler"));
}
