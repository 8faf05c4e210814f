//! YARN containers get cgroups of their own, where the node's owner lists the NodeManager's unit: a verb of the agent's own, no command.
//!
//! YARN's default executor starts a container as a process of the NodeManager, in its cgroup. When such a process executes a program, the
//! kernel says so ([`Executions`]), and all processes of its container are moved into `UNIT/container_…`: a leaf without controllers, so
//! nothing but the accounting changes, and the kernel's rule that no process is beside its own children holds whatever the unit does.
//!
//! | what | when |
//! |---|---|
//! | which cgroups are watched | looked at every 2 s: a unit that starts anew has a new one |
//! | what is in a unit | at an execution of a container's process there; at the first sight of the unit; every 2 s where executions are not told, and when some were lost |
//! | a leaf's end | by the node's loop, when a round has its last total ([`agent_core::leaf`]) |
//!
//! A restart needs no state: leaves are found by their names, and what is still in the unit is moved at first sight.

mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_bpf::Executions;
use agent_core::yarn::ContainerId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::settings::Settings;
use unit::Unit;

/// Time between two looks at which cgroups a unit has.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Processes of a container are in its leaf now.
    Moved {
        /// Path of the unit below the top of the hierarchy.
        unit: String,
        /// Whose leaf.
        container: ContainerId,
        /// How many processes.
        processes: u32,
    },
    /// What keeps a unit's containers where they are; `None` = nothing any more.
    Hindered {
        /// Path of the unit below the top of the hierarchy.
        unit: String,
        /// Why, and what to do.
        why: Option<String>,
    },
    /// The kernel does not tell executions: units are looked into every 2 s.
    Untold {
        /// Why.
        why: String,
    },
}

/// The kernel program, and what becomes readable when it tells something.
struct Told {
    executions: Executions,
    ready: AsyncFd<OwnedFd>,
}

/// The units whose containers have leaves: those that the owner lists, and Trimtab's own tasks whose launchers say so.
pub struct Leaves {
    units: BTreeMap<String, Unit>,
    /// Paths of the units below the top of the unified hierarchy.
    wanted: watch::Receiver<BTreeSet<String>>,
    root: PathBuf,
    /// Whether to load the kernel program.
    ebpf: bool,
    /// The owner's switch.
    frozen: PathBuf,
    acts: watch::Receiver<bool>,
    reports: mpsc::Sender<Report>,
    executions: Option<Told>,
    /// Watched cgroups, and the unit of each.
    watched: BTreeMap<u64, String>,
    lost: u64,
    hindered: BTreeMap<String, String>,
}

impl Leaves {
    /// Of these settings; `acts` says whether the agent may act, `wanted` which units there are, now and later.
    #[must_use]
    pub fn new(
        settings: &Settings,
        acts: watch::Receiver<bool>,
        wanted: watch::Receiver<BTreeSet<String>>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self {
            units: BTreeMap::new(),
            wanted,
            root: settings.cgroup.clone(),
            ebpf: settings.ebpf,
            frozen: settings.state.join("FROZEN"),
            acts,
            reports,
            executions: None,
            watched: BTreeMap::new(),
            lost: 0,
            hindered: BTreeMap::new(),
        }
    }

    /// Runs as long as somebody takes the reports.
    pub async fn run(mut self) {
        if self.ebpf {
            self.load().await;
        }
        self.take_units().await;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.reports.is_closed() {
            let due = tokio::select! {
                due = executed(&mut self.executions, &self.watched) => due,
                _ = looks.tick() => self.look(),
                changed = self.acts.changed() => match changed {
                    Ok(()) => self.units.keys().cloned().collect(),
                    Err(_) => return,
                },
                changed = self.wanted.changed() => match changed {
                    Ok(()) => {
                        self.take_units().await;
                        self.look()
                    }
                    Err(_) => return,
                },
            };
            for unit in due {
                self.settle(&unit).await;
            }
        }
    }

