//! Who runs the processes of tasks on this host: a shim of ours per task, or systemd.

use std::path::Path;

use model::action::Size;
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::cgroup::Cgroups;
use super::systemd::Systemd;
use super::{ExecutorError, Happened, ReadBack, TaskFile, shim};

/// Who runs tasks.
#[derive(Debug, Clone)]
pub enum Runner {
    /// A shim per task, in a cgroup of ours: hosts without systemd.
    Shim,
    /// A transient service per task.
    Systemd(Systemd),
}

impl Runner {
    /// Decides where the task's cgroup is, and makes it where that is our part.
    pub(super) fn prepare(&self, cgroups: &Cgroups, file: &mut TaskFile) -> Result<(), ExecutorError> {
        match self {
            Runner::Shim => {
                file.path = format!("{}/{}", file.workload, file.task);
                let made = cgroups.make(&file.path, &file.size_now(), file.processes)?;
                (file.join, file.cgroup) = (made.join, made.id.0);
            }
            Runner::Systemd(systemd) => file.path = systemd.path(file),
        }
        Ok(())
    }

    /// Begins to start what [`Self::follow`] follows.
    pub(super) fn start(&self, directory: &Path) -> Result<(), ExecutorError> {
        match self {
            Runner::Shim => shim::spawn(directory).map_err(ExecutorError::Shim),
            // Its answer takes a moment: the start is the first step of following.
            Runner::Systemd(_) => Ok(()),
        }
    }

    /// Follows the task to its end; `found` when an earlier agent started it.
    pub(super) fn follow(
        &self,
        directory: &Path,
        file: &TaskFile,
        found: bool,
        sender: &mpsc::Sender<Happened>,
    ) {
        let (directory, file, sender) = (directory.to_owned(), file.clone(), sender.clone());
        match self.clone() {
            Runner::Shim => drop(tokio::spawn(async move {
                shim::follow(&directory, file.task, file.health.is_some(), found, &sender).await;
            })),
            Runner::Systemd(systemd) => drop(tokio::spawn(systemd.run(file, found, sender))),
        }
    }

    /// Sends a signal to the task's first process.
    pub(super) fn signal(&self, directory: &Path, file: &TaskFile, pid: u32, signal: Signal) {
        match self {
            Runner::Shim => shim::signal(directory, pid, signal),
            Runner::Systemd(systemd) => order(systemd, file, "main", signal),
        }
    }

    /// Kills everything that is left of the task.
    pub(super) fn kill(&self, cgroups: &Cgroups, file: &TaskFile) {
        match self {
            Runner::Shim => cgroups.kill(&file.path),
            Runner::Systemd(systemd) => order(systemd, file, "all", Signal::KILL),
        }
    }

    /// The CPU total of a task whose cgroup is gone, µs, when somebody kept it.
    pub(super) async fn cpu_total_us(&self, file: &TaskFile) -> Option<u64> {
        match self {
            Runner::Shim => None,
            Runner::Systemd(systemd) => systemd.cpu_total_us(file).await,
        }
    }

    /// Changes limits and reads them back from the kernel.
    pub(super) async fn resize(&self, cgroups: &Cgroups, file: &TaskFile, size: &Size) -> ReadBack {
        match self {
            Runner::Shim => Ok(cgroups.resize(&file.path, size)?),
            Runner::Systemd(systemd) => {
                systemd.resize(file, size).await?;
                Ok(cgroups.limits(&file.path, size)?)
            }
        }
    }

    /// Freezes or thaws, and reads back from the kernel.
    pub(super) async fn freeze(&self, cgroups: &Cgroups, file: &TaskFile, frozen: bool) -> ReadBack {
        match self {
            Runner::Shim => Ok(cgroups.freeze(&file.path, frozen)?),
            Runner::Systemd(systemd) => {
                systemd.freeze(file, frozen).await?;
                Ok(cgroups.frozen(&file.path)?)
            }
        }
    }

    /// Removes what is left of an ended task.
    pub(super) fn remove(&self, cgroups: &Cgroups, file: &TaskFile) {
        match self {
            Runner::Shim => cgroups.remove(&file.path),
            Runner::Systemd(systemd) => {
                let (systemd, file) = (systemd.clone(), file.clone());
                tokio::spawn(async move { systemd.forget(&file).await });
            }
        }
    }
}

fn order(systemd: &Systemd, file: &TaskFile, whom: &'static str, signal: Signal) {
    let (systemd, file) = (systemd.clone(), file.clone());
    tokio::spawn(async move {
        if let Err(error) = systemd.kill(&file, whom, signal).await {
            tracing::debug!(task = %file.task, %error, ?signal, "signal not sent: the task is over");
        }
    });
}
