//! The REST interface as clients meet it.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use model::adapter::AdapterReport;
use model::yarn::{Resources, YarnNode, YarnReport, YarnState};
use serde_json::{Value, json};

use support::agent::FakeAgent;
use support::{PATIENCE, Service, worker};

#[test]
fn a_specification_is_applied_compared_changed_and_withdrawn() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let dry = service.request("PUT", "/api/v1/workloads/jobs?dryRun=true", &[], &worker(2, 5));
    assert_eq!(
        (dry.status, dry.json()["created"].clone(), dry.json()["dryRun"].clone()),
        (200, json!(true), json!(true))
    );
    assert_eq!(service.get("/api/v1/workloads/jobs").0, 404, "a dry run changes nothing");

    let created = service.put("jobs", &worker(2, 5), &[("if-none-match", "*")]);
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("etag"), Some("\"1\""));
    assert_eq!(service.put("jobs", &worker(2, 5), &[("if-none-match", "*")]).status, 412);
    let same = service.put("jobs", &worker(2, 5), &[]);
    assert_eq!((same.status, same.json()["unchanged"].clone()), (200, json!(true)));
    let changed = service.put("jobs", &worker(3, 5), &[("if-match", "\"1\"")]);
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"2\"")));
    let late = service.put("jobs", &worker(4, 5), &[("if-match", "\"1\"")]);
    assert_eq!((late.status, late.header("content-type")), (412, Some("application/problem+json")));

    let (status, one) = service.get("/api/v1/workloads/jobs");
    assert_eq!((status, one["revision"].clone(), one["status"]["min"].clone()), (200, json!(2), json!(3)));
    let cached = service.request("GET", "/api/v1/workloads/jobs", &[("if-none-match", "\"2\"")], "");
    assert_eq!((cached.status, cached.body.as_str()), (304, ""));

    assert_eq!(service.request("DELETE", "/api/v1/workloads/jobs", &[("if-match", "\"1\"")], "").status, 412);
    assert_eq!(service.request("DELETE", "/api/v1/workloads/jobs", &[], "").status, 204);
    assert_eq!(service.request("DELETE", "/api/v1/workloads/jobs", &[], "").status, 404);
    let again = service.put("jobs", &worker(2, 5), &[]);
    assert_eq!(again.header("etag"), Some("\"4\""), "a name that comes back never repeats a revision");
}

#[test]
fn faults_are_problems_with_words_that_help() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let bad = service.put("jobs", &worker(2, 5).replace("replicas", "replica"), &[]);
    let problem = bad.json();
    assert_eq!((bad.status, problem["status"].clone()), (422, json!(422)));
    assert_eq!(problem["type"], "urn:trimtab:problem:invalid-spec");
    assert!(
        problem["faults"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["line"] == 6 && f["help"] == "did you mean `replicas`?"),
        "{problem}"
    );
    assert_eq!(
        service.put("other", &worker(2, 5), &[]).status,
        422,
        "path and document name different workloads"
    );
    let media = service.request("PUT", "/api/v1/workloads/jobs", &[("content-type", "text/html")], "x");
    assert_eq!(media.status, 415);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("POST", "/api/v1/nodes", 405),
        ("GET", "/api/v1/nodes/absent", 404),
        ("GET", "/api/v1/workloads/absent/explain", 404),
        ("GET", "/api/v1/workloads/..%2Fa", 400),
        ("GET", "/api/v1/decisions?limit=x", 400),
        ("GET", "/api/v1/decisions?lmit=1", 400),
        ("GET", "/api/v1/decisions?cursor=zz", 400),
        ("GET", "/api/v1/history?node=a&step=7", 400),
        ("GET", "/api/v1/workloads/absent/approve", 405),
    ] {
        let answer = service.request(method, path, &[], "");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.json()["detail"].as_str().is_some_and(|d| d.len() > 10), "{path}: {answer:?}");
    }
    let large = service.put("jobs", &"#".repeat(2 << 20), &[]);
    assert!(matches!(large.status, 413 | 0), "{}", large.status);
    let elsewhere = service.request("GET", "/api/v1/nodes", &[("host", "example.com")], "");
    assert_eq!(elsewhere.status, 403, "a name that was bound to loopback is no name of this host");
    let page = service.request("POST", "/api/v1/pause", &[("origin", "http://example.com")], "{}");
    assert_eq!(page.status, 403);
}

