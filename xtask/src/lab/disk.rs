//! A disk in memory, for daemons whose decisions depend on how full disks are: that of this machine may be fuller than they allow.

use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts a disk of so many MiB, of which only what is written takes memory. What is there already stays. False where nothing may be mounted.
///
/// # Errors
/// When the directory cannot be made.
pub(super) fn own(directory: &Path, mib: u32) -> Result<bool> {
    std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    if std::fs::read_dir(directory)?.next().is_some() || is_mount(directory) {
        return Ok(true);
    }
    let options = format!("size={mib}m,mode=0755");
    Ok(mount(Some("trimtab-lab"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).is_ok())
}

/// Gives it back, with what is on it: at once for everybody who looks for it, and for who still has something open there when that is closed.
///
/// # Errors
/// When the kernel does not take it.
pub(super) fn give_back(directory: &Path) -> Result<()> {
    match umount2(directory, MntFlags::MNT_DETACH) {
        // It never was one.
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", directory.display())),
    }
}

fn is_mount(directory: &Path) -> bool {
    let device = |path: &Path| nix::sys::stat::stat(path).map(|stat| stat.st_dev).ok();
    directory.parent().is_some_and(|parent| device(parent) != device(directory))
}
