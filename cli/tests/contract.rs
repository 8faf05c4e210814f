//! What users and programs rely on: help, faults with their places, exit codes, JSON shapes.
//! `INSTA_UPDATE=always cargo test -p cli` writes the snapshots anew.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const GOOD: &str = "apiVersion: trimtab/v1\nkind: Workload\nmetadata: { name: web }\nspec:\n  type: service\n  \
    replicas: { min: 2, max: 20 }\n  target: { cpu: 65% }\n  service: { launcher: worker }\n";

fn trimtab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    // Nothing listens on port 9 of a test machine.
    command.env_clear().env("TRIMTAB_URL", "http://127.0.0.1:9").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    trimtab(arguments).output().unwrap()
}

fn fed(arguments: &[&str], input: &str) -> Output {
    let mut command = trimtab(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Exit code, standard output and standard error as one text.
fn shown(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("exit {}\n--- stdout\n{out}--- stderr\n{err}", output.status.code().unwrap_or(-1))
}

#[test]
fn help_is_as_promised() {
    insta::assert_snapshot!("help", shown(&run(&["--help"])));
    for command in [
        "get",
        "explain",
        "top",
        "validate",
        "plan",
        "apply",
        "what-if",
        "rollback",
        "dashboard",
        "reject",
        "pause",
        "drain",
        "replay",
        "doctor",
    ] {
        insta::assert_snapshot!(format!("help-{command}"), shown(&run(&[command, "--help"])));
    }
    insta::assert_snapshot!("help-node-join-token", shown(&run(&["node", "join-token", "--help"])));
    insta::assert_snapshot!(
        "help-export-recommendations",
        shown(&run(&["export", "recommendations", "--help"]))
    );
    insta::assert_snapshot!("help-set-target", shown(&run(&["set", "target", "--help"])));
}

#[test]
fn a_bad_specification_exits_with_5_and_names_line_and_field() {
    let bad = GOOD
        .replace("replicas:", "replica:")
        .replace("cpu: 65%", "cpu: 650%")
        .replace("launcher", "laucher")
        .replace("trimtab/v1", "v1");
    insta::assert_snapshot!("validate-faults", shown(&fed(&["validate", "-"], &bad)));
    insta::assert_snapshot!("validate-faults-json", shown(&fed(&["validate", "-o", "json", "-"], &bad)));
    insta::assert_snapshot!(
        "validate-min-max",
        shown(&fed(&["validate", "-"], &GOOD.replace("min: 2", "min: 21")))
    );
    insta::assert_snapshot!("validate-good", shown(&fed(&["validate", "-"], GOOD)));
    insta::assert_snapshot!("validate-good-json", shown(&fed(&["validate", "-o", "json", "-"], GOOD)));
    insta::assert_snapshot!("validate-absent", shown(&run(&["validate", "/nonexistent/web.yaml"])));
    insta::assert_snapshot!("validate-binary", {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        std::fs::write(&file, [0xff, 0xfe, 0]).unwrap();
        shown(&run(&["validate", file.to_str().unwrap()])).replace(dir.path().to_str().unwrap(), "DIR")
    });
}

#[test]
fn every_failure_has_its_code_and_says_what_to_do() {
    insta::assert_snapshot!("unreachable", shown(&run(&["get", "nodes"])));
    insta::assert_snapshot!("no-address", shown(&run(&["--url", "https://example.com", "get", "nodes"])));
    insta::assert_snapshot!("no-store", shown(&run(&["replay", "/nonexistent"])));
    assert_eq!(run(&["get", "everything"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn the_version_is_a_contract() {
    insta::assert_snapshot!("version-json", shown(&run(&["version", "-o", "json"])));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["man", dir.path().to_str().unwrap()]).status.success());
    assert!(dir.path().join("trimtab.1").exists() && dir.path().join("trimtab-get.1").exists());
    assert!(String::from_utf8_lossy(&run(&["man"]).stdout).contains(".TH trimtab"));
}

#[test]
fn a_game_is_played_on_standard_input() {
    let start = r#"{"type":"start","game":"replicas","step_s":15,"knob":0.5,"boot_s":120,"drain_s":30,"slo_utilization":0.8,"replica_rps":50.0,"min":2,"max":250,"ready":7,"warmup_steps":40}"#;
    let output = fed(&["simulate", "--stdio"], &format!("{start}\n{{\"type\":\"end\"}}\n"));
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "one answer, none to the end");
}

/// A service that answers every question with `body`.
fn service(body: &'static str) -> String {
    service_of(vec![("", body)])
}

/// A service that answers a question with the body of the first of these that its path begins with.
fn service_of(bodies: Vec<(&'static str, &'static str)>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut question).unwrap();
            let question = String::from_utf8_lossy(&question[..read]).into_owned();
            let path = question.split(' ').nth(1).unwrap_or_default();
            let found = bodies.iter().find(|(of, _)| path.starts_with(of));
            let (status, body) = found.map_or(("404 Not Found", "{}"), |(_, body)| ("200 OK", *body));
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
            write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn quiet_keeps_data_and_errors_and_drops_remarks() {
    let url = service(r#"{"apiVersion":"trimtab/v1","items":[],"next":null}"#);
    let ask = |arguments: &[&str]| trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap();
    assert_eq!(shown(&ask(&["get", "tasks"])), "exit 0\n--- stdout\n--- stderr\nno task is known\n");
    assert_eq!(shown(&ask(&["get", "tasks", "--quiet"])), "exit 0\n--- stdout\n--- stderr\n");
    let missing = shown(&ask(&["--quiet", "get", "nodes", "none"]));
    assert!(missing.starts_with("exit 3") && missing.contains("there is no node"), "{missing}");
}

#[test]
fn headroom_is_told_with_what_would_have_no_place() {
    let url = service(
        r#"{"apiVersion":"trimtab/v1","node":{"survives":"no","why":"node n1: 1 of 2 replicas of web would have no place","asked":3,"survived":2,"replicas":4},
        "rack":{"survives":"unknown","why":"no node tells its rack","asked":0,"survived":0,"replicas":0},
        "losses":[{"of":"node","name":"n1","survives":"no","why":"node n1: 1 of 2 replicas of web would have no place","replicas":2,"members":1,
          "short":[{"workload":"web","replicas":1,"of":2,"cpuMillis":2000,"memoryBytes":1073741824,"best":"n2","bestCpuMillis":500,"bestMemoryBytes":3221225472}]}],
        "free":{"cpuCores":3.5,"memoryBytes":6442450944},"freeOn":2,"without":["n3"],
        "more":[{"workload":"web","replicas":1},{"workload":"jobs","replicas":null}]}"#,
    );
    let ask = |arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap());
    insta::assert_snapshot!("headroom", ask(&["get", "headroom", "-o", "wide"]));
    insta::assert_snapshot!("headroom-json", ask(&["get", "headroom", "-o", "json"]));
}

#[test]
fn what_a_drain_takes_is_told_before_it_begins() {
    let url = service(
        r#"{"apiVersion":"trimtab/v1","node":"n1","items":[
        {"workload":"ring","tasks":1,"seconds":1260,"bytes":3221225472,"risk":"from when it leaves it cannot be stopped","waitsFor":[{"code":"gate","text":"10.0.0.4 stays as it is: it repairs","detail":{}}],"stays":null},
        {"workload":"web","tasks":2,"seconds":9,"bytes":0,"risk":"none ends before another one takes its place elsewhere","waitsFor":[],"stays":{"code":"no_node_with_launcher","text":"no other node may start puma","detail":{}}}]}"#,
    );
    let ask = |arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap());
    insta::assert_snapshot!("drain-dry-run", ask(&["drain", "n1", "--dry-run", "-o", "wide"]));
    insta::assert_snapshot!("drain-dry-run-json", ask(&["drain", "n1", "--dry-run", "-o", "json"]));
    insta::assert_snapshot!("drain-dry-run-wait", ask(&["drain", "n1", "--dry-run", "--wait"]));
}

