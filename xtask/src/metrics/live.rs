//! A real Prometheus scrapes real daemons with a real workload, and is asked every expression of dashboards and alerts.
//!
//! Of a panel each expression must give something, with its variables replaced by a name that the dashboard's own query for
//! names gives (of workloads, for one of two kinds). An alert's expression is empty while all is well: it must be understood, and every series that it names must
//! have been seen, so that a name that was mistyped is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::boards;
use super::prometheus::{Programs, Prometheus};
use super::second::{self, Second};
use super::written;
use crate::http;
use crate::up::beside::Sharing;
use crate::up::ports::free_ports;
use crate::up::stage::Stage;

const SLICE: &str = "trimtab-metrics.slice";
/// Of the kinds that there are: one behind a balancer, and one without, which has other targets. A panel is for both.
const WORKLOADS: [&str; 2] = ["web", second::WORKLOAD];
/// Clients that ask the workload for its page, one after the other.
const CLIENTS: usize = 2;
/// An expression that becomes known postpones the end: the idle ledger's first page takes a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts everything, asks, and ends what was started.
pub(super) fn check(programs: &Programs, root: &Path, bin: &Path) -> Result<()> {
    let stop = crate::up::on_signals()?;
    let directory = std::env::temp_dir().join(format!("trimtab-metrics-{}", std::process::id()));
    let mut stage = Stage::open(&directory, root, bin, Sharing::Web, SLICE)?;
    let checked = on_stage(&mut stage, programs, root, bin, &directory, &stop);
    stage.end(false);
    checked
}

