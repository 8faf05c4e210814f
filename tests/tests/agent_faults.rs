//! The agent or the autoscaler is killed, goes away, comes back; tasks die or refuse to. Nothing is lost or doubled.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use support::{Stage, signal};

/// Time between the moments at which something that should not happen would have happened.
const QUIET: Duration = Duration::from_secs(4);

fn seconds(variable: &str, default: u64) -> Duration {
    let set = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(set.unwrap_or(default))
}

/// Live totals in the store never shrink, for a while; returns the last ones.
fn watch_totals(stage: &Stage, mut last: Vec<(u64, u64)>, time: Duration) -> Vec<(u64, u64)> {
    let rounds = time.as_millis() / 100;
    for _ in 0..rounds {
        let now = stage.live_totals("jobs");
        for (id, us) in &now {
            let before = last.iter().find(|(other, _)| other == id).map_or(0, |(_, us)| *us);
            assert!(*us >= before, "cgroup {id}: {us} µs after {before} µs");
        }
        if !now.is_empty() {
            last = now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    last
}

#[test]
fn tasks_survive_the_agent_and_are_adopted() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 3);
    stage.wait_for("jobs", 3);
    let before = stage.ledger.pids();
    assert_eq!(before.len(), 3);
    let totals = stage.until("totals of three tasks", |s| {
        let totals = s.live_totals("jobs");
        (totals.len() == 3 && totals.iter().all(|(_, us)| *us > 0)).then_some(totals)
    });

    for _ in 0..2 {
        stage.kill_agent();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(stage.ledger.pids(), before, "no task ends with its agent");
        stage.start_agent();
        stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
        stage.wait_for("jobs", 3);
    }
    let after = watch_totals(&stage, totals.clone(), QUIET);
    assert_eq!(after.len(), 3);
    for (id, us) in &after {
        let (_, then) = totals.iter().find(|(other, _)| other == id).unwrap();
        assert!(us > then, "cgroup {id} is measured again");
    }
    assert_eq!(stage.ledger.pids(), before, "the same processes");
    assert_eq!(stage.ledger.seen().len(), 3, "no task was started twice");
    assert!(stage.ended("jobs").is_empty(), "none is said to have ended");

    // Their ends are still seen, and exact, though the agent that started them is gone.
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    stage.compare_ended("jobs", 2);
}

#[test]
fn an_end_while_the_agent_is_away_is_reported_by_the_next_one() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 2);
    stage.wait_for("jobs", 2);
    stage.kill_agent();
    let (name, pid) = stage.ledger.pids().pop_first().unwrap();
    signal(pid, Signal::KILL);
    stage.until("the end of the process", |s| (s.ledger.finals().len() == 1).then_some(()));
    stage.start_agent();
    stage.until("its end in the store", |s| {
        let ended = s.ended("jobs").into_iter().find(|t| t["task"] == *name)?;
        ended["signal"]
            .is_i64()
            .then(|| assert_eq!((ended["signal"].as_i64(), ended["asked"].as_bool()), (Some(9), Some(false))))
    });
    stage.wait_for("jobs", 2);
    assert_eq!(stage.ledger.seen().len(), 3, "one replacement");
    stage.compare_ended("jobs", 1);
}

#[test]
fn the_autoscaler_is_killed_and_replicas_stay() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 3);
    stage.wait_for("jobs", 3);
    let (pids, mut epoch) = (stage.ledger.pids(), stage.get("/status")["epoch"].as_u64().unwrap());
    for _ in 0..3 {
        stage.kill_autoscaler();
        stage.start_autoscaler();
        let now = stage.get("/status")["epoch"].as_u64().unwrap();
        assert!(now > epoch, "epoch {now} after {epoch}");
        epoch = now;
        stage.wait_for("jobs", 3);
        std::thread::sleep(QUIET);
        assert_eq!(stage.ledger.pids(), pids, "the same replicas, none ended, none doubled");
    }
    assert_eq!(stage.ledger.seen().len(), 3);
    // Killed in the middle of a growth: what was ordered is neither lost nor ordered twice.
    stage.service("burn", 6);
    std::thread::sleep(Duration::from_millis(300));
    stage.kill_autoscaler();
    stage.start_autoscaler();
    stage.wait_for("jobs", 6);
    std::thread::sleep(QUIET);
    assert_eq!(stage.ledger.seen().len(), 6, "{:?}", stage.ledger.seen());
    let names: BTreeSet<String> = stage.ledger.seen().into_values().map(|t| t.name).collect();
    assert_eq!(names.len(), 6, "no name is used twice");
}

