//! What the kernel itself says of the tasks in a slice, by a path of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(50);

/// One task's cgroup, as it was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) live: bool,
    pub(crate) cpu_us: u64,
    pub(crate) pids: Vec<u32>,
}

/// Where the unified hierarchy is.
pub(crate) fn unified_mount() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = text.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

/// Reads the tasks of a slice as long as it lives.
pub(crate) struct Ledger {
    slice: PathBuf,
    seen: Arc<Mutex<BTreeMap<u64, Task>>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Ledger {
    pub(crate) fn start(slice: PathBuf) -> Self {
        let (seen, over) = (Arc::<Mutex<BTreeMap<u64, Task>>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until, from) = (Arc::clone(&seen), Arc::clone(&over), slice.clone());
        let reader = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let now = read(&from);
                into.lock().unwrap().extend(now);
                std::thread::sleep(EVERY);
            }
        });
        Self { slice, seen, over, reader: Some(reader) }
    }

    /// Tasks now.
    pub(crate) fn now(&self) -> BTreeMap<u64, Task> {
        read(&self.slice)
    }

    /// CPU quotas of the live tasks now, thousandths of a core; `None` where there is none.
    pub(crate) fn quotas(&self) -> BTreeMap<String, Option<u32>> {
        let v1 = Path::new("/sys/fs/cgroup/cpu").join(self.slice.file_name().unwrap());
        let mut quotas = BTreeMap::new();
        for workload in directories(&self.slice) {
            for task in directories(&workload) {
                let populated = fs::read_to_string(task.join("cgroup.events")).unwrap_or_default();
                if populated.contains("populated 1") {
                    let below = task.strip_prefix(&self.slice).unwrap();
                    let name = task.file_name().unwrap().to_string_lossy().into_owned();
                    quotas.insert(name, quota(&task, &v1.join(below)));
                }
            }
        }
        quotas
    }

    /// First processes of the tasks now.
    pub(crate) fn pids(&self) -> BTreeMap<String, u32> {
        let live = self.now().into_values().filter(|t| t.live);
        live.map(|t| (t.name, t.pids.first().copied().unwrap_or(0))).collect()
    }

    /// Every task that was ever seen.
    pub(crate) fn seen(&self) -> BTreeMap<u64, Task> {
        self.seen.lock().unwrap().clone()
    }

    /// Final CPU totals of the tasks that ended, µs.
    pub(crate) fn finals(&self) -> BTreeMap<u64, u64> {
        self.seen().into_iter().filter(|(_, t)| !t.live).map(|(id, t)| (id, t.cpu_us)).collect()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

pub(crate) fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Every task below `slice/<workload>`, by its cgroup's number.
fn read(slice: &Path) -> BTreeMap<u64, Task> {
    let workloads = directories(slice);
    workloads.iter().flat_map(|workload| directories(workload)).filter_map(|t| task(&t)).collect()
}

fn task(path: &Path) -> Option<(u64, Task)> {
    let id = fs::metadata(path).ok()?.ino();
    let live = fs::read_to_string(path.join("cgroup.events")).ok()?.contains("populated 1");
    let pids = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    let pids = pids.lines().filter_map(|l| l.parse().ok()).collect();
    let cpu_us = cpu_us(path)?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((id, Task { name, live, cpu_us, pids }))
}

/// `usage_usec` of a cgroup's `cpu.stat`.
pub(crate) fn cpu_us(path: &Path) -> Option<u64> {
    let stat = fs::read_to_string(path.join("cpu.stat")).ok()?;
    stat.lines().find_map(|l| l.strip_prefix("usage_usec "))?.parse().ok()
}

/// Ends what is left in a slice that a test made, and removes it, here and in the hierarchies of v1.
pub(crate) fn end_slice(slice: &Path) {
    let _ = fs::write(slice.join("cgroup.kill"), "1");
    let name = slice.file_name().unwrap();
    let old = ["cpu", "memory", "pids"].map(|v1| Path::new("/sys/fs/cgroup").join(v1).join(name));
    let deadline = Instant::now() + Duration::from_secs(10);
    // A process that has ended leaves one hierarchy after the other.
    for tree in [slice.to_owned()].iter().chain(&old) {
        while !remove_tree(tree) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a tree of cgroups, deepest first; true when it is gone.
pub(crate) fn remove_tree(top: &Path) -> bool {
    for below in directories(top) {
        remove_tree(&below);
    }
    fs::remove_dir(top).is_ok() || !top.exists()
}

fn quota(unified: &Path, v1: &Path) -> Option<u32> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (quota, period) = match fs::read_to_string(unified.join("cpu.max")) {
        Ok(text) => text.trim().split_once(' ').map(|(q, p)| (number(q), number(p)))?,
        Err(_) => {
            let read = |file: &str| number(&fs::read_to_string(v1.join(file)).ok()?);
            (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"))
        }
    };
    u32::try_from(quota? * 1_000 / period?).ok()
}
