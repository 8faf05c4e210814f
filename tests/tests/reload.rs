//! SIGHUP: what is good takes effect without a restart, and what is bad changes nothing.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use support::Stage;

fn launchers(stage: &Stage) -> String {
    stage.get("/nodes/n1")["launchers"].to_string()
}

#[test]
fn a_reload_brings_what_is_good_and_keeps_what_runs_when_it_is_bad() {
    let Some(mut stage) = Stage::start() else { return };
    stage.service("burn", 1);
    stage.wait_for("jobs", 1);
    let before = stage.ledger.pids();
    let agent = stage.agent_pid();

    let burn = fs::read_to_string(stage.path("launch.d/burn.toml")).unwrap();
    fs::write(stage.path("launch.d/later.toml"), burn).unwrap();
    support::signal(agent, Signal::HUP);
    stage.until("the new launcher", |s| launchers(s).contains("later").then_some(()));

    fs::write(stage.path("launch.d/broken.toml"), "command = 7\n").unwrap();
    fs::remove_file(stage.path("launch.d/later.toml")).unwrap();
    support::signal(agent, Signal::HUP);
    stage.until("the fault", |s| {
        let log = s.log("agent");
        (log.contains("broken.toml") && log.contains("the running configuration stays in force"))
            .then_some(())
    });
    assert!(launchers(&stage).contains("later"), "nothing of a bad configuration takes effect");

    fs::remove_file(stage.path("launch.d/broken.toml")).unwrap();
    support::signal(agent, Signal::HUP);
    stage.until("without it", |s| {
        let now = launchers(s);
        (now.contains("burn") && !now.contains("later")).then_some(())
    });
    assert!(stage.lives("agent"));
    assert_eq!(stage.agent_pid(), agent);
    assert_eq!(stage.ledger.pids(), before, "the task is the same");
}

#[test]
fn an_autoscaler_reloads_its_log_filter_and_says_what_waits_for_a_start() {
    let Some(mut stage) = Stage::start() else { return };
    let config = stage.path("other.toml");
    fs::write(&config, "log = \"info\"\n").unwrap();
    let mut command = Command::new(support::bin("trimtab-autoscaler"));
    command.arg("--config").arg(&config).arg("--state").arg(stage.path("other"));
    command.args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    let pid = stage.run("other", &mut command);
    stage.until("its start", |s| s.log("other").contains("api: http").then_some(()));

    fs::write(&config, "log = \"warn\"\nround = \"2s\"\nlogg = \"debug\"\n").unwrap();
    support::signal(pid, Signal::HUP);
    stage.until("the fault", |s| {
        let log = s.log("other");
        (log.contains("logg") && log.contains("the running configuration stays in force")).then_some(())
    });
    assert!(!stage.log("other").contains("at the next start"), "nothing of a bad configuration takes effect");

    fs::write(&config, "log = \"warn\"\nround = \"2s\"\n").unwrap();
    support::signal(pid, Signal::HUP);
    stage.until("what waits", |s| s.log("other").contains("at the next start").then_some(()));
    let log = stage.log("other");
    let last = log.lines().find(|line| line.contains("at the next start")).unwrap();
    assert!(last.contains("round") && !last.contains("log\""), "{last}");
    stage.end(pid);
}
