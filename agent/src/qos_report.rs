//! `trimtab-agent qos`: what the isolation loop of the agent that runs here sees, does, and why.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longest wait for the agent's answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the agent whose state directory this is.
///
/// # Errors
/// When no agent answers there, with what to do.
pub async fn ask(state: &Path) -> Result<Value> {
    let noted = state.join("http.address");
    let address = std::fs::read_to_string(&noted).with_context(|| {
        format!(
            "{}: no agent with this state directory serves HTTP: start it with `http = \"127.0.0.1:7782\"` in its \
             configuration, or give its --config or --state",
            noted.display()
        )
    })?;
    let url = format!("http://{}/qos", address.trim());
    let (status, body) = crate::adapter::get(&url, ANSWER).await.map_err(|why| {
        anyhow::anyhow!(
            "the agent does not answer ({why}): `systemctl status trimtab-agent` says whether it runs"
        )
    })?;
    if status != 200 {
        bail!("{url} answered {status}: an older agent runs; restart it");
    }
    serde_json::from_slice(&body).with_context(|| format!("the answer of {url} is no JSON"))
}

/// The answer for people.
#[must_use]
pub fn render(said: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = headline(&mut out, said);
    let _ = tasks(&mut out, said);
    let _ = decisions(&mut out, said);
    let _ = gaps(&mut out, said);
    out
}

fn items<'v>(said: &'v Value, name: &str) -> &'v [Value] {
    said[name].as_array().map_or(&[], Vec::as_slice)
}

