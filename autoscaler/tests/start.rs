//! How the service starts, refuses to start, and ends.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::process::Output;

use support::{Service, binary};

fn run(config: &str, more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("autoscaler.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = binary();
    command
        .arg("--config")
        .arg(&file)
        .args(["--state", dir.path().join("state").to_str().unwrap()])
        .args(more);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_listener_that_others_reach_is_refused_and_tls_is_named() {
    for config in ["listen = \"0.0.0.0:0\"", "api = \"[::]:0\""] {
        let output = run(config, &[]);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let text = said(&output);
        assert!(text.contains("autoscaler.toml:1:1") && text.contains("TLS"), "{text}");
        assert!(text.contains("unix:PATH"), "it says what to do: {text}");
    }
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_faults() {
    let output =
        run("lisen = \"x\"\nround = \"1 parsec\"\n[history]\nmax_bytes = \"1\"\n", &["check-config"]);
    assert_eq!(output.status.code(), Some(5));
    let text = said(&output);
    for part in [":1:1", "did you mean `listen`", ":2:1", "not a duration", ":4:1", "between 1Mi"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(run("", &["check-config"]).status.code(), Some(0));
    assert_eq!(run("", &["--no-such-flag"]).status.code(), Some(2));
    let absent = binary().args(["--config", "/nonexistent/a.toml"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(5));
    assert!(said(&absent).contains("/nonexistent/a.toml"));
}

#[test]
fn the_configuration_is_shown_with_origins() {
    let output = run("risk = \"25%\"\n", &["config", "show", "--origin", "--log", "warn"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.lines().any(|l| l.starts_with("risk = \"25%\"") && l.contains("autoscaler.toml:1:1")),
        "{text}"
    );
    assert!(text.lines().any(|l| l.starts_with("log = \"warn\"") && l.ends_with("# flag --log")), "{text}");
}

#[test]
fn two_services_never_share_a_store_and_an_end_is_clean() {
    let state = tempfile::tempdir().unwrap();
    let first = Service::start(state.path(), &[]);
    let text = state.path().display().to_string();
    let second = binary()
        .args(["--state", &text, "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("another autoscaler uses this state directory"), "{}", said(&second));
    let taken = run("", &["--api", &first.api, "--listen", "127.0.0.1:0"]);
    assert!(said(&taken).contains(&format!("cannot listen on {}", first.api)), "{}", said(&taken));
    assert_eq!(first.stop(), Some(0));
    assert!(!state.path().join("endpoints.json").exists());
}

#[test]
fn a_unix_socket_serves_and_is_taken_away_at_the_end() {
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("api.sock");
    let address = format!("unix:{},127.0.0.1:0", socket.display());
    let service = Service::start(state.path(), &["--api", &address]);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(service.stop(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_damaged_or_newer_store_is_told_and_never_overwritten() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("trimtab.db");
    std::fs::write(
        &file,
        "this is no database, but long enough to look like one to somebody who is in a hurry",
    )
    .unwrap();
    let text = state.path().display().to_string();
    let output = binary()
        .args(["--state", &text, "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("trimtab.db"), "{}", said(&output));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("this is no database"));
}
