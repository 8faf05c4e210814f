//! What came of it.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::beside::Sharing;
use super::ledger::Kernel;
use super::load::Outcome;
use super::stage::Stage;
use super::watch::{QueueLog, Watch};
use super::work::Done;

/// The closing report. Keys are a contract.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seconds: f64,
    pub(crate) sharing: Sharing,
    /// Requests per second that one replica serves.
    pub(crate) capacity: f64,
    requests: u64,
    pub(crate) client_errors: u64,
    scale_out: u32,
    scale_in: u32,
    peak_replicas: usize,
    queue_delay_p95_ms: Option<u32>,
    /// Share of the seconds with requests in which the target of the queue delay held.
    pub(crate) target_held_ratio: f64,
    latency_p95_ms: Option<u32>,
    idle_ratio: f64,
    idle_ratio_static_peak: f64,
    /// Largest difference between the store's and the kernel's final CPU total over the tasks that ended, µs.
    accounting_error_us: Option<u64>,
    tasks_compared: usize,
    tasks_not_in_store: usize,
    tier: String,
    features: Vec<String>,
    agent_accounting_error_ratio: Option<f64>,
    first_errors: Vec<String>,
    /// What was done beside the web application.
    #[serde(flatten)]
    pub(crate) beside: Option<Done>,
}

/// What the day showed.
pub(super) struct Shown<'a> {
    pub(super) day: Duration,
    pub(super) capacity: f64,
    pub(super) load: &'a Outcome,
    pub(super) kernel: &'a Kernel,
    pub(super) queue: &'a QueueLog,
    pub(super) watch: &'a Watch,
    pub(super) beside: Option<Done>,
}

pub(super) fn make(stage: &Stage, shown: Shown<'_>) -> Result<Report> {
    let Shown { day, capacity, load, kernel, queue, watch, beside } = shown;
    let get = |path: &str| -> Result<Value> {
        let mut answer =
            ureq::get(format!("http://{}{path}", stage.api())).call().with_context(|| path.to_owned())?;
        Ok(answer.body_mut().read_json()?)
    };
    let ended = ended_totals(&get)?;
    let node = get("/api/v1/nodes")?["items"][0].clone();
    let compared: Vec<u64> =
        kernel.finals.iter().filter_map(|(id, total)| Some(ended.get(id)?.abs_diff(*total))).collect();
    let static_given = kernel.peak as f64 * stage.quota_cores() * kernel.seconds;
    let idle = |given: f64| if given > 0.0 { 1.0 - kernel.used / given } else { 0.0 };
    Ok(Report {
        seconds: day.as_secs_f64(),
        sharing: stage.sharing(),
        capacity,
        requests: load.requests,
        client_errors: load.errors,
        scale_out: watch.scale_out,
        scale_in: watch.scale_in,
        peak_replicas: kernel.peak,
        queue_delay_p95_ms: queue.quantile(0, 0.95).0,
        target_held_ratio: queue.held(super::stage::QUEUE_TARGET_MS),
        latency_p95_ms: quantile(&load.latency_ms, 0.95),
        idle_ratio: idle(kernel.given),
        idle_ratio_static_peak: idle(static_given),
        accounting_error_us: compared.iter().max().copied(),
        tasks_compared: compared.len(),
        tasks_not_in_store: kernel.finals.len() - compared.len(),
        tier: node["tier"].as_str().unwrap_or("?").to_owned(),
        features: serde_json::from_value(node["features"].clone()).unwrap_or_default(),
        agent_accounting_error_ratio: node["accountingErrorRatio"].as_f64(),
        first_errors: load.first_errors.clone(),
        beside,
    })
}

/// The value that so large a share of sorted ones does not exceed; `None` of no values.
pub(super) fn quantile(sorted: &[u32], share: f64) -> Option<u32> {
    let at = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(at).copied()
}

/// The same values, smallest first.
pub(super) fn sorted(mut values: Vec<u32>) -> Vec<u32> {
    values.sort_unstable();
    values
}

/// CPU totals of ended tasks in the store, by cgroup inode, µs.
fn ended_totals(get: &impl Fn(&str) -> Result<Value>) -> Result<std::collections::BTreeMap<u64, u64>> {
    let list = get("/api/v1/tasks?state=ended&workload=web&limit=500")?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().filter_map(|t| Some((t["cgroup"].as_u64()?, t["cpuTotalUs"].as_u64()?))).collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |v: Option<u32>| v.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        writeln!(f, "The day in {:.0} s", self.seconds)?;
        writeln!(f, "  requests              {:>10}   client errors {}", self.requests, self.client_errors)?;
        writeln!(
            f,
            "  scaled out / in       {:>10}   peak {} replicas",
            format!("{} / {}", self.scale_out, self.scale_in),
            self.peak_replicas
        )?;
        writeln!(
            f,
            "  queue delay p95       {:>10}   latency p95 {}, target held in {:.1} % of the seconds",
            ms(self.queue_delay_p95_ms),
            ms(self.latency_p95_ms),
            self.target_held_ratio * 100.0
        )?;
        let percent = |r: f64| format!("{:.1} %", r * 100.0);
        writeln!(
            f,
            "  idle                  {:>10}   {} at a static peak of {} replicas",
            percent(self.idle_ratio),
            percent(self.idle_ratio_static_peak),
            self.peak_replicas
        )?;
        let error = self
            .accounting_error_us
            .map_or("not compared: no task ended".to_owned(), |us| format!("{us} us"));
        writeln!(
            f,
            "  accounting error      {error:>10}   over {} tasks that ended, store against the kernel's own total",
            self.tasks_compared
        )?;
        if let Some(beside) = &self.beside {
            writeln!(
                f,
                "  maps done             {:>10}   {:.0} an hour, {} containers killed",
                beside.maps, beside.maps_per_hour, beside.containers_killed
            )?;
            writeln!(
                f,
                "  Cassandra p99         {:>10}   of {} requests, {} errors",
                format!("{:.1} ms", beside.cassandra_p99_ms),
                beside.cassandra_requests,
                beside.cassandra_errors
            )?;
        }
        write!(f, "  tier                  {:>10}   {}", self.tier, self.features.join(", "))?;
        for error in &self.first_errors {
            write!(f, "\n  error at {error}")?;
        }
        Ok(())
    }
}
