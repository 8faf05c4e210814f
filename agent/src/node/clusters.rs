//! Clusters beside this agent: read every few seconds, told by commands, and the jobs that this takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::action::{Command, OutcomeKind, Size, TaskEvent, TaskEventKind, Verb};
use model::adapter::AdapterReport;
use model::id::{Generation, TaskName, WorkloadName};
use model::workload::Class;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Done, Node};
use crate::adapter::Effect;
use crate::adapter::cassandra::Cassandra;
use crate::adapter::hdfs::Hdfs;
use crate::adapter::job::{Job, Jobs};
use crate::adapter::yarn::Yarn;
use crate::clock;
use crate::settings::Clusters as Config;

/// Whose tasks jobs are, where tasks are named.
const WORKLOAD: &str = "trimtab-job";
/// Time from SIGTERM to SIGKILL of a job that takes too long, ms.
const GRACE_MS: u32 = 2_000;

/// All clusters of this host.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    yarn: Vec<Beside<Yarn>>,
    hdfs: Vec<Beside<Hdfs>>,
    cassandra: Vec<Beside<Cassandra>>,
    jobs: BTreeMap<TaskName, Running>,
    /// Jobs of this agent so far.
    started: u64,
}

/// One of them, and whether it is being read.
#[derive(Debug)]
struct Beside<T> {
    adapter: T,
    reading: Arc<Mutex<()>>,
}

impl<T> From<T> for Beside<T> {
    fn from(adapter: T) -> Self {
        Self { adapter, reading: Arc::default() }
    }
}

/// A job that runs.
#[derive(Debug)]
struct Running {
    /// Who waits for its end.
    ended: oneshot::Sender<Result<(), String>>,
    /// How long it may run.
    within: Duration,
    /// When it is told to end, boot ms; `None` once it was.
    until_ms: Option<u64>,
}

impl Clusters {
    /// Those that the owner configured; their jobs go to `jobs`.
    pub(super) fn new(config: &Config, jobs: mpsc::Sender<Job>) -> Self {
        let jobs = Jobs::new(jobs);
        Self {
            yarn: config.yarn.iter().map(|one| Yarn::new(one, jobs.clone()).into()).collect(),
            hdfs: config.hdfs.iter().map(|one| Hdfs::new(one, jobs.clone()).into()).collect(),
            cassandra: config.cassandra.iter().map(|one| Cassandra::new(one).into()).collect(),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.yarn.is_empty() && self.hdfs.is_empty() && self.cassandra.is_empty()
    }

    /// When a job has taken too long, boot ms.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.jobs.values().filter_map(|job| job.until_ms).min()
    }

    /// Whether a task is a job, of this agent or of an earlier one.
    pub(super) fn is_job(workload: &WorkloadName) -> bool {
        workload.as_str() == WORKLOAD
    }
}

impl Node {
    /// Reads all clusters in the background.
    pub(super) fn read_clusters(&self) {
        let Clusters { yarn, hdfs, cassandra, .. } = &self.clusters;
        for Beside { adapter, reading } in yarn {
            let one = adapter.clone();
            self.report_of(reading, async move { one.read().await });
        }
        for Beside { adapter, reading } in hdfs {
            let one = adapter.clone();
            self.report_of(reading, async move { one.read().await });
        }
        for Beside { adapter, reading } in cassandra {
            let one = adapter.clone();
            self.report_of(reading, async move { one.read().await });
        }
    }

    /// Each for itself, so that one that does not answer delays no other, and never twice at a time.
    fn report_of(
        &self,
        reading: &Arc<Mutex<()>>,
        read: impl Future<Output = AdapterReport> + Send + 'static,
    ) {
        let Ok(guard) = Arc::clone(reading).try_lock_owned() else { return };
        let done = self.done.clone();
        tokio::spawn(async move {
            let report = read.await;
            drop(guard);
            let _ = done.send(Done::Reports(vec![report])).await;
        });
    }