    /// Loads the kernel program; without it units are looked at in turns.
    async fn load(&mut self) {
        let loaded = tokio::task::spawn_blocking(Executions::start).await;
        let why = match loaded {
            Ok(Ok(executions)) => match executions.readiness().and_then(watch_ring) {
                Ok(ready) => {
                    self.executions = Some(Told { executions, ready });
                    return;
                }
                Err(error) => error.to_string(),
            },
            Ok(Err(refusal)) => refusal.to_string(),
            Err(error) => error.to_string(),
        };
        let _ = self.reports.send(Report::Untold { why }).await;
    }

    async fn take_units(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.units = wanted.into_iter().map(|path| (path.clone(), Unit::new(&self.root, &path))).collect();
        let over: Vec<String> =
            self.hindered.keys().filter(|path| !self.units.contains_key(*path)).cloned().collect();
        for unit in over {
            self.hindered.remove(&unit);
            let _ = self.reports.send(Report::Hindered { unit, why: None }).await;
        }
    }

    /// Watches the cgroups that the units have now. Returns the units to look into.
    fn look(&mut self) -> BTreeSet<String> {
        let all = self.units.iter();
        let now: BTreeMap<u64, String> = all
            .flat_map(|(path, unit)| unit.cgroups().into_iter().map(move |(id, _)| (id, path.clone())))
            .collect();
        let mut due: BTreeSet<String> = now
            .iter()
            .filter(|(id, _)| !self.watched.contains_key(id))
            .map(|(_, unit)| unit.clone())
            .collect();
        match &mut self.executions {
            Some(Told { executions, .. }) => {
                for id in self.watched.keys().filter(|id| !now.contains_key(id)) {
                    executions.forget(*id);
                }
                for (id, unit) in &now {
                    if let Err(error) = executions.watch(*id) {
                        tracing::warn!(%unit, %error, "not watched: looked into every 2 s");
                        due.insert(unit.clone());
                    }
                }
                if std::mem::replace(&mut self.lost, executions.lost()) != self.lost {
                    due.extend(now.values().cloned());
                }
            }
            None => due.extend(now.values().cloned()),
        }
        // What kept a unit from it may be over.
        due.extend(self.hindered.keys().cloned());
        self.watched = now;
        due
    }

    /// Moves what is to be moved in a unit, and says what came of it.
    async fn settle(&mut self, path: &str) {
        let Some(unit) = self.units.get(path).cloned() else { return };
        let may = match (*self.acts.borrow(), self.frozen.exists()) {
            (false, _) => Err("act = false: this agent only observes"),
            (true, true) => Err("FROZEN is there: remove it from the state directory"),
            (true, false) => Ok(()),
        };
        let why = match may {
            Ok(()) => match tokio::task::spawn_blocking(move || unit.settle()).await {
                Ok(settled) => {
                    for (container, processes) in settled.moved {
                        let unit = path.to_owned();
                        let _ = self.reports.send(Report::Moved { unit, container, processes }).await;
                    }
                    settled.hindered
                }
                Err(error) => Some(error.to_string()),
            },
            Err(why) => Some(why.to_owned()),
        };
        let before = match &why {
            Some(why) => self.hindered.insert(path.to_owned(), why.clone()),
            None => self.hindered.remove(path),
        };
        if before != why {
            let _ = self.reports.send(Report::Hindered { unit: path.to_owned(), why }).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound only for types that change their descriptor; an OwnedFd does not, and `register` is unsafe"
)]
fn watch_ring(ring: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(ring, Interest::READABLE)
}

/// Waits until a process of a container executes a program in a watched cgroup. Returns the units where that was.
async fn executed(told: &mut Option<Told>, watched: &BTreeMap<u64, String>) -> BTreeSet<String> {
    let Some(Told { executions, ready }) = told else { return std::future::pending().await };
    let mut units = BTreeSet::new();
    while units.is_empty() {
        let Ok(mut guard) = ready.readable().await else { return std::future::pending().await };
        // First: what comes while the ring is emptied makes it readable again.
        guard.clear_ready();
        executions.drain(|pid, cgroup| {
            if let Some(unit) = watched.get(&cgroup)
                && unit::names_container(pid)
            {
                units.insert(unit.clone());
            }
        });
    }
    units
}

/// Removes a leaf that no process is in; what is still busy stays.
///
/// # Errors
/// The kernel's.
pub fn remove(root: &Path, path: &str) -> std::io::Result<()> {
    std::fs::remove_dir(root.join(path))
}
