//! Hadoop and Cassandra beside the web application, on the same machine: what runs, who works, and what came of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::lab::cql::Session;
use crate::lab::{self, Half};

/// Who says how the machine is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sharing {
    /// There is the web application alone.
    Web,
    /// Trimtab: YARN's containers use what the others leave.
    Trimtab,
    /// Nobody: the web application and Cassandra have one half of the CPUs, Hadoop has the other.
    Halves,
}

/// Where the machine is halved: whose half is which.
pub(super) const WEB: Half = Half::First;
const HADOOP: Half = Half::Second;

/// Virtual cores that a core is worth: a container that waits for its disk or its JVM's start leaves its core to others.
const VCORES_PER_CORE: u32 = 4;
/// Samples of one map of the job: about 3 s of a core, and as much for its JVM.
const SAMPLES: &str = "20000000";
/// How long the job's first map may take.
const FIRST_MAP: Duration = Duration::from_secs(240);
/// How long the clusters' members may take.
const MEMBERS: Duration = Duration::from_secs(180);
/// Requests a second that the ring is asked. After each of them a stage of Cassandra looks for more for milliseconds: many small ones would take a
/// third of a core, whoever divides the machine.
const RATE: u32 = 20;
const CLIENTS: u32 = 4;
/// The ResourceManager is asked so often what to show: it takes CPU.
const SHOWN_EVERY: Duration = Duration::from_secs(5);
const NODE: &str = "127.0.0.1";

/// The clusters of one stage.
pub(super) struct Beside {
    directory: PathBuf,
    root: PathBuf,
    halves: bool,
}

impl Beside {
    pub(super) fn new(stage: &Path, root: &Path, sharing: Sharing) -> Result<Self> {
        let name = stage.file_name().context("the stage's directory has no name")?.to_string_lossy();
        let directory = stage.with_file_name(format!("{name}-lab"));
        Ok(Self { directory, root: root.to_owned(), halves: sharing == Sharing::Halves })
    }

    /// Hadoop's masters and one node of Cassandra. The autoscaler starts the rest.
    pub(super) fn start(&self) -> Result<()> {
        let halves = self.halves.then_some([HADOOP, WEB]);
        lab::fresh(&self.directory, &self.root, &lab::Clusters { workers: Some(0), nodes: 1, halves })
    }

    /// What the agent's configuration says of them. Their launchers are copied to `launchers`.
    pub(super) fn for_agent(&self, launchers: &Path) -> Result<String> {
        let (sections, from) = lab::for_agent(&self.directory)?;
        for file in fs::read_dir(from)? {
            let file = file?;
            let mut text = fs::read_to_string(file.path())?;
            if self.halves {
                text = text.replacen("command = [", &format!("command = [{}", kept_to(HADOOP)?), 1);
            }
            fs::write(launchers.join(file.file_name()), text)?;
        }
        // Users bear QUEUE_TARGET_MS in the queue: a tenth of that is borne on run queues, too, and so there is little to keep free.
        let delay_ms = super::stage::QUEUE_TARGET_MS / 10;
        Ok(format!("{sections}\n[qos]\nrun_queue_delay = \"{delay_ms}ms\"\nheadroom = \"5%\"\n"))
    }

