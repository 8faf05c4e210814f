//! Who works beside the web application: a MapReduce job that does not end, clients of Cassandra; and what came of it.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde_json::Value;

use super::report::{quantile, sorted};
use crate::http::json;
use crate::lab::cql::Session;
use crate::lab::{self, Half};

/// Samples of one map of the job: about 3 s of a core, and as much for its JVM.
const SAMPLES: &str = "20000000";
/// Requests a second that the ring is asked. After each of them a stage of Cassandra looks for more for milliseconds: many small ones would take a
/// third of a core, whoever divides the machine.
const RATE: u32 = 20;
const CLIENTS: u32 = 4;
/// The ResourceManager is asked so often what to show: it takes CPU.
const SHOWN_EVERY: Duration = Duration::from_secs(5);
const NODE: &str = "127.0.0.1";

/// The job's client, before its first map has ended.
pub(super) struct Job(Child);

impl Job {
    /// Submits a job that has more to do than the day is long, to the clusters in a directory.
    pub(super) fn submit(directory: &Path, half: Option<Half>, day: Duration) -> Result<Self> {
        let maps = (day.as_secs() * u64::from(super::cpus()) / 3 + 60).to_string();
        let arguments = [
            "org.apache.hadoop.examples.QuasiMonteCarlo",
            // Nothing but maps for the whole day, each once.
            "-Dmapreduce.job.reduce.slowstart.completedmaps=1.0",
            "-Dmapreduce.map.speculative=false",
            &maps,
            SAMPLES,
        ];
        let log = directory.join("hadoop/logs/job.log");
        let out = fs::File::create(&log)?;
        let mut command = lab::hadoop_client(directory, &arguments)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        println!("==> a MapReduce job of {maps} maps (its log: {})", log.display());
        lab::on(half, || command.spawn().context("starting the job")).map(Self)
    }

