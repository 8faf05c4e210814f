//! What a task's limits do to it, told within a second: by the kernel's own notice where there is one, else by looking.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::parse;
use cgroups_rs::fs::Controllers;
use model::action::Strain;
use model::id::TaskName;
use model::metric::Metric;
use model::sample::Values;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::cgroup::Cgroups;
use super::{Happened, What};

/// A task at its limit fails all the time: what happens within this time is one word.
const GATHER: Duration = Duration::from_millis(500);
/// Time between two looks at files whose changes nobody announces (v1).
const LOOK: Duration = Duration::from_secs(1);

/// The files that say it; `None` where this host has none.
pub(super) struct Files {
    memory: Option<PathBuf>,
    processes: Option<PathBuf>,
    /// The kernel announces changes of both.
    announced: bool,
}

impl Files {
    /// Those of the task at `path`.
    pub(super) fn of(cgroups: &Cgroups, path: &str) -> Self {
        let unified = cgroups.unified(path);
        let there = |name, controller, v1_name| {
            let file = Some(unified.join(name)).filter(|file| file.exists());
            let v1 = || Some(cgroups.v1_directory(path, controller)?.join(v1_name));
            file.or_else(|| v1().filter(|file| file.exists()))
        };
        let memory = there("memory.events", Controllers::Mem, "memory.oom_control");
        let processes = there("pids.events", Controllers::Pids, "pids.events");
        // pids.events is announced on v1, too.
        let announced = memory.as_ref().is_none_or(|file| file.starts_with(&unified));
        Self { memory, processes, announced }
    }

    /// Totals since the task's start; what cannot be read counts as nothing new.
    pub(super) fn read(&self) -> Strain {
        let bytes = |file: &Option<PathBuf>| file.as_ref().and_then(|file| fs::read(file).ok());
        let oom_kills = bytes(&self.memory).and_then(|bytes| {
            let mut values = Values::default();
            parse::memory_events(&bytes, &mut values).ok()?;
            values.get(Metric::OomKills)
        });
        let refused = bytes(&self.processes).and_then(|bytes| parse::pids_events(&bytes).ok());
        Strain { oom_kills: oom_kills.unwrap_or(0), forks_refused: refused.unwrap_or(0) }
    }

    /// Tells what is new until it is aborted.
    pub(super) async fn follow(self, task: TaskName, sender: mpsc::Sender<Happened>) {
        let watched = |file: &Option<PathBuf>| file.as_deref().and_then(watch);
        let (memory, processes) = (watched(&self.memory), watched(&self.processes));
        let mut told = Strain::default();
        loop {
            let now = self.read();
            if now != told {
                told = now;
                let what = What::Strained(now);
                if sender.send(Happened { task: task.clone(), what }).await.is_err() {
                    return;
                }
            }
            let look = async {
                match self.announced {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(LOOK).await,
                }
            };
            tokio::select! {
                () = changed(memory.as_ref()) => tokio::time::sleep(GATHER).await,
                () = changed(processes.as_ref()) => tokio::time::sleep(GATHER).await,
                () = look => {}
            }
        }
    }
}

/// A file whose changes the kernel announces (cgroup-v2.rst: files of events can be polled).
#[expect(
    deprecated,
    reason = "unsound only for types that change their descriptor; an OwnedFd does not, and `register` is unsafe"
)]
fn watch(file: &Path) -> Option<AsyncFd<OwnedFd>> {
    let file = fs::File::open(file).ok()?;
    AsyncFd::with_interest(OwnedFd::from(file), Interest::PRIORITY).ok()
}

async fn changed(file: Option<&AsyncFd<OwnedFd>>) {
    let Some(file) = file else { return std::future::pending().await };
    match file.ready(Interest::PRIORITY).await {
        Ok(mut ready) => {
            // The next change is announced only after this one was read through the same descriptor.
            let mut buffer = [0; 512];
            let _ = rustix::io::pread(file.get_ref(), &mut buffer, 0);
            ready.clear_ready();
        }
        Err(_) => std::future::pending().await,
    }
}
