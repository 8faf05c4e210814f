//! `/metrics` says the same as the REST interface, in the format that was asked for.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use serde_json::{Value, json};

use support::agent::FakeAgent;
use support::{Service, worker};

fn scraped(service: &Service) -> String {
    service.request("GET", "/metrics", &[], "").body
}

/// The value of a sample, by all that is before it.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// What does not change from one moment to the next.
fn settled(service: &Service, path: &str) -> Value {
    let mut answer = service.get(path).1;
    for moving in ["ageMs", "samples", "accountingErrorRatio", "clockSkewMs"] {
        answer.as_object_mut().unwrap().remove(moving);
    }
    answer
}

/// An answer and metrics of the same moment: samples come ten times a second, and the two must be asked between two of them.
fn together(service: &Service, path: &str, known: impl Fn(&Value) -> bool) -> (Value, String) {
    service.until(path, |service| {
        let before = settled(service, path);
        let text = scraped(service);
        let after = settled(service, path);
        (before == after && known(&after)).then_some((after, text))
    })
}

#[test]
fn the_numbers_are_those_of_the_rest_interface_and_go_with_what_they_are_of() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    let sized = worker(2, 5).replace("mode: auto", "mode: auto\n  size: { cpu: 2000m, memory: 64Mi }");
    assert_eq!(service.put("jobs", &sized, &[]).status, 201);
    let (workload, of_workload) = together(&service, "/api/v1/workloads", |all| {
        let jobs = &all["items"][0];
        jobs["up"] == 2 && jobs["load"]["cpuCores"].is_number()
    });
    let workload = workload["items"][0].clone();
    let (node, text) = together(&service, "/api/v1/nodes/n1", |node| node["cpuCores"].is_number());
    let of_node = |name: &str| value(&text, &format!("trimtab_node_{name}{{node=\"n1\"}}"));
    assert_eq!(of_node("connected"), Some(1.0));
    assert_eq!(of_node("capacity_cpu_cores"), node["cpus"].as_f64());
    assert_eq!(of_node("used_cpu_cores"), node["cpuCores"].as_f64());
    assert_eq!(of_node("capacity_memory_bytes"), node["memoryTotalBytes"].as_f64());
    assert_eq!(of_node("used_memory_bytes"), node["memoryBytes"].as_f64());
    assert_eq!(of_node("tasks"), node["tasks"].as_f64());
    assert!(of_node("sample_age_seconds").is_some_and(|age| age < 20.0));
    let text = of_workload;
    let of = |name: &str| value(&text, &format!("trimtab_{name}{{workload=\"jobs\"}}"));
    for state in ["wanted", "up", "starting", "leaving"] {
        let sample = format!("trimtab_replicas{{workload=\"jobs\",state=\"{state}\"}}");
        assert_eq!(value(&text, &sample), workload[state].as_f64(), "{state}");
    }
    assert_eq!((of("replicas_min"), of("replicas_max")), (Some(2.0), Some(5.0)));
    assert_eq!(of("workload_used_cpu_cores"), workload["load"]["cpuCores"].as_f64());
    assert_eq!(of("workload_used_memory_bytes"), workload["load"]["memoryBytes"].as_f64());
    assert_eq!(of("utilisation_ratio"), workload["load"]["utilisation"].as_f64());
    assert_eq!(of("workload_size_cpu_cores"), Some(2.0));
    let there =
        ["up", "starting", "leaving"].iter().filter_map(|state| workload[state].as_f64()).sum::<f64>();
    assert_eq!(of("workload_reserved_cpu_cores"), Some(there * 2.0));
    assert_eq!(of("target_cpu_ratio"), Some(0.65));
    assert_eq!(of("queue_delay_p95_seconds"), None, "a service has no queue delay");
    assert_eq!(value(&text, "trimtab_paused"), Some(0.0));
    assert_eq!(value(&text, "trimtab_loop_answers"), Some(1.0));
    let decided: f64 = text
        .lines()
        .filter(|line| line.starts_with("trimtab_decisions_total{workload=\"jobs\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    let told = service.get("/api/v1/decisions?workload=jobs&limit=1000").1;
    assert!(decided >= 1.0 && decided <= told["items"].as_array().unwrap().len() as f64, "{decided} {told}");

    let body = r#"{"workload":"jobs","reason":"deploy"}"#;
    assert_eq!(service.request("POST", "/api/v1/pause", &[], body).status, 200);
    service.until("the pause", |service| {
        let text = scraped(service);
        let age = value(&text, "trimtab_workload_paused_seconds{workload=\"jobs\"}")?;
        (age < 20.0 && value(&text, "trimtab_paused") == Some(0.0)).then_some(())
    });
    agent.follow("");
    service.until("a silent node", |service| {
        let text = scraped(service);
        assert_eq!(
            value(&text, "trimtab_node_connected{node=\"n1\"}").is_none(),
            service.get("/api/v1/nodes/n1").0 == 404
        );
        let gone = value(&text, "trimtab_node_connected{node=\"n1\"}") == Some(0.0);
        (gone && value(&text, "trimtab_node_used_cpu_cores{node=\"n1\"}").is_none()).then_some(())
    });
    assert_eq!(service.request("DELETE", "/api/v1/workloads/jobs", &[], "").status, 204);
    service.until("the end of its numbers", |service| {
        let gone = service.get("/api/v1/workloads").1["items"] == json!([]);
        (gone && !scraped(service).contains("workload=\"jobs\"")).then_some(())
    });
}

#[test]
fn who_asks_for_the_older_format_gets_it() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let open = service.request("GET", "/metrics", &[], "");
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    assert!(open.body.contains("# TYPE trimtab_rounds counter\n"));
    let plain = service.request("GET", "/metrics", &[("accept", "text/plain; version=0.0.4")], "");
    assert!(plain.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(plain.body.contains("# TYPE trimtab_rounds_total counter\n"));
    assert!(!plain.body.contains("# EOF") && !plain.body.contains("# UNIT"), "{}", plain.body);
}