    /// A map of it has ended.
    pub(super) fn gets_on() -> bool {
        Maps::now().is_some_and(|maps| maps.done > 0)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Maps of the job that runs, as its ApplicationMaster counts them.
#[derive(Debug, Clone, Copy, Default)]
struct Maps {
    done: u64,
    killed: u64,
    failed: u64,
    masters: u64,
}

impl Maps {
    fn now() -> Option<Self> {
        let manager = lab::resource_manager();
        let apps = json(&format!("{manager}/ws/v1/cluster/apps?states=RUNNING"))?;
        let id = apps["apps"]["app"][0]["id"].as_str()?;
        let job = id.replace("application", "job");
        let said = json(&format!("{manager}/proxy/{id}/ws/v1/mapreduce/jobs/{job}"))?;
        let attempts = json(&format!("{manager}/ws/v1/cluster/apps/{id}/appattempts"))?;
        let count = |key: &str| said["job"][key].as_u64();
        let masters = attempts["appAttempts"]["appAttempt"].as_array().map(Vec::len)?;
        Some(Self {
            done: count("mapsCompleted")?,
            killed: count("killedMapAttempts")?,
            failed: count("failedMapAttempts")?,
            masters: masters as u64,
        })
    }

    /// What came to them; an ApplicationMaster that starts anew may have forgotten some.
    fn since(self, before: Self) -> Self {
        Self {
            done: self.done.saturating_sub(before.done),
            killed: self.killed.saturating_sub(before.killed),
            failed: self.failed.saturating_sub(before.failed),
            masters: self.masters.saturating_sub(before.masters),
        }
    }
}

/// Virtual cores that are in use and that NodeManagers advertise, by the list of nodes: the cluster's sum never falls below what is in use.
fn vcores() -> Option<(u64, u64)> {
    let said = json(&format!("{}/ws/v1/cluster/nodes?states=RUNNING", lab::resource_manager()))?;
    let nodes = said["nodes"]["node"].as_array()?;
    let sum = |of: fn(&Value) -> &Value| nodes.iter().filter_map(|node| of(node).as_u64()).sum();
    Some((sum(|node| &node["usedVirtualCores"]), sum(|node| &node["totalResource"]["vCores"])))
}

fn prepare_ring() -> Result<(), String> {
    let mut session = Session::open(NODE)?;
    for text in [
        "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}",
        "CREATE TABLE IF NOT EXISTS shop.items (id int PRIMARY KEY, v text)",
    ] {
        session.query(text)?;
    }
    Ok(())
}

/// One client's share of the requests, each at its time whatever became of the last. Latencies from the times when they were due, µs, and failures.
fn ask_ring(number: u32, began: Instant, over: &AtomicBool) -> (Vec<u32>, u64) {
    let (mut session, mut latencies, mut failed) = (None, Vec::new(), 0);
    for request in (number..).step_by(CLIENTS as usize) {
        let due = Duration::from_secs(1) * request / RATE;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if over.load(Ordering::Relaxed) {
            break;
        }
        // Each row is written, and read next.
        let id = request / (2 * CLIENTS) * CLIENTS + number;
        let (text, expected) = match request % (2 * CLIENTS) < CLIENTS {
            true => (format!("INSERT INTO shop.items (id, v) VALUES ({id}, 'v{id}')"), None),
            false => (format!("SELECT v FROM shop.items WHERE id = {id}"), Some(format!("v{id}"))),
        };
        if session.is_none() {
            session = Session::open(NODE).ok();
        }
        match session.as_mut().map(|session| session.query(&text)) {
            Some(Ok(found)) if found == expected => {
                let took = began.elapsed().saturating_sub(due);
                latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            _ => {
                session = None;
                failed += 1;
            }
        }
    }
    (latencies, failed)
}

/// What is worked on beside the web application.
pub(super) struct Work {
    _job: Job,
    before: Maps,
    ring: Vec<JoinHandle<(Vec<u32>, u64)>>,
    over: Arc<AtomicBool>,
    /// What was shown last, and when it was asked for.
    shown: (Instant, String),
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Done {
    /// Maps of the job that ended well during the day.
    pub(crate) maps: u64,
    pub(crate) maps_per_hour: f64,
    /// Containers of the job that did not come to their own end: killed or failed, and ApplicationMasters after the first.
    pub(crate) containers_killed: u64,
    pub(crate) cassandra_requests: usize,
    pub(crate) cassandra_errors: u64,
    pub(crate) cassandra_p99_ms: f64,
}

impl Work {
    /// The job gets on: what is done is counted from now, and the ring is asked.
    pub(super) fn begin(job: Job) -> Result<Self> {
        let before = Maps::now().context("the job's ApplicationMaster does not answer")?;
        prepare_ring().map_err(|why| anyhow!("Cassandra: {why}"))?;
        let (over, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let ring = (0..CLIENTS).map(|number| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || ask_ring(number, began, &over))
        });
        Ok(Self { _job: job, before, ring: ring.collect(), over, shown: (Instant::now(), String::new()) })
    }

    /// What NodeManagers advertise and use, and what is done, for a line about now.
    pub(super) fn shown(&mut self) -> &str {
        let (at, text) = &self.shown;
        if text.is_empty() || at.elapsed() >= SHOWN_EVERY {
            self.shown = (Instant::now(), self.ask());
        }
        &self.shown.1
    }

    fn ask(&self) -> String {
        let vcores = vcores().map_or("?".to_owned(), |(used, all)| format!("{used}/{all}"));
        let done = Maps::now().map_or("?".to_owned(), |maps| maps.since(self.before).done.to_string());
        format!("  {vcores:>7}  {done:>5}")
    }

    /// The heading of that line's part.
    pub(super) const HEAD: &'static str = "   vcores   maps";

    /// The day is over.
    pub(super) fn finish(mut self, day: Duration) -> Result<Done> {
        let now = Maps::now().context("the job's ApplicationMaster does not answer at the end of the day")?;
        self.over.store(true, Ordering::Relaxed);
        let (mut latencies, mut errors) = (Vec::new(), 0);
        for client in self.ring.drain(..) {
            let (took, failed) = client.join().map_err(|_| anyhow!("a client of Cassandra panicked"))?;
            latencies.extend(took);
            errors += failed;
        }
        let latencies = sorted(latencies);
        let p99_us = quantile(&latencies, 0.99).unwrap_or(0);
        let maps = now.since(self.before);
        Ok(Done {
            maps: maps.done,
            maps_per_hour: maps.done as f64 * 3_600.0 / day.as_secs_f64(),
            containers_killed: maps.killed + maps.failed + maps.masters,
            cassandra_requests: latencies.len(),
            cassandra_errors: errors,
            cassandra_p99_ms: f64::from(p99_us) / 1_000.0,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
