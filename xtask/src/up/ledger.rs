//! What the kernel itself says of the replicas: read here by its own path, beside Trimtab.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);

/// The kernel's figures.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    /// Final CPU total of each task that ended, by its cgroup's inode, µs.
    pub(super) finals: BTreeMap<u64, u64>,
    /// CPU seconds used by replicas during the day.
    pub(super) used: f64,
    /// CPU seconds given to them: the quota in force (more while they start) × time with a live process.
    pub(super) given: f64,
    /// Most replicas at once.
    pub(super) peak: usize,
    /// Length of the day, s.
    pub(super) seconds: f64,
}

#[derive(Default)]
struct State {
    kernel: Kernel,
    /// Last CPU total by inode, µs.
    last: BTreeMap<u64, u64>,
    counting: bool,
    at: Option<Instant>,
}

/// Reads the cgroups of the replicas while it lives.
pub(super) struct Ledger {
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    reader: std::thread::JoinHandle<()>,
}

impl Ledger {
    pub(super) fn start(slice: PathBuf, quota_cores: f64) -> Self {
        let (state, over) = (Arc::<Mutex<State>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (Arc::clone(&state), Arc::clone(&over));
        let reader = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let now = tasks(&slice, quota_cores);
                shared.lock().unwrap_or_else(PoisonError::into_inner).take(&now);
                std::thread::sleep(EVERY);
            }
        });
        Self { state, over, reader }
    }

    /// The day begins: count from here.
    pub(super) fn begin(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).counting = true;
    }

    /// The day is over. Tasks that end after it are still noted until [`Self::stop`].
    pub(super) fn finish(&self) -> Kernel {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counting = false;
        state.kernel.clone()
    }

    /// Ends the reading; returns the final totals of all tasks that ended.
    pub(super) fn stop(self) -> BTreeMap<u64, u64> {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.reader.join();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).kernel.finals.clone()
    }
}

impl State {
    fn take(&mut self, tasks: &[Task]) {
        let now = Instant::now();
        let elapsed = self.at.replace(now).map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        let live = tasks.iter().filter(|task| task.live).count();
        let given: f64 = tasks.iter().filter(|task| task.live).map(|task| task.quota_cores).sum();
        for Task { id, live, total_us, .. } in tasks {
            let before = self.last.insert(*id, *total_us).unwrap_or(0);
            if self.counting {
                self.kernel.used += total_us.saturating_sub(before) as f64 / 1e6;
            }
            if !live {
                // Read again while it stays: the last reading counts.
                self.kernel.finals.insert(*id, *total_us);
            }
        }
        if self.counting {
            self.kernel.seconds += elapsed;
            self.kernel.given += given * elapsed;
            self.kernel.peak = self.kernel.peak.max(live);
        }
    }
}

/// One task's cgroup at one time.
struct Task {
    /// Its inode.
    id: u64,
    /// It has live processes.
    live: bool,
    /// CPU total, µs.
    total_us: u64,
    /// CPU quota in force, cores.
    quota_cores: f64,
}

/// Every task of the web application below the slice; where no quota can be read it counts with `usual`.
fn tasks(slice: &Path, usual: f64) -> Vec<Task> {
    let directories = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
    };
    directories(&slice.join("web")).iter().filter_map(|task| read(task, slice, usual)).collect()
}

fn read(task: &Path, slice: &Path, usual: f64) -> Option<Task> {
    let id = std::fs::metadata(task).ok()?.ino();
    let live = std::fs::read_to_string(task.join("cgroup.events")).ok()?.contains("populated 1");
    let quota_cores = crate::cgroup::quota_cores(task, slice).unwrap_or(usual);
    Some(Task { id, live, total_us: crate::cgroup::cpu_us(task).ok()?, quota_cores })
}
