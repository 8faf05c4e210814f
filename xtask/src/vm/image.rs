//! The roots of guests: each a small Debian of the host's own release, so that programs built here run there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::apt;
use crate::cache::Entry;

/// What a node has, beside what every Debian has. `libelf1` is for the oracle.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,util-linux,libelf1,ca-certificates,curl,adduser";

/// Units that only slow a boot down, wait for hardware that is not there, or are started by the suite that needs them.
const MASKED: [&str; 22] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-timesyncd.service",
    "systemd-random-seed.service",
    "systemd-hwdb-update.service",
    "systemd-firstboot.service",
    "systemd-machine-id-commit.service",
    "systemd-remount-fs.service",
    "systemd-udev-trigger.service",
    "ldconfig.service",
    "systemd-pstore.service",
    "containerd.service",
    "docker.service",
    "docker.socket",
    "podman.socket",
];

/// Makes the image of a node with `more` packages (with commas), unless the cache has it.
pub(super) fn prepare(cache: &Path, more: &str) -> Result<PathBuf> {
    let release = apt::codename()?;
    let (suite, unit) = (include_str!("guest/suite.sh"), include_str!("guest/suite.service"));
    let packages = format!("{PACKAGES},{more}");
    let packages = packages.trim_end_matches(',');
    let name = format!("root+{}", more.replace(',', "+"));
    let entry = Entry::at(
        cache,
        name.trim_end_matches('+'),
        &format!("{release} {packages} {MASKED:?} {suite} {unit}"),
    );
    entry.make_once(|into| {
        println!("    root: Debian {release} with {packages}");
        let tree = into.join("tree");
        let status = Command::new("mmdebstrap")
            .args(["--mode=root", "--variant=minbase", "--quiet"])
            .arg(format!("--include={packages}"))
            .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*"])
            .args(["--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*"])
            .arg(&release)
            .arg(&tree)
            .arg(apt::mirror()?)
            .status()
            .context("starting mmdebstrap")?;
        ensure!(status.success(), "mmdebstrap ended with {status}");
        configure(&tree, suite, unit)?;
        pack(&tree, &into.join("root.erofs"))?;
        fs::remove_dir_all(tree)?;
        Ok(())
    })?;
    Ok(entry.path().join("root.erofs"))
}

fn configure(tree: &Path, suite: &str, unit: &str) -> Result<()> {
    let units = tree.join("etc/systemd/system");
    for masked in MASKED {
        let link = units.join(masked);
        let _absent = fs::remove_file(&link);
        std::os::unix::fs::symlink("/dev/null", link)?;
    }
    // The identity comes from the kernel's command line, so that machines of one image differ.
    fs::write(tree.join("etc/machine-id"), "")?;
    fs::write(tree.join("etc/fstab"), "")?;
    fs::write(tree.join("etc/hostname"), "guest\n")?;
    let journal = tree.join("etc/systemd/journald.conf.d");
    fs::create_dir_all(&journal)?;
    fs::write(journal.join("guest.conf"), "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n")?;
    let program = tree.join("usr/local/sbin/suite");
    fs::write(&program, suite)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(units.join("suite.service"), unit)?;
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    std::os::unix::fs::symlink("../suite.service", wanted.join("suite.service"))?;
    for rest in ["var/cache/apt", "var/lib/apt/lists"] {
        let _absent = fs::remove_dir_all(tree.join(rest));
    }
    Ok(())
}

/// A folder as a read-only disk.
pub(super) fn pack(tree: &Path, image: &Path) -> Result<()> {
    let output = Command::new("mkfs.erofs")
        .args(["-zlz4", "--all-root", "-T0", "--quiet"])
        .arg(image)
        .arg(tree)
        .output()
        .context("starting mkfs.erofs")?;
    ensure!(
        output.status.success(),
        "mkfs.erofs ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
