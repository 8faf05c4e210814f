//! Tasks of ours: started, followed, changed, ended, and found again after the agent was away.
//!
//! One directory per task below `state/tasks`: `task.json` (what was asked, before anything happens) and `ended.json`
//! (its end, until the autoscaler has it); each is whole or absent. Who runs the processes is the [`runner`]'s.

pub mod cgroup;
mod change;
mod crowd;
mod file;
pub mod health;
mod isolate;
mod runner;
pub mod shim;
pub mod standing;
mod strain;
pub mod systemd;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::launcher::Launch;
use agent_core::lifecycle::{Effect, Event, State};
use model::action::{Size, Strain, TaskEvent, TaskEventKind};
use model::id::{CgroupId, Generation, TaskName, WorkloadName};
use model::workload::Class;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::clock;
use crate::durable::{self, DurableError};
pub use file::TaskFile;
pub use isolate::best_effort_on_disk;
pub use runner::Runner;

/// Wait before the end of a start's CPU quota is tried again, ms.
const STARTUP_RETRY_MS: u64 = 5_000;

/// What happened to a task, told to the node's loop.
#[derive(Debug)]
pub struct Happened {
    /// Which task.
    pub task: TaskName,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// Something that its life depends on.
    Life(Event),
    /// These limits are in force, or why they are not.
    Resized(Size, Result<(), String>),
    /// What its limits have done to it since its start.
    Strained(Strain),
}

