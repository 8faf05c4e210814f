//! The labs of `cargo xtask lab`, for tests that need them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::Stage;
use super::controller::Controller;

/// Where the lab is; `None` after saying loudly that there is none.
pub(crate) fn directory() -> Option<PathBuf> {
    match std::env::var_os("TRIMTAB_LAB") {
        Some(directory) => Some(PathBuf::from(directory)),
        None => {
            println!("SKIP: no lab (TRIMTAB_LAB is not set): run cargo xtask lab-test (its --help)");
            None
        }
    }
}

/// Only the shorter form of a test is wanted.
pub(crate) fn short() -> bool {
    std::env::var_os("TRIMTAB_LAB_SHORT").is_some()
}

/// An agent that knows the lab, with a controller that orders what the test says.
pub(crate) fn agent(lab: &Path) -> Option<(Stage, Controller)> {
    let mut stage = prepared(lab)?;
    let controller = Controller::serve(&stage.path("agents.sock"));
    stage.start_agent();
    Some((stage, controller))
}

/// The agent and the autoscaler, with what people would say of clusters.
pub(crate) fn whole(lab: &Path) -> Option<Stage> {
    let mut stage = prepared(lab)?;
    stage.start_autoscaler();
    stage.start_agent();
    Some(stage)
}

/// Another node beside it, with launchers of members only: the masters are the first one's.
pub(crate) fn beside(lab: &Path, first: &Stage, node: &str) -> Option<Stage> {
    let mut stage = launching(lab, "")?;
    stage.joins(first, node);
    stage.start_agent();
    Some(stage)
}

/// An agent's configuration that knows the lab.
fn prepared(lab: &Path) -> Option<Stage> {
    let configured = fs::read_to_string(lab.join("agent/agent.toml")).unwrap();
    let sections = configured.split_once("\n[[").map(|(_, sections)| format!("[[{sections}")).unwrap();
    launching(lab, &sections)
}

/// An agent that may start what the lab has.
fn launching(lab: &Path, sections: &str) -> Option<Stage> {
    let stage = Stage::prepare(sections)?;
    for launcher in fs::read_dir(lab.join("agent/launch.d")).unwrap() {
        let from = launcher.unwrap().path();
        fs::copy(&from, stage.path("launch.d").join(from.file_name().unwrap())).unwrap();
    }
    Some(stage)
}

/// Follows a drain until nothing is left on the node; patience begins anew with each step of a change. `look` sees each moment, with how
/// many are left.
pub(crate) fn emptied(
    stage: &mut Stage,
    node: &str,
    workloads: &[&str],
    mut look: impl FnMut(&mut Stage, u64),
) {
    let mut last = None;
    loop {
        let now = stage.until(&format!("the next step of a drain, after {last:?}"), |s| {
            let left = s.try_get(&format!("/nodes/{node}"))?["drain"]["left"].as_u64()?;
            look(s, left);
            let step = |workload: &&str| s.status(workload)["cluster"]["change"]["state"].to_string();
            let now = (left, workloads.iter().map(step).collect::<Vec<_>>());
            (last.as_ref() != Some(&now)).then_some(now)
        });
        println!("drain of {node}: {} left, {}", now.0, now.1.join(" "));
        if now.0 == 0 {
            return;
        }
        last = Some(now);
    }
}

/// Replicas of a workload on a node, by the autoscaler.
pub(crate) fn on(stage: &Stage, workload: &str, node: &str) -> usize {
    let replicas = stage.status(workload)["replicas"].as_array().cloned().unwrap_or_default();
    replicas.iter().filter(|replica| replica["node"] == node).count()
}

/// The newest change that led a member of a workload out.
pub(crate) fn went(stage: &Stage, workload: &str) -> Value {
    let past = stage.status(workload)["cluster"]["past"].clone();
    let out = past.as_array().unwrap().iter().find(|change| change["direction"] == "in").cloned();
    out.unwrap_or_else(|| panic!("nobody left: {past}"))
}

/// A specification of so many DataNodes of the lab, in a hurry.
pub(crate) fn store(count: u32) -> String {
    format!(
        "apiVersion: trimtab/v1
kind: Workload
metadata: {{ name: store }}
spec:
  type: hdfs
  replicas: {{ min: {count}, max: {count} }}
  target: {{ disk: 85% }}
  mode: auto
  hdfs:
    cluster: store
    launcher: datanode
    member: 127.0.0.1{{slot}}:990{{slot}}
    slots: {{ from: 1, span: 9 }}
  behavior: {{ growAfter: 1s, growCooldown: 1s, shrinkAfter: 10s, shrinkCooldown: 10s }}
"
    )
}

