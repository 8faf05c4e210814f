//! The unified cgroup hierarchy of this host, as the kernel shows it: read beside Trimtab, never through it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The first cgroup2 mount of this mount namespace.
pub(crate) fn unified_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let line = mounts.lines().find(|l| l.split(" - ").nth(1).is_some_and(|f| f.starts_with("cgroup2 ")));
    let path = line.and_then(|l| l.split(' ').nth(4)).map(PathBuf::from);
    path.context("no cgroup2 mount in /proc/self/mountinfo: mount one first")
}

/// CPU total of a cgroup with everything below it, µs.
pub(crate) fn cpu_us(cgroup: &Path) -> Result<u64> {
    let path = cgroup.join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let usage = text.lines().find_map(|l| l.strip_prefix("usage_usec ")).context("no usage_usec")?;
    usage.parse().with_context(|| path.display().to_string())
}

/// Resident memory of a process, KiB.
pub(crate) fn rss_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the program is gone")?;
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    rss.trim().trim_end_matches(" kB").parse().context("VmRSS")
}

/// CPU quota of a cgroup below `slice`, cores: its own `cpu.max`, or that of the v1 hierarchy with the same path; `None`
/// when it has none.
pub(crate) fn quota_cores(cgroup: &Path, slice: &Path) -> Option<f64> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
    if let Ok(text) = fs::read_to_string(cgroup.join("cpu.max")) {
        let (quota, period) = text.trim().split_once(' ')?;
        return Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?);
    }
    let below = cgroup.strip_prefix(slice.parent()?).ok()?;
    let v1 = Path::new(V1_CPU).join(below);
    let (quota, period) = (number(v1.join("cpu.cfs_quota_us"))?, number(v1.join("cpu.cfs_period_us"))?);
    (quota > 0.0).then_some(quota / period)
}

/// Where an old hierarchy divides CPU, on hybrid hosts.
const V1_CPU: &str = "/sys/fs/cgroup/cpu";
/// How long what was killed may take to be gone.
const END: Duration = Duration::from_secs(10);

/// Kills what runs in a cgroup and below, and removes it; true when it is gone.
pub(crate) fn end(cgroup: &Path) -> bool {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    let deadline = Instant::now() + END;
    while !remove_tree(cgroup) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Puts this process into the cgroup of the same path where CPU is divided by an old hierarchy: as what systemd starts, it competes as one of
/// its slice, not with each of its threads.
pub(crate) fn join_old(unified: &Path, cgroup: &Path) {
    let Ok(below) = cgroup.strip_prefix(unified) else { return };
    let old = Path::new(V1_CPU);
    if old.join("cpu.cfs_quota_us").exists() && fs::create_dir_all(old.join(below)).is_ok() {
        let _ = fs::write(old.join(below).join("cgroup.procs"), "0");
    }
}

/// The same for a slice, which stands on top of the unified hierarchy, and for what has its name where controllers are on the old ones.
pub(crate) fn end_slice(slice: &Path) {
    end(slice);
    let Some(name) = slice.file_name() else { return };
    // A process that has ended leaves one hierarchy after the other.
    let deadline = Instant::now() + END;
    for v1 in ["cpu", "memory", "pids"] {
        let path = Path::new("/sys/fs/cgroup").join(v1).join(name);
        while !remove_tree(&path) {
            if Instant::now() > deadline {
                eprintln!("warning: {} could not be removed", path.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends what test programs left that were killed before they could: slices that are named after a process that is gone.
pub(crate) fn end_orphans() -> Result<()> {
    for entry in fs::read_dir(unified_mount()?).context("listing cgroups")?.filter_map(Result::ok) {
        let name = entry.file_name();
        let gone = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
        if name.to_str().and_then(tested_by).is_some_and(gone) {
            println!("    ending {}, whose test was killed", name.display());
            end_slice(&entry.path());
        }
    }
    Ok(())
}

/// The process of the test program whose slice this is.
fn tested_by(slice: &str) -> Option<u32> {
    let (pid, number) = slice.strip_prefix("trimtab-e2e-")?.strip_suffix(".slice")?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Removes a tree of cgroups, deepest first; true when it is gone.
fn remove_tree(top: &Path) -> bool {
    for entry in fs::read_dir(top).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(top).is_ok() || !top.exists()
}

#[cfg(test)]
mod tests {
    use super::tested_by;

    #[test]
    fn only_slices_of_tests_have_a_process_in_their_name() {
        assert_eq!(tested_by("trimtab-e2e-4711-0.slice"), Some(4711));
        for other in [
            "trimtab.slice",
            "trimtab-e2e-4711.slice",
            "trimtab-e2e-trial-4711.slice",
            "trimtab-e2e-1-x.slice",
        ] {
            assert_eq!(tested_by(other), None, "{other}");
        }
    }
}