#[test]
fn the_address_of_the_dashboards_has_the_session_and_goes_to_this_host_only() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    let (directory, file) = (state.path().to_str().unwrap(), state.path().join("session"));
    let ask =
        |url: &str| trimtab(&["dashboard", "--state", directory]).env("TRIMTAB_URL", url).output().unwrap();
    let said = |url: &str| shown(&ask(url)).replace(directory, "DIR");
    insta::assert_snapshot!("dashboard-absent", said("http://127.0.0.1:9"));
    let secret = "0123456789abcdef".repeat(4);
    let readable_by = |mode: u32| {
        std::fs::write(&file, &secret).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    readable_by(0o640);
    insta::assert_snapshot!("dashboard-not-secret", said("http://127.0.0.1:9"));
    readable_by(0o600);
    insta::assert_snapshot!("dashboard-remote", said("http://192.0.2.1:7780"));
    insta::assert_snapshot!("dashboard-unreachable", said("http://127.0.0.1:9"));
    let url = service(r#"{"apiVersion":"trimtab/v1","writes":true}"#);
    let good = ask(&url);
    assert_eq!(
        String::from_utf8_lossy(&good.stdout),
        format!("{url}/#session={secret}\n"),
        "{}",
        shown(&good)
    );
    // Without an address, the one that the service of this directory left there.
    let alone = || trimtab(&["dashboard", "--state", directory]).env_remove("TRIMTAB_URL").output().unwrap();
    insta::assert_snapshot!("dashboard-stopped", shown(&alone()).replace(directory, "DIR"));
    let address = url.trim_start_matches("http://");
    let endpoints = format!(r#"{{"agents":[],"api":["unix:/run/trimtab/api.sock","{address}"],"pid":1}}"#);
    std::fs::write(state.path().join("endpoints.json"), endpoints).unwrap();
    assert_eq!(alone().stdout, good.stdout, "{}", shown(&alone()));
    assert_eq!(ask("unix:/run/trimtab/api.sock").stdout, good.stdout, "no browser takes that way");
    for output in [said("http://192.0.2.1:7780"), said("http://127.0.0.1:9")] {
        assert!(!output.contains(&secret), "an address that does not work has no secret in it");
    }
}

#[test]
fn revisions_are_listed_and_a_way_back_is_shown_first() {
    let revisions = r#"{"apiVersion":"trimtab/v1","items":[
        {"revision":9,"atMs":1795258733054,"document":null,"inForce":false,"withdrawn":true},
        {"revision":4,"atMs":1795258700000,"document":{"spec":{"mode":"auto","replicas":{"min":2,"max":5},"target":{"cpu":"65%"}}},
         "inForce":false,"withdrawn":false}]}"#;
    let url = service(revisions);
    let ask = |arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap());
    insta::assert_snapshot!("revisions", ask(&["get", "revisions", "web", "-o", "wide"]));
    insta::assert_snapshot!("revisions-json", ask(&["get", "revisions", "web", "-o", "json"]));
    insta::assert_snapshot!("revisions-of-whom", ask(&["get", "revisions"]));
    let applied = r#"{"apiVersion":"trimtab/v1","items":[],"dryRun":true,"created":false,"unchanged":false,"revision":null,
        "before":{"spec":{"replicas":{"min":3,"max":5}}},"after":{"spec":{"replicas":{"min":2,"max":5}}},"wantedNow":3,"bounds":[2,5]}"#;
    let url = service(applied);
    let ask = |arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap());
    insta::assert_snapshot!("rollback-dry-run", ask(&["rollback", "web", "--to", "4", "--dry-run"]));
    insta::assert_snapshot!("rollback-asks", ask(&["rollback", "web", "--to", "4"]));
}