/// NodeManagers, at most `max`, in a hurry.
pub(crate) fn batch(max: u32) -> String {
    format!(
        "apiVersion: trimtab/v1
kind: Workload
metadata: {{ name: batch }}
spec:
  type: yarn
  replicas: {{ min: 2, max: {max} }}
  target: {{ containerWait: 5s }}
  mode: auto
  yarn:
    cluster: batch
    launcher: nodemanager
    member: 127.0.0.1{{slot}}
    slots: {{ from: 1, span: 9 }}
    drain: 10m
  behavior: {{ growCooldown: 5s, shrinkAfter: 20s, shrinkCooldown: 25s }}
"
    )
}

/// Writes what a test measured as JSON, where `TRIMTAB_REPORT` says.
pub(crate) fn report(measured: &Value) {
    println!("{measured}");
    if let Some(file) = std::env::var_os("TRIMTAB_REPORT") {
        fs::write(file, format!("{measured:#}\n")).unwrap();
    }
}

/// What the agent's check finds wrong with the lab's clusters: what it looked at, and what it found.
pub(crate) fn check(stage: &Stage) -> Vec<(String, String)> {
    let mut command = Command::new(super::bin("trimtab-agent"));
    let output = succeed(command.args(["check", "--json", "--config"]).arg(stage.path("agent.toml")));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said["clusters"].as_array().unwrap();
    assert!(!findings.is_empty(), "{said}");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let bad = findings.iter().filter(|finding| finding["good"] == false);
    bad.map(|finding| (text(finding, "check"), text(finding, "found"))).collect()
}

/// A daemon's process by the lab's record, and how to start it again as it was.
pub(crate) fn process(record: &Path) -> (u32, Command) {
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let pid = u32::try_from(record["pid"].as_u64().unwrap()).unwrap();
    let texts = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    };
    let words = texts("cmdline");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear();
    command.envs(texts("environ").iter().filter_map(|pair| pair.split_once('=')));
    (pid, command)
}

/// The newest process of a Java class.
pub(crate) fn pid_of(class: &str) -> u32 {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.contains(class));
    pids.filter(runs).max().unwrap()
}

/// Hadoop's client as the lab's launchers run its tools: the same java, class path and configuration.
fn hadoop(lab: &Path, arguments: &[&str]) -> Command {
    let launcher = fs::read_to_string(lab.join("agent/launch.d/hdfs-refresh.toml")).unwrap();
    let line = launcher.lines().find_map(|line| line.strip_prefix("command = ")).unwrap();
    // A list of quoted texts in TOML is one in JSON.
    let words: Vec<String> = serde_json::from_str(line).unwrap();
    let class_path = words.iter().position(|word| word == "-cp").unwrap() + 1;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..=class_path]).args(arguments);
    command.env("HADOOP_CONF_DIR", lab.join("hadoop/conf/master")).stdin(Stdio::null());
    command
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A job of containers that wait; ended when dropped.
pub(crate) struct Job {
    client: Child,
    lab: PathBuf,
    log: PathBuf,
}

impl Job {
    /// So many maps that hold a container for so many seconds.
    pub(crate) fn sleep(lab: &Path, maps: u32, seconds: u32) -> Self {
        Self::sleep_with(lab, &[], maps, seconds)
    }

    /// The same, with properties of its own.
    pub(crate) fn sleep_with(lab: &Path, properties: &[&str], maps: u32, seconds: u32) -> Self {
        static JOBS: AtomicU32 = AtomicU32::new(0);
        let (maps, ms) = (maps.to_string(), (seconds * 1_000).to_string());
        let class = "org.apache.hadoop.mapreduce.SleepJob";
        let mut arguments = vec![class];
        arguments.extend(properties.iter().flat_map(|property| ["-D", property]));
        arguments.extend(["-m", &maps, "-r", "0", "-mt", &ms, "-rt", "1"]);
        let mut command = hadoop(lab, &arguments);
        let file = lab.join(format!("hadoop/logs/sleep{}.log", JOBS.fetch_add(1, Ordering::Relaxed)));
        let log = fs::File::create(&file).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { client: command.spawn().unwrap(), lab: lab.to_owned(), log: file }
    }

