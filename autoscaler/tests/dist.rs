//! The unit, its accounts and its default configuration are good.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Highest exposure that is accepted: 1.5.
const THRESHOLD: &str = "--threshold=15";

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(file)
}

fn analyze(arguments: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("SKIPPED: systemd-analyze cannot be run here: {error}");
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_unit_is_hardened_also_when_it_is_open_to_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("trimtab-autoscaler.service");
    std::fs::copy(dist("trimtab-autoscaler.service"), &unit).unwrap();
    let folder = dir.path().join("trimtab-autoscaler.service.d");
    std::fs::create_dir(&folder).unwrap();
    for drop_in in [None, Some("network.conf")] {
        if let Some(name) = drop_in {
            std::fs::copy(dist(name), folder.join(name)).unwrap();
        }
        let arguments = ["security", "--offline=yes", "--no-pager", THRESHOLD, unit.to_str().unwrap()];
        let Some(output) = analyze(&arguments) else { return };
        assert!(output.status.success(), "{drop_in:?}: {}", text(&output));
    }
}

#[test]
fn the_unit_is_understood() {
    // The program and its manual page are not installed where tests run; everything else is checked as it is.
    let unit = std::fs::read_to_string(dist("trimtab-autoscaler.service")).unwrap();
    let unit = unit
        .replace("/usr/bin/trimtab-autoscaler", "/bin/true")
        .replace("Documentation=man:trimtab(1)\n", "");
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("trimtab-autoscaler.service");
    std::fs::write(&copy, unit).unwrap();
    let Some(output) = analyze(&["verify", "--man=no", copy.to_str().unwrap()]) else { return };
    let said = text(&output);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("trimtab")).collect();
    assert!(about_it.is_empty() && output.status.success(), "{said}");
}

#[test]
fn the_section_for_tls_that_it_shows_is_good() {
    let text = std::fs::read_to_string(dist("autoscaler.toml")).unwrap();
    let (head, section) = text.split_once("#[tls]\n").unwrap();
    // What is said in words stays a comment; what is written as a line counts.
    let is_line = |line: &&str| line.strip_prefix('#').is_some_and(|rest| !rest.starts_with(' '));
    let lines: Vec<&str> = section.lines().filter(is_line).map(|line| &line[1..]).collect();
    let listen = head.replace("listen = [", "listen = [\"https://0.0.0.0:7783\", ");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("autoscaler.toml");
    std::fs::write(&file, format!("{listen}[tls]\n{}\n", lines.join("\n"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab-autoscaler"));
    let output =
        command.args(["config", "show", "--origin", "--config", file.to_str().unwrap()]).output().unwrap();
    let said = self::text(&output);
    assert!(output.status.success() && said.matches("autoscaler.toml:").count() >= 8, "{said}");
}

#[test]
fn the_default_configuration_is_good() {
    let check = Command::new(env!("CARGO_BIN_EXE_trimtab-autoscaler"))
        .args(["check-config", "--config", dist("autoscaler.toml").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", text(&check));
}
