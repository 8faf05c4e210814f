//! Cgroups of the tests' own, removed when they are dropped.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Where the unified hierarchy is mounted, if the tests may use it and the kernel has BTF; says why not.
pub fn root_or_skip() -> Option<PathBuf> {
    // SAFETY: a call without arguments that cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIP: not root");
        return None;
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        eprintln!("SKIP: this kernel describes no types (/sys/kernel/btf/vmlinux)");
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let root = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, path, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    if root.is_none() {
        eprintln!("SKIP: no unified cgroup hierarchy is mounted");
    }
    root
}

/// A cgroup of this test process.
pub struct TestCgroup {
    pub path: PathBuf,
}

impl TestCgroup {
    pub fn new(root: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("trimtab-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = root.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        Self { path }
    }

    /// One below this one.
    pub fn child(&self, name: &str) -> Self {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        Self { path }
    }

    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).unwrap().ino()
    }

    /// Runs a shell command inside.
    pub fn spawn(&self, script: &str) -> Child {
        let script = format!("echo 0 > {}/cgroup.procs && {script}", self.path.display());
        Command::new("sh").args(["-c", &script]).spawn().unwrap()
    }

    /// `usage_usec` of its cpu.stat.
    pub fn usage_us(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("cpu.stat")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
    }

    /// Waits until no process is left inside.
    pub fn wait_empty(&self) {
        for _ in 0..500 {
            if fs::read_to_string(self.path.join("cgroup.procs")).unwrap().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} did not become empty", self.path.display());
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("could not remove {}", self.path.display());
    }
}