#[test]
fn a_pause_holds_is_told_and_survives_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    service.put("jobs", &worker(2, 5), &[]);
    let key = [("idempotency-key", "k1")];
    let body = r#"{"reason":"deploy","for":"2h"}"#;
    let first = service.request("POST", "/api/v1/pause", &key, body);
    assert_eq!((first.status, first.json()["state"].clone()), (200, json!("paused")));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let second = service.request("POST", "/api/v1/pause", &key, body);
    assert_eq!(first.body, second.body, "a repetition gets the first answer");
    assert_eq!(service.request("POST", "/api/v1/pause", &key, "{}").status, 422, "a key is for one request");
    assert_eq!(service.request("POST", "/api/v1/pause", &[], r#"{"workload":"absent"}"#).status, 404);
    assert_eq!(service.request("POST", "/api/v1/pause", &[], r#"{"for":"2 parsecs"}"#).status, 400);
    assert_eq!(service.request("POST", "/api/v1/pause", &[], r#"{"fro":"2h"}"#).status, 400);
    service.kill();
    let service = Service::start(state.path(), &[]);
    assert_eq!(service.get("/api/v1/status").1["pauses"][0]["reason"], "deploy");
    let why = service.until("the pause in the explanation", |service| {
        let explained = service.get("/api/v1/workloads/jobs/explain").1;
        explained["blocks"].as_array()?.iter().find(|b| b["code"] == "paused").cloned()
    });
    assert!(why["text"].as_str().unwrap().contains("deploy"));
    assert_eq!(service.request("POST", "/api/v1/resume", &[], "").json()["state"], "acting");
}

#[test]
fn a_drained_node_is_emptied_stays_so_through_a_restart_and_is_used_again() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let first = FakeAgent::start("n1");
    first.follow(&service.agents);
    let drain = |service: &Service, body: &str| service.request("POST", "/api/v1/nodes/n1/drain", &[], body);
    let nobody = service.request("POST", "/api/v1/nodes/n9/drain", &[], "{}");
    assert_eq!(nobody.status, 404, "nobody of that name has connected: {nobody:?}");
    assert_eq!(service.put("jobs", &worker(2, 2), &[]).status, 201);
    let up = |service: &Service| service.get("/api/v1/workloads").1["items"][0]["up"].as_u64();
    service.until("two replicas", |service| (up(service)? == 2).then_some(()));

    let keeps = |service: &Service, node: &str| service.get(&format!("/api/v1/nodes/{node}/drain")).1;
    let there = keeps(&service, "n1")["items"][0].clone();
    assert_eq!((&there["workload"], &there["tasks"]), (&json!("jobs"), &json!(2)));
    assert_eq!(there["stays"]["code"], "no_node_with_launcher", "{there}");
    assert_eq!(service.get("/api/v1/nodes/n9/drain").0, 404);
    let refused = drain(&service, r#"{"reason":"disk"}"#);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, detail.contains("2 of workload jobs would stay")), (409, true), "{detail}");
    assert_eq!(service.get("/api/v1/nodes/n1").1["drain"], json!(null), "a refusal changes nothing");
    assert_eq!(drain(&service, r#"{"reasn":"disk"}"#).status, 400);
    let partly = drain(&service, r#"{"reason":"disk","partly":true}"#);
    assert_eq!(
        (partly.status, partly.json()["drain"].clone()),
        (200, json!({"why": "disk", "left": 2})),
        "{partly:?}"
    );
    service.kill();

    let service = Service::start(state.path(), &[]);
    let second = FakeAgent::start("n2");
    first.follow(&service.agents);
    second.follow(&service.agents);
    let running = |agent: &FakeAgent| agent.books.lock().unwrap().running.len();
    // Never fewer than two run. The one that only loses is counted first, so that a move in between is not missed.
    service.until("an empty node", |service| {
        let leaving = running(&first);
        assert!(leaving + running(&second) >= 2);
        (service.get("/api/v1/nodes/n1").1["drain"]["left"] == 0).then_some(())
    });
    assert_eq!((running(&first), running(&second)), (0, 2));
    assert_eq!(keeps(&service, "n1")["items"], json!([]));
    assert_eq!(keeps(&service, "n2")["items"][0]["stays"]["code"], "no_node_with_launcher", "n1 is drained");
    assert_eq!(service.get("/api/v1/nodes").1["items"][0]["drain"]["why"], "disk");
    let moves = service.get("/api/v1/decisions?acts=true&workload=jobs").1;
    let moved = moves["items"].as_array().unwrap().iter().any(|decision| decision["kind"] == "move");
    assert!(moved, "{moves}");

    let back = service.request("DELETE", "/api/v1/nodes/n1/drain", &[], "");
    assert_eq!((back.status, back.json()["drain"].clone()), (200, json!(null)));
    assert_eq!(service.request("POST", "/api/v1/nodes/n2/drain", &[], "").status, 200);
    service.until("the way back", |_| (running(&first) == 2 && running(&second) == 0).then_some(()));
    assert_eq!(service.request("DELETE", "/api/v1/nodes/..%2Fa/drain", &[], "").status, 404);
}

#[test]
fn replicas_are_started_seen_and_replaced_when_they_are_gone() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    service.until("the node", |service| {
        let node = service.get("/api/v1/nodes/n1").1;
        (node["connected"] == true && node["cpus"] == 64).then_some(())
    });
    assert_eq!(service.put("jobs", &worker(2, 5), &[]).status, 201);
    service.until("two replicas", |service| {
        (service.get("/api/v1/workloads").1["items"][0]["up"] == 2).then_some(())
    });
    let would = service.get("/api/v1/workloads/jobs/explain").1["wouldAct"].clone();
    let more = "more replicas: CPU use above 65%, or a forecast that asks for more than 2, for 30s; at once when they use 97% of what they are given";
    assert_eq!(would[0], more, "a service has no requests: {would}");
    let task = service.until("live tasks with use", |service| {
        let tasks = service.get("/api/v1/tasks?workload=jobs").1;
        tasks["items"].as_array()?.iter().find(|t| t["cpuCores"].is_number()).cloned()
    });
    assert_eq!(task["node"], "n1");
    let acts = service.get("/api/v1/decisions?acts=true&workload=jobs").1;
    assert!(acts["items"].as_array().is_some_and(|items| !items.is_empty()), "{acts}");
    service.until("an acknowledgement", |_| (agent.books.lock().unwrap().acknowledged > 0).then_some(()));

    // Two pages of one item are the same as one of two.
    let two = service.get("/api/v1/decisions?limit=2").1;
    let first = service.get("/api/v1/decisions?limit=1").1;
    if let Some(cursor) = first["next"].as_str() {
        let second = service.get(&format!("/api/v1/decisions?limit=1&cursor={cursor}")).1;
        assert_eq!(second["items"][0], two["items"][1]);
    }

    let ended = {
        let mut books = agent.books.lock().unwrap();
        let (name, (workload, cgroup, _)) = books.running.pop_first().unwrap();
        (name.to_string(), workload.to_string(), cgroup.0)
    };
    // The agent's next session no longer lists the task.
    agent.follow("");
    std::thread::sleep(std::time::Duration::from_millis(100));
    agent.follow(&service.agents);
    service.until("a replacement", |service| {
        let replicas = service.get("/api/v1/workloads/jobs").1["status"].clone();
        // While the agent is away nothing is seen to be up.
        let up = |r: &&Value| r["state"] == "up" && r["task"] != ended.0.as_str();
        let others = replicas["replicas"].as_array()?.iter().filter(up).count();
        (replicas["up"] == 2 && others == 2).then_some(())
    });
    assert_eq!(service.get("/metrics").0, 200);
    let text = service.request("GET", "/metrics", &[], "").body;
    for name in
        ["trimtab_agents_connected 1", "trimtab_frozen 0", "trimtab_samples_total", "trimtab_commands_total"]
    {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert_eq!(service.get("/readyz"), (200, json!({ "ready": true, "reasons": [] })));
}

#[test]
fn it_is_told_whether_the_loss_of_a_node_or_a_rack_is_survived() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let nobody = service.get("/api/v1/headroom").1;
    assert_eq!((&nobody["node"]["survives"], &nobody["free"]), (&json!("unknown"), &json!(null)), "{nobody}");
    let agents = ["n1", "n2"].map(FakeAgent::start);
    agents[0].books.lock().unwrap().rack = Some("r1".parse().unwrap());
    agents.iter().for_each(|agent| agent.follow(&service.agents));
    service.until("both nodes", |s| (s.get("/api/v1/nodes").1["items"].as_array()?.len() == 2).then_some(()));
    let sized = |cpu: u32| {
        worker(2, 5).replace("mode: auto", &format!("mode: auto\n  size: {{ cpu: {cpu}m, memory: 64Mi }}"))
    };
    assert_eq!(service.put("jobs", &worker(2, 5), &[]).status, 201);
    let until = |what: &str, survives: &str| {
        service.until(what, |service| {
            let headroom = service.get("/api/v1/headroom").1;
            (headroom["node"]["survives"] == survives && headroom["freeOn"] == 2).then_some(headroom)
        })
    };
    let no_size = until("a workload without a size", "unknown");
    let why = no_size["node"]["why"].as_str().unwrap();
    assert!(why.contains("specification of jobs does not give both CPU and memory"), "{why}");
    assert_eq!(no_size["more"], json!([{"workload": "jobs", "replicas": null}]));
    let reserved = |service: &Service| {
        let nodes = service.get("/api/v1/nodes").1;
        ["n1", "n2"].map(|name| {
            let all = nodes["items"].as_array().unwrap();
            all.iter().find(|node| node["name"] == name).unwrap()["reserved"].clone()
        })
    };
    let none = json!({"replicas": 1, "cpuCores": null, "memoryBytes": null, "withoutSize": 1});
    service.until("a replica on each node", |s| (reserved(s) == [none.clone(), none.clone()]).then_some(()));

    service.put("jobs", &sized(2_000), &[]);
    let small = until("room for all", "yes");
    assert_eq!((&small["node"]["asked"], &small["node"]["survived"]), (&json!(2), &json!(2)));
    let one = json!({"replicas": 1, "cpuCores": 2.0, "memoryBytes": 64 << 20, "withoutSize": 0});
    assert_eq!(reserved(&service), [one.clone(), one]);
    // 128 cores less two of 2; rounds of replicas and of nodes may be a moment apart.
    assert!(
        small["free"]["cpuCores"].as_f64().is_some_and(|free| (123.5..=124.0).contains(&free)),
        "{small}"
    );
    assert!(small["more"][0]["replicas"].as_u64().is_some_and(|more| (60..=62).contains(&more)), "{small}");
    assert_eq!(small["losses"], json!([]));
    assert_eq!(small["rack"]["survives"], "unknown");
    assert!(small["rack"]["why"].as_str().unwrap().contains("not told of n2: set `rack`"), "{small}");

    service.put("jobs", &sized(40_000), &[]);
    let large = until("no room", "no");
    let loss = &large["losses"][0];
    assert_eq!((&loss["of"], &loss["name"], &loss["replicas"]), (&json!("node"), &json!("n1"), &json!(1)));
    assert_eq!(loss["short"][0]["best"], "n2", "{large}");
    assert!(loss["short"][0]["bestCpuMillis"].as_u64().is_some_and(|left| (23_500..=24_000).contains(&left)));
    // Of its rack nobody knows who else is in it, but more could not be better.
    assert_eq!(large["rack"]["survives"], "no", "{large}");
}

#[test]
fn what_is_not_known_of_waits_has_a_reason() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    let node = service.until("the node", |s| {
        let node = s.get("/api/v1/nodes/n1").1;
        (node["connected"] == true).then_some(node)
    });
    assert_eq!((&node["waits"], &node["rack"]), (&json!(null), &json!(null)));
    for reason in ["runDelayUnknown", "stallsUnknown"] {
        assert!(node[reason].as_str().is_some_and(|why| why.contains("ten seconds")), "{node}");
    }
    let delays = service.get("/api/v1/nodes/n1/delays").1;
    assert_eq!(
        (&delays["count"], &delays["buckets"], &delays["p99Seconds"]),
        (&json!(0), &json!([]), &json!(null))
    );
    assert!(delays["unknown"].is_string(), "{delays}");
    assert_eq!(service.get("/api/v1/nodes/n2/delays").0, 404);
    assert_eq!(service.get("/api/v1/nodes/..%2Fa/delays").0, 404);
}

#[test]
fn neighbours_of_a_workload_are_unknown_until_waits_are_stored() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    assert_eq!(service.put("jobs", &worker(1, 2), &[]).status, 201);
    for (path, status) in [
        ("/api/v1/workloads/absent/neighbours", 404),
        ("/api/v1/workloads/jobs/neighbours?range=9m", 400),
        ("/api/v1/workloads/jobs/neighbours?range=8d", 400),
        ("/api/v1/workloads/jobs/neighbours?range=soon", 400),
        ("/api/v1/workloads/jobs/neighbours?rnge=1h", 400),
    ] {
        assert_eq!(service.get(path).0, status, "{path}");
    }
    let answer = service.until("a node with a replica", |s| {
        let answer = s.get("/api/v1/workloads/jobs/neighbours?range=24h").1;
        (answer["nodes"][0]["node"] == "n1").then_some(answer)
    });
    assert_eq!(
        (&answer["stepMs"], &answer["items"], &answer["leftOut"]),
        (&json!(60_000), &json!([]), &json!(0))
    );
    assert!(answer["summary"].as_str().unwrap().starts_with("nothing can be said: "), "{answer}");
}

#[test]
fn the_doctor_says_what_to_do_before_there_is_a_node_and_names_one_that_left() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agents = |s: &Service| {
        let (status, answer) = s.get("/api/v1/doctor");
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
        let findings = answer["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|one| one["check"] == "agents").unwrap()
    };
    let none = agents(&service);
    assert_eq!(none["verdict"], "WARN");
    assert!(none["fix"].as_str().unwrap().contains("trimtab node join-token"), "{none}");
    let agent = FakeAgent::start("n1");
    agent.follow(&service.agents);
    let there = service.until("a node", |s| Some(agents(s)).filter(|one| one["verdict"] == "PASS"));
    assert_eq!((&there["found"], there.get("fix")), (&json!("1 of 1 connected"), None));
    drop(agent);
    let gone = service.until("the node to leave", |s| Some(agents(s)).filter(|one| one["verdict"] == "WARN"));
    assert_eq!(gone["found"], "0 of 1 connected; not n1");
}

#[test]
fn the_course_of_a_workload_has_its_steps_before_anything_is_stored() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    assert_eq!(service.put("jobs", &worker(1, 2), &[]).status, 201);
    let course = service.get("/api/v1/workloads/jobs/course?range=24h&points=24").1;
    let steps = course["load"].as_array().unwrap();
    assert_eq!((&course["stepMs"], steps.iter().all(Value::is_null)), (&json!(3_600_000), true), "{course}");
    assert!((24..=25).contains(&steps.len()) && course["up"].as_array().unwrap().len() == steps.len());
    for (path, status) in [
        ("/api/v1/workloads/absent/course", 404),
        ("/api/v1/workloads/jobs/course?range=9m", 400),
        ("/api/v1/workloads/jobs/course?range=8d", 400),
        ("/api/v1/workloads/jobs/course?points=x", 400),
    ] {
        assert_eq!(service.get(path).0, status, "{path}");
    }
}

/// Two NodeManagers that nobody here started, and nothing to do.
fn idle_yarn() -> AdapterReport {
    let node = |n: u32| YarnNode {
        host: format!("w{n}"),
        port: Some(8041),
        state: YarnState::Running,
        total: Resources { memory_mib: 4_096, vcores: 4 },
        used: Resources::default(),
        containers: 0,
        masters: 0,
        health: String::new(),
    };
    AdapterReport::Yarn(YarnReport {
        cluster: "batch".into(),
        started_ms: 1,
        labels: false,
        pending: Resources::default(),
        containers_pending: 0,
        apps_running: 0,
        apps_pending: 0,
        excluded: Some(Vec::new()),
        nodes: vec![node(1), node(2)],
    })
}

#[test]
fn a_cluster_is_recommended_a_member_that_comes_when_it_is_approved() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let agent = FakeAgent::start("w3");
    agent.books.lock().unwrap().cluster = Some(idle_yarn());
    agent.follow(&service.agents);
    let spec = |min: u32| {
        format!(
            "apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: batch }}\nspec:\n  type: yarn\n  mode: recommend\n  \
             replicas: {{ min: {min}, max: 4 }}\n  target: {{ containerWait: 30s }}\n  yarn: {{ cluster: batch, launcher: worker }}\n"
        )
    };
    assert_eq!(service.put("batch", &spec(2), &[]).status, 201);
    let another = worker(2, 5).replace("name: jobs", "name: batch");
    let cluster = |service: &Service| service.get("/api/v1/workloads/batch").1["status"]["cluster"].clone();
    service.until("two members", |s| (cluster(s)["found"] == json!(["w1", "w2"])).then_some(()));
    for query in ["?dryRun=true", ""] {
        let path = format!("/api/v1/workloads/batch{query}");
        let other = service.request("PUT", &path, &[], &another);
        let kind = other.json()["type"].clone();
        assert_eq!((other.status, kind), (409, json!("urn:trimtab:problem:other-kind")), "{query}");
    }
    for (word, kind) in
        [("approve", "nothing-to-approve"), ("reject", "nothing-to-approve"), ("cancel", "nothing-to-cancel")]
    {
        let path = format!("/api/v1/workloads/batch/{word}");
        let answer = service.request("POST", &path, &[], "");
        assert_eq!(
            (answer.status, answer.json()["type"].clone()),
            (409, json!(format!("urn:trimtab:problem:{kind}")))
        );
        assert_eq!(service.request("POST", &path.replace("batch", "absent"), &[], "").status, 404);
        assert_eq!(service.request("POST", &path, &[], "{\"x\":1}").status, 400);
    }

    // One more is recommended, and comes when somebody says so: the right decision, and once.
    service.put("batch", &spec(3), &[]);
    let recommended = |service: &Service| {
        service.until("a recommendation", |s| cluster(s)["recommends"].as_str().map(str::to_owned))
    };
    let said = recommended(&service);
    let reject = |id: &str| {
        let body = format!("{{\"decision\":\"{id}\",\"reason\":\"not before the audit\"}}");
        service.request("POST", "/api/v1/workloads/batch/reject", &[], &body)
    };
    assert_eq!(reject("7").status, 409);
    for length in ["", "soon", "59s", "721h"] {
        let answer = service.request(
            "POST",
            "/api/v1/workloads/batch/reject",
            &[],
            &json!({"decision": said, "for": length}).to_string(),
        );
        assert_eq!(answer.status, 400, "{length}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("for: "), "{}", answer.body);
    }
    assert_eq!(reject(&said).status, 200);
    let declined = service.until("the word of it", |s| {
        let newest = s.get("/api/v1/workloads/batch").1["status"]["last"].clone();
        newest["reasons"].as_array()?.iter().find(|r| r["code"] == "declined").cloned()
    });
    assert!(declined["text"].as_str().unwrap().contains("not before the audit"), "{declined}");
    assert_eq!((cluster(&service)["recommends"].clone(), reject(&said).status), (json!(null), 409));
    // Another specification asks anew.
    service.put("batch", &spec(2), &[]);
    service.put("batch", &spec(3), &[]);
    let said = recommended(&service);
    let approve = |service: &Service, id: &str| {
        service.request("POST", "/api/v1/workloads/batch/approve", &[], &format!("{{\"decision\":\"{id}\"}}"))
    };
    assert_eq!(approve(&service, "7").status, 409);
    assert!(agent.books.lock().unwrap().commands.is_empty(), "nothing was asked so far");
    assert_eq!(approve(&service, &said).status, 200);
    let change = service
        .until("the change", |s| Some(cluster(s)["change"].clone()).filter(|change| !change.is_null()));
    assert_eq!((&change["member"], &change["direction"]), (&json!("w3"), &json!("out")), "{change}");
    assert_eq!(approve(&service, &said).status, 409, "it is on its way");
    service.until("its start", |_| (!agent.books.lock().unwrap().running.is_empty()).then_some(()));

    // It goes on when the service is gone and back.
    service.kill();
    let service = Service::start(state.path(), &[]);
    agent.follow(&service.agents);
    service.until("the change", |s| (cluster(s)["change"]["member"] == "w3").then_some(()));
    let mut report = idle_yarn();
    if let AdapterReport::Yarn(report) = &mut report {
        let mut third = report.nodes[1].clone();
        third.host = "w3".into();
        report.nodes.push(third);
    }
    agent.books.lock().unwrap().cluster = Some(report);
    let past =
        service.until("its end", |s| Some(cluster(s)["past"][0].clone()).filter(|past| !past.is_null()));
    assert_eq!((&past["member"], &past["ended"]), (&json!("w3"), &json!("done")), "{past}");
    assert!(past["estimateS"].as_u64().is_some_and(|seconds| seconds > 0));
}

#[test]
fn live_events_flow_and_the_description_is_served() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let mut stream = TcpStream::connect(&service.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nhost: {}\r\n\r\n", service.api).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.to_lowercase().starts_with("content-type: text/event-stream")));
    service.put("jobs", &worker(2, 5), &[]);
    assert!(lines.any(|line| line == "event: decision"));
    assert!(lines.any(|line| line == "event: workload"));
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&data).unwrap()["name"], "jobs");
    let (status, described) = service.get("/api/v1/openapi.json");
    assert_eq!((status, described["openapi"].as_str().is_some_and(|v| v.starts_with("3.1"))), (200, true));
    let (status, schema) = service.get("/api/v1/schema.json");
    assert_eq!((status, schema["$defs"]["Target"]["properties"]["cpu"].is_object()), (200, true));
    for path in ["/api/v1/nodes", "/api/v1/workloads/{name}", "/api/v1/stream", "/readyz"] {
        assert!(described["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn pages_are_served_to_this_host_only_and_hide_no_fault() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    for path in ["/", "/workloads/web", "/nodes"] {
        let page = service.request("GET", path, &[], "");
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        assert!(page.header("content-security-policy").is_some_and(|p| p.contains("default-src 'self'")));
    }
    for (method, path, status) in [
        ("GET", "/assets/absent.js", 404),
        ("GET", "/workloads/a/b", 404),
        ("GET", "/api/v1/absent", 404),
        ("POST", "/", 405),
    ] {
        let answer = service.request(method, path, &[], "");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{method} {path}");
    }
    assert_eq!(service.request("GET", "/", &[("host", "example.com")], "").status, 403);
}
