//! Who may change something, and the way back from a change.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use support::{Answer, Service, worker};

fn kind(answer: &Answer) -> String {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    kind.trim_start_matches("urn:trimtab:problem:").to_owned()
}

#[test]
fn a_browser_changes_something_only_from_the_pages_themselves_and_with_the_session() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let file = state.path().join("session");
    let secret = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(secret.len() == 64 && secret.bytes().all(|c| c.is_ascii_hexdigit()), "{}", secret.len());
    let (own, right) = (format!("http://{}", service.api), format!("Bearer {secret}"));
    let (own, right) = (("origin", own.as_str()), ("authorization", right.as_str()));
    let wrong = format!("Bearer {}", "0".repeat(64));
    let wrong = ("authorization", wrong.as_str());
    let (same, other) = (("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-site"));
    let (port, site) = (("origin", "http://127.0.0.1:3000"), ("origin", "https://example.com"));
    let (fetched, link) = (("sec-fetch-mode", "cors"), ("sec-fetch-mode", "navigate"));
    let pause = "/api/v1/pause";
    for (method, path, headers, status, why) in [
        // Users of this host, as ever.
        ("POST", pause, vec![], 200, ""),
        ("GET", "/api/v1/session", vec![], 200, ""),
        // The dashboards: reading without a session, changing with it.
        ("GET", "/api/v1/nodes", vec![same, fetched], 200, ""),
        ("GET", "/api/v1/session", vec![same, fetched], 200, ""),
        ("POST", pause, vec![own, same, fetched], 401, "session-required"),
        ("POST", pause, vec![same], 401, "session-required"),
        ("POST", pause, vec![own], 401, "session-required"),
        ("PUT", "/api/v1/workloads/jobs", vec![own, same], 401, "session-required"),
        ("DELETE", "/api/v1/workloads/jobs", vec![own, same], 401, "session-required"),
        ("POST", pause, vec![own, same, fetched, right], 200, ""),
        ("GET", "/api/v1/nodes", vec![same, right], 200, ""),
        // A wrong session, whoever has it.
        ("POST", pause, vec![own, same, wrong], 401, "session-wrong"),
        ("POST", pause, vec![wrong], 401, "session-wrong"),
        ("GET", "/api/v1/session", vec![same, wrong], 401, "session-wrong"),
        // Other pages: of a site, of another port of this host, and those whose name was bound to this host.
        ("POST", pause, vec![site], 403, "other-origin"),
        ("POST", pause, vec![port, right], 403, "other-origin"),
        ("GET", "/api/v1/nodes", vec![port], 403, "other-origin"),
        ("POST", pause, vec![other, link], 403, "other-origin"),
        ("GET", "/api/v1/nodes", vec![other, ("sec-fetch-mode", "no-cors")], 403, "other-origin"),
        ("GET", "/", vec![other, link], 200, ""),
        (
            "GET",
            "/api/v1/nodes",
            vec![("host", "example.com"), ("origin", "http://example.com")],
            403,
            "not-local",
        ),
        ("POST", pause, vec![("host", "example.com"), right], 403, "not-local"),
    ] {
        let answer = service.request(method, path, &headers, "");
        assert_eq!(
            (answer.status, kind(&answer).as_str()),
            (status, why),
            "{method} {path} {headers:?}: {answer:?}"
        );
        assert_eq!(answer.header("www-authenticate"), (status == 401).then_some("Bearer"));
        assert!(!answer.body.contains(&secret) && !answer.headers.contains(&secret));
        if status == 401 {
            assert!(answer.json()["detail"].as_str().unwrap().contains("trimtab dashboard"), "{answer:?}");
        }
    }
    assert_eq!(service.get("/api/v1/workloads").1["items"], json!([]), "what was refused had no effect");

    let writes = |service: &Service, headers: &[(&str, &str)]| {
        let answer = service.request("GET", "/api/v1/session", headers, "");
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
        answer.json()
    };
    let said = |writes: bool| json!({ "apiVersion": "trimtab/v1", "writes": writes });
    assert_eq!(writes(&service, &[same, right]), said(true));
    assert_eq!(writes(&service, &[same]), said(false));
    assert_eq!(writes(&service, &[]), said(true));

    // An open page goes on after a restart, until somebody removes the session.
    service.kill();
    let service = Service::start(state.path(), &[]);
    assert_eq!(writes(&service, &[same, right]), said(true));
    service.kill();
    std::fs::remove_file(&file).unwrap();
    let service = Service::start(state.path(), &[]);
    assert_eq!(service.request("GET", "/api/v1/session", &[same, right], "").status, 401);
    assert_ne!(std::fs::read_to_string(&file).unwrap().trim(), secret);
}