/// What the kernel says after a change.
pub type ReadBack = Result<BTreeMap<String, String>, ExecutorError>;

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

    /// What is told of it now.
    fn event(&self, kind: TaskEventKind) -> TaskEvent {
        TaskEvent {
            task: self.file.task.clone(),
            workload: self.file.workload.clone(),
            cgroup: CgroupId(self.file.cgroup),
            kind,
            at_ns: clock::boot_ns(),
        }
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
    runner: Runner,
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
    /// systemd said no.
    #[error(transparent)]
    Systemd(#[from] systemd::SystemdError),
    /// The isolation loop holds back best-effort work only.
    #[error("{0} is not best-effort: the isolation loop leaves it alone")]
    NotBestEffort(TaskName),
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
        runner: Runner,
        happened: mpsc::Sender<Happened>,
    ) -> Result<Self, ExecutorError> {
        let directory = state.join("tasks");
        let io = |error| DurableError::Io { path: directory.clone(), error };
        fs::create_dir_all(&directory).map_err(io)?;
        let mut executor =
            Self { directory: directory.clone(), cgroups, runner, tasks: BTreeMap::new(), happened };
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
            self.runner.follow(directory, &self.entry(&task)?.file, true, &self.happened);
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
        class: Class,
    ) -> Result<(), ExecutorError> {
        if self.tasks.contains_key(task) {
            return Ok(());
        }
        let directory = self.directory.join(task.as_str());
        let io = |error| DurableError::Io { path: directory.clone(), error };
        fs::create_dir_all(&directory).map_err(io)?;
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
            path: String::new(),
            size: launch.size,
            startup_cpu_millis: launch.startup_cpu_millis,
            class,
            capped_cpu_millis: None,
            frozen: false,
            processes: Some(launch.processes),
            strain: Strain::default(),
            health: launch.health,
            puma: launch.puma,
            leaves: launch.leaves,
        };
        self.runner.prepare(&self.cgroups, &mut file)?;
        if class != Class::Standard && matches!(self.runner, Runner::Shim) {
            let stood = self.cgroups.stand_all(&self.order(&file));
            tracing::info!(%task, %class, in_force = ?stood.back, missing = ?stood.gaps, "class");
        }
        durable::write(&directory.join("task.json"), &file)?;
        if let Err(error) = self.runner.start(&directory) {
            self.runner.remove(&self.cgroups, &file);
            let _ = fs::remove_dir_all(&directory);
            return Err(error);
        }
        self.runner.follow(&directory, &file, false, &self.happened);
        self.tasks.insert(task.clone(), Task::new(file, State::Starting));
        Ok(())
    }

    fn entry(&self, task: &TaskName) -> Result<&Task, ExecutorError> {
        self.tasks.get(task).ok_or_else(|| ExecutorError::Unknown(task.clone()))
    }

    /// Takes an event of a task: carries out what follows from it, and returns what the autoscaler must be told.
    pub fn on(&mut self, happened: Happened) -> Vec<TaskEvent> {
        let Happened { task, what } = happened;
        match what {
            What::Life(event) => self.lives(&task, event),
            What::Resized(size, result) => {
                self.resized(&task, &size, result);
                Vec::new()
            }
            What::Strained(strain) => self.strained(&task, strain).into_iter().collect(),
        }
    }

    fn lives(&mut self, task: &TaskName, event: Event) -> Vec<TaskEvent> {
        let Some(entry) = self.tasks.get_mut(task) else { return Vec::new() };
        if let Event::Started { pid, .. } | Event::Found { pid, .. } = &event {
            entry.pid = Some(*pid);
            self.has_cgroup(task);
            self.stand_above(task);
        }
        let Some(entry) = self.tasks.get_mut(task) else { return Vec::new() };
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
            self.carry_out(task, effect, &mut reports);
        }
        self.end_startup(task);
        reports
    }

    /// Notes the cgroup of a task whose runner made it only now.
    fn has_cgroup(&mut self, task: &TaskName) {
        let Some(entry) = self.tasks.get_mut(task).filter(|entry| entry.file.cgroup == 0) else { return };
        let Some(id) = self.cgroups.id(&entry.file.path) else { return };
        entry.file.cgroup = id.0;
        self.keep(task);
    }

    /// Keeps what is known about a task now.
    fn keep(&self, task: &TaskName) {
        let Some(entry) = self.tasks.get(task) else { return };
        if let Err(error) = durable::write(&self.directory.join(task.as_str()).join("task.json"), &entry.file)
        {
            tracing::error!(%task, %error, "an agent that starts anew will not know this task's limits");
        }
    }

    /// A task that has started up gets its own size; what fails is tried again later.
    fn end_startup(&mut self, task: &TaskName) {
        let now_ms = clock::boot_ms();
        let over = |entry: &&mut Task| entry.startup_ends_ms().is_some_and(|at| at <= now_ms);
        let Some(entry) = self.tasks.get_mut(task).filter(over) else { return };
        let (from, to) = (entry.file.startup_cpu_millis, entry.file.size.cpu_max_millis);
        entry.startup_retry_ms = now_ms + STARTUP_RETRY_MS;
        tracing::info!(%task, ?from, ?to, "gets its own CPU quota");
        match self.resize(task, Size { cpu_max_millis: to, ..Size::default() }) {
            Ok(change) => drop(tokio::spawn(change)),
            Err(error) => tracing::warn!(%task, %error, "still has the CPU quota of its start"),
        }
    }

    fn resized(&mut self, task: &TaskName, size: &Size, result: Result<(), String>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        match result {
            Ok(()) => {
                entry.file.resized(size);
                // The limits are in force: an agent that starts anew must not take them back.
                self.keep(task);
            }
            Err(error) => tracing::warn!(%task, %error, ?size, "its limits are not changed"),
        }
    }

    /// Says what is new of what its limits do to a task.
    fn strained(&mut self, task: &TaskName, now: Strain) -> Option<TaskEvent> {
        let entry = self.tasks.get_mut(task)?;
        let strain = now.since(entry.file.strain)?;
        entry.file.strain = now;
        tracing::warn!(%task, "{strain}");
        let event = entry.event(TaskEventKind::Strained { strain });
        // An agent that starts anew does not say it again.
        self.keep(task);
        Some(event)
    }

    fn carry_out(&mut self, task: &TaskName, effect: Effect, reports: &mut Vec<TaskEvent>) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        match effect {
            Effect::Terminate => {
                if let Some(pid) = entry.pid {
                    let directory = self.directory.join(task.as_str());
                    self.runner.signal(&directory, &entry.file, pid, rustix::process::Signal::TERM);
                }
            }
            Effect::Kill => {
                tracing::warn!(%task, "killing what is left in its cgroup");
                self.runner.kill(&self.cgroups, &entry.file);
            }
            Effect::AwaitEmpty => {
                if let Some(checks) = entry.checks.take() {
                    checks.abort();
                }
                let (sender, task) = (self.happened.clone(), task.clone());
                let (runner, file) = (self.runner.clone(), entry.file.clone());
                let directory = self.cgroups.unified(&file.path);
                let strain = strain::Files::of(&self.cgroups, &file.path);
                tokio::spawn(async move {
                    // First: why it ended, when that was its limits.
                    let what = What::Strained(strain.read());
                    let _ = sender.send(Happened { task: task.clone(), what }).await;
                    let total = match cgroup::when_empty(&directory).await {
                        Some(total) => Some(total),
                        None => runner.cpu_total_us(&file).await,
                    };
                    // With leaves it is not the task's own: each has a total, and the rounds have what is left for the task.
                    let cpu_total_us = total.filter(|_| !file.leaves);
                    let what = What::Life(Event::Emptied { cpu_total_us });
                    let _ = sender.send(Happened { task, what }).await;
                });
            }
            Effect::Report(kind) => {
                if matches!(kind, TaskEventKind::Started { .. } | TaskEventKind::Adopted { .. }) {
                    let strain = strain::Files::of(&self.cgroups, &entry.file.path);
                    let (file, sender) = (entry.file.clone(), self.happened.clone());
                    entry.checks = Some(tokio::spawn(async move {
                        tokio::join!(
                            health::check(file.clone(), sender.clone()),
                            strain.follow(file.task, sender)
                        );
                    }));
                }
                let event = entry.event(kind);
                if matches!(event.kind, TaskEventKind::Ended { .. }) {
                    let path = self.directory.join(task.as_str()).join("ended.json");
                    if let Err(error) = durable::write(&path, &Ended { event: event.clone() }) {
                        tracing::error!(%error, "the task's end could not be kept: it is reported only once");
                    }
                }
                reports.push(event);
            }
            Effect::Remove => {
                self.runner.remove(&self.cgroups, &entry.file);
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
        Ok(self.lives(task, Event::StopAsked { grace_ms }))
    }

    /// When [`Self::tick`] has something to do, boot ms.
    pub fn due_ms(&self) -> Option<u64> {
        self.tasks.values().flat_map(|task| [task.state.due_ms(), task.startup_ends_ms()]).flatten().min()
    }

    /// Lets time pass for every task.
    pub fn tick(&mut self) -> Vec<TaskEvent> {
        let tasks: Vec<TaskName> = self.tasks.keys().cloned().collect();
        tasks.into_iter().flat_map(|task| self.lives(&task, Event::Tick)).collect()
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

    /// Sends a signal to the first process of a running task.
    ///
    /// # Errors
    /// [`ExecutorError::Unknown`] when it does not run.
    pub fn signal(&self, task: &TaskName, signal: rustix::process::Signal) -> Result<(), ExecutorError> {
        let entry = self.entry(task)?;
        let pid = entry.pid.ok_or_else(|| ExecutorError::Unknown(task.clone()))?;
        self.runner.signal(&self.directory.join(task.as_str()), &entry.file, pid, signal);
        Ok(())
    }

    /// Tasks that run: file, process, healthy.
    pub fn running(&self) -> impl Iterator<Item = (&TaskFile, Option<u32>, bool)> + '_ {
        let live =
            |t: &&Task| matches!(t.state, State::Starting | State::Running { .. } | State::Stopping { .. });
        let healthy = |t: &Task| matches!(t.state, State::Running { healthy: Some(true), .. });
        self.tasks.values().filter(live).map(move |t| (&t.file, t.pid, healthy(t)))
    }

    /// Paths of the cgroups, below the top of the hierarchies, in which YARN containers are to have leaves.
    pub fn with_leaves(&self) -> impl Iterator<Item = String> + '_ {
        self.running().filter(|(file, ..)| file.leaves).map(|(file, ..)| self.cgroups.below_top(&file.path))
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running().count()
    }
}
