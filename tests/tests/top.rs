//! `trimtab top` on a terminal: pages, keys, and the terminal as it was afterwards.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{PATIENCE, Stage};

/// What a terminal of this size shows after all that was written to it.
fn screen(written: &Path) -> vt100::Parser {
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
    terminal.process(&std::fs::read(written).unwrap());
    terminal
}

const ROWS: u16 = 30;
const COLUMNS: u16 = 120;

#[test]
fn it_fills_a_terminal_obeys_keys_and_leaves_it_as_it_was() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    let seen = stage.path("terminal.txt");
    let top = format!("{} --url {} top --interval 1", support::bin("trimtab").display(), stage.url());
    // A terminal of util-linux.
    let mut script = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--command",
            &format!("stty cols 120 rows 30; exec {top}"),
            "/dev/null",
        ])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(File::create(&seen).unwrap())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut shows = |stage: &mut Stage, key: &str, text: &str| {
        keys.write_all(key.as_bytes()).unwrap();
        let mut last = String::new();
        let mut there = || {
            let now = screen(&seen);
            last = now.screen().contents();
            now.screen().alternate_screen() && last.contains(text)
        };
        let began = Instant::now();
        while !there() {
            assert!(began.elapsed() < PATIENCE, "no {text:?} after {key:?}:\n{last}\n{}", stage.log("agent"));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    shows(&mut stage, "", "n1");
    shows(&mut stage, "2", "jobs");
    // Explained by the autoscaler, below the list.
    shows(&mut stage, "\r", "What holds it now:");
    shows(&mut stage, "\r3/burn\r", "only lines with: burn");
    // It goes on without answers, and says so.
    stage.kill_autoscaler();
    shows(&mut stage, "", "no answer for");
    keys.write_all(b"q").unwrap();
    assert!(script.wait().unwrap().success());
    let after = screen(&seen);
    assert!(!after.screen().alternate_screen() && !after.screen().hide_cursor(), "the terminal is as it was");
}

#[test]
fn without_a_terminal_it_is_text_once() {
    let Some(stage) = Stage::start() else { return };
    let output = stage.trimtab(&["top"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("n1"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

/// An agent that nobody listens to still shows what it measures: with one word, and by itself when no autoscaler answers.
#[test]
fn on_a_host_without_an_autoscaler_it_shows_what_the_agent_measures() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("trimtab-agent");
    std::fs::write(home.path().join("agent.toml"), "node = \"alone\"\n").unwrap();
    let mut agent = Command::new(support::bin("trimtab-agent"))
        .arg("--config")
        .arg(home.path().join("agent.toml"))
        .arg("--state")
        .arg(&state)
        .args(["--http", "127.0.0.1:0"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !state.join("http.address").exists() {
        assert!(began.elapsed() < PATIENCE, "{:?}", agent.try_wait());
        std::thread::sleep(Duration::from_millis(50));
    }
    // An autoscaler was here once.
    std::fs::create_dir(home.path().join("trimtab")).unwrap();
    std::fs::write(home.path().join("trimtab/endpoints.json"), r#"{"api":["127.0.0.1:1"]}"#).unwrap();
    let top = |arguments: &[&str]| {
        let mut command = Command::new(support::bin("trimtab"));
        command.env("XDG_STATE_HOME", home.path()).env_remove("TRIMTAB_URL").arg("top").args(arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    for arguments in [&["--agent"][..], &[]] {
        let text = top(arguments);
        let first = text.lines().next().unwrap();
        assert!(first.contains("the agent alone") && first.contains("1 nodes"), "{text}");
        // Of two rounds, so there are rates; nobody knows a machine on which nothing runs at all.
        assert!(text.contains("alone") && !first.contains(" - used"), "{text}");
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}
