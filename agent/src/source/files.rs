//! Kernel files read by kept descriptors: `pread` at 0 gives fresh content without opening again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use agent_core::classify::Process;
use agent_core::parse;
use agent_core::raw::{ROOT, Raw, RawCgroup};
use model::id::CgroupId;
use model::metric::Metric;
use model::sample::Values;

use super::paths::Paths;
use super::{Health, SourceError};

/// Most descriptors kept open; beyond it a file is opened for each read.
const KEPT_LIMIT: usize = 4096;
/// Deepest tree that is walked: the kernel's own limit for nesting is configured far below it.
const DEPTH_LIMIT: usize = 64;
/// Longest file that is read whole, bytes: `io.stat` has a line of about a hundred for each device.
const LONGEST_FILE: usize = 1 << 20;
/// Cgroups compared between iterator and file in one round.
const COMPARED: usize = 4;

pub(super) struct Files {
    root: PathBuf,
    pressure: bool,
    /// CPUs that can run a cgroup at the same time.
    cpus: u64,
    kept: BTreeMap<(CgroupId, &'static str), File>,
    buffer: Vec<u8>,
    turn: usize,
}

impl Files {
    pub(super) fn new(root: PathBuf, pressure: bool) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Self { root, pressure, cpus, kept: BTreeMap::new(), buffer: vec![0; 4096], turn: 0 }
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Reads a file of a cgroup into the buffer. `Ok(None)` = the cgroup is gone.
    pub(super) fn read(
        &mut self,
        id: CgroupId,
        path: &Path,
        file: &'static str,
    ) -> Result<Option<&[u8]>, SourceError> {
        let full = || self.root.join(path).join(file);
        let opened;
        let handle = match self.kept.get(&(id, file)) {
            Some(handle) => handle,
            None => match File::open(full()) {
                Ok(handle) if self.kept.len() < KEPT_LIMIT => self.kept.entry((id, file)).or_insert(handle),
                Ok(handle) => {
                    opened = handle;
                    &opened
                }
                Err(e) if gone(&e) => return Ok(None),
                Err(error) => return Err(SourceError::Read { path: full(), error }),
            },
        };
        loop {
            match handle.read_at(&mut self.buffer, 0) {
                // It may go on behind the buffer: a number that is cut off would be read as a smaller one.
                Ok(n) if n == self.buffer.len() && n < LONGEST_FILE => self.buffer.resize(n * 2, 0),
                Ok(n) => return Ok(Some(&self.buffer[..n])),
                Err(e) if gone(&e) => return Ok(None),
                Err(error) => return Err(SourceError::Read { path: full(), error }),
            }
        }
    }

    /// Reads every cgroup by its files, parents first: the way of hosts without the iterator.
    pub(super) fn walk(&mut self, raw: &mut Raw, health: &mut Health) -> Result<(), SourceError> {
        let mut stack = vec![(PathBuf::new(), ROOT, 0)];
        while let Some((path, parent, depth)) = stack.pop() {
            let directory = self.root.join(&path);
            let id = match std::fs::metadata(&directory) {
                Ok(meta) => CgroupId(meta.ino()),
                Err(_) => continue,
            };
            let is_root = path.as_os_str().is_empty();
            if !is_root {
                let mut values = Values::default();
                let usage = match self.read(id, &path, "cpu.stat")? {
                    Some(bytes) => parse::cpu_stat(bytes, &mut values),
                    None => {
                        health.vanished += 1;
                        continue;
                    }
                };
                match usage {
                    Ok(us) => {
                        raw.cgroups.push(RawCgroup { id, parent, cpu_ns: us.saturating_mul(1000), values });
                    }
                    Err(error) => {
                        health.malformed += 1;
                        tracing::warn!(path = %directory.display(), %error, "cpu.stat cannot be read");
                        continue;
                    }
                }
            }
            let own = if is_root { ROOT } else { id };
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            if depth < DEPTH_LIMIT {
                let directories =
                    entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
                stack.extend(directories.map(|e| (path.join(e.file_name()), own, depth + 1)));
            }
        }
        Ok(())
    }

    /// Adds stalls to the round: those of our own tasks, and of others where `wanted` says so.
    pub(super) fn stalls(
        &mut self,
        raw: &mut Raw,
        paths: &Paths,
        wanted: Option<impl Fn(usize, &RawCgroup) -> bool>,
        health: &mut Health,
    ) {
        if !self.pressure {
            return;
        }
        // Of the whole host: the stalls of cgroups overlap, and cannot be added up.
        self.pressures((ROOT, Path::new("")), &mut raw.root, health);
        for position in paths.own() {
            if let Some(cgroup) = raw.cgroups.get_mut(*position) {
                self.stall(cgroup, paths, health);
            }
        }
        let Some(wanted) = wanted else { return };
        for (position, cgroup) in raw.cgroups.iter_mut().enumerate() {
            if wanted(position, cgroup) && paths.own().binary_search(&position).is_err() {
                self.stall(cgroup, paths, health);
            }
        }
    }

    fn stall(&mut self, cgroup: &mut RawCgroup, paths: &Paths, health: &mut Health) {
        if let Some(path) = paths.get(cgroup.id) {
            self.pressures((cgroup.id, path), &mut cgroup.values, health);
        }
    }

