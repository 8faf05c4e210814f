//! Cgroups of our own tasks: made, limited, read back, emptied, removed. On unified hosts by the hierarchy's files, on
//! hybrid hosts limits go to the v1 hierarchies through cgroups-rs, while CPU time stays on the unified one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::parse;
use agent_core::yarn::ContainerId;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::hierarchies::V1;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, Controllers, MaxValue};
use model::action::Size;
use model::id::CgroupId;
use model::sample::Values;

/// Length of a quota period, µs: the kernel's default.
const PERIOD_US: u64 = 100_000;
/// After the last process left, the kernel still charges the end of its exit; then the total stands still.
const SETTLE: Duration = Duration::from_millis(50);

/// What is limited on v1 hierarchies where the unified one does not have it.
const V1_CONTROLLERS: [(&str, Controllers); 3] =
    [("cpu", Controllers::Cpu), ("memory", Controllers::Mem), ("pids", Controllers::Pids)];

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel said no.
    #[error("{path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The v1 hierarchy said no.
    #[error("v1 cgroup {path}: {why}")]
    V1 {
        /// Which cgroup.
        path: String,
        /// What happened.
        why: String,
    },
    /// This host has no such control.
    #[error("{0} cannot be set on this host: its controller is on no hierarchy that this agent may write")]
    NoController(&'static str),
}

/// A cgroup that was made.
pub(super) struct Made {
    pub(super) id: CgroupId,
    pub(super) join: Vec<PathBuf>,
}

/// Where our tasks' cgroups are.
#[derive(Debug, Clone)]
pub struct Cgroups {
    unified: PathBuf,
    slice: String,
    /// Controllers that the unified hierarchy offers.
    controllers: Vec<String>,
    /// v1 controllers in use: hybrid hosts.
    v1: Vec<String>,
    /// Where the v1 hierarchy of quotas is, on hosts that have them there.
    v1_cpu: Option<PathBuf>,
}

/// Writes a file that the kernel has made. One that it has not made is not found, and not "permission denied" as from [`fs::write`], which
/// would make it.
pub(crate) fn put(path: &Path, value: &str) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all(value.as_bytes())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |error| CgroupError::Io { path, error }
}

impl Cgroups {
    /// Finds which controllers are where.
    #[must_use]
    pub fn find(unified: &Path, slice: &str) -> Self {
        let text = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        let controllers: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let hierarchies = V1::new();
        let v1: Vec<String> = V1_CONTROLLERS
            .into_iter()
            .filter(|(name, _)| !controllers.iter().any(|c| c == name))
            .filter(|(_, controller)| hierarchies.get_mount_point(controller.clone()).is_some())
            .map(|(name, _)| name.to_owned())
            .collect();
        let has_cpu = v1.iter().any(|name| name == "cpu");
        let v1_cpu =
            has_cpu.then(|| hierarchies.get_mount_point(Controllers::Cpu)).flatten().map(|(mount, _)| mount);
        Self { unified: unified.to_owned(), slice: slice.to_owned(), controllers, v1, v1_cpu }
    }

    /// Directory of a task's cgroup on the unified hierarchy.
    pub(super) fn unified(&self, path: &str) -> PathBuf {
        self.unified.join(&self.slice).join(path)
    }

    /// A task's path below the root of the unified hierarchy.
    pub(super) fn below_root(&self, path: &str) -> PathBuf {
        Path::new(&self.slice).join(path)
    }

    /// Where a task's CPU quota is on the v1 hierarchy; `None` where it is on the unified one.
    pub(super) fn quota_directory(&self, path: &str) -> Option<PathBuf> {
        Some(self.v1_cpu.as_ref()?.join(self.below_top(path)))
    }

    /// Where the v1 hierarchy of a controller has the cgroup at `path`, which need not exist; `None` on hosts without it.
    pub(super) fn v1_directory(&self, path: &str, controller: Controllers) -> Option<PathBuf> {
        let (mount, _) = V1::new().get_mount_point(controller)?;
        Some(mount.join(self.below_top(path)))
    }

    /// The cgroup at `path`, when there is one.
    pub(super) fn id(&self, path: &str) -> Option<CgroupId> {
        Some(CgroupId(fs::metadata(self.unified(path)).ok()?.ino()))
    }

    /// Limits in force that somebody else has set, of those that `size` gives.
    pub(super) fn limits(&self, path: &str, size: &Size) -> Result<BTreeMap<String, String>, CgroupError> {
        let files = [
            (size.cpu_weight.is_some(), "cpu.weight"),
            (size.cpu_max_millis.is_some(), "cpu.max"),
            (size.memory_high_bytes.is_some(), "memory.high"),
            (size.memory_max_bytes.is_some(), "memory.max"),
        ];
        let mut back = BTreeMap::new();
        for (_, file) in files.into_iter().filter(|(given, _)| *given) {
            self.read(path, file, &mut back)?;
        }
        Ok(back)
    }

    /// Whether it is frozen, when somebody else has done it.
    pub(super) fn frozen(&self, path: &str) -> Result<BTreeMap<String, String>, CgroupError> {
        let mut back = BTreeMap::new();
        self.read(path, "cgroup.freeze", &mut back)?;
        Ok(back)
    }

