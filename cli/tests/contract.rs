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
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut question).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
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
