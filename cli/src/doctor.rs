//! `trimtab doctor`: what this host gives, whether the autoscaler works, and what to do about the rest.

use std::path::Path;
use std::process::{Command, ExitCode};

use autoscaler::api::{Nodes, Status};
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn finding(
    check: &'static str,
    good: bool,
    otherwise: Verdict,
    found: impl Into<String>,
    fix: &str,
) -> Finding {
    Finding {
        check,
        verdict: if good { Verdict::Pass } else { otherwise },
        found: found.into(),
        fix: (!good).then(|| fix.to_owned()),
    }
}

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
            text += &format!("{verdict:<4}  {}: {}\n", finding.check, output::safe(&finding.found));
            if let Some(fix) = &finding.fix {
                text += &format!("      fix: {fix}\n");
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
    let there = |path: &str| Path::new(path).exists();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    vec![
        finding("kernel", !release.is_empty(), Verdict::Fail, release, "run on Linux"),
        finding(
            "cgroup v2",
            !controllers.is_empty(),
            Verdict::Warn,
            if controllers.is_empty() {
                "not the unified hierarchy".to_owned()
            } else {
                controllers.trim().to_owned()
            },
            "boot with systemd.unified_cgroup_hierarchy=1 for tiers A and B; tier C works without",
        ),
        finding(
            "pressure (PSI)",
            there("/proc/pressure/cpu"),
            Verdict::Warn,
            if there("/proc/pressure/cpu") { "/proc/pressure" } else { "absent" },
            "boot with psi=1",
        ),
        finding(
            "kernel types (BTF)",
            there("/sys/kernel/btf/vmlinux"),
            Verdict::Warn,
            if there("/sys/kernel/btf/vmlinux") { "/sys/kernel/btf/vmlinux" } else { "absent" },
            "use a kernel with CONFIG_DEBUG_INFO_BTF for tier A; tier B works without",
        ),
        finding(
            "service manager",
            there("/run/systemd/system"),
            Verdict::Warn,
            if there("/run/systemd/system") { "systemd" } else { "no systemd runs" },
            "the agent then starts tasks itself, under a shim",
        ),
    ]
}

fn service(url: Option<&str>) -> Vec<Finding> {
    let client = match Client::new(url) {
        Ok(client) => client,
        Err(failure) => {
            return vec![finding("autoscaler", false, Verdict::Fail, failure.to_string(), "correct --url")];
        }
    };
    let status: Status = match client.get("/api/v1/status") {
        Ok(status) => status,
        Err(failure) => {
            let found = failure.to_string().lines().next().unwrap_or_default().to_owned();
            let fix = "systemctl start trimtab-autoscaler, or name another with --url or TRIMTAB_URL";
            return vec![finding("autoscaler", false, Verdict::Fail, found, fix)];
        }
    };
    let mut findings =
        vec![finding("autoscaler", true, Verdict::Fail, format!("{} answers", client.address()), "")];
    let why = status.frozen.clone().unwrap_or_default();
    findings.push(finding(
        "store",
        status.frozen.is_none(),
        Verdict::Fail,
        if status.frozen.is_none() { "takes what happens".to_owned() } else { why },
        "free space in the state directory; it acts again by itself",
    ));
    let acting = status.state == "acting";
    findings.push(finding(
        "acting",
        acting,
        Verdict::Warn,
        status.state,
        "trimtab get status says why; trimtab resume ends a pause",
    ));
    let nodes: Vec<_> = client.get::<Nodes>("/api/v1/nodes").map(|nodes| nodes.items).unwrap_or_default();
    let connected = nodes.iter().filter(|node| node.connected).count();
    let all = connected == nodes.len() && connected > 0;
    findings.push(finding(
        "agents",
        all,
        Verdict::Warn,
        format!("{connected} of {} connected", nodes.len()),
        "start trimtab-agent on the nodes that are away; `trimtab get nodes` names them",
    ));
    findings
}

/// The agent's own check, which loads its programs for a trial.
fn agent() -> Option<Value> {
    let output = Command::new("trimtab-agent").args(["check", "--json"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