    /// Whether a controller is on a v1 hierarchy of this host.
    pub(super) fn has_v1(&self, controller: &str) -> bool {
        self.v1.iter().any(|c| c == controller)
    }

    /// Whether a controller is on the unified hierarchy.
    pub(super) fn has_unified(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    pub(super) fn below_top(&self, path: &str) -> String {
        format!("{}/{path}", self.slice)
    }

    fn v1_cgroup(&self, path: &str) -> Option<Cgroup> {
        let load = || {
            Cgroup::load_with_specified_controllers(
                Box::new(V1::new()),
                self.below_top(path),
                self.v1.clone(),
            )
        };
        (!self.v1.is_empty()).then(load)
    }

    /// Makes a task's cgroup with its limits, and of so many processes and threads at most. It is idempotent.
    pub(super) fn make(&self, path: &str, size: &Size, processes: Option<u32>) -> Result<Made, CgroupError> {
        let directory = self.unified(path);
        fs::create_dir_all(&directory).map_err(io_error(&directory))?;
        self.delegate(path);
        let mut join = vec![directory.join("cgroup.procs")];
        if !self.v1.is_empty() {
            let below = self.below_top(path);
            let v1 =
                Cgroup::new_with_specified_controllers(Box::new(V1::new()), &below, Some(self.v1.clone()))
                    .map_err(|e| CgroupError::V1 { path: below.clone(), why: e.to_string() })?;
            drop(v1);
            let in_use = V1_CONTROLLERS.into_iter().filter(|(name, _)| self.has_v1(name));
            let directories = in_use.filter_map(|(_, controller)| self.v1_directory(path, controller));
            join.extend(directories.map(|directory| directory.join("cgroup.procs")));
        }
        self.resize(path, size)?;
        if let Some(most) = processes {
            self.limit_processes(path, most)?;
        }
        let id = CgroupId(fs::metadata(&directory).map_err(io_error(&directory))?.ino());
        Ok(Made { id, join })
    }

    /// Turns controllers on from the top down to the task's parent; what cannot be turned on shows when it is set.
    fn delegate(&self, path: &str) {
        let wanted: Vec<String> = self.controllers.iter().map(|c| format!("+{c}")).collect();
        let mut directory = self.unified.clone();
        for part in std::iter::once(self.slice.as_str()).chain(path.split('/')) {
            for controller in &wanted {
                let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
            }
            directory.push(part);
        }
    }

    /// A host that cannot limit processes runs the task all the same, and says so.
    fn limit_processes(&self, path: &str, most: u32) -> Result<(), CgroupError> {
        let failed = |e: cgroups_rs::fs::error::Error| CgroupError::V1 {
            path: self.below_top(path),
            why: e.to_string(),
        };
        let set = match self.v1_cgroup(path).as_ref().and_then(|c| c.controller_of::<PidController>()) {
            Some(pids) => pids.set_pid_max(MaxValue::Value(most.into())).map_err(failed),
            None => self.write(path, "pids.max", &most.to_string(), &mut BTreeMap::new()),
        };
        match set {
            Err(error @ CgroupError::NoController(_)) => {
                tracing::warn!(%path, %error, "the task may make any number of processes");
                Ok(())
            }
            set => set,
        }
    }

    /// Sets the limits that are given, and reads back what is in force.
    pub(super) fn resize(&self, path: &str, size: &Size) -> Result<BTreeMap<String, String>, CgroupError> {
        let mut back = BTreeMap::new();
        let v1 = self.v1_cgroup(path);
        let failed = |e: cgroups_rs::fs::error::Error| CgroupError::V1 {
            path: self.below_top(path),
            why: e.to_string(),
        };
        if let Some(weight) = size.cpu_weight {
            match v1.as_ref().and_then(|c| c.controller_of::<CpuController>()) {
                Some(cpu) => {
                    // The kernel's own scale: weight 100 = 1024 shares.
                    cpu.set_shares(u64::from(weight) * 1024 / 100).map_err(failed)?;
                    back.insert("cpu.shares".to_owned(), cpu.shares().map_err(failed)?.to_string());
                }
                None => self.write(path, "cpu.weight", &weight.to_string(), &mut back)?,
            }
        }
        if let Some(millis) = size.cpu_max_millis {
            back.extend(self.quota(path, Some(millis))?);
        }
        if let Some(bytes) = size.memory_max_bytes {
            match v1.as_ref().and_then(|c| c.controller_of::<MemController>()) {
                Some(memory) => {
                    memory.set_limit(bytes.cast_signed()).map_err(failed)?;
                    let limit = memory.memory_stat().limit_in_bytes;
                    back.insert("memory.limit_in_bytes".to_owned(), limit.to_string());
                }
                None => self.write(path, "memory.max", &bytes.to_string(), &mut back)?,
            }
        }
        if let Some(bytes) = size.memory_high_bytes {
            match v1.as_ref().and_then(|c| c.controller_of::<MemController>()) {
                // v1 has no memory.high; the soft limit is a hint under global pressure only: say what it is.
                Some(memory) => {
                    memory.set_soft_limit(bytes.cast_signed()).map_err(failed)?;
                    back.insert("memory.soft_limit_in_bytes".to_owned(), bytes.to_string());
                }
                None => self.write(path, "memory.high", &bytes.to_string(), &mut back)?,
            }
        }
        Ok(back)
    }

    /// Sets the CPU quota, thousandths of a core, or that there is none; reads it back.
    pub(super) fn quota(
        &self,
        path: &str,
        millis: Option<u32>,
    ) -> Result<BTreeMap<String, String>, CgroupError> {
        let mut back = BTreeMap::new();
        let quota = millis.map(|millis| u64::from(millis) * PERIOD_US / 1000);
        match self.v1_cgroup(path).as_ref().and_then(|c| c.controller_of::<CpuController>()) {
            Some(cpu) => {
                let failed = |e: cgroups_rs::fs::error::Error| CgroupError::V1 {
                    path: self.below_top(path),
                    why: e.to_string(),
                };
                let quota = quota.map_or(-1, u64::cast_signed);
                cpu.set_cfs_quota_and_period(Some(quota), Some(PERIOD_US)).map_err(failed)?;
                back.insert("cpu.cfs_quota_us".to_owned(), cpu.cfs_quota().map_err(failed)?.to_string());
            }
            None => {
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                self.write(path, "cpu.max", &format!("{quota} {PERIOD_US}"), &mut back)?;
            }
        }
        Ok(back)
    }

    pub(super) fn write(
        &self,
        path: &str,
        file: &'static str,
        value: &str,
        back: &mut BTreeMap<String, String>,
    ) -> Result<(), CgroupError> {
        let full = self.unified(path).join(file);
        match put(&full, value) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(CgroupError::NoController(file)),
            Err(error) => return Err(CgroupError::Io { path: full, error }),
        }
        self.read(path, file, back)
    }

