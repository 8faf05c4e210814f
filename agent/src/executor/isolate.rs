//! What the isolation loop does to a best-effort task, carried out and read back.
//!
//! It has no way to a task of another class: that is asked here once more, of the task's own file.

use std::collections::BTreeMap;
use std::path::Path;

use agent_core::qos::Act;
use agent_core::qos::memory::Possible;
use agent_core::qos::standing;
use model::action::{Size, TaskEvent, TaskEventKind};
use model::id::CgroupId;
use model::workload::Class;

use super::cgroup::{CgroupError, Cgroups};
use super::{Executor, ExecutorError, ReadBack, Runner, TaskFile};
use crate::{clock, durable};

/// Time between SIGTERM and SIGKILL of a task that is ended because the node has no memory left, ms: it has to be soon.
const GRACE_MS: u32 = 5_000;

impl Executor {
    /// Carries out an act. The change begins when the future is polled.
    ///
    /// # Errors
    /// [`ExecutorError`] for a task that is unknown or not best-effort; the future's, for what is refused.
    pub fn isolate(
        &mut self,
        act: &Act,
    ) -> Result<impl Future<Output = ReadBack> + Send + use<>, ExecutorError> {
        let entry =
            self.tasks.get_mut(act.task()).ok_or_else(|| ExecutorError::Unknown(act.task().clone()))?;
        if entry.file.class != Class::BestEffort {
            return Err(ExecutorError::NotBestEffort(act.task().clone()));
        }
        if let Act::Cap { millis, .. } = act {
            entry.file.capped_cpu_millis = *millis;
        }
        let (runner, cgroups, file, act) =
            (self.runner.clone(), self.cgroups.clone(), entry.file.clone(), act.clone());
        Ok(async move {
            match act {
                Act::Cap { .. } => runner.cap(&cgroups, &file, file.cpu_in_force()).await,
                Act::High { bytes, .. } => {
                    let usual = standing::task(file.class, &file.size).memory_high_bytes;
                    let bytes =
                        bytes.map_or(usual, |bytes| Some(usual.map_or(bytes, |usual| usual.min(bytes))));
                    runner.high(&cgroups, &file, bytes).await
                }
                // It waits until the kernel has tried: not on the loop's thread.
                Act::Reclaim { bytes, .. } => {
                    let reclaim = move || cgroups.reclaim(&file.path, bytes).map_err(ExecutorError::from);
                    match tokio::task::spawn_blocking(reclaim).await {
                        Ok(back) => back,
                        Err(_) => Ok(BTreeMap::new()),
                    }
                }
                Act::Freeze { .. } => runner.freeze(&cgroups, &file, true).await,
                Act::Thaw { .. } => runner.freeze(&cgroups, &file, false).await,
                // [`Self::stop_for`] ends it: nothing is to be read back.
                Act::Stop { .. } => Ok(BTreeMap::new()),
            }
        })
    }

    /// Ends a best-effort task for others' sake. Its owner is told why before it is told that it ended.
    ///
    /// # Errors
    /// [`ExecutorError`] for a task that is unknown or not best-effort.
    pub fn stop_for(&mut self, act: &Act) -> Result<Vec<TaskEvent>, ExecutorError> {
        let Act::Stop { task, why } = act else { return Ok(Vec::new()) };
        let file = &self.entry(task)?.file;
        if file.class != Class::BestEffort {
            return Err(ExecutorError::NotBestEffort(task.clone()));
        }
        let mut events = vec![TaskEvent {
            task: task.clone(),
            workload: file.workload.clone(),
            cgroup: CgroupId(file.cgroup),
            kind: TaskEventKind::Unhealthy { why: why.clone() },
            at_ns: clock::boot_ns(),
        }];
        events.extend(self.stop(task, GRACE_MS)?);
        Ok(events)
    }

