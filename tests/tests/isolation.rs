//! Latency-critical beside best-effort work on real cgroups: what the kernel is told, who gives way, and what happens without an agent.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::{Stage, bin, kernel};

/// Somebody who waits for it, and somebody who does not, with these settings of `[qos]`.
fn stage(qos: &str) -> Option<Stage> {
    let mut stage = Stage::prepare(&format!("[qos]\n{qos}"))?;
    let burst = stage.path("burst");
    for (launcher, words) in
        [("serve", format!("\"serve\", \"{}\"", burst.display())), ("busy", "\"busy\"".to_owned())]
    {
        let text = format!("command = [{:?}, {words}]\nallow_root = true\n", bin("e2e-task"));
        fs::write(stage.path(&format!("launch.d/{launcher}.toml")), text).unwrap();
    }
    stage.start_autoscaler();
    stage.start_agent();
    stage.until("the node", |s| (s.get("/nodes")["items"][0]["connected"] == true).then_some(()));
    Some(stage)
}

/// One replica of `launcher`, of this class.
fn apply(stage: &Stage, workload: &str, launcher: &str, class: &str) {
    let document = format!(
        "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: {workload} }}\nspec:\n  type: service\n  \
         class: {class}\n  replicas: {{ min: 1, max: 1 }}\n  target: {{ cpu: 65% }}\n  mode: auto\n  \
         service: {{ launcher: {launcher} }}\n  behavior: {{ growAfter: 1s, growCooldown: 1s, shrinkAfter: 1s, \
         shrinkCooldown: 5s, stopGrace: 2s }}\n"
    );
    stage.put(workload, &document);
}

fn both(stage: &mut Stage) {
    apply(stage, "web", "serve", "latency-critical");
    apply(stage, "jobs", "busy", "best-effort");
    stage.wait_for("web", 1);
    stage.wait_for("jobs", 1);
}

/// What the agent says of its loop.
fn qos(stage: &Stage) -> Option<Value> {
    let address = fs::read_to_string(stage.path("agent/http.address")).ok()?;
    ureq::get(format!("http://{address}/qos")).call().ok()?.body_mut().read_json().ok()
}

fn decided(said: &Value, codes: &[&str]) -> bool {
    said["decisions"].as_array().is_some_and(|all| {
        all.iter().any(|decision| codes.iter().any(|code| decision["reason"]["code"] == *code))
    })
}

/// The cgroup of a workload's only task on the unified hierarchy.
fn task(stage: &Stage, workload: &str) -> PathBuf {
    let tasks = kernel::directories(&stage.slice.join(workload));
    let live = |path: &PathBuf| {
        fs::read_to_string(path.join("cgroup.events")).unwrap_or_default().contains("populated 1")
    };
    tasks.into_iter().find(live).unwrap()
}

/// A file of the CPU controller, wherever that is.
fn cpu_file(stage: &Stage, below: &Path, file: &str) -> Option<String> {
    let v1 = Path::new("/sys/fs/cgroup/cpu").join(stage.slice.file_name().unwrap());
    let below = below.strip_prefix(&stage.slice).unwrap();
    [stage.slice.join(below), v1.join(below)]
        .iter()
        .find_map(|directory| fs::read_to_string(directory.join(file)).ok())
        .map(|text| text.trim().to_owned())
}

fn frozen(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).unwrap_or_default().contains("frozen 1")
}

/// The quota of a workload's only task, thousandths of a core.
fn quota(stage: &Stage, workload: &str) -> Option<u32> {
    let quotas = stage.ledger.quotas();
    let (_, millis) = quotas.iter().find(|(name, _)| name.starts_with(&format!("{workload}-")))?;
    *millis
}