    pub(super) fn read(
        &self,
        path: &str,
        file: &'static str,
        back: &mut BTreeMap<String, String>,
    ) -> Result<(), CgroupError> {
        let full = self.unified(path).join(file);
        let read = match fs::read_to_string(&full) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(CgroupError::NoController(file)),
            Err(error) => return Err(CgroupError::Io { path: full, error }),
        };
        back.insert(file.to_owned(), read.trim().to_owned());
        Ok(())
    }

    pub(super) fn freeze(&self, path: &str, frozen: bool) -> Result<BTreeMap<String, String>, CgroupError> {
        let mut back = BTreeMap::new();
        self.write(path, "cgroup.freeze", if frozen { "1" } else { "0" }, &mut back)?;
        Ok(back)
    }

    pub(super) fn reclaim(&self, path: &str, bytes: u64) -> Result<BTreeMap<String, String>, CgroupError> {
        let full = self.unified(path).join("memory.reclaim");
        match put(&full, &bytes.to_string()) {
            // EAGAIN: less was reclaimed than asked; that is a result, not a fault.
            Ok(()) => Ok(BTreeMap::from([("reclaimed".to_owned(), "all".to_owned())])),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Ok(BTreeMap::from([("reclaimed".to_owned(), "less than asked".to_owned())]))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(CgroupError::NoController("memory.reclaim")),
            Err(error) => Err(CgroupError::Io { path: full, error }),
        }
    }

    /// Kills everything in the cgroup.
    pub(super) fn kill(&self, path: &str) {
        let full = self.unified(path).join("cgroup.kill");
        if let Err(error) = put(&full, "1") {
            tracing::warn!(path = %full.display(), %error, "cgroup.kill");
        }
    }

    /// Removes a task's cgroups; what is still busy stays and is said.
    pub(super) fn remove(&self, path: &str) {
        let directory = self.unified(path);
        let below = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        for leaf in below.filter(|entry| entry.file_name().to_str().is_some_and(is_leaf)) {
            let _ = fs::remove_dir(leaf.path());
        }
        match fs::remove_dir(&directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "the cgroup could not be removed");
            }
        }
        // The workload's own cgroup goes with its last task.
        if let Some(parent) = directory.parent() {
            let _ = fs::remove_dir(parent);
        }
        if let Some(v1) = self.v1_cgroup(path) {
            let _ = v1.delete();
            if let Some(workload) = path.split('/').next() {
                let _ = self.v1_cgroup(workload).map(|c| c.delete());
            }
        }
    }
}

/// A cgroup of that name is a YARN container's.
fn is_leaf(name: &str) -> bool {
    name.parse::<ContainerId>().is_ok()
}

/// Waits until no process is in the cgroup at `directory`, then reads its CPU total, µs; `None` when the cgroup is gone.
pub(super) async fn when_empty(directory: &Path) -> Option<u64> {
    loop {
        let events = fs::read(directory.join("cgroup.events")).ok()?;
        if parse::populated(&events) != Ok(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut last = None;
    loop {
        tokio::time::sleep(SETTLE).await;
        let bytes = fs::read(directory.join("cpu.stat")).ok()?;
        let total = parse::cpu_stat(&bytes, &mut Values::default()).ok()?;
        if last == Some(total) {
            return last;
        }
        last = Some(total);
    }
}
