//! Hadoop and Cassandra beside the web application, on the same machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::cpus;
use crate::http::json;
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

    /// Everything that the day needs is there.
    pub(super) fn has_members() -> bool {
        let metrics = json(&format!("{}/ws/v1/cluster/metrics", lab::resource_manager()));
        let nodes = metrics.and_then(|said| said["clusterMetrics"]["activeNodes"].as_u64());
        nodes >= Some(1) && lab::data_nodes() >= Some(2)
    }

    /// Where the job may run.
    pub(super) fn half(&self) -> Option<Half> {
        self.halves.then_some(HADOOP)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
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

/// Words before a command that keep it to one half, as they stand in a list of words in TOML.
pub(super) fn kept_to(half: Half) -> Result<String> {
    let cpus: Vec<String> = half.cpus()?.iter().map(usize::to_string).collect();
    Ok(format!("\"/usr/bin/taskset\", \"--cpu-list\", \"{}\", ", cpus.join(",")))
}
