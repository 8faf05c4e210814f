//! The kernel programs beside an independent oracle: a C program with true CO-RE, loaded by libbpf, on the same switches.
//!
//! Run with `--features oracle`; it needs clang, libelf and zlib. Without, what can be checked without them is checked.
#![allow(missing_docs, clippy::unwrap_used)]

#[cfg(feature = "oracle")]
#[path = "../oracle/twin.rs"]
mod twin;

use agent_bpf::{Executions, KernelProbe, ProbeConfig};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Where the unified hierarchy is mounted, if kernel programs can be loaded at all; says why not.
fn root_or_skip() -> Option<PathBuf> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    if !is_root {
        eprintln!("SKIP: not root");
    } else if !PathBuf::from("/sys/kernel/btf/vmlinux").exists() {
        eprintln!("SKIP: this kernel describes no types (/sys/kernel/btf/vmlinux)");
    } else if root.is_none() {
        eprintln!("SKIP: no unified cgroup hierarchy is mounted");
    } else {
        return root;
    }
    None
}

/// `TRIMTAB_WRITE_BUDGET=1` adds this kernel's figures to the file.
#[test]
fn the_verifier_walks_no_more_than_budgeted() {
    let Some(root) = root_or_skip() else { return };
    let probe = KernelProbe::load(&ProbeConfig::new(root)).unwrap();
    let mut walked = BTreeMap::new();
    probe
        .program_costs(|cost| {
            walked.insert(cost.program, cost.verified_instructions);
        })
        .unwrap();
    let executed = Executions::start().unwrap().cost().unwrap();
    walked.insert(executed.program, executed.verified_instructions);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<_> = release.split('.').take(2).collect();
    let version = version.join(".");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle/verifier-budget.txt");
    let mut text = fs::read_to_string(&path).unwrap();
    let budgets: BTreeMap<_, u32> = text
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{version} "))?.split_once(' '))
        .map(|(program, budget)| (program.to_owned(), budget.parse().unwrap()))
        .collect();
    if budgets.is_empty() && std::env::var_os("TRIMTAB_WRITE_BUDGET").is_some() {
        for (program, instructions) in &walked {
            text.push_str(&format!("{version} {program} {instructions}\n"));
        }
        fs::write(&path, text).unwrap();
        return;
    }
    if budgets.is_empty() {
        eprintln!("SKIP: no verifier budget for kernel {version} in {}: {walked:?}", path.display());
        return;
    }
    for (program, instructions) in walked {
        let budget = budgets.get(program).unwrap_or_else(|| panic!("no budget for {program}"));
        assert!(
            u64::from(instructions) * 10 <= u64::from(*budget) * 11,
            "{program}: the verifier walks {instructions} instructions, the budget is {budget}"
        );
    }
}

#[cfg(not(feature = "oracle"))]
#[test]
fn the_oracle_agrees() {
    eprintln!("SKIP: built without the feature `oracle` (it needs clang, libelf and zlib)");
}

#[cfg(feature = "oracle")]
#[test]
fn the_oracle_agrees() {
    let Some(root) = root_or_skip() else { return };
    twin::compare(&root);
}