    /// Takes up best-effort tasks of an earlier agent: what its loop, or the dead-man, has frozen or slowed is given back, since nobody
    /// else would; quotas stay until this agent's loop says others, or are given back when it is not `enabled`.
    pub fn settle_found(&mut self, enabled: bool) {
        for entry in self.tasks.values_mut() {
            entry.file.capped_cpu_millis = None;
        }
        for (file, _, _) in self.running().filter(|(file, _, _)| file.class == Class::BestEffort) {
            let is = |name: &'static str| {
                let mut back = BTreeMap::new();
                self.cgroups.read(&file.path, name, &mut back).ok().and_then(|()| back.remove(name))
            };
            let thaw = !file.frozen && is("cgroup.freeze").is_some_and(|frozen| frozen != "0");
            let usual = standing::task(file.class, &file.size).memory_high_bytes;
            let wanted = usual.map_or("max".to_owned(), |bytes| bytes.to_string());
            let slowed = is("memory.high").is_some_and(|high| high != wanted);
            let (runner, cgroups, file) = (self.runner.clone(), self.cgroups.clone(), file.clone());
            tokio::spawn(async move {
                let mut settled = Ok(BTreeMap::new());
                if thaw {
                    settled = runner.freeze(&cgroups, &file, false).await;
                    tracing::info!(task = %file.task, ok = settled.is_ok(), "thawed: an agent is here again");
                }
                if slowed && settled.is_ok() {
                    settled = runner.high(&cgroups, &file, usual).await;
                }
                if !enabled && settled.is_ok() {
                    settled = runner.cap(&cgroups, &file, file.own_cpu_millis()).await;
                }
                if let Err(error) = settled {
                    tracing::error!(task = %file.task, %error, "what held it back is still in force");
                }
            });
        }
    }

    /// Which grades of taking memory back there are here.
    #[must_use]
    pub fn possible(&self) -> Possible {
        let memory = self.cgroups.has_unified("memory");
        Possible { reclaim: memory, high: memory, freeze: true }
    }

    /// Whether a task is in the kernel's idle class.
    #[must_use]
    pub fn is_idle(&self, file: &TaskFile) -> bool {
        self.cgroups.is_idle(&file.path)
    }

    /// What a class cannot have on this host, and why.
    #[must_use]
    pub fn class_gaps(&self) -> Vec<model::gap::Unavailable> {
        self.cgroups.class_gaps()
    }

    /// A task's path below the root of the unified hierarchy.
    #[must_use]
    pub fn below_root(&self, file: &TaskFile) -> std::path::PathBuf {
        self.cgroups.below_root(&file.path)
    }

    /// Where its CPU quota is on the v1 hierarchy, on hybrid hosts.
    #[must_use]
    pub fn quota_directory(&self, file: &TaskFile) -> Option<std::path::PathBuf> {
        self.cgroups.quota_directory(&file.path)
    }
}

/// Files of best-effort tasks that have not ended. Those that a command froze are among them: freezing once more changes nothing, and the
/// next agent thaws only the others.
#[must_use]
pub fn best_effort_on_disk(state: &Path) -> Vec<TaskFile> {
    let entries = std::fs::read_dir(state.join("tasks")).into_iter().flatten().filter_map(Result::ok);
    let live = entries.map(|entry| entry.path()).filter(|directory| !directory.join("ended.json").exists());
    let files =
        live.filter_map(|directory| durable::read::<TaskFile>(&directory.join("task.json")).ok().flatten());
    files.filter(|file| file.class == Class::BestEffort).collect()
}

impl ExecutorError {
    /// True when this host has no such control, and will not have it the next time.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        matches!(self, ExecutorError::Cgroup(CgroupError::NoController(_)))
    }
}

impl Runner {
    /// Freezes a task because nobody is there to hold it back.
    ///
    /// # Errors
    /// [`ExecutorError`] when it is refused, or the kernel does not say that it is frozen.
    pub async fn freeze_for(&self, cgroups: &Cgroups, file: &TaskFile) -> Result<(), ExecutorError> {
        self.freeze(cgroups, file, true).await.map(drop)
    }

    /// Sets a task's CPU quota, `None` = no quota, and reads it back.
    pub(super) async fn cap(&self, cgroups: &Cgroups, file: &TaskFile, millis: Option<u32>) -> ReadBack {
        match self {
            Runner::Shim => Ok(cgroups.quota(&file.path, millis)?),
            Runner::Systemd(systemd) => {
                systemd.cap(file, millis).await?;
                let some = Size { cpu_max_millis: Some(0), ..Size::default() };
                Ok(cgroups.limits(&file.path, &some)?)
            }
        }
    }

