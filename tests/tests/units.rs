//! The agent's unit, its drop-ins for acting and for the network, its accounts and its default configuration are good.

#![allow(clippy::unwrap_used, reason = "a fault of a test program is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Highest exposure that is accepted of an agent that observes: 3.0; of one that acts: 4.0.
const OBSERVING: &str = "--threshold=30";
const ACTING: &str = "--threshold=40";

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/dist").join(file)
}

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("SKIP: {program} cannot be run here: {error}");
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The unit in a directory of its own, with these drop-ins. Its program is not installed where tests run.
fn unit(directory: &Path, drop_ins: &[&str]) -> String {
    let unit = fs::read_to_string(dist("trimtab-agent.service")).unwrap();
    let unit =
        unit.replace("/usr/bin/trimtab-agent", "/bin/true").replace("Documentation=man:trimtab(1)\n", "");
    let path = directory.join("trimtab-agent.service");
    fs::write(&path, unit).unwrap();
    let folder = directory.join("trimtab-agent.service.d");
    fs::create_dir(&folder).unwrap();
    for drop_in in drop_ins {
        fs::copy(dist(drop_in), folder.join(drop_in)).unwrap();
    }
    path.display().to_string()
}

#[test]
fn the_unit_is_hardened_and_the_drop_ins_keep_most_of_it() {
    let cases: [(&[&str], &str); 3] =
        [(&[], OBSERVING), (&["network.conf"], OBSERVING), (&["acting.conf", "network.conf"], ACTING)];
    for (drop_ins, threshold) in cases {
        let dir = tempfile::tempdir().unwrap();
        let unit = unit(dir.path(), drop_ins);
        let arguments = ["security", "--offline=yes", "--no-pager", threshold, &unit];
        let Some(output) = run("systemd-analyze", &arguments) else { return };
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn the_unit_is_understood_with_and_without_the_drop_ins() {
    let cases: [&[&str]; 3] = [&[], &["acting.conf"], &["network.conf"]];
    for drop_ins in cases {
        let dir = tempfile::tempdir().unwrap();
        let unit = unit(dir.path(), drop_ins);
        let Some(output) = run("systemd-analyze", &["verify", "--man=no", &unit]) else { return };
        let said = text(&output);
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains("trimtab")).collect();
        assert!(about_it.is_empty() && output.status.success(), "{said}");
    }
}

#[test]
fn what_the_kernel_programs_need_is_left_writable() {
    for file in ["trimtab-agent.service", "acting.conf"] {
        let unit = fs::read_to_string(dist(file)).unwrap();
        let set = unit.lines().find(|line| line.starts_with("ProtectKernelTunables="));
        assert_eq!(set, None, "{file}: it makes /sys/fs/bpf read-only before systemd 258");
    }
}

#[test]
fn accounts_and_directories_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    let root = format!("--root={}", dir.path().display());
    for (program, file) in [("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")] {
        let path = dist(file).display().to_string();
        let create: &[&str] =
            if program == "systemd-tmpfiles" { &[&root, "--create", &path] } else { &[&root, &path] };
        let Some(output) = run(program, create) else { return };
        assert!(output.status.success(), "{program}: {}", text(&output));
    }
    let passwd = fs::read_to_string(dir.path().join("etc/passwd")).unwrap();
    assert!(passwd.contains("trimtab-task:"), "{passwd}");
    assert!(dir.path().join("etc/trimtab/launch.d").is_dir());
}

#[test]
fn the_default_configuration_and_the_example_launcher_are_good() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("launch.d")).unwrap();
    fs::copy(dist("launch.d/example.toml.disabled"), dir.path().join("launch.d/example.toml")).unwrap();
    let config = fs::read_to_string(dist("agent.toml")).unwrap();
    let here = dir.path().display().to_string();
    fs::write(dir.path().join("agent.toml"), config.replace("/etc/trimtab", &here)).unwrap();
    let output = Command::new(support::bin("trimtab-agent"))
        .args(["config", "--origin", "--config"])
        .arg(dir.path().join("agent.toml"))
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success() && said.contains("launchers = [\"example\"]"), "{said}");
    assert!(said.contains("act = false"), "{said}");
}
