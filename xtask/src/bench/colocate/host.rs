//! What the kernel says of this node and of processes, read beside Trimtab.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Ticks of /proc in a second (`USER_HZ`, the same on all of Linux' architectures that we build for).
const HZ: u64 = 100;

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Host {
    pub(super) kernel: String,
    pub(super) cpu: String,
    pub(super) cpus: u32,
    /// Where the CPU controller is: `v1` or `v2`.
    pub(super) cgroup_cpu: String,
    /// Whether groups can be idle (`cpu.idle`), so that nothing stands in for it.
    pub(super) cpu_idle: bool,
    /// What gives the load generator its priority.
    pub(super) generator: String,
}

pub(super) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// The processor's name.
pub(super) fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown".to_owned(), |(_, name)| name.to_owned())
}

pub(super) fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// Time that all CPUs were busy, and that the hypervisor took from them, µs.
pub(super) fn busy_and_stolen_us() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_and_stolen(&text).context("reading the first line of /proc/stat")
}

fn busy_and_stolen(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else { return None };
    let us = 1_000_000 / HZ;
    Some(((user + nice + system + irq + softirq) * us, stolen * us))
}

/// CPU time of a process' live threads, µs: to the nanosecond, where /proc/PID/stat has ticks of 10 ms.
pub(super) fn process_us(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| path.clone())?;
    let files = threads.filter_map(Result::ok).map(|thread| thread.path().join("schedstat"));
    let ns: u64 = files.filter_map(|file| on_cpu_ns(&fs::read_to_string(file).ok()?)).sum();
    Ok(ns / 1000)
}

fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split(' ').next()?.parse().ok()
}

/// A group of the CPU controller for best-effort work that Trimtab knows nothing of: in the agent's slice, beside its workloads, so that it stands
/// to the service as the agent's own best-effort work does.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    v1: bool,
}

/// v1's mount of the CPU controller, where it is there.
const V1: &str = "/sys/fs/cgroup/cpu";
/// Smallest weights (kernel/sched/sched.h: `MIN_SHARES`; cgroup-v2.rst).
const LEAST: (&str, &str) = ("2", "1");
/// Of the slice, in all modes: 16 times the usual, so that whatever else runs on this machine takes little from what is measured.
const SLICE: (&str, &str) = ("16384", "1600");

impl Group {
    pub(super) fn make(slice: &str) -> Result<Self> {
        let v1 = Path::new(V1).join("cpu.cfs_quota_us").exists() || Path::new(V1).join("cpu.shares").exists();
        let parent = if v1 { PathBuf::from(V1) } else { crate::cgroup::unified_mount()? }.join(slice);
        let path = parent.join("outside-trimtab");
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let group = Self { path, v1 };
        let file = group.weight_file();
        let slice = if v1 { SLICE.0 } else { SLICE.1 };
        fs::write(parent.join(file), slice).with_context(|| format!("{file} of {}", parent.display()))?;
        group.set_idle(false)?;
        Ok(group)
    }

    fn weight_file(&self) -> &'static str {
        if self.v1 { "cpu.shares" } else { "cpu.weight" }
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
    }

    pub(super) fn version(&self) -> &'static str {
        if self.v1 { "v1" } else { "v2" }
    }

    /// Whether this kernel has idle groups.
    pub(super) fn can_idle(&self) -> bool {
        self.path.join("cpu.idle").exists()
    }

    /// Idle, or of the smallest weight again.
    pub(super) fn set_idle(&self, idle: bool) -> Result<()> {
        if self.can_idle() {
            self.write("cpu.idle", if idle { "1" } else { "0" })?;
        } else {
            anyhow::ensure!(!idle, "this kernel has no cpu.idle (it came with 5.15): leave that mode out");
        }
        if !idle {
            self.write(self.weight_file(), if self.v1 { LEAST.0 } else { LEAST.1 })?;
        }
        Ok(())
    }

    /// Quota, µs in a period of 100 ms; `None` = no limit.
    pub(super) fn set_quota(&self, us: Option<u64>) -> Result<()> {
        match (self.v1, us) {
            (true, us) => self.write("cpu.cfs_quota_us", &us.map_or("-1".to_owned(), |us| us.to_string())),
            (false, Some(us)) => self.write("cpu.max", &format!("{us} {}", super::suppress::PERIOD_US)),
            (false, None) => self.write("cpu.max", "max"),
        }
    }

    pub(super) fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("warning: {} could not be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_where_the_kernel_puts_them() {
        let stat = "cpu  100 20 30 4000 50 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(busy_and_stolen(stat), Some((1_630_000, 80_000)));
        assert_eq!(busy_and_stolen("cpu  100 20\n"), None);
        assert_eq!((on_cpu_ns("1234567 89 10\n"), on_cpu_ns("")), (Some(1_234_567), None));
        assert!(process_us(std::process::id()).unwrap() > 0, "this process has run");
    }
}
