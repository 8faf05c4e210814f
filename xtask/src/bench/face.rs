//! `cargo xtask bench face`: what the dashboards weigh, and how fast they are with 2,000 nodes and 30 days of history, on a real autoscaler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::ingest::{Fleet, Receiver};
use crate::web;

/// Options of `cargo xtask bench face`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Agents that stream while the page is opened.
    #[arg(long, default_value_t = 2000)]
    agents: u32,
    /// Tasks of one agent.
    #[arg(long, default_value_t = 25)]
    tasks: u32,
    /// Length of the history that is asked for.
    #[arg(long, default_value_t = 30)]
    days: u64,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Nodes and tasks of each in the history that is asked for.
const KEPT: (u32, u32) = (4, 25);
/// Each question is asked so often.
const ASKED: usize = 5;
/// Until all tables are full and the first rounds are over.
const SETTLE: Duration = Duration::from_secs(10);
/// As the page asks for a chart of more days than minutes are kept.
const STEP: u64 = 600;

#[derive(Debug, Serialize)]
struct Report {
    js_gz_bytes: u64,
    css_gz_bytes: u64,
    total_gz_bytes: u64,
    /// From the start of a navigation with nothing in the cache until state and all nodes are shown, median.
    fleet_ready_ms: f64,
    /// From the first drawing call until the pixels are there, median.
    heatmap_repaint_ms: f64,
    /// The slowest of all questions for a chart of so many days: each series, of a node and of one of its tasks.
    history_query_ms: f64,
    fleet_ready_slowest_ms: f64,
    heatmap_repaint_slowest_ms: f64,
    history_queries: usize,
    history_bytes: u64,
    nodes: u32,
    tasks: u32,
    days: u64,
    load_average: String,
}