/// 20 s stand for ten minutes; TRIMTAB_OUTAGE_S=600 waits for them.
#[test]
fn an_outage_of_the_autoscaler_costs_no_total() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 3);
    stage.wait_for("jobs", 3);
    let pids = stage.ledger.pids();
    let totals = stage.live_totals("jobs");
    stage.kill_autoscaler();
    std::thread::sleep(Duration::from_secs(2));
    let (name, pid) = pids.first_key_value().unwrap();
    signal(*pid, Signal::KILL);
    let outage = seconds("TRIMTAB_OUTAGE_S", 20);
    std::thread::sleep(outage);
    let spooled = stage.until("the agent's metrics", |s| s.agent_metric("spool_rounds"));
    assert!(spooled >= outage.as_secs() as f64 / 2.0, "{spooled} rounds wait on disk");
    assert_eq!(stage.ledger.pids().len(), 2, "nobody replaces it meanwhile");

    stage.start_autoscaler();
    stage.wait_for("jobs", 3);
    watch_totals(&stage, totals, Duration::from_secs(2));
    stage.compare_ended("jobs", 1);
    let ended = stage.ended("jobs").into_iter().find(|t| t["task"] == **name).unwrap();
    assert_eq!((ended["signal"].as_i64(), ended["asked"].as_bool()), (Some(9), Some(false)), "{ended}");

    // Stopped processes use nothing: the store and the kernel agree to the microsecond on live tasks, too.
    let pids = stage.ledger.pids();
    pids.values().for_each(|pid| signal(*pid, Signal::STOP));
    stage.until("the same totals in the store", |s| {
        let kernel: Vec<(u64, u64)> =
            s.ledger.now().into_iter().filter(|(_, t)| t.live).map(|(id, t)| (id, t.cpu_us)).collect();
        let mut store = s.live_totals("jobs");
        store.sort_unstable();
        (store == kernel).then_some(())
    });
    pids.values().for_each(|pid| signal(*pid, Signal::CONT));
    stage.until_none("rounds in the spool", |s| s.agent_metric("spool_rounds"));
    stage.until("the autoscaler to know it", |s| {
        let node = s.get("/nodes/n1");
        (node["spooledRounds"] == 0 && node["spooledBytes"] == 0).then_some(())
    });
    // Both have the same clock; what they differ by is the way of a batch, however slow the machine.
    let skew = stage.get("/nodes/n1")["clockSkewMs"].as_i64();
    assert!(skew.is_some_and(|ms| (-60_000..1_000).contains(&ms)), "{skew:?} ms");
}

#[test]
fn a_task_that_dies_is_started_again_under_a_new_name() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 2);
    stage.wait_for("jobs", 2);
    let mut names: BTreeSet<String> = stage.ledger.pids().into_keys().collect();
    for count in 3..=4 {
        let (_, pid) = stage.ledger.pids().pop_first().unwrap();
        signal(pid, Signal::KILL);
        stage.until("a replacement", |s| (s.ledger.seen().len() == count).then_some(()));
        stage.wait_for("jobs", 2);
        names.extend(stage.ledger.pids().into_keys());
        assert_eq!(names.len(), count, "a new task has a new name: {names:?}");
    }
    stage.compare_ended("jobs", 2);
    for ended in stage.ended("jobs") {
        assert_eq!((ended["signal"].as_i64(), ended["asked"].as_bool()), (Some(9), Some(false)), "{ended}");
    }
}

#[test]
fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("stubborn", 2);
    stage.wait_for("jobs", 2);
    stage.service("stubborn", 1);
    stage.wait_for("jobs", 1);
    stage.compare_ended("jobs", 1);
    let ended = stage.ended("jobs");
    let [one] = ended.as_slice() else { panic!("one task ended: {ended:?}") };
    assert_eq!((one["signal"].as_i64(), one["asked"].as_bool()), (Some(9), Some(true)), "{one}");
    assert_eq!(stage.ledger.pids().len(), 1);
}

#[test]
fn a_frozen_node_refuses_and_says_why() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    let frozen = stage.path("agent/FROZEN");
    std::fs::write(&frozen, "maintenance of the racks\n").unwrap();
    stage.service("burn", 2);
    stage.until("the refusal in words", |s| {
        let told = format!("{}{}", s.get("/workloads/jobs/explain"), s.get("/decisions?workload=jobs"));
        (told.contains("maintenance of the racks")).then_some(())
    });
    std::thread::sleep(QUIET);
    assert_eq!(stage.ledger.pids().len(), 1, "nothing was started");
    std::fs::remove_file(&frozen).unwrap();
    stage.wait_for("jobs", 2);
}

#[test]
fn totals_of_ended_tasks_equal_the_kernels() {
    let Some(mut stage) = Stage::start() else { return };
    for count in [6, 1, 5, 2] {
        stage.service("burn", count);
        stage.wait_for("jobs", count.into());
    }
    stage.compare_ended("jobs", 8);
    let finals = stage.ledger.finals();
    assert!(finals.values().all(|us| *us > 0));
}

#[test]
fn the_agent_does_without_huge_pages_and_its_tasks_may_have_them() {
    let Some(mut stage) = Stage::start() else { return };
    let allowed = |pid: u32| -> String {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        line.map_or_else(|| "not told by this kernel".to_owned(), |value| value.trim().to_owned())
    };
    if allowed(std::process::id()) != "1" {
        println!("SKIP: huge pages here: {}", allowed(std::process::id()));
        return;
    }
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    assert_eq!(allowed(stage.agent_pid()), "0");
    for pid in stage.ledger.pids().into_values() {
        assert_eq!(allowed(pid), "1");
    }
}