fn cores(millis: &Value) -> String {
    millis.as_f64().map_or_else(|| "-".to_owned(), |millis| format!("{:.2}", millis / 1e3))
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn headline(out: &mut String, said: &Value) -> std::fmt::Result {
    let targets = &said["targets"];
    let cpus = said["cpuMillis"].as_f64().unwrap_or(0.0) / 1e3;
    match (said["off"].as_str(), said["state"]["state"].as_str()) {
        (Some(why), _) => writeln!(out, "the isolation loop is off: {why}")?,
        (None, Some("capped")) => writeln!(
            out,
            "best-effort work may use {} of {cpus:.0} CPUs (floor {}, headroom {} of {}{}); others use {}",
            cores(&said["allowanceMillis"]),
            percent(&targets["floor"]),
            percent(&said["headroom"]),
            percent(&targets["headroom"]),
            match said["limitMillis"].as_u64() {
                Some(_) => format!(", more than {} was harm", cores(&said["limitMillis"])),
                None => String::new(),
            },
            cores(&said["othersMillis"]),
        )?,
        (None, Some("open")) => {
            writeln!(out, "no latency-critical task runs here: best-effort work has no limit of this loop")?;
        }
        (None, _) => {
            writeln!(out, "no best-effort task runs here: nothing is measured more often than each round")?;
        }
    }
    let memory = said["memory"]["grade"].as_str().or(said["memory"]["state"].as_str()).unwrap_or("-");
    writeln!(out, "memory: {memory}")?;
    if let Some(pid) = said["deadMan"]["watcher"].as_u64() {
        let seconds = said["deadMan"]["afterMs"].as_f64().unwrap_or(0.0) / 1e3;
        writeln!(
            out,
            "dead-man: process {pid} freezes best-effort work {seconds:.0} s after this agent is gone"
        )?;
    }
    Ok(())
}

fn tasks(out: &mut String, said: &Value) -> std::fmt::Result {
    let targets = &said["targets"];
    let name = |task: &Value| {
        let owner = task["workload"].as_str().unwrap_or("-");
        format!("{} ({owner})", task["task"].as_str().unwrap_or("-"))
    };
    if !items(said, "critical").is_empty() {
        writeln!(
            out,
            "\n{:<32} {:>22} {:>12} {:>20}  BEST-EFFORT WORK ADDS",
            "LATENCY-CRITICAL", "WAIT FOR CPU", "BY ITSELF", "MEMORY STALL"
        )?;
    }
    for task in items(said, "critical") {
        let decides = task["decides"].as_str().unwrap_or("delayMs");
        let by_delay = decides == "delayMs";
        let wait = |v: &Value| match v.as_f64() {
            Some(ms) if by_delay => format!("{ms:.2}"),
            _ => percent(v),
        };
        let unit = if by_delay { " ms" } else { "" };
        writeln!(
            out,
            "{:<32} {:>22} {:>12} {:>20}  {}",
            name(task),
            match task["limited"] == true {
                true => "for its own quota".to_owned(),
                false => format!("{} of {}{unit}", wait(&task[decides]), wait(&task["borne"])),
            },
            format!("{}{unit}", wait(&task["ownMean"])),
            format!("{} of {}", percent(&task["memoryStall"]), percent(&targets["memoryStall"])),
            added(task, targets),
        )?;
    }
    if !items(said, "bestEffort").is_empty() {
        writeln!(
            out,
            "\n{:<32} {:>22} {:>20} {:>20}",
            "BEST-EFFORT", "USES (CPUS)", "QUOTA (CPUS)", "FROZEN"
        )?;
    }
    for task in items(said, "bestEffort") {
        let quota =
            if task["quotaMillis"].is_null() { "none".to_owned() } else { cores(&task["quotaMillis"]) };
        let frozen = if task["frozen"] == true { "yes" } else { "no" };
        writeln!(out, "{:<32} {:>22} {:>20} {:>20}", name(task), cores(&task["usedMillis"]), quota, frozen)?;
    }
    Ok(())
}

/// What pauses have shown, with its standard error.
fn added(task: &Value, targets: &Value) -> String {
    let shown = items(task, "added").iter().filter_map(|added| {
        let number = |name: &str| added[name].as_f64();
        let (with, without, error) = (number("with")?, number("without")?, number("error")?);
        let is = with - without;
        Some(match added["by"].as_str()? {
            "delay" => format!("wait {:+.2} ±{:.2} ms", is / 1e6, error / 1e6),
            "stall" => format!("wait {:+.1} ±{:.1} % of the time", is * 1e2, error * 1e2),
            _ => format!("CPU time {:+.1} ±{:.1} %", is / without * 1e2, error / without * 1e2),
        })
    });
    let shown: Vec<String> = shown.collect();
    match (shown.is_empty(), targets["pauses"].as_bool()) {
        (false, _) => shown.join(", "),
        (true, Some(false)) => "not measured: pauses = false".to_owned(),
        (true, _) => "not known yet".to_owned(),
    }
}

fn decisions(out: &mut String, said: &Value) -> std::fmt::Result {
    if !items(said, "decisions").is_empty() {
        writeln!(out, "\nDECISIONS, newest first; * = something was changed")?;
    }
    for decision in items(said, "decisions").iter().take(20) {
        let ago = decision["agoMs"].as_f64().unwrap_or(0.0) / 1e3;
        let mark = if decision["acts"] == true { '*' } else { ' ' };
        writeln!(out, "{ago:>9.1} s ago {mark} {}", decision["why"].as_str().unwrap_or("-"))?;
    }
    Ok(())
}

fn gaps(out: &mut String, said: &Value) -> std::fmt::Result {
    if !items(said, "notPossible").is_empty() {
        writeln!(out, "\nNOT POSSIBLE HERE")?;
    }
    for gap in items(said, "notPossible") {
        let text = |name: &str| gap[name].as_str().unwrap_or("-").to_owned();
        writeln!(out, "{:<18} {}", text("what"), text("why"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_see_targets_beside_what_is_measured_and_why_something_was_done() {
        let said = json!({
            "off": null, "cpuMillis": 8000, "allowanceMillis": 2900, "othersMillis": 3400,
            "state": { "state": "capped", "millis": 2900 }, "memory": { "state": "calm" },
            "deadMan": { "afterMs": 10_000, "watcher": 42 },
            "targets": { "delayMs": 1.0, "cpuStall": 0.2, "memoryStall": 0.1, "headroom": 0.2, "floor": 0.05, "pauses": true },
            "limitMillis": 3200, "headroom": 0.1,
            "critical": [
                {
                    "task": "web-1", "workload": "web", "delayMs": 0.123, "cpuStall": 0.03, "memoryStall": null,
                    "decides": "delayMs", "ownMean": 0.04, "borne": 1.28,
                    "added": [
                        { "by": "delay", "with": 61e3, "without": 40e3, "error": 8e3, "borne": 1e5, "pauses": 20 },
                        { "by": "cpu", "with": 1.04, "without": 1.0, "error": 0.01, "borne": 0.1, "pauses": 20 },
                    ],
                },
                {
                    "task": "web-2", "workload": "web", "delayMs": null, "cpuStall": 0.03, "memoryStall": 0.01,
                    "decides": "cpuStall", "ownMean": 0.02, "borne": 0.51, "added": [],
                },
            ],
            "bestEffort": [{ "task": "jobs-1", "workload": "jobs", "usedMillis": 2890, "quotaMillis": 2900, "frozen": false }],
            "decisions": [
                { "agoMs": 3210, "acts": true, "why": "calm for 10 s: 2100m → 2900m" },
                { "agoMs": 9000, "acts": false, "why": "memory is enough" },
            ],
            "notPossible": [{ "what": "memory", "why": "not on the unified hierarchy" }],
        });
        let expected = "\
best-effort work may use 2.90 of 8 CPUs (floor 5.0 %, headroom 10.0 % of 20.0 %, more than 3.20 was harm); others use 3.40
memory: calm
dead-man: process 42 freezes best-effort work 10 s after this agent is gone

LATENCY-CRITICAL                           WAIT FOR CPU    BY ITSELF         MEMORY STALL  BEST-EFFORT WORK ADDS
web-1 (web)                             0.12 of 1.28 ms      0.04 ms          - of 10.0 %  wait +0.02 ±0.01 ms, CPU time +4.0 ±1.0 %
web-2 (web)                             3.0 % of 51.0 %        2.0 %      1.0 % of 10.0 %  not known yet

BEST-EFFORT                                 USES (CPUS)         QUOTA (CPUS)               FROZEN
jobs-1 (jobs)                                      2.89                 2.90                   no

DECISIONS, newest first; * = something was changed
      3.2 s ago * calm for 10 s: 2100m → 2900m
      9.0 s ago   memory is enough

NOT POSSIBLE HERE
memory             not on the unified hierarchy
";
        assert_eq!(render(&said), expected, "{}", render(&said));
    }

    #[test]
    fn an_idle_loop_says_so_and_one_that_is_off_says_why() {
        assert!(
            render(&json!({ "state": { "state": "idle" } })).starts_with("no best-effort task runs here")
        );
        let off = json!({ "off": "enabled = false", "state": { "state": "idle" } });
        assert!(render(&off).starts_with("the isolation loop is off: enabled = false"));
    }

    #[tokio::test]
    async fn without_an_agent_it_says_what_to_do() {
        let state = tempfile::tempdir().unwrap();
        let why = format!("{:#}", ask(state.path()).await.unwrap_err());
        assert!(why.contains("http.address") && why.contains("--state"), "{why}");
        std::fs::write(state.path().join("http.address"), "127.0.0.1:1").unwrap();
        let why = format!("{:#}", ask(state.path()).await.unwrap_err());
        assert!(why.contains("systemctl status"), "{why}");
    }
}