    /// How much it has said of its progress, bytes.
    pub(crate) fn said(&self) -> u64 {
        self.log.metadata().unwrap().len()
    }

    /// It has ended: whether it succeeded, and its counters by name.
    pub(crate) fn ended(&mut self) -> Option<(bool, BTreeMap<String, u64>)> {
        let status = self.client.try_wait().unwrap()?;
        let text = fs::read_to_string(&self.log).unwrap();
        let counter = |line: &str| {
            let (name, value) = line.trim().split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Some((status.success(), text.lines().filter_map(counter).collect()))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        // The application outlives its client.
        let tool = "org.apache.hadoop.yarn.client.cli.ApplicationCLI";
        let Ok(output) = hadoop(&self.lab, &[tool, "application", "-list"]).output() else { return };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for id in text.split_whitespace().filter(|word| word.starts_with("application_")) {
            let _ = hadoop(&self.lab, &[tool, "application", "-kill", id]).output();
        }
    }
}

/// Writes files of random bytes into the file system: where they are here, for comparison.
pub(crate) fn write_files(lab: &Path, count: u32, bytes: usize) -> tempfile::TempDir {
    let local = tempfile::tempdir().unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for n in 0..count {
        let mut part = std::io::Read::take(&mut random, bytes as u64);
        std::io::copy(&mut part, &mut fs::File::create(local.path().join(format!("f{n}"))).unwrap()).unwrap();
    }
    let shell = "org.apache.hadoop.fs.FsShell";
    let _ = hadoop(lab, &[shell, "-rm", "-r", "-f", "-skipTrash", "/lab-test"]).output();
    succeed(&mut hadoop(lab, &[shell, "-put", local.path().to_str().unwrap(), "/lab-test"]));
    local
}

/// Reads them back and compares every byte.
pub(crate) fn same_files(lab: &Path, local: &tempfile::TempDir) {
    let back = tempfile::tempdir().unwrap();
    let to = back.path().join("back");
    succeed(&mut hadoop(lab, &["org.apache.hadoop.fs.FsShell", "-get", "/lab-test", to.to_str().unwrap()]));
    let mut files = 0;
    for file in fs::read_dir(local.path()).unwrap() {
        let file = file.unwrap();
        let is = fs::read(to.join(file.file_name())).unwrap();
        assert!(is == fs::read(file.path()).unwrap(), "{:?} is another file now", file.file_name());
        files += 1;
    }
    assert!(files > 0);
}

/// All applications that the ResourceManager knows.
pub(crate) fn apps() -> Vec<Value> {
    let url = "http://127.0.0.10:8088/ws/v1/cluster/apps";
    let said: Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
    said["apps"]["app"].as_array().cloned().unwrap_or_default()
}

/// Applications by their ends, and ApplicationMasters that did not live as long as their applications.
pub(crate) fn applications() -> (u64, u64) {
    let apps = apps();
    let failed = apps.iter().filter(|app| app["finalStatus"] != "SUCCEEDED").count();
    let master =
        |app: &Value| app["amContainerLogs"].as_str().is_some_and(|logs| logs.contains("_01_000001"));
    let killed = apps.iter().filter(|app| !master(app)).count();
    assert!(!apps.is_empty());
    (failed as u64, killed as u64)
}

/// Most blocks that the NameNode ever called missing while it looked.
pub(crate) struct Missing {
    most: Arc<AtomicU64>,
    looks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Missing {
    pub(crate) fn watch() -> Self {
        let watch = Self { most: Arc::default(), looks: Arc::default(), stop: Arc::default() };
        let (most, looks, stop) =
            (Arc::clone(&watch.most), Arc::clone(&watch.looks), Arc::clone(&watch.stop));
        std::thread::spawn(move || {
            let url = "http://127.0.0.10:9870/jmx?qry=Hadoop:service=NameNode,name=FSNamesystem";
            while !stop.load(Ordering::Relaxed) {
                let said =
                    ureq::get(url).call().ok().and_then(|mut said| said.body_mut().read_json::<Value>().ok());
                if let Some(missing) = said.and_then(|said| said["beans"][0]["MissingBlocks"].as_u64()) {
                    most.fetch_max(missing, Ordering::Relaxed);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        watch
    }

    /// The most, after it looked often enough.
    pub(crate) fn most(&self) -> u64 {
        assert!(self.looks.load(Ordering::Relaxed) > 20, "nobody looked");
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Missing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