    /// Sets the memory above which a task is slowed, `None` = no such limit, and reads it back.
    async fn high(&self, cgroups: &Cgroups, file: &TaskFile, bytes: Option<u64>) -> ReadBack {
        match self {
            Runner::Shim => {
                let mut back = BTreeMap::new();
                let bytes = bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
                cgroups.write(&file.path, "memory.high", &bytes, &mut back)?;
                Ok(back)
            }
            Runner::Systemd(systemd) => {
                systemd.high(file, bytes).await?;
                let some = Size { memory_high_bytes: Some(0), ..Size::default() };
                Ok(cgroups.limits(&file.path, &some)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::TaskName;
    use std::fs;
    use tokio::sync::mpsc;

    /// An executor that found a task of this class, in a hierarchy of plain files.
    fn found(class: Class) -> (tempfile::TempDir, Executor, TaskName) {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = dir.path().join("cg/t.slice/jobs/jobs-1");
        fs::create_dir_all(&cgroup).unwrap();
        fs::write(dir.path().join("cg/cgroup.controllers"), "cpu memory io").unwrap();
        for file in ["cpu.max", "memory.high", "cgroup.freeze"] {
            fs::write(cgroup.join(file), "").unwrap();
        }
        let task: TaskName = "jobs-1".parse().unwrap();
        let file = serde_json::json!({
            "task": task, "workload": "jobs", "generation": 3, "command": ["/bin/true"], "directory": null,
            "environment": {}, "user": null, "join": [], "cgroup": 5, "path": "jobs/jobs-1",
            "size": { "cpu_max_millis": 500, "memory_max_bytes": 1000 }, "startup_cpu_millis": null,
            "class": class, "health": null, "puma": null,
        });
        let state = dir.path().join("state/tasks/jobs-1");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("task.json"), file.to_string()).unwrap();
        let cgroups = Cgroups::find(&dir.path().join("cg"), "t.slice");
        let (sender, _) = mpsc::channel(16);
        let executor = Executor::open(&dir.path().join("state"), cgroups, Runner::Shim, sender).unwrap();
        (dir, executor, task)
    }

    #[tokio::test]
    async fn a_best_effort_task_is_held_back_within_its_own_limits() {
        let (dir, mut executor, task) = found(Class::BestEffort);
        let file =
            |name: &str| fs::read_to_string(dir.path().join("cg/t.slice/jobs/jobs-1").join(name)).unwrap();
        let clear = |name: &str| fs::write(dir.path().join("cg/t.slice/jobs/jobs-1").join(name), "").unwrap();
        for (millis, quota) in
            [(Some(250), "25000 100000"), (Some(900), "50000 100000"), (None, "50000 100000")]
        {
            clear("cpu.max");
            executor.isolate(&Act::Cap { task: task.clone(), millis }).unwrap().await.unwrap();
            assert_eq!(file("cpu.max"), quota, "{millis:?} of its own 500m");
        }
        for (bytes, high) in [(Some(100), "100"), (Some(990), "900"), (None, "900")] {
            clear("memory.high");
            executor.isolate(&Act::High { task: task.clone(), bytes }).unwrap().await.unwrap();
            assert_eq!(file("memory.high"), high, "{bytes:?}, and its class says 900");
        }
        for (act, is) in [(Act::Freeze { task: task.clone() }, "1"), (Act::Thaw { task: task.clone() }, "0")]
        {
            clear("cgroup.freeze");
            executor.isolate(&act).unwrap().await.unwrap();
            assert_eq!(file("cgroup.freeze"), is);
        }
        // There is no such file here: the next grade has its turn.
        let reclaim = Act::Reclaim { task: task.clone(), bytes: 5 };
        assert!(executor.isolate(&reclaim).unwrap().await.unwrap_err().is_impossible());
        let events = executor.stop_for(&Act::Stop { task, why: "no memory".into() }).unwrap();
        assert!(
            matches!(&events[0].kind, TaskEventKind::Unhealthy { why } if why == "no memory"),
            "{events:?}"
        );
        let on_disk = best_effort_on_disk(&dir.path().join("state"));
        assert_eq!(on_disk.len(), 1, "the dead-man finds it");
    }

    #[tokio::test]
    async fn what_an_earlier_agent_held_back_is_given_back() {
        for (enabled, quota) in [(true, "1000 100000"), (false, "50000 100000")] {
            let (dir, mut executor, _) = found(Class::BestEffort);
            let path = |name: &str| dir.path().join("cg/t.slice/jobs/jobs-1").join(name);
            // Of one length each: these are no kernel's files, which are written as a whole.
            for (name, was) in [("cpu.max", "1000 100000"), ("memory.high", "700"), ("cgroup.freeze", "1")] {
                fs::write(path(name), was).unwrap();
            }
            executor.settle_found(enabled);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let is = |name: &str| fs::read_to_string(path(name)).unwrap();
            assert_eq!((is("cgroup.freeze"), is("memory.high")), ("0".to_owned(), "900".to_owned()));
            assert_eq!(is("cpu.max"), quota, "the loop is enabled: {enabled}");
        }
    }

    #[tokio::test]
    async fn no_task_of_another_class_is_touched() {
        for class in [Class::LatencyCritical, Class::Standard] {
            let (dir, mut executor, task) = found(class);
            for act in [
                Act::Cap { task: task.clone(), millis: Some(10) },
                Act::High { task: task.clone(), bytes: Some(10) },
                Act::Reclaim { task: task.clone(), bytes: 10 },
                Act::Freeze { task: task.clone() },
                Act::Thaw { task: task.clone() },
            ] {
                let refused = executor.isolate(&act).err().unwrap().to_string();
                assert!(refused.contains("jobs-1 is not best-effort"), "{refused}");
            }
            let stop = Act::Stop { task: task.clone(), why: String::new() };
            assert!(executor.stop_for(&stop).unwrap_err().to_string().contains("not best-effort"));
            for name in ["cpu.max", "memory.high", "cgroup.freeze"] {
                let file = dir.path().join("cg/t.slice/jobs/jobs-1").join(name);
                assert_eq!(fs::read_to_string(file).unwrap(), "", "{name} of {class} work");
            }
            assert!(best_effort_on_disk(&dir.path().join("state")).is_empty());
        }
    }
}
