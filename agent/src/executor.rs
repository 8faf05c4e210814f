//! Tasks on hosts without systemd: a small shim per task starts it, waits for it, and keeps its end on disk, so that
//! the task outlives this agent and is found again.
//!
//! One directory per task below `state/tasks`: `task.json` (what was asked, before anything happens), `shim.json` (who
//! runs), `exit.json` (how it ended), `output.log`. Each is whole or absent. The cgroup is made before the first
//! process, which joins it before it becomes the task's program: no CPU time escapes it.

pub mod cgroup;
pub mod health;
pub mod shim;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::launcher::{Health, Launch, PumaControl};
use agent_core::lifecycle::{Effect, Event, State};
use model::action::{Size, TaskEvent, TaskEventKind};
use model::id::{CgroupId, Generation, TaskName, WorkloadName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::clock;
use crate::durable::{self, DurableError};

/// Wait before the end of a start's CPU quota is tried again, ms.
const STARTUP_RETRY_MS: u64 = 5_000;

/// What was asked, on disk before anything happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskFile {
    /// Its name.
    pub task: TaskName,
    /// Whose.
    pub workload: WorkloadName,
    /// Under which generation.
    pub generation: Generation,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// User to run as.
    pub user: Option<String>,
    /// `cgroup.procs` files to join, in order.
    pub join: Vec<PathBuf>,
    /// The cgroup.
    pub cgroup: u64,
    /// Its path below the top of the hierarchies.
    pub path: String,
    /// Its limits, once it is healthy.
    pub size: Size,
    /// It has this CPU quota until then, thousandths of a core.
    pub startup_cpu_millis: Option<u32>,
    /// How its health is found.
    pub health: Option<Health>,
    /// Puma's control server.
    pub puma: Option<PumaControl>,
}

impl TaskFile {
    /// The limits in force now.
    fn size_now(&self) -> Size {
        Size { cpu_max_millis: self.startup_cpu_millis.or(self.size.cpu_max_millis), ..self.size }
    }
}

/// What happened to a task, told to the node's loop.
#[derive(Debug)]
pub struct Happened {
    /// Which task.
    pub task: TaskName,
    /// What.
    pub event: Event,
}

/// A task's end, kept until the autoscaler has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ended {
    event: TaskEvent,
}

struct Task {
    file: TaskFile,
    state: State,
    pid: Option<u32>,
    /// The autoscaler has its end.
    acknowledged: bool,
    checks: Option<tokio::task::JoinHandle<()>>,
    /// The CPU quota of its start is tried to be ended not before this, boot ms.
    startup_retry_ms: u64,
}

impl Task {
    fn new(file: TaskFile, state: State) -> Self {
        Self { file, state, pid: None, acknowledged: false, checks: None, startup_retry_ms: 0 }
    }

    /// When the CPU quota of its start ends, boot ms.
    fn startup_ends_ms(&self) -> Option<u64> {
        self.file.startup_cpu_millis.and(self.file.size.cpu_max_millis)?;
        self.state.startup_over_ms().map(|at| at.max(self.startup_retry_ms))
    }
}

/// Runs and follows tasks.
pub struct Executor {
    directory: PathBuf,
    cgroups: cgroup::Cgroups,
    program: PathBuf,
    tasks: BTreeMap<TaskName, Task>,
    happened: mpsc::Sender<Happened>,
}

/// Why a task could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// State could not be kept.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A cgroup could not be made or changed.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// The shim could not be started.
    #[error("starting the shim: {0}")]
    Shim(std::io::Error),
    /// There is no such task.
    #[error("no task {0} runs here")]
    Unknown(TaskName),
}

impl Executor {
    /// Finds the tasks of an earlier agent and follows them again. `happened` is where their events go.
    ///
    /// # Errors
    /// [`ExecutorError`] when the state directory cannot be had.
    pub fn open(
        state: &Path,
        cgroups: cgroup::Cgroups,
        happened: mpsc::Sender<Happened>,
    ) -> Result<Self, ExecutorError> {
        let directory = state.join("tasks");
        let io = |error| DurableError::Io { path: directory.clone(), error };
        fs::create_dir_all(&directory).map_err(io)?;
        let program = std::env::current_exe().map_err(ExecutorError::Shim)?;
        let mut executor =
            Self { directory: directory.clone(), cgroups, program, tasks: BTreeMap::new(), happened };
        for entry in fs::read_dir(&directory).map_err(io)?.filter_map(Result::ok) {
            executor.find(&entry.path())?;
        }
        Ok(executor)
    }

