//! What a setting is on this host when nobody says it.

use std::path::PathBuf;

/// The name that the kernel has for this host.
pub(super) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `$STATE_DIRECTORY` under systemd, /var/lib/trimtab-agent for root, XDG for others.
pub(super) fn default_state() -> PathBuf {
    if let Some(dir) = std::env::var_os("STATE_DIRECTORY") {
        return PathBuf::from(dir);
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/trimtab-agent");
    }
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(|| PathBuf::from(".")).join("trimtab-agent")
}

/// The first cgroup2 mount of this mount namespace.
pub(super) fn unified_mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|l| l.split(" - ").nth(1).is_some_and(|f| f.starts_with("cgroup2 ")))?;
    line.split(' ').nth(4).map(PathBuf::from)
}