    /// Specifications by the names of their files.
    pub(super) fn specs(&self) -> [(&'static str, String); 3] {
        let half = cpus() * VCORES_PER_CORE / 2;
        let (least, most, class) = match self.halves {
            true => (half, half, "standard"),
            // An ApplicationMaster and two maps get on whatever the others do: slowly, when they use everything.
            false => (3, cpus() * VCORES_PER_CORE, "best-effort"),
        };
        let head =
            |name: &str| format!("apiVersion: trimtab/v1\nkind: Workload\nmetadata: {{ name: {name} }}\n");
        let batch = format!(
            "{}spec:
  type: yarn
  class: {class}
  replicas: {{ min: 1, max: 1 }}
  target: {{ containerWait: 30s }}
  mode: auto
  yarn:
    cluster: batch
    launcher: nodemanager
    member: 127.0.0.1{{slot}}
    slots: {{ from: 1, span: 1 }}
    # What the others leave of this node, {VCORES_PER_CORE} virtual cores for each of its cores.
    advertise: {{ least: {{ memory: 1536Mi, vcores: {least} }}, most: {{ memory: 4Gi, vcores: {most} }}, vcoresPerCore: {VCORES_PER_CORE} }}
",
            head("batch")
        );
        let store = format!(
            "{}spec:
  type: hdfs
  replicas: {{ min: 2, max: 2 }}
  target: {{ disk: 85% }}
  mode: auto
  hdfs: {{ cluster: store, launcher: datanode, member: \"127.0.0.1{{slot}}:990{{slot}}\", slots: {{ from: 1, span: 2 }} }}
",
            head("store")
        );
        let ring = format!(
            "{}spec:
  type: cassandra
  replicas: {{ min: 1, max: 1 }}
  target: {{ disk: 60% }}
  mode: recommend
  cassandra: {{ cluster: ring }}
",
            head("ring")
        );
        [("store.yaml", store), ("batch.yaml", batch), ("ring.yaml", ring)]
    }

    /// Waits until everything that the day needs is there.
    pub(super) fn wait_for_members(&self, stop: &AtomicBool) -> Result<()> {
        wait("a NodeManager and two DataNodes", MEMBERS, stop, || {
            let metrics = get(&format!("{}/ws/v1/cluster/metrics", lab::resource_manager()))?;
            let there = metrics["clusterMetrics"]["activeNodes"].as_u64() >= Some(1);
            (there && lab::data_nodes() >= Some(2)).then_some(())
        })
    }

    /// Submits a job that has more to do than the day is long, waits until it gets on, and begins to ask the ring.
    pub(super) fn work(&self, day: Duration, stop: &Arc<AtomicBool>) -> Result<Work> {
        let maps = (day.as_secs() * u64::from(cpus()) / 3 + 60).to_string();
        let arguments = [
            "org.apache.hadoop.examples.QuasiMonteCarlo",
            // Nothing but maps for the whole day, each once.
            "-Dmapreduce.job.reduce.slowstart.completedmaps=1.0",
            "-Dmapreduce.map.speculative=false",
            &maps,
            SAMPLES,
        ];
        let client = lab::hadoop_client(&self.directory, &arguments)?;
        let mut command = if self.halves { kept(&client, HADOOP)? } else { client };
        let log = self.directory.join("hadoop/logs/job.log");
        let out = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        println!("==> a MapReduce job of {maps} maps (its log: {})", log.display());
        let mut work = Work {
            client: command.spawn().context("starting the job")?,
            before: Maps::default(),
            ring: Vec::new(),
            over: Arc::default(),
            shown: (Instant::now(), String::new()),
        };
        work.before =
            wait("the first map of the job", FIRST_MAP, stop, || Maps::now().filter(|maps| maps.done > 0))
                .with_context(|| format!("see {}", log.display()))?;
        let over = Arc::clone(&work.over);
        prepare_ring().map_err(|why| anyhow!("Cassandra: {why}"))?;
        let began = Instant::now();
        work.ring = (0..CLIENTS)
            .map(|number| {
                let over = Arc::clone(&over);
                std::thread::spawn(move || ask_ring(number, began, &over))
            })
            .collect();
        Ok(work)
    }

    /// Ends all of it and removes it; with `keep` Hadoop's masters and Cassandra run on.
    pub(super) fn end(&self, keep: bool) {
        if keep {
            let directory = self.directory.display();
            println!("    end Hadoop and Cassandra: cargo xtask lab --dir {directory} down --wipe");
            return;
        }
        if let Err(error) = lab::wipe(&self.directory, &self.root) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// The same command, kept to one half.
pub(super) fn kept(command: &Command, half: Half) -> Result<Command> {
    let cpus: Vec<String> = half.cpus()?.iter().map(usize::to_string).collect();
    let mut kept = Command::new("/usr/bin/taskset");
    kept.args(["--cpu-list", &cpus.join(",")]).arg(command.get_program()).args(command.get_args());
    kept.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ok(kept)
}

/// Words before a command that keep it to one half, as they stand in a list of words in TOML.
pub(super) fn kept_to(half: Half) -> Result<String> {
    let cpus: Vec<String> = half.cpus()?.iter().map(usize::to_string).collect();
    Ok(format!("\"/usr/bin/taskset\", \"--cpu-list\", \"{}\", ", cpus.join(",")))
}

fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(1)
}

fn get(url: &str) -> Option<Value> {
    ureq::get(url).call().ok()?.body_mut().read_json().ok()
}

fn wait<T>(
    what: &str,
    limit: Duration,
    stop: &AtomicBool,
    mut there: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(there) = there() {
            return Ok(there);
        }
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        ensure!(Instant::now() < deadline, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(300));
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
        let apps = get(&format!("{manager}/ws/v1/cluster/apps?states=RUNNING"))?;
        let id = apps["apps"]["app"][0]["id"].as_str()?;
        let job = id.replace("application", "job");
        let said = get(&format!("{manager}/proxy/{id}/ws/v1/mapreduce/jobs/{job}"))?;
        let attempts = get(&format!("{manager}/ws/v1/cluster/apps/{id}/appattempts"))?;
        let count = |key: &str| said["job"][key].as_u64();
        let masters = attempts["appAttempts"]["appAttempt"].as_array().map(Vec::len)?;
        Some(Self {
            done: count("mapsCompleted")?,
            killed: count("killedMapAttempts")?,
            failed: count("failedMapAttempts")?,
            masters: masters as u64,
        })
    }
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
    client: Child,
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
    /// What NodeManagers advertise and use, and what is done, for a line about now.
    pub(super) fn shown(&mut self) -> &str {
        let (at, text) = &self.shown;
        if text.is_empty() || at.elapsed() >= SHOWN_EVERY {
            self.shown = (Instant::now(), self.ask());
        }
        &self.shown.1
    }

    fn ask(&self) -> String {
        let metrics = get(&format!("{}/ws/v1/cluster/metrics", lab::resource_manager())).unwrap_or_default();
        let count = |key: &str| metrics["clusterMetrics"][key].as_u64().unwrap_or(0);
        let (used, all) = (count("allocatedVirtualCores"), count("totalVirtualCores"));
        let done = Maps::now().map_or("?".to_owned(), |maps| (maps.done - self.before.done).to_string());
        format!("  {:>7}  {done:>5}", format!("{used}/{all}"))
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
        latencies.sort_unstable();
        let at = (latencies.len() as f64 * 0.99).ceil() as usize;
        let p99_us = latencies.get(at.saturating_sub(1)).copied().unwrap_or(0);
        let maps = now.done - self.before.done;
        let lost = |now: u64, before: u64| now.saturating_sub(before);
        Ok(Done {
            maps,
            maps_per_hour: maps as f64 * 3_600.0 / day.as_secs_f64(),
            containers_killed: lost(now.killed, self.before.killed)
                + lost(now.failed, self.before.failed)
                + lost(now.masters, self.before.masters),
            cassandra_requests: latencies.len(),
            cassandra_errors: errors,
            cassandra_p99_ms: f64::from(p99_us) / 1_000.0,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
