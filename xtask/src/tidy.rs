//! `cargo xtask tidy`: what the compiler does not check about the shape of the code.
//!
//! Who imports whom, the size of files, inherited lints, clippy.toml files that repeat the root's rules, top-level
//! folders. Each fault says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Options of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Which of our packages each of our packages may depend on. Tests may see all; `e2e` and `xtask` are programs.
const EDGES: &[(&str, &[&str])] = &[
    ("agent-abi", &[]),
    ("model", &["agent-abi"]),
    ("wire", &["model"]),
    ("agent-core", &["model", "agent-abi"]),
    ("agent-bpf", &["agent-abi"]),
    ("agent", &["agent-core", "agent-bpf", "agent-abi", "model", "wire"]),
    ("autoscaler-core", &["model"]),
    ("autoscaler", &["autoscaler-core", "model", "wire"]),
    ("cli", &["autoscaler", "autoscaler-core", "model", "wire"]),
    ("xtask", &["model"]),
    (
        "e2e",
        &[
            "model",
            "wire",
            "agent-abi",
            "agent-bpf",
            "agent-core",
            "agent",
            "autoscaler-core",
            "autoscaler",
            "cli",
        ],
    ),
];

/// What a pure package must not have in its tree, at any depth.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "prost",
    "nix",
    "aya",
    "libbpf-rs",
    "cgroups-rs",
    "tracing",
    "rusqlite",
    "rustix",
    "hyper",
];
const PURE: &[&str] = &["model", "agent-abi", "agent-core", "autoscaler-core"];

/// What may be at the top of the checkout.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".git",
    ".github",
    "agent",
    "agent-ebpf",
    "autoscaler",
    "cli",
    "dashboards",
    "docs",
    "examples",
    "fuzz",
    "model",
    "target",
    "tests",
    "wire",
    "xtask",
];

/// Lines of a file at most; a test's file may be longer.
const LINES: usize = 500;
const TEST_LINES: usize = 800;

/// Checks everything and reports all faults at once.
pub(crate) fn run(_args: &Args, root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    edges(root, &mut faults)?;
    sizes(root, &mut faults)?;
    lints(root, &mut faults)?;
    clippy_files(root, &mut faults)?;
    top(root, &mut faults)?;
    if faults.is_empty() {
        println!(
            "tidy: imports, file sizes, lints, clippy.toml files and top-level folders are as ARCHITECTURE.md says"
        );
        return Ok(());
    }
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    bail!("{} fault(s)", faults.len())
}

fn edges(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let members: BTreeSet<&str> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).filter_map(|p| Some((p["id"].as_str()?, p))).collect();
    let name = |id: &str| packages.get(id).and_then(|p| p["name"].as_str()).unwrap_or_default();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).filter_map(|n| Some((n["id"].as_str()?, n))).collect();
    for id in &members {
        let package = name(id);
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == package) else {
            faults.push(format!(
                "package {package} has no line in EDGES (xtask/src/tidy.rs): decide who it may import"
            ));
            continue;
        };
        for to in normal_dependencies(nodes.get(id)) {
            if members.contains(to) && !allowed.contains(&name(to)) {
                faults.push(format!("{package} imports {}: only {allowed:?} are allowed", name(to)));
            }
        }
        if PURE.contains(&package) {
            let mut seen = BTreeSet::from([*id]);
            let mut stack = vec![*id];
            while let Some(at) = stack.pop() {
                for to in normal_dependencies(nodes.get(at)) {
                    if IMPURE.contains(&name(to)) {
                        faults.push(format!("{package} is pure but {} brings {}", name(at), name(to)));
                    }
                    if seen.insert(to) {
                        stack.push(to);
                    }
                }
            }
        }
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Ids of what a package depends on when it is built; not for its tests.
fn normal_dependencies<'a>(node: Option<&&'a Value>) -> Vec<&'a str> {
    let Some(node) = node else { return Vec::new() };
    let normal = |d: &&Value| list(&d["dep_kinds"]).any(|k| k["kind"].is_null());
    list(&node["deps"]).filter(normal).filter_map(|d| d["pkg"].as_str()).collect()
}

/// Files that git knows or would add, with this ending.
fn files(root: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let output =
        Command::new("git").current_dir(root).args(["ls-files", "-co", "--exclude-standard"]).output()?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter(|l| l.ends_with(ending))
        .map(PathBuf::from)
        .filter(|p| root.join(p).exists())
        .collect())
}

fn sizes(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for path in files(root, ".rs")? {
        let shown = path.display().to_string();
        if shown.contains("/generated/") {
            continue;
        }
        let limit = if shown.contains("test") { TEST_LINES } else { LINES };
        let lines = std::fs::read_to_string(root.join(&path))?.lines().count();
        if lines > limit {
            faults.push(format!(
                "{shown} has {lines} lines (limit {limit}): split it by question, not by type"
            ));
        }
    }
    Ok(())
}

/// Packages whose lints are their own: the two that hold `unsafe`. `tests/fuzz` is a workspace of its own, without lints to
/// inherit.
const OWN_LINTS: &[&str] = &["agent/bpf/Cargo.toml", "agent-ebpf/Cargo.toml"];

fn lints(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for path in files(root, "Cargo.toml")? {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(root.join(&path))?;
        if shown == "Cargo.toml" || shown.starts_with("tests/fuzz/") || OWN_LINTS.contains(&shown.as_str()) {
            continue;
        }
        if !text.contains("[lints]\nworkspace = true") {
            faults.push(format!(
                "{shown} does not inherit the workspace's lints: add [lints] workspace = true"
            ));
        }
    }
    Ok(())
}

/// Only the nearest clippy.toml is read, so each repeats every line of the root's.
fn clippy_files(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let rules = |path: &Path| -> Result<BTreeSet<String>> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        Ok(lines.map(str::to_owned).collect())
    };
    let wanted = rules(&root.join("clippy.toml"))?;
    for path in files(root, "clippy.toml")? {
        for missing in wanted.difference(&rules(&root.join(&path))?) {
            faults.push(format!("{} does not repeat the root's rule: {missing}", path.display()));
        }
    }
    for package in ["model", "agent-ebpf/abi", "agent/core", "autoscaler/core"] {
        let path = root.join(package).join("clippy.toml");
        if !path.exists() || !rules(&path)?.iter().any(|r| r.contains("std::time::Instant::now")) {
            faults.push(format!("{package}/clippy.toml must forbid the clock: the package is pure"));
        }
    }
    Ok(())
}

fn top(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(root)?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !TOP.contains(&name.as_str()) {
            faults.push(format!(
                "{name}/ at the top: a top-level folder needs a decision record and a line in TOP"
            ));
        }
    }
    Ok(())
}
