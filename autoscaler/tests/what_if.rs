//! What if: recorded load of real files, asked over the REST interface.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::path::Path;

use autoscaler::clock::{ControllerClock, boot_ns, wall_ms};
use autoscaler::config::HistorySettings;
use autoscaler::history::{History, Observed, Reading};
use autoscaler::metrics::Metrics;
use autoscaler_core::event::Time;
use model::id::{BootId, CgroupId, NodeId};
use serde_json::{Value, json};

use support::agent::FakeAgent;
use support::{Service, worker};

/// Distance of what is recorded, ms: a stream under pressure.
const EACH_MS: u64 = 10_000;
const HOURS: u64 = 3;

/// CPU of one replica, cores: between 0.1 and 0.5 within each hour.
fn cores(ms: u64) -> f64 {
    0.3 - 0.2 * (ms as f64 / 3.6e6 * std::f64::consts::TAU).cos()
}

/// Three hours of three replicas, as their node's agent would have sent them before the service was started anew.
fn recorded(state: &Path) {
    let clock = ControllerClock::start(wall_ms(), None, boot_ns());
    let day = 86_400_000;
    let settings = HistorySettings {
        flush_ms: 60_000,
        retain_ms: [day, 2 * day, 14 * day, 366 * day],
        max_bytes: 1 << 30,
    };
    let begin = (clock.now().0 - HOURS * 3_600_000) / EACH_MS * EACH_MS;
    let mut used = 0.0;
    let batches = (0..HOURS * 3_600_000 / EACH_MS).map(|at| {
        let now = begin + at * EACH_MS;
        used += cores(now) * EACH_MS as f64 * 1e3;
        let changed = (1..=3).map(|n| Reading {
            slot: n,
            cgroup: CgroupId(1_000 + u64::from(n)),
            cpu_us: Some(used as u64),
            delay_ns: None,
            memory_bytes: Some(200 << 20),
        });
        let appeared =
            if at == 0 { (1..=3).map(|n| (n, CgroupId(1_000 + u64::from(n)))).collect() } else { Vec::new() };
        Observed {
            node: NodeId::new("n1").unwrap(),
            boot: BootId(77),
            at: Time(now),
            snapshot: at == 0,
            backlog: false,
            appeared,
            changed: changed.collect(),
            gone: Vec::new(),
        }
    });
    let batches: Vec<Observed> = batches.collect();
    let (history, handle) = History::open(state, settings, clock, Metrics::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    handle.observe(batches);
    // What was handed over is written at the end.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    drop(handle);
    stop.send_replace(true);
    runtime.block_on(history.run(stopped)).unwrap();
}

fn ask(service: &Service, question: &Value) -> (u16, Value) {
    let answer = service.request("POST", "/api/v1/what-if", &[], &question.to_string());
    (answer.status, answer.json())
}

fn asked(service: &Service, question: &Value) -> Value {
    let (status, answer) = ask(service, question);
    assert_eq!(status, 200, "{question}: {answer}");
    answer
}

/// A service with three replicas that were recorded.
fn staged(state: &Path) -> (Service, FakeAgent) {
    recorded(state);
    let service = Service::start(state, &[]);
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    assert_eq!(service.put("jobs", &worker(3, 9), &[]).status, 201);
    let up = |service: &Service| service.get("/api/v1/workloads").1["items"][0]["up"].as_u64();
    service.until("three replicas", |service| (up(service)? == 3).then_some(()));
    service.until("their use", |service| {
        let tasks = service.get("/api/v1/tasks?workload=jobs").1;
        let known = tasks["items"].as_array()?.iter().filter(|t| t["cpuCores"].is_number()).count();
        (known == 3).then_some(())
    });
    // A round has reduced it.
    service.until("their load", |service| {
        service.get("/api/v1/workloads").1["items"][0]["load"]["cpuCores"].is_number().then_some(())
    });
    (service, agent)
}

fn near(value: &Value, expected: f64, by: f64) {
    let value = value.as_f64().unwrap_or(f64::NAN);
    assert!((value - expected).abs() <= by, "{value}, expected {expected}");
}

#[test]
fn recorded_load_is_played_with_other_settings_and_nothing_changes() {
    let state = tempfile::tempdir().unwrap();
    let (service, _agent) = staged(state.path());
    let before = service.get("/api/v1/workloads/jobs").1;
    let answer =
        asked(&service, &json!({"range": "2h", "load": 2.0, "target": {"cpu": 0.5}, "replicas": {"min": 1}}));
    let one = &answer["workloads"][0];
    assert_eq!(
        (one["name"].clone(), one["why"].clone(), answer["stepMs"].clone()),
        (json!("jobs"), json!(null), json!(10_000))
    );
    near(&one["coveredMs"], 7.2e6, 120_000.0);
    // At least three are kept, and 1.5 cores at their most need no more; twice that at half a core each needs six.
    near(&one["asIs"]["replicaHours"], 6.0, 0.15);
    assert_eq!(one["asIs"]["most"], 3);
    assert!(one["asked"]["most"].as_u64().is_some_and(|most| (6..=9).contains(&most)), "{one}");
    let load: Vec<f64> = one["series"]["load"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    near(&json!(load.iter().copied().fold(0.0, f64::max)), 1.5, 0.02);
    near(&json!(load.iter().copied().fold(9.0, f64::min)), 0.3, 0.02);
    assert_eq!(one["series"]["recorded"][10], 3);
    let different = one["differences"].as_array().unwrap();
    assert!(!different.is_empty() && different.len() as u64 <= one["differed"].as_u64().unwrap(), "{one}");
    assert!(
        different[0]["asked"]["reasons"][0]["text"].as_str().is_some_and(|text| text.len() > 10),
        "{one}"
    );
    assert!(one["assumes"].as_array().is_some_and(|all| all.len() >= 4), "{one}");
    assert_eq!(
        service.get("/api/v1/workloads/jobs").1["revision"],
        before["revision"],
        "asking changes nothing"
    );
}

#[test]
fn each_range_has_its_step_and_ended_replicas_count() {
    let state = tempfile::tempdir().unwrap();
    let (service, _agent) = staged(state.path());
    let peak = |answer: &Value| {
        let load = answer["workloads"][0]["series"]["load"].as_array().unwrap();
        json!(load.iter().filter_map(Value::as_f64).fold(0.0, f64::max))
    };
    for (range, step) in [("1h", 10_000), ("24h", 60_000), ("7d", 600_000)] {
        let answer = asked(&service, &json!({"workloads": ["jobs"], "range": range}));
        assert_eq!(answer["stepMs"], step, "{range}");
        // The mean of ten minutes about a peak is less than it.
        near(&peak(&answer), 1.5, if range == "7d" { 0.15 } else { 0.02 });
        let covered = if range == "1h" { 3.6e6 } else { 3.0 * 3.6e6 };
        near(&answer["workloads"][0]["coveredMs"], covered, 1.3e6);
    }
    // Of those that are left nobody could tell what the others did.
    assert_eq!(service.put("jobs", &worker(1, 1), &[]).status, 200);
    service.until("one replica", |service| {
        let tasks = service.get("/api/v1/tasks?state=ended&workload=jobs").1;
        (tasks["items"].as_array()?.len() == 2).then_some(())
    });
    let answer = asked(&service, &json!({"workloads": ["jobs"], "range": "1h"}));
    near(&peak(&answer), 1.5, 0.06);
    // Retention of ended tasks ends what can be told, and it is said.
    let answer = asked(&service, &json!({"workloads": ["jobs"], "range": "30d"}));
    assert!(answer["limited"].as_str().is_some_and(|why| why.contains("tasks.retain")), "{answer}");
}

#[test]
fn nodes_are_counted_of_those_there_after_a_loss_and_of_a_type_with_its_price() {
    let state = tempfile::tempdir().unwrap();
    let (service, _agent) = staged(state.path());
    let question =
        json!({"range": "1h", "lose": 1, "nodeType": {"cpus": 2, "memoryBytes": 4u64 << 30, "price": 0.25}});
    let answer = asked(&service, &question);
    let nodes = &answer["nodesAsIs"];
    assert_eq!(
        (nodes["nodes"].clone(), nodes["used"].clone(), nodes["unplaced"].clone()),
        (json!(1), json!(1), json!([]))
    );
    assert_eq!(
        nodes["givenCpuMillis"], 3_000,
        "three replicas without a size: one core each, as decisions have it"
    );
    assert_eq!(nodes["givenMemoryBytes"], 3 * (200u64 << 20), "what was recorded, where none is given");
    assert_eq!(nodes["loss"], json!({"lost": ["n1"], "unplaced": [{"workload": "jobs", "count": 3}]}));
    // Two nodes of two cores, and one that may be lost.
    assert_eq!(
        (nodes["ofType"]["nodes"].clone(), nodes["ofType"]["pricePerHour"].clone()),
        (json!(3), json!(0.75))
    );
    let free = json!({"range": "1h", "nodeType": {"cpus": 2, "memoryBytes": 4u64 << 30}});
    assert_eq!(
        asked(&service, &free)["nodesAsked"]["ofType"]["pricePerHour"],
        json!(null),
        "no invented money"
    );
}

#[test]
fn bad_questions_are_problems_and_what_nobody_recorded_is_no_number() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    assert_eq!(asked(&service, &json!({}))["workloads"], json!([]), "an empty fleet is an empty answer");
    for name in ["a", "b", "c", "d", "e", "f"] {
        let idle = worker(1, 2).replace("jobs", name).replace("mode: auto", "mode: observe");
        assert_eq!(service.put(name, &idle, &[]).status, 201);
    }
    service.until("a workload", |service| service.get("/api/v1/workloads").1["items"].get(5).cloned());
    let nothing = asked(&service, &json!({"workloads": ["a"]}));
    let one = &nothing["workloads"][0];
    assert_eq!(
        (one["asIs"].clone(), one["series"].clone(), one["coveredMs"].clone()),
        (json!(null), json!(null), json!(0))
    );
    assert!(one["why"].as_str().is_some_and(|why| why.contains("nothing was recorded")), "{one}");
    assert!(one["enoughInMs"].as_u64().is_some_and(|ms| ms > 600_000), "{one}");
    let queue = asked(&service, &json!({"workloads": ["a"], "target": {"queueDelayP95Ms": 5}}));
    assert!(queue["workloads"][0]["why"].as_str().is_some_and(|why| why.contains("no balancer")), "{queue}");
    for (question, status) in [
        (json!({"workloads": ["absent"]}), 404),
        (json!({"workloads": ["../a"]}), 400),
        (json!({"range": "1m"}), 400),
        (json!({"range": "32d"}), 400),
        (json!({"range": "soon"}), 400),
        (json!({"target": {"cpu": 0}}), 400),
        (json!({"target": {"cpu": 1.01}}), 400),
        (json!({"target": {"queueDelayP95Ms": 0}}), 400),
        (json!({"replicas": {"min": 5, "max": 2}}), 400),
        (json!({"replicas": {"max": 1001}}), 400),
        (json!({"risk": -0.1}), 400),
        (json!({"load": 0}), 400),
        (json!({"headroom": 6}), 400),
        (json!({"lose": 10_001}), 400),
        (json!({"nodeType": {"cpus": 0, "memoryBytes": 1}}), 400),
        (json!({"nodeType": {"cpus": 1, "memoryBytes": 0}}), 400),
        (json!({"nodeType": {"cpus": 1, "memoryBytes": 1, "price": -1}}), 400),
        (json!({"nodeType": {"cpus": 1}}), 400),
        (json!({"laod": 2}), 400),
        (json!("everything"), 400),
        (json!({"range": "31d"}), 422),
    ] {
        let (got, answer) = ask(&service, &question);
        assert_eq!(got, status, "{question}: {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{question}: {answer}");
    }
    // A page needs no session for a question; one of another address may not even ask.
    let own = format!("http://{}", service.api);
    let page = |origin: &str| service.request("POST", "/api/v1/what-if", &[("origin", origin)], "{}").status;
    assert_eq!((page(&own), page("http://127.0.0.1:1")), (200, 403));
    assert_eq!(service.request("GET", "/api/v1/what-if", &[], "").status, 405);
}
