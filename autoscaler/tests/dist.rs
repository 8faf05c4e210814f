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
fn the_unit_is_hardened() {
    let unit = dist("trimtab-autoscaler.service");
    let arguments = ["security", "--offline=yes", "--no-pager", THRESHOLD, unit.to_str().unwrap()];
    let Some(output) = analyze(&arguments) else { return };
    assert!(output.status.success(), "{}", text(&output));
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
fn the_default_configuration_is_good() {
    let check = Command::new(env!("CARGO_BIN_EXE_trimtab-autoscaler"))
        .args(["check-config", "--config", dist("autoscaler.toml").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", text(&check));
}