fn on_stage(
    stage: &mut Stage,
    programs: &Programs,
    root: &Path,
    bin: &Path,
    directory: &Path,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    stage.start(stop)?;
    let address = free_ports(1)?[0];
    let second = Second::start(bin, &directory.join("second"), address)?;
    let (api, agent) = (stage.api().to_string(), stage.agent()?);
    let other = second.agent()?;
    let jobs = [
        ("trimtab-autoscaler", api.as_str()),
        ("trimtab-second", second.api()),
        ("trimtab-agent", agent.as_str()),
        ("trimtab-second-agent", other.as_str()),
    ];
    let mut prometheus = Prometheus::start(programs, root, &directory.join("prometheus"), address, &jobs)?;
    stage.wait_for_replicas(stop)?;
    stage.tell(&["apply", "--yes", &root.join("examples/prices.yaml").display().to_string()])?;
    let asking = Asking::start(&stage.front().to_string());
    let node = http::json(&format!("http://{api}/api/v1/nodes"))
        .and_then(|nodes| Some(nodes["items"][0]["name"].as_str()?.to_owned()))
        .context("the autoscaler lists no node")?;
    for (_, address) in jobs {
        programs
            .check_metrics(root, &plain(address)?)
            .with_context(|| format!("the metrics of {address}"))?;
    }
    println!("    promtool: metrics of both daemons, rules and their cases are good");
    let mut open = expressions(root, &node)?;
    let count = open.len();
    let mut deadline = Instant::now() + PATIENCE;
    while !open.is_empty() {
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        stage.check_alive()?;
        prometheus.alive()?;
        let before = open.len();
        let mut empty = Vec::new();
        for (panel, expr) in open {
            if is_empty(&prometheus, &expr).with_context(|| panel.clone())? {
                empty.push((panel, expr));
            }
        }
        open = empty;
        if open.len() < before {
            deadline = Instant::now() + PATIENCE;
        }
        if Instant::now() > deadline {
            let told: Vec<String> = open.iter().map(|(panel, expr)| format!("  {panel}: {expr}")).collect();
            bail!("{} of {count} expressions of panels give nothing:\n{}", told.len(), told.join("\n"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("    {count} expressions of panels give something");
    variables(&prometheus, root, &node)?;
    alerts(&prometheus)?;
    written::check(&prometheus, "trimtab-second", stop)?;
    drop(asking);
    Ok(())
}

/// Whether an expression gives nothing, for no workload.
fn is_empty(prometheus: &Prometheus, expr: &str) -> Result<bool> {
    for workload in WORKLOADS {
        if !prometheus.query(&expr.replace("$workload", workload))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// In the older text format, which promtool reads.
fn plain(address: &str) -> Result<String> {
    let asked = ureq::get(format!("http://{address}/metrics")).header("accept", "text/plain; version=0.0.4");
    Ok(asked.call()?.body_mut().read_to_string()?)
}

fn board(root: &Path, name: &str) -> Result<Value> {
    let text = fs::read_to_string(root.join(format!("dashboards/grafana/{name}.json")))?;
    serde_json::from_str(&text).with_context(|| format!("reading {name}.json"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Where it is and what it is, of each query of each panel as the file has it.
fn expressions(root: &Path, node: &str) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for name in boards::ALL.map(|board| board.name) {
        for panel in list(&board(root, name)?["panels"]) {
            for target in list(&panel["targets"]) {
                let expr = target["expr"].as_str().context("a query without an expression")?;
                let expr = expr.replace("$__rate_interval", "10s").replace("$node", node);
                let unknown = expr.replace("$workload", "").contains('$');
                ensure!(!unknown, "{name}: {expr}: a variable that is not known");
                all.push((format!("{name}, {}", panel["title"]), expr));
            }
        }
    }
    ensure!(!all.is_empty(), "the dashboards ask nothing");
    Ok(all)
}

/// Queries for names give the names that there are.
fn variables(prometheus: &Prometheus, root: &Path, node: &str) -> Result<()> {
    for name in boards::ALL.map(|board| board.name) {
        for variable in list(&board(root, name)?["templating"]["list"]) {
            let Some(query) = variable["definition"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) =
                inner.and_then(|inner| inner.split_once(", ")).context("no label_values()")?;
            let found = prometheus.label_values(metric, label)?;
            let wanted = if label == "node" { node } else { WORKLOADS[0] };
            ensure!(
                found.iter().any(|one| one == wanted),
                "{name}: {query} gives {found:?}, without {wanted}"
            );
        }
    }
    Ok(())
}

fn alerts(prometheus: &Prometheus) -> Result<()> {
    let (rules, names) = (prometheus.rules()?, prometheus.names()?);
    ensure!(!rules.is_empty(), "Prometheus has no rules");
    for rule in &rules {
        let (name, expr) = (&rule["name"], rule["query"].as_str().unwrap_or_default());
        ensure!(rule["health"] == "ok", "{name}: {} {}", rule["health"], rule["lastError"]);
        prometheus.query(expr).with_context(|| format!("{name}"))?;
        for metric in metrics(expr) {
            ensure!(names.contains(metric), "{name}: nobody has told of {metric}");
        }
    }
    println!("    {} alerts are understood, and all their series are there", rules.len());
    Ok(())
}

/// Names of metrics in an expression: ours, and `up`.
fn metrics(expr: &str) -> BTreeSet<&str> {
    let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| *word == "up" || word.starts_with("trimtab_")).collect()
}

/// Clients of the workload; they end when dropped.
struct Asking {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Asking {
    fn start(front: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (stop, url) = (Arc::clone(&stop), format!("http://{front}/"));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // What it answers is the business of other tests.
                    let _ = ureq::get(&url).call();
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, clients }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_of_an_expression_is_found() {
        let expr = "rate(trimtab_a_total{node=\"n\"}[5m]) / on (instance) up{job=\"trimtab-agent\"} > 0";
        assert_eq!(metrics(expr).into_iter().collect::<Vec<_>>(), ["trimtab_a_total", "up"]);
    }

    #[test]
    fn a_nodes_expressions_are_of_one_node() {
        let all = expressions(&crate::root(), "n1").unwrap();
        assert!(all.iter().any(|(_, expr)| expr.contains("node=\"n1\"")), "{all:?}");
        assert!(all.iter().any(|(_, expr)| expr.contains("workload=\"$workload\"")));
    }
}