#[test]
fn a_session_that_others_could_read_is_replaced() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("session");
    let known = "0123".repeat(16);
    std::fs::write(&file, &known).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let service = Service::start(state.path(), &[]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bearer = format!("Bearer {known}");
    assert_eq!(service.request("POST", "/api/v1/pause", &[("authorization", &bearer)], "").status, 401);
}

#[test]
fn an_earlier_specification_comes_back_also_after_it_was_withdrawn() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let revisions = |service: &Service| {
        let (status, all) = service.get("/api/v1/workloads/jobs/revisions");
        assert_eq!(status, 200, "{all}");
        all["items"].as_array().unwrap().clone()
    };
    let rollback = |service: &Service, to: i64, query: &str, headers: &[(&str, &str)]| {
        let path = format!("/api/v1/workloads/jobs/rollback{query}");
        service.request("POST", &path, headers, &format!("{{\"to\":{to}}}"))
    };
    assert_eq!(service.get("/api/v1/workloads/jobs/revisions").0, 404);
    assert_eq!(rollback(&service, 1, "", &[]).status, 404);
    for min in 2..=3 {
        assert!(service.put("jobs", &worker(min, 5), &[]).status < 300);
    }
    let numbers = |all: &[Value]| -> Vec<(i64, bool, bool)> {
        let one = |r: &Value| (r["revision"].as_i64().unwrap(), r["inForce"] == true, r["withdrawn"] == true);
        all.iter().map(one).collect()
    };
    let all = revisions(&service);
    assert_eq!(numbers(&all), [(2, true, false), (1, false, false)]);
    assert_eq!(all[1]["document"]["spec"]["replicas"]["min"], 2);
    assert!(all[0]["atMs"].as_u64() >= all[1]["atMs"].as_u64());

    // What it would change, and that somebody else changed it meanwhile.
    let dry = rollback(&service, 1, "?dryRun=true", &[]).json();
    assert_eq!(
        (&dry["dryRun"], &dry["unchanged"], &dry["revision"]),
        (&json!(true), &json!(false), &json!(null))
    );
    assert_eq!(
        (&dry["before"]["spec"]["replicas"]["min"], &dry["after"]["spec"]["replicas"]["min"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(numbers(&revisions(&service)).len(), 2, "a dry run changes nothing");
    assert_eq!(rollback(&service, 1, "", &[("if-match", "\"1\"")]).status, 412);
    let back = rollback(&service, 1, "", &[("if-match", "\"2\"")]);
    assert_eq!((back.status, back.header("etag")), (200, Some("\"3\"")), "{back:?}");
    assert_eq!(service.get("/api/v1/workloads/jobs").1["document"]["spec"]["replicas"]["min"], 2);
    let same = rollback(&service, 1, "", &[]).json();
    assert_eq!((&same["unchanged"], &same["revision"]), (&json!(true), &json!(3)));

    // Withdrawn, restarted, and back.
    assert_eq!(service.request("DELETE", "/api/v1/workloads/jobs", &[], "").status, 204);
    service.kill();
    let service = Service::start(state.path(), &[]);
    let all = revisions(&service);
    assert_eq!(numbers(&all)[..2], [(4, false, true), (3, false, false)]);
    assert_eq!(all[0]["document"], json!(null));
    let (withdrawn, unknown) = (rollback(&service, 4, "", &[]), rollback(&service, 9, "", &[]));
    assert_eq!((withdrawn.status, kind(&withdrawn).as_str()), (409, "withdrawn"));
    let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        unknown.status == 404 && detail.contains("no revision 9") && detail.contains("4, 3, 2, 1"),
        "{detail}"
    );
    let path = "/api/v1/workloads/jobs/rollback";
    for body in ["", "{}", "{\"to\":\"1\"}", "{\"to\":1,\"x\":2}", "{\"to\":1.5}"] {
        assert_eq!(service.request("POST", path, &[], body).status, 400, "{body}");
    }
    let created = rollback(&service, 2, "", &[("if-none-match", "*")]);
    assert_eq!(
        (created.status, &created.json()["created"], created.header("etag")),
        (201, &json!(true), Some("\"5\""))
    );
    service.until("the workload in the brain", |service| {
        (service.get("/api/v1/workloads").1["items"][0]["min"] == 3).then_some(())
    });
}

#[test]
fn what_is_refused_before_a_handler_is_asked_is_a_problem_too() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::start(state.path(), &[]);
    let large = service.put("jobs", &"#".repeat((1 << 20) + 1), &[]);
    let odd = service.request("GET", "/api/v1/workloads/%ff", &[], "");
    for (answer, status) in [(large, 413), (odd, 400)] {
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json"))
        );
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{answer:?}");
    }
    let method = service.request("POST", "/api/v1/nodes", &[], "");
    assert_eq!((method.status, method.header("allow")), (405, Some("GET,HEAD")));
}