/// Measures.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let weight = web::built(root)?;
    let bin = build(root)?;
    let directory = std::env::temp_dir().join(format!("trimtab-face-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure(args, root, &bin, &directory, weight);
    let _ = fs::remove_dir_all(&directory);
    let report = measured?;
    show(&report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf> {
    println!(
        "==> building trimtab-autoscaler and what it is measured with (a first build takes some minutes)"
    );
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(root).args(["build", "--quiet", "--release", "-p", "autoscaler", "-p", "e2e"]);
    for program in ["trimtab-autoscaler", "e2e-fleet", "e2e-history"] {
        cargo.args(["--bin", program]);
    }
    ensure!(cargo.status()?.success(), "the programs could not be built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn measure(args: &Args, root: &Path, bin: &Path, directory: &Path, weight: web::Weight) -> Result<Report> {
    println!("==> {} days of history of {} nodes with {} tasks each", args.days, KEPT.0, KEPT.1);
    let state = directory.join("state");
    let filled = Command::new(bin.join("e2e-history"))
        .arg(&state)
        .args([KEPT.0.to_string(), KEPT.1.to_string(), args.days.to_string()])
        .status()
        .context("starting e2e-history")?;
    ensure!(filled.success(), "e2e-history ended with {filled}");
    let history_bytes = fs::metadata(state.join("history.db"))?.len();
    let listen = format!("unix:{}", directory.join("agents.sock").display());
    let receiver = Receiver::start(bin, directory, &listen)?;
    let asked = ask(receiver.api(), args.days)?;
    let fleet = Fleet::start(bin, receiver.agents(), args.agents, args.tasks, None)?;
    println!("==> {} agents are connected; the page is opened", args.agents);
    std::thread::sleep(SETTLE);
    let load_average = super::load_average()?;
    let page = web::bench(root, &format!("http://{}/", receiver.api()), args.agents)?;
    let seen = fleet.end()?;
    ensure!(
        seen.connected_at_end == u64::from(args.agents),
        "only {} agents stayed connected",
        seen.connected_at_end
    );
    let number = |key: &str| page[key].as_f64().with_context(|| format!("the page says no {key}"));
    Ok(Report {
        js_gz_bytes: weight.scripts,
        css_gz_bytes: weight.styles,
        total_gz_bytes: weight.all,
        fleet_ready_ms: number("fleet_ready_ms")?,
        heatmap_repaint_ms: number("heatmap_repaint_ms")?,
        history_query_ms: asked.iter().copied().fold(0.0, f64::max),
        fleet_ready_slowest_ms: slowest(&page["ready"]),
        heatmap_repaint_slowest_ms: slowest(&page["repaints"]),
        history_queries: asked.len(),
        history_bytes,
        nodes: args.agents,
        tasks: args.agents * args.tasks,
        days: args.days,
        load_average,
    })
}

fn slowest(all: &Value) -> f64 {
    all.as_array().into_iter().flatten().filter_map(Value::as_f64).fold(0.0, f64::max)
}

/// The time of each answer, ms, from the question to its last byte.
fn ask(api: &str, days: u64) -> Result<Vec<f64>> {
    let status = crate::http::json(&format!("http://{api}/api/v1/status"))
        .context("the autoscaler does not answer")?;
    let now = status["nowMs"].as_u64().context("no nowMs")?;
    let from = now - days * 86_400_000;
    let mut all = Vec::new();
    for node in 1..=KEPT.0 {
        for of in ["", "&cgroup=1003"] {
            for series in ["cpu", "cpu_max", "memory", "memory_max", "run_delay"] {
                for _ in 0..ASKED {
                    let url = format!(
                        "http://{api}/api/v1/history?node=n{node}{of}&series={series}&step={STEP}&fromMs={from}&toMs={now}"
                    );
                    let began = Instant::now();
                    let text = ureq::get(&url).call()?.body_mut().read_to_string()?;
                    all.push(began.elapsed().as_secs_f64() * 1e3);
                    full(&text, days).with_context(|| url)?;
                }
            }
        }
    }
    Ok(all)
}

/// Fails when the answer is not what a chart of so many days needs.
fn full(text: &str, days: u64) -> Result<()> {
    let answer: Value = serde_json::from_str(text)?;
    let values = answer["values"].as_array().context("no values")?;
    let known = values.iter().filter(|value| value.is_number()).count() as u64;
    let wanted = days * 86_400 / STEP;
    ensure!(known * 100 >= wanted * 95, "only {known} of {wanted} values are known");
    Ok(())
}

fn show(report: &Report) {
    println!("\n{} nodes, {} tasks, load {}", report.nodes, report.tasks, report.load_average);
    println!("  scripts of the first page, bytes      {:>8}   target <= 80000", report.js_gz_bytes);
    println!("  styles, bytes                         {:>8}   target <= 12000", report.css_gz_bytes);
    println!("  all files, bytes                      {:>8}   target <= 250000", report.total_gz_bytes);
    println!(
        "  fleet page useful, ms                 {:>8.0}   target < 1000 (slowest {:.0})",
        report.fleet_ready_ms, report.fleet_ready_slowest_ms
    );
    println!(
        "  heat map repainted, ms                {:>8.1}   target < 16 (slowest {:.1})",
        report.heatmap_repaint_ms, report.heatmap_repaint_slowest_ms
    );
    println!(
        "  chart of {} days, slowest of {}, ms  {:>8.1}   target <= 300 ({} KiB of history)",
        report.days,
        report.history_queries,
        report.history_query_ms,
        report.history_bytes / 1024
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_large_hole_is_no_measurement() {
        let answer = |known: usize| {
            let values: Vec<Value> =
                (0..144).map(|i| if i < known { Value::from(1.0) } else { Value::Null }).collect();
            serde_json::json!({ "values": values }).to_string()
        };
        assert!(full(&answer(144), 1).is_ok() && full(&answer(137), 1).is_ok());
        assert!(full(&answer(100), 1).is_err() && full("{}", 1).is_err());
    }
}
