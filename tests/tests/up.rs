//! `trimtab up`: both daemons come up with one command, and end with it, however it ends.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use support::{PATIENCE, signal};

fn trimtab(home: &Path) -> Command {
    let mut command = Command::new(support::bin("trimtab"));
    command.env("HOME", home).env_remove("XDG_STATE_HOME").env_remove("TRIMTAB_URL");
    command
}

/// Starts it; it, and the address that it printed.
fn up(home: &Path) -> (Child, String) {
    let mut child = trimtab(home)
        .args(["up", "--api", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

/// Processes whose command line names this directory.
fn of(home: &Path) -> Vec<u32> {
    let home = home.display().to_string();
    let names =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&home)
    };
    names.filter_map(|name| name.parse().ok()).filter(named).collect()
}

fn until_gone(home: &Path) {
    let began = Instant::now();
    while !of(home).is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?} go on", of(home));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn one_command_measures_this_machine_and_leaves_nothing_running() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (mut child, address) = up(home);
    assert!(
        address.starts_with("http://127.0.0.1:") && address.contains("/#session="),
        "{address:?}: {}",
        said(&mut child)
    );
    // The command finds it by itself, and the node is there: this machine.
    let nodes = trimtab(home).args(["get", "nodes", "-o", "json"]).output().unwrap();
    let nodes: serde_json::Value = serde_json::from_slice(&nodes.stdout).unwrap();
    assert!(nodes["items"][0]["samples"].as_u64().unwrap() > 0, "{nodes}");
    assert_eq!(nodes["items"][0]["acts"], false, "it measures only");

    let doctor = trimtab(home).args(["doctor", "--json"]).output().unwrap();
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    for (check, found) in [
        ("autoscaler", "answers"),
        ("store", "takes what happens"),
        ("acting", "carried out"),
        ("agents", "1 of 1 connected"),
        ("versions", "everywhere"),
        ("samples", "arrive"),
        ("clocks", "within a second"),
    ] {
        let one = doctor["findings"].as_array().unwrap().iter().find(|one| one["check"] == check);
        let one = one.unwrap_or_else(|| panic!("{check} in {doctor}"));
        assert!(one["verdict"] == "PASS" && one["found"].as_str().unwrap().contains(found), "{one}");
    }

    let second = trimtab(home).arg("up").output().unwrap();
    let why = text(&second);
    assert_eq!(second.status.code(), Some(4), "{why}");
    assert!(
        why.contains("runs already")
            && why.contains(address.split('#').next().unwrap().trim_end_matches('/')),
        "{why}"
    );
    let elsewhere = trimtab(home).args(["up", "--state"]).arg(home.join("other")).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(4), "{}", text(&elsewhere));
    assert!(text(&elsewhere).contains("an autoscaler runs on this host already"), "{}", text(&elsewhere));

    signal(child.id(), Signal::INT);
    assert!(child.wait().unwrap().success());
    until_gone(home);
    let away = trimtab(home).args(["get", "nodes"]).output().unwrap();
    assert_eq!(away.status.code(), Some(8), "{}", text(&away));
    let doctor = trimtab(home).arg("doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{}", text(&doctor));
    let said = text(&doctor);
    assert!(said.contains("FAIL  autoscaler: ") && said.contains("fix: systemctl start"), "{said}");
}

#[test]
fn a_daemon_that_ends_ends_it_and_is_quoted() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (mut child, _) = up(home);
    let line = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let agent = of(home).into_iter().find(|pid| line(pid).starts_with("trimtab-agent")).unwrap();
    signal(agent, Signal::KILL);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let said = said(&mut child);
    assert!(said.contains("trimtab-agent ended with signal: 9") && said.contains("agent.log"), "{said}");
    until_gone(home);

    // A configuration that is wrong is quoted, too; its owner's words stay.
    let file = home.join(".local/state/trimtab/up/agent.toml");
    std::fs::write(&file, "nonsense = true\n").unwrap();
    let bad = trimtab(home).args(["up", "--api", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    assert!(text(&bad).contains("nonsense"), "{}", text(&bad));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "nonsense = true\n");
    until_gone(home);
}

#[test]
fn killed_it_takes_both_with_it() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (mut child, _) = up(home);
    assert!(of(home).len() >= 2, "{:?}", of(home));
    child.kill().unwrap();
    child.wait().unwrap();
    until_gone(home);
    // What is left is no hindrance.
    let (mut again, address) = up(home);
    assert!(address.contains("session="), "{address:?}");
    signal(again.id(), Signal::TERM);
    assert!(again.wait().unwrap().success());
    until_gone(home);
}