const USAGE: &str = r#"{"apiVersion":"trimtab/v1","fromMs":1795258200000,"toMs":1795261800000,"coveredMs":1800000,
    "cpu":{"capacity":16.0,"used":4.0,"usedP95":6.5,"unknown":0.16},
    "memory":{"capacity":68719476736.0,"used":17179869184.0,"usedP95":null,"unknown":687194767.36},
    "idle":[{"cause":"no_demand","workload":null,"rule":null,"cpuRatio":0.5,"memoryRatio":0.6},
        {"cause":"blocked","workload":"web","rule":"step","cpuRatio":0.24,"memoryRatio":0.14},
        {"cause":"no_data","workload":null,"rule":null,"cpuRatio":0.01,"memoryRatio":0.01}],
    "stepMs":60000,"cpuPoints":{"capacity":[16.0,null],"used":[4.0,null],"unknown":[0.0,null]},
    "memoryPoints":{"capacity":[68719476736.0,null],"used":[17179869184.0,null],"unknown":[0.0,null]}}"#;
const IDLE: &str = r#"{"apiVersion":"trimtab/v1","items":[{"fromMs":1795258200000,"toMs":1795258260000,
    "capacity":{"cpuCoreSeconds":960.0,"memoryGibSeconds":3840.0},"used":{"cpuCoreSeconds":240.0,"memoryGibSeconds":960.0},
    "idle":[{"cause":"no_demand","workload":null,"rule":null,"cpuCoreSeconds":600.0,"memoryGibSeconds":2400.0,"cpuRatio":0.625,"memoryRatio":0.625},
        {"cause":"no_data","workload":null,"rule":null,"cpuCoreSeconds":120.0,"memoryGibSeconds":480.0,"cpuRatio":0.125,"memoryRatio":0.125}]}]}"#;