    /// Takes up a task of an earlier agent.
    fn find(&mut self, directory: &Path) -> Result<(), ExecutorError> {
        let Some(file) = durable::read::<TaskFile>(&directory.join("task.json"))? else {
            // A crash before the task was on disk: nothing was started.
            let _ = fs::remove_dir_all(directory);
            return Ok(());
        };
        let task = file.task.clone();
        let ended = durable::read::<Ended>(&directory.join("ended.json"))?.is_some();
        let state = if ended { State::Lingering { remove_at_ms: clock::boot_ms() } } else { State::Starting };
        self.tasks.insert(task.clone(), Task::new(file, state));
        if !ended {
            self.follow(&task, true);
        }
        Ok(())
    }

    /// Starts a task. Its events follow on the channel.
    ///
    /// # Errors
    /// [`ExecutorError`] when its state, its cgroup or its shim could not be had; nothing is left behind then.
    pub fn start(
        &mut self,
        task: &TaskName,
        workload: &WorkloadName,
        generation: Generation,
        launch: Launch,
    ) -> Result<(), ExecutorError> {
        if self.tasks.contains_key(task) {
            return Ok(());
        }
        let directory = self.directory.join(task.as_str());
        let io = |error| DurableError::Io { path: directory.clone(), error };
        fs::create_dir_all(&directory).map_err(io)?;
        let path = format!("{workload}/{task}");
        let mut file = TaskFile {
            task: task.clone(),
            workload: workload.clone(),
            generation,
            command: launch.command,
            directory: launch.directory,
            environment: launch.environment,
            user: launch.user,
            join: Vec::new(),
            cgroup: 0,
            path,
            size: launch.size,
            startup_cpu_millis: launch.startup_cpu_millis,
            health: launch.health,
            puma: launch.puma,
        };
        let made = self.cgroups.make(&file.path, &file.size_now())?;
        (file.join, file.cgroup) = (made.join, made.id.0);
        durable::write(&directory.join("task.json"), &file)?;
        let log = fs::File::create(directory.join("output.log")).map_err(io)?;
        let child = tokio::process::Command::new(&self.program)
            .arg("shim")
            .arg(&directory)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().map_err(ExecutorError::Shim)?)
            .stderr(log)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                self.cgroups.remove(&file.path);
                let _ = fs::remove_dir_all(&directory);
                return Err(ExecutorError::Shim(error));
            }
        };
        // The shim is waited for only so that no zombie stays; its task is followed by pidfd.
        tokio::spawn(async move { child.wait().await });
        self.tasks.insert(task.clone(), Task::new(file, State::Starting));
        self.follow(task, false);
        Ok(())
    }

    fn follow(&self, task: &TaskName, found: bool) {
        let Some(entry) = self.tasks.get(task) else { return };
        let (directory, sender) = (self.directory.join(task.as_str()), self.happened.clone());
        let (task, checked) = (task.clone(), entry.file.health.is_some());
        tokio::spawn(async move { shim::follow(&directory, task, checked, found, &sender).await });
    }

    /// Takes an event of a task: carries out what follows from it, and returns what the autoscaler must be told.
    pub fn on(&mut self, happened: Happened) -> Vec<TaskEvent> {
        let Happened { task, event } = happened;
        let Some(entry) = self.tasks.get_mut(&task) else { return Vec::new() };
        if let Event::Started { pid, .. } | Event::Found { pid, .. } = &event {
            entry.pid = Some(*pid);
        }
        if let Event::NotStarted { why } = &event {
            tracing::error!(%task, %why, "the task could not be started");
        }
        let before = entry.state.name();
        let (state, effects) = entry.state.clone().on(event, clock::boot_ms());
        entry.state = state;
        if before != entry.state.name() {
            tracing::info!(%task, from = before, to = entry.state.name(), "task");
        }
        let mut reports = Vec::new();
        for effect in effects {
            self.carry_out(&task, effect, &mut reports);
        }
        self.end_startup(&task);
        reports
    }

    /// A task that has started up gets its own size; what fails is tried again later.
    fn end_startup(&mut self, task: &TaskName) {
        let now_ms = clock::boot_ms();
        let over = |entry: &Task| entry.startup_ends_ms().is_some_and(|at| at <= now_ms);
        let Some(entry) = self.tasks.get(task).filter(|entry| over(entry)) else { return };
        let (from, to) = (entry.file.startup_cpu_millis, entry.file.size.cpu_max_millis);
        match self.resize(task, &Size { cpu_max_millis: to, ..Size::default() }) {
            Ok(_) => tracing::info!(%task, ?from, ?to, "has its own CPU quota"),
            Err(error) => {
                tracing::warn!(%task, %error, "still has the CPU quota of its start");
                if let Some(entry) = self.tasks.get_mut(task) {
                    entry.startup_retry_ms = now_ms + STARTUP_RETRY_MS;
                }
            }
        }
    }

    fn carry_out(&mut self, task: &TaskName, effect: Effect, reports: &mut Vec<TaskEvent>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        match effect {
            Effect::Terminate => {
                if let Some(pid) = entry.pid {
                    shim::signal(&self.directory.join(task.as_str()), pid, rustix::process::Signal::TERM);
                }
            }
            Effect::Kill => {
                tracing::warn!(%task, "killing what is left in its cgroup");
                self.cgroups.kill(&entry.file.path);
            }
            Effect::AwaitEmpty => {
                if let Some(checks) = entry.checks.take() {
                    checks.abort();
                }
                let (sender, task) = (self.happened.clone(), task.clone());
                let stat = self.cgroups.unified(&entry.file.path);
                tokio::spawn(async move {
                    let cpu_total_us = cgroup::when_empty(&stat).await;
                    let _ = sender.send(Happened { task, event: Event::Emptied { cpu_total_us } }).await;
                });
            }
            Effect::Report(kind) => {
                if matches!(kind, TaskEventKind::Started { .. } | TaskEventKind::Adopted { .. }) {
                    entry.checks =
                        Some(tokio::spawn(health::check(entry.file.clone(), self.happened.clone())));
                }
                let event = TaskEvent {
                    task: task.clone(),
                    workload: entry.file.workload.clone(),
                    cgroup: CgroupId(entry.file.cgroup),
                    kind,
                    at_ns: clock::boot_ns(),
                };
                if matches!(event.kind, TaskEventKind::Ended { .. }) {
                    let path = self.directory.join(task.as_str()).join("ended.json");
                    if let Err(error) = durable::write(&path, &Ended { event: event.clone() }) {
                        tracing::error!(%error, "the task's end could not be kept: it is reported only once");
                    }
                }
                reports.push(event);
            }
            Effect::Remove => {
                self.cgroups.remove(&entry.file.path);
                self.forget_when_over(task);
            }
            Effect::Anomaly(what) => tracing::warn!(%task, what, "unexpected event of a task"),
        }
    }

    /// Orders a stop.
    ///
    /// # Errors
    /// [`ExecutorError::Unknown`] when no such task runs here.
    pub fn stop(&mut self, task: &TaskName, grace_ms: u32) -> Result<Vec<TaskEvent>, ExecutorError> {
        if !self.tasks.contains_key(task) {
            return Err(ExecutorError::Unknown(task.clone()));
        }
        Ok(self.on(Happened { task: task.clone(), event: Event::StopAsked { grace_ms } }))
    }

    /// When [`Self::tick`] has something to do, boot ms.
    pub fn due_ms(&self) -> Option<u64> {
        self.tasks.values().flat_map(|task| [task.state.due_ms(), task.startup_ends_ms()]).flatten().min()
    }

    /// Lets time pass for every task.
    pub fn tick(&mut self) -> Vec<TaskEvent> {
        let tasks: Vec<TaskName> = self.tasks.keys().cloned().collect();
        tasks.into_iter().flat_map(|task| self.on(Happened { task, event: Event::Tick })).collect()
    }

    /// Ends of an earlier agent's tasks that the autoscaler may not have yet.
    pub fn unreported(&self) -> Vec<TaskEvent> {
        let read =
            |task: &TaskName| durable::read::<Ended>(&self.directory.join(task.as_str()).join("ended.json"));
        self.tasks.keys().filter_map(|task| read(task).ok().flatten()).map(|ended| ended.event).collect()
    }

    /// The autoscaler has this task's end.
    pub fn acknowledged(&mut self, task: &TaskName) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.acknowledged = true;
        }
        self.forget_when_over(task);
    }

    fn forget_when_over(&mut self, task: &TaskName) {
        if self.tasks.get(task).is_some_and(|t| t.acknowledged && t.state == State::Over) {
            self.tasks.remove(task);
            if let Err(error) = fs::remove_dir_all(self.directory.join(task.as_str())) {
                tracing::warn!(%task, %error, "its directory could not be removed");
            }
        }
    }

    /// Changes limits and reads them back.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task or a limit that the kernel refused.
    pub fn resize(
        &mut self,
        task: &TaskName,
        size: &Size,
    ) -> Result<BTreeMap<String, String>, ExecutorError> {
        let entry = self.tasks.get_mut(task).ok_or_else(|| ExecutorError::Unknown(task.clone()))?;
        let back = self.cgroups.resize(&entry.file.path, size)?;
        let old = entry.file.size;
        entry.file.size = Size {
            cpu_weight: size.cpu_weight.or(old.cpu_weight),
            cpu_max_millis: size.cpu_max_millis.or(old.cpu_max_millis),
            memory_high_bytes: size.memory_high_bytes.or(old.memory_high_bytes),
            memory_max_bytes: size.memory_max_bytes.or(old.memory_max_bytes),
        };
        if size.cpu_max_millis.is_some() {
            entry.file.startup_cpu_millis = None;
        }
        // The limits are in force: an agent that starts anew must not take them back.
        durable::write(&self.directory.join(task.as_str()).join("task.json"), &entry.file)?;
        Ok(back)
    }

    /// Freezes or thaws; reads back.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task or when the kernel refuses.
    pub fn freeze(
        &mut self,
        task: &TaskName,
        frozen: bool,
    ) -> Result<BTreeMap<String, String>, ExecutorError> {
        let entry = self.tasks.get(task).ok_or_else(|| ExecutorError::Unknown(task.clone()))?;
        Ok(self.cgroups.freeze(&entry.file.path, frozen)?)
    }

    /// Asks the kernel to take memory back.
    ///
    /// # Errors
    /// [`ExecutorError`] for an unknown task or where the kernel has no such file.
    pub fn reclaim(
        &mut self,
        task: &TaskName,
        bytes: u64,
    ) -> Result<BTreeMap<String, String>, ExecutorError> {
        let entry = self.tasks.get(task).ok_or_else(|| ExecutorError::Unknown(task.clone()))?;
        Ok(self.cgroups.reclaim(&entry.file.path, bytes)?)
    }

    /// Sends a signal to the first process of a running task.
    ///
    /// # Errors
    /// [`ExecutorError::Unknown`] when it does not run.
    pub fn signal(&self, task: &TaskName, signal: rustix::process::Signal) -> Result<(), ExecutorError> {
        let pid =
            self.tasks.get(task).and_then(|t| t.pid).ok_or_else(|| ExecutorError::Unknown(task.clone()))?;
        shim::signal(&self.directory.join(task.as_str()), pid, signal);
        Ok(())
    }

    /// Tasks that run: file, process, healthy.
    pub fn running(&self) -> impl Iterator<Item = (&TaskFile, Option<u32>, bool)> + '_ {
        let live =
            |t: &&Task| matches!(t.state, State::Starting | State::Running { .. } | State::Stopping { .. });
        let healthy = |t: &Task| matches!(t.state, State::Running { healthy: Some(true), .. });
        self.tasks.values().filter(live).map(move |t| (&t.file, t.pid, healthy(t)))
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running().count()
    }
}