#[test]
fn best_effort_work_is_idle_and_held_back_and_latency_critical_work_is_left_alone() {
    let Some(mut stage) = stage("headroom = \"1%\"\n") else { return };
    // Alone it may use what there is.
    apply(&stage, "jobs", "busy", "best-effort");
    stage.wait_for("jobs", 1);
    stage.until("nobody to protect", |s| (qos(s)?["state"]["state"] == "open").then_some(()));
    let jobs = task(&stage, "jobs");
    assert_eq!(quota(&stage, "jobs"), None);
    stage.until("what the others use", |s| qos(s)?["othersMillis"].as_u64());
    apply(&stage, "web", "serve", "latency-critical");
    stage.wait_for("web", 1);
    let web = task(&stage, "web");
    let met = stage.until("a quota of best-effort work", |s| quota(s, "jobs"));
    let floor = (qos(&stage).unwrap()["cpuMillis"].as_u64().unwrap() / 20) as u32;
    for below in [jobs.clone(), jobs.parent().unwrap().to_owned()] {
        match cpu_file(&stage, &below, "cpu.idle") {
            Some(idle) => assert_eq!(idle, "1", "{}", below.display()),
            None => println!("SKIP: this kernel has no cpu.idle (before 5.15)"),
        }
    }
    let said = stage.until("both of them, measured", |s| {
        let said = qos(s)?;
        let measured =
            said["critical"][0]["cpuStall"].is_f64() && said["bestEffort"][0]["usedMillis"].is_u64();
        measured.then_some(said)
    });
    assert_eq!(said["critical"][0]["workload"], "web", "{said}");
    assert_eq!(said["bestEffort"][0]["workload"], "jobs", "{said}");
    assert!(decided(&said, &["began"]), "{said}");
    if said["critical"][0]["delayMs"].is_null() {
        println!("SKIP: waits for CPUs are not counted here: {}", said["notPossible"]);
    }

    // More threads than CPUs: it waits for CPUs, whoever else runs here.
    let began = Instant::now();
    fs::write(stage.path("burst"), "").unwrap();
    let said = stage.until("the breach", |s| {
        let said = qos(s)?;
        decided(&said, &["delay_above", "cpu_stall_above", "at_floor"]).then_some(said)
    });
    stage.until("the floor", |s| (quota(s, "jobs")? <= floor).then_some(()));
    println!("from {met}m to the floor of {floor}m {:?} after the burst began", began.elapsed());
    if met <= floor {
        println!("SKIP: others use so much of this host that best-effort work was at its floor already");
    }
    assert_eq!(quota(&stage, "web"), None, "latency-critical work has no quota of this loop: {said}");
    assert_eq!(cpu_file(&stage, &web, "cpu.idle").unwrap_or_default().trim_start_matches('0'), "");
    assert!(!frozen(&web));
    assert!(said["notPossible"].is_array(), "{said}");

    // The command says the same to people and to programs.
    let run = |more: &[&str]| {
        let mut command = Command::new(bin("trimtab-agent"));
        command.arg("--config").arg(stage.path("agent.toml")).arg("qos").args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    for part in ["best-effort work may use", "web-1 (web)", "jobs-1 (jobs)", "DECISIONS", "dead-man"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let json: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(json["apiVersion"], "trimtab/v1");
    assert!(stage.agent_metric("qos_frozen_tasks").is_some());

    // It is over: calm for ten seconds, and best-effort work gets more. What is calm does not depend on how fast this host is.
    fs::remove_file(stage.path("burst")).unwrap();
    let config = stage.path("agent.toml");
    let patient = "run_queue_delay = \"1s\"\ncpu_stall = \"100%\"\nmemory_stall = \"100%\"\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + patient).unwrap();
    support::signal(stage.agent_pid(), Signal::HUP);
    let over = Instant::now();
    let grown = stage.until("growth", |s| {
        let said = qos(s)?;
        if decided(&said, &["grown"]) {
            return Some(true);
        }
        let busy = said["othersMillis"].as_u64()? * 2 > said["cpuMillis"].as_u64()?;
        (busy && over.elapsed() > Duration::from_secs(60)).then_some(false)
    });
    if grown {
        stage.until("more than the floor", |s| (quota(s, "jobs")? > floor).then_some(()));
        // It pauses by the clock, while it has something to pause with, and gets back what it had.
        let over = Instant::now();
        let paused = stage.until("a pause", |s| {
            if s.agent_metric("qos_decisions_total{reason=\"paused\"}").unwrap_or(0.0) > 0.0 {
                return Some(true);
            }
            let said = qos(s)?;
            let little = said["bestEffort"][0]["usedMillis"].as_u64()? <= u64::from(floor) * 2;
            (little && over.elapsed() > Duration::from_secs(90)).then_some(false)
        });
        if paused {
            stage.until("the quota of before", |s| (quota(s, "jobs")? >= floor).then_some(()));
        } else {
            println!("SKIP: others are busy on this host: best-effort work runs too little to be paused");
        }
    } else {
        println!("SKIP: others are busy on this host: it does not get calm, or nothing is left to grow into");
    }
    assert_eq!(quota(&stage, "web"), None);
    assert!(stage.lives("agent"));
}

#[test]
fn a_class_changes_while_the_task_runs() {
    let Some(mut stage) = stage("") else { return };
    both(&mut stage);
    let (pids, jobs) = (stage.ledger.pids(), task(&stage, "jobs"));
    stage.until("a quota of best-effort work", |s| quota(s, "jobs"));
    apply(&stage, "jobs", "busy", "standard");
    stage.until("no quota", |s| quota(s, "jobs").is_none().then_some(()));
    let idle = |s: &Stage, below: &Path| cpu_file(s, below, "cpu.idle").unwrap_or("0".to_owned());
    stage.until("its weight", |s| {
        (idle(s, &jobs) == "0" && idle(s, jobs.parent().unwrap()) == "0").then_some(())
    });
    stage.until("an idle loop", |s| (qos(s)?["state"]["state"] == "idle").then_some(()));
    // Nothing is looked at between rounds where there is no best-effort work.
    let steps = |s: &Stage| s.agent_metric("qos_decisions_total{reason=\"no_best_effort\"}");
    let before = stage.until("the steps so far", |s| steps(s));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(steps(&stage), Some(before));

    apply(&stage, "jobs", "busy", "best-effort");
    stage.until("a quota again", |s| quota(s, "jobs"));
    // Its owner turns the loop off and on.
    let (config, agent) = (stage.path("agent.toml"), stage.agent_pid());
    let on = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{on}enabled = false\n")).unwrap();
    support::signal(agent, Signal::HUP);
    stage.until("what was held back is let go", |s| quota(s, "jobs").is_none().then_some(()));
    let off = stage.until("why", |s| qos(s)?["off"].as_str().map(str::to_owned));
    assert!(off.contains("enabled = false"), "{off}");
    fs::write(&config, on).unwrap();
    support::signal(agent, Signal::HUP);
    stage.until("held back again", |s| quota(s, "jobs"));
    // An agent that starts anew knows it without being told: the autoscaler is away.
    stage.kill_autoscaler();
    stage.kill_agent();
    stage.start_agent();
    let said = stage.until("the loop", |s| qos(s).filter(|said| said["bestEffort"][0]["task"].is_string()));
    assert_eq!(said["critical"][0]["workload"], "web", "{said}");
    assert_eq!(stage.ledger.pids(), pids, "the same processes all the time");
}

#[test]
fn without_an_agent_best_effort_work_is_frozen_and_thawed_by_the_next_one() {
    // The quota is compared: no pause in between.
    let Some(mut stage) = stage("pauses = false\n") else { return };
    both(&mut stage);
    let (web, jobs) = (task(&stage, "web"), task(&stage, "jobs"));
    let pids = stage.ledger.pids();
    let first = stage.until("a dead-man", |s| qos(s)?["deadMan"]["watcher"].as_u64());
    support::signal(u32::try_from(first).unwrap(), Signal::KILL);
    let watcher =
        stage.until("another one", |s| qos(s)?["deadMan"]["watcher"].as_u64().filter(|pid| *pid != first));

    // One that is back within ten seconds changes nothing.
    stage.kill_agent();
    stage.start_agent();
    stage.until("the same dead-man", |s| (qos(s)?["deadMan"]["watcher"].as_u64()? == watcher).then_some(()));
    std::thread::sleep(Duration::from_secs(12));
    assert!(!frozen(&jobs), "an agent is there");

    let quota_before = quota(&stage, "jobs");
    let killed = Instant::now();
    stage.kill_agent();
    stage.until("best-effort work frozen", |_| frozen(&jobs).then_some(()));
    assert!(killed.elapsed() >= Duration::from_secs(10), "{:?}", killed.elapsed());
    assert!(!frozen(&web), "latency-critical work runs on");
    let (at_web, at_jobs) = (kernel::cpu_us(&web).unwrap(), kernel::cpu_us(&jobs).unwrap());
    stage.until("CPU of latency-critical work", |_| (kernel::cpu_us(&web)? > at_web).then_some(()));
    assert_eq!(kernel::cpu_us(&jobs), Some(at_jobs), "frozen work uses nothing");
    assert_eq!(quota(&stage, "jobs"), quota_before, "limits stay as they were");

    stage.start_agent();
    stage.until("best-effort work thawed", |_| (!frozen(&jobs)).then_some(()));
    stage.until("CPU of best-effort work", |_| (kernel::cpu_us(&jobs)? > at_jobs).then_some(()));
    stage.until("the node", |s| (s.get("/nodes/n1")["connected"] == true).then_some(()));
    stage.wait_for("jobs", 1);
    assert_eq!(stage.ledger.pids(), pids, "nothing was ended or started");
    assert!(stage.ended("jobs").is_empty());
    stage.until("another dead-man", |s| qos(s)?["deadMan"]["watcher"].as_u64());
}