    fn pressures(&mut self, (id, path): (CgroupId, &Path), values: &mut Values, health: &mut Health) {
        for (file, metric) in [
            ("cpu.pressure", Metric::CpuStall),
            ("memory.pressure", Metric::MemoryStall),
            ("io.pressure", Metric::IoStall),
        ] {
            let parsed = match self.read(id, path, file) {
                Ok(Some(bytes)) => parse::pressure(bytes),
                Ok(None) => {
                    health.vanished += 1;
                    return;
                }
                Err(_) => continue,
            };
            match parsed {
                Ok(p) => {
                    let us = if metric == Metric::MemoryStall { p.full_us } else { p.some_us };
                    if let Some(us) = us {
                        values.set(metric, us);
                    }
                }
                Err(_) => health.malformed += 1,
            }
        }
    }

    /// Compares the iterator with the files of a few cgroups, in turn. A file is read later than the iterator, so it
    /// may be ahead by what the cgroup ran in between, at most the time between on every CPU; what is beyond is error.
    pub(super) fn compare(&mut self, raw: &Raw, paths: &Paths, health: &mut Health) {
        let count = raw.cgroups.len();
        for _ in 0..COMPARED.min(count) {
            self.turn = (self.turn + 1) % count;
            let cgroup = &raw.cgroups[self.turn];
            let Some(path) = paths.get(cgroup.id) else { continue };
            let Ok(Some(bytes)) = self.read(cgroup.id, path, "cpu.stat") else { continue };
            let Ok(file_us) = parse::cpu_stat(bytes, &mut Values::default()) else { continue };
            let between_us = crate::clock::boot_ns().saturating_sub(raw.boot_ns) / 1000 * self.cpus;
            let iterator_us = cgroup.cpu_ns / 1000;
            let error = if file_us < iterator_us {
                iterator_us - file_us
            } else {
                (file_us - iterator_us).saturating_sub(between_us)
            };
            health.iterator_error_us = Some(health.iterator_error_us.unwrap_or(0).max(error));
        }
    }

    /// Closes the files of cgroups that are gone.
    pub(super) fn forget_missing(&mut self, cgroups: &[RawCgroup]) {
        if self.kept.is_empty() {
            return;
        }
        let live: BTreeSet<CgroupId> = cgroups.iter().map(|c| c.id).collect();
        self.kept.retain(|(id, _), _| live.contains(id));
    }
}

/// ENOENT before opening, ENODEV after: a cgroup that was removed.
fn gone(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::NOENT.raw_os_error()) || code == Some(Errno::NODEV.raw_os_error())
}

/// Whether the kernel keeps stall information.
pub(super) fn has_pressure(root: &Path) -> bool {
    std::fs::read(root.join("cpu.pressure")).is_ok_and(|bytes| parse::pressure(&bytes).is_ok())
}

/// Busy time of all CPUs, µs.
pub(super) fn busy_us() -> Result<u64, SourceError> {
    let path = PathBuf::from("/proc/stat");
    let bytes = std::fs::read(&path).map_err(|error| SourceError::Read { path: path.clone(), error })?;
    let ticks = parse::proc_stat_busy(&bytes).map_err(|error| SourceError::Malformed { path, error })?;
    Ok(ticks * (1_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Reads the first process of a cgroup for classification.
#[derive(Debug, Clone)]
pub struct ProcessReader {
    /// The unified hierarchy.
    pub root: PathBuf,
    /// Environment keys worth reading.
    pub env_keys: Vec<String>,
}

impl ProcessReader {
    /// The first process listed in `cgroup.procs`; `None` when there is none or it cannot be read.
    #[must_use]
    pub fn first(&self, path: &str) -> Option<Process> {
        let procs = std::fs::read_to_string(self.root.join(path).join("cgroup.procs")).ok()?;
        let pid: u32 = procs.lines().next()?.parse().ok()?;
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let exe = std::fs::read_link(proc.join("exe")).ok()?;
        let strings = |file: &str| -> Vec<String> {
            let bytes = std::fs::read(proc.join(file)).unwrap_or_default();
            let parts = bytes.split(|b| *b == 0).filter(|part| !part.is_empty());
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        };
        let env = if self.env_keys.is_empty() { Vec::new() } else { strings("environ") };
        let wanted = |pair: String| {
            let (key, value) = pair.split_once('=')?;
            self.env_keys.iter().any(|k| k == key).then(|| (key.to_owned(), value.to_owned()))
        };
        Some(Process {
            exe: exe.file_name()?.to_string_lossy().into_owned(),
            args: strings("cmdline"),
            env: env.into_iter().filter_map(wanted).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(root: &Path, path: &str, cpu_stat: &str) {
        std::fs::create_dir_all(root.join(path)).unwrap();
        std::fs::write(root.join(path).join("cpu.stat"), cpu_stat).unwrap();
    }

    #[test]
    fn a_walk_reads_parents_first_and_skips_what_is_malformed() {
        let dir = tempfile::tempdir().unwrap();
        cgroup(dir.path(), "a", "usage_usec 10\n");
        cgroup(dir.path(), "a/b", "usage_usec 7\n");
        cgroup(dir.path(), "bad", "usage_usec ten\n");
        let mut files = Files::new(dir.path().into(), false);
        let (mut raw, mut health) = (Raw::default(), Health::default());
        files.walk(&mut raw, &mut health).unwrap();
        assert_eq!(raw.cgroups.iter().map(|c| c.cpu_ns).collect::<Vec<_>>(), [10_000, 7_000]);
        assert_eq!(raw.cgroups[1].parent, raw.cgroups[0].id);
        assert_eq!((health.malformed, files.kept()), (1, 3));
        files.forget_missing(&raw.cgroups[..1]);
        assert_eq!(files.kept(), 1);
    }

    #[test]
    fn a_cgroup_that_vanishes_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path().into(), false);
        assert!(files.read(CgroupId(5), Path::new("gone"), "cpu.stat").unwrap().is_none());
    }
}