const PRICES: &str = r#"{"apiVersion":"trimtab/v1","table":{"name":"default","revision":3,"appliedMs":1795258200000,"currency":"EUR",
    "perCoreHour":0.03,"perGibHour":0.004,"document":{}}}"#;
const NO_PRICES: &str = r#"{"apiVersion":"trimtab/v1","table":null}"#;

#[test]
fn use_over_time_is_shown_in_each_form_and_as_money_where_there_are_prices() {
    let url = service_of(vec![
        ("/api/v1/usage?range=30d", USAGE),
        ("/api/v1/usage?range=24h", USAGE),
        ("/api/v1/prices", NO_PRICES),
    ]);
    let ask =
        |url: &str, arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", url).output().unwrap());
    insta::assert_snapshot!("usage", ask(&url, &["get", "usage"]));
    insta::assert_snapshot!("usage-wide", ask(&url, &["get", "usage", "--for", "30d", "-o", "wide"]));
    for form in ["json", "yaml", "csv"] {
        insta::assert_snapshot!(format!("usage-{form}"), ask(&url, &["--quiet", "get", "usage", "-o", form]));
    }
    let priced =
        service_of(vec![("/api/v1/usage", USAGE), ("/api/v1/idle", IDLE), ("/api/v1/prices", PRICES)]);
    insta::assert_snapshot!("usage-priced", ask(&priced, &["get", "usage"]));
    insta::assert_snapshot!("idle-priced", ask(&priced, &["get", "idle"]));
    let older = service_of(vec![("/api/v1/idle", IDLE)]);
    insta::assert_snapshot!("idle", ask(&older, &["get", "idle"]));
    let nothing = r#"{"apiVersion":"trimtab/v1","fromMs":1,"toMs":2,"coveredMs":0,"cpu":null,"memory":null,"idle":[],"stepMs":60000,
        "cpuPoints":{"capacity":[],"used":[],"unknown":[]},"memoryPoints":{"capacity":[],"used":[],"unknown":[]}}"#;
    let empty = service_of(vec![("/api/v1/usage", nothing), ("/api/v1/prices", PRICES)]);
    insta::assert_snapshot!("usage-empty", ask(&empty, &["get", "usage", "--for", "7d"]));
}