    /// Carries out a step on a cluster in the background.
    pub(super) fn cluster_step(&self, command: Command) {
        let Clusters { yarn, hdfs, cassandra, .. } = &self.clusters;
        match command.verb.clone() {
            Verb::Yarn { cluster, step } => {
                let found = yarn.iter().map(|one| &one.adapter).find(|one| one.cluster() == cluster).cloned();
                self.when_stepped(command, async move { Some(found?.step(&step).await) });
            }
            Verb::Hdfs { cluster, step } => {
                let found = hdfs.iter().map(|one| &one.adapter).find(|one| one.cluster() == cluster).cloned();
                self.when_stepped(command, async move { Some(found?.step(&step).await) });
            }
            Verb::Cassandra { cluster, node, step } => {
                let all = cassandra.iter().map(|one| &one.adapter);
                let of: Vec<Cassandra> = all.filter(|one| one.cluster() == cluster).cloned().collect();
                self.when_stepped(command, async move {
                    for one in of {
                        if one.address().await.as_ref() == Some(&node) {
                            return Some(one.step(&node, step).await);
                        }
                    }
                    None
                });
            }
            _ => {}
        }
    }

    fn when_stepped(&self, command: Command, step: impl Future<Output = Option<Effect>> + Send + 'static) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let nowhere = || {
                let why = "no node of that cluster that answers here is it".to_owned();
                (OutcomeKind::Failed, why, BTreeMap::new())
            };
            let effect = step.await.unwrap_or_else(nowhere);
            let _ = done.send(Done::Outcome(super::commands::outcome(&command, effect))).await;
        });
    }

    /// Starts a job.
    pub(super) fn start_job(&mut self, job: Job) {
        let Job { launcher, parameters, within, ended } = job;
        match self.launch_job(&launcher, parameters) {
            Ok(task) => {
                let until_ms = Some(clock::boot_ms() + within.as_millis() as u64);
                self.clusters.jobs.insert(task, Running { ended, within, until_ms });
            }
            // Who asked may have gone.
            Err(why) => drop(ended.send(Err(format!("launcher {launcher}: {why}")))),
        }
    }

    fn launch_job(
        &mut self,
        name: &str,
        mut parameters: BTreeMap<String, String>,
    ) -> Result<TaskName, String> {
        let launcher = self.settings.launchers.get(name).ok_or("it is not in launch.d any more")?;
        parameters.retain(|parameter, _| launcher.parameters.contains_key(parameter));
        self.clusters.started += 1;
        // Unlike every job of an earlier agent.
        let unique = format!("{WORKLOAD}-{:x}-{}", self.incarnation.agent.0, self.clusters.started);
        let task = TaskName::new(unique).map_err(|e| e.to_string())?;
        let workload = WorkloadName::new(WORKLOAD).map_err(|e| e.to_string())?;
        let launch =
            launcher.launch(&task, &workload, &parameters, Size::default()).map_err(|e| e.to_string())?;
        tracing::info!(%task, launcher = name, "job");
        self.executor
            .start(&task, &workload, Generation(0), launch, Class::Standard)
            .map_err(|e| e.to_string())?;
        Ok(task)
    }

    /// Something happened to a job: its end is told to who waits for it, and to nobody else.
    pub(super) fn job_event(&mut self, event: &TaskEvent) {
        let TaskEventKind::Ended { status, signal, .. } = event.kind else { return };
        if let Some(Running { ended, within, until_ms }) = self.clusters.jobs.remove(&event.task) {
            let said = match (status, signal) {
                (Some(0), _) => Ok(()),
                _ if until_ms.is_none() => Err(format!("it was ended after {} s", within.as_secs())),
                (Some(status), _) => Err(format!("it ended with status {status}")),
                (None, Some(signal)) => Err(format!("signal {signal} ended it")),
                (None, None) => Err("it could not be started, or nobody saw its end".to_owned()),
            };
            // Who asked may have gone.
            let _ = ended.send(said);
        }
        self.executor.acknowledged(&event.task);
    }

    /// Ends jobs that have taken too long.
    pub(super) fn end_late_jobs(&mut self, now_ms: u64) {
        let mut late = Vec::new();
        for (task, job) in &mut self.clusters.jobs {
            if job.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
                job.until_ms = None;
                late.push(task.clone());
            }
        }
        for task in late {
            match self.executor.stop(&task, GRACE_MS) {
                Ok(events) => self.tell_all(events),
                Err(error) => tracing::warn!(%task, %error, "a job that takes too long"),
            }
        }
    }
}
