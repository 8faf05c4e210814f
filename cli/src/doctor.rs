//! `trimtab doctor`: what this host gives, whether the autoscaler works, and what to do about the rest.

use std::path::Path;
use std::process::{Command, ExitCode};

use autoscaler::api::{Doctor, Finding, Verdict};
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output;

pub(crate) fn run(url: Option<&str>, as_json: bool) -> Result<ExitCode, Failure> {
    let mut findings = host();
    findings.extend(service(url));
    let agent = agent();
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    if as_json {
        let answer =
            json!({ "apiVersion": "trimtab/v1", "ok": failed == 0, "findings": findings, "agent": agent });
        output::print(&(serde_json::to_string_pretty(&answer)? + "\n"))?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            let verdict = format!("{:?}", finding.verdict).to_uppercase();
            text += &format!(
                "{verdict:<4}  {}: {}\n",
                output::safe(&finding.check),
                output::safe(&finding.found)
            );
            if let Some(fix) = &finding.fix {
                text += &format!("      fix: {}\n", output::safe(fix));
            }
        }
        match &agent {
            Some(agent) => text += &format!("agent on this host (trial load):\n{}", lines(agent)),
            None => {
                text +=
                    "agent: trimtab-agent is not installed here; install it and run `trimtab-agent check`\n";
            }
        }
        output::print(&text)?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(Kind::Error as u8) })
}

fn lines(agent: &Value) -> String {
    let text =
        agent.as_str().map_or_else(|| serde_json::to_string_pretty(agent).unwrap_or_default(), str::to_owned);
    text.lines().map(|line| format!("  {}\n", output::safe(line))).collect()
}

/// What the kernel gives. The agent's own trial says more; this works without it.
fn host() -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let controllers = read("/sys/fs/cgroup/cgroup.controllers").trim().to_owned();
    vec![
        if release.is_empty() {
            Finding::fail("kernel", "it does not tell its release", "run on Linux, with /proc")
        } else {
            Finding::pass("kernel", release)
        },
        if controllers.is_empty() {
            let fix = "boot with systemd.unified_cgroup_hierarchy=1 for tiers A and B; tier C works without";
            Finding::warn("cgroup v2", "not the unified hierarchy", fix)
        } else {
            Finding::pass("cgroup v2", controllers)
        },
        there("pressure (PSI)", "/proc/pressure", "absent", "boot with psi=1"),
        there(
            "kernel types (BTF)",
            "/sys/kernel/btf/vmlinux",
            "absent",
            "use a kernel with CONFIG_DEBUG_INFO_BTF for tier A; tier B works without",
        ),
        there(
            "service manager",
            "/run/systemd/system",
            "no systemd runs",
            "the agent then starts tasks itself, under a shim",
        ),
    ]
}

fn there(check: &str, path: &str, otherwise: &str, fix: &str) -> Finding {
    if Path::new(path).exists() { Finding::pass(check, path) } else { Finding::warn(check, otherwise, fix) }
}

/// The autoscaler's own checks, of itself and of all agents.
fn service(url: Option<&str>) -> Vec<Finding> {
    let client = match Client::new(url) {
        Ok(client) => client,
        Err(failure) => return vec![Finding::fail("autoscaler", failure.to_string(), "correct --url")],
    };
    match client.get::<Doctor>("/api/v1/doctor") {
        Ok(answer) => {
            let answers = Finding::pass("autoscaler", format!("{} answers", client.address()));
            [answers].into_iter().chain(answer.findings).collect()
        }
        Err(failure) => {
            let found = failure.to_string().lines().next().unwrap_or_default().to_owned();
            let fix = "systemctl start trimtab-autoscaler, or name another with --url or TRIMTAB_URL";
            vec![Finding::fail("autoscaler", found, fix)]
        }
    }
}

/// The agent's own check, which loads its programs for a trial.
fn agent() -> Option<Value> {
    let output = Command::new("trimtab-agent").args(["check", "--json"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