#[test]
fn prices_are_checked_shown_planned_and_applied() {
    let table = include_str!("../../examples/prices.yaml");
    insta::assert_snapshot!("validate-prices", shown(&fed(&["validate", "-"], table)));
    insta::assert_snapshot!("validate-prices-json", shown(&fed(&["validate", "-o", "json", "-"], table)));
    let bad = table.replace("perCoreHour: 0.0316", "perCoreHours: 0,0316");
    insta::assert_snapshot!("validate-prices-faults", shown(&fed(&["validate", "-"], &bad)));
    let ask =
        |url: &str, arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", url).output().unwrap());
    let url = service(PRICES);
    insta::assert_snapshot!("prices", ask(&url, &["get", "prices", "-o", "wide"]));
    insta::assert_snapshot!("prices-json", ask(&url, &["get", "prices", "-o", "json"]));
    insta::assert_snapshot!("prices-none", ask(&service(NO_PRICES), &["get", "prices"]));
    insta::assert_snapshot!("prices-delete-asks", ask(&url, &["delete", "prices"]));
    let applied = service(
        r#"{"apiVersion":"trimtab/v1","dryRun":true,"created":false,"unchanged":false,"revision":null,
        "before":{"spec":{"currency":"EUR","perCoreHour":0.03,"perGibHour":0.004}},"after":{"spec":{"currency":"EUR","perCoreHour":0.0316,"perGibHour":0.004}}}"#,
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/prices.yaml");
    insta::assert_snapshot!("prices-plan", ask(&applied, &["plan", "-f", file]));
    insta::assert_snapshot!("prices-plan-json", ask(&applied, &["plan", "-f", file, "-o", "json"]));
    insta::assert_snapshot!("prices-apply", ask(&applied, &["apply", "--yes", "-f", file]));
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.yaml"] {
        std::fs::write(folder.path().join(name), table).unwrap();
    }
    let twice = shown(&run(&[
        "validate",
        folder.path().join("a.yaml").to_str().unwrap(),
        folder.path().join("b.yaml").to_str().unwrap(),
    ]));
    assert!(twice.starts_with("exit 5") && twice.contains("another file"), "{twice}");
}

#[test]
fn what_if_shows_both_plays_and_what_nobody_knows_as_such() {
    let url = service(include_str!("what-if.json"));
    let ask = |arguments: &[&str]| shown(&trimtab(arguments).env("TRIMTAB_URL", &url).output().unwrap());
    let all = [
        "what-if",
        "--target",
        "cpu=80%",
        "--load=+20%",
        "--lose",
        "1",
        "--node-type",
        "cpus=8,memory=32Gi,price=0.4",
    ];
    insta::assert_snapshot!("what-if", ask(&all));
    insta::assert_snapshot!("what-if-wide", ask(&["what-if", "web", "-o", "wide", "--quiet"]));
    insta::assert_snapshot!("what-if-csv", ask(&["what-if", "-o", "csv"]));
    let json = ask(&["what-if", "-o", "json"]);
    assert!(json.contains("\"nodesAsked\"") && json.contains("\"enoughInMs\": 360000"), "{json}");
}

#[test]
fn what_if_refuses_what_it_cannot_read_and_says_how_to_write_it() {
    for (name, arguments) in [
        ("target", ["--target", "memory=1Gi"]),
        ("share", ["--target", "cpu=650%"]),
        ("load", ["--load", "much"]),
        ("type", ["--node-type", "cpus=8"]),
        ("price", ["--node-type", "cpus=8,memory=32Gi,price=cheap"]),
        ("headroom", ["--headroom", "3"]),
    ] {
        let output = run(&["what-if", arguments[0], arguments[1]]);
        assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
        insta::assert_snapshot!(format!("what-if-bad-{name}"), shown(&output));
    }
}
