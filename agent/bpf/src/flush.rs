//! Makes the kernel sum up its per-CPU counters, so that a pass reads exact CPU times.
//!
//! Reading a cgroup's cpu.stat flushes everything below it (`css_rstat_flush`, `cgroup_rstat_flush` before 6.16), so for a subtree one `pread`
//! does. The root's own file does not flush (kernel/cgroup/rstat.c reads /proc/stat's counters instead): there, one `pread` for each of its
//! children does, which are few on a host that keeps its tasks in slices.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::{Path, PathBuf};

/// The files that flush a subtree, kept open.
#[derive(Debug)]
pub(crate) struct Flush {
    top: PathBuf,
    /// The top's own, or by inode number those of the root's children.
    files: BTreeMap<u64, File>,
    is_root: bool,
}

impl Flush {
    /// Opens the files for the subtree at `top`, whose inode number is `top_id`.
    pub(crate) fn open(top: &Path, top_id: u64) -> io::Result<Self> {
        // cgroup.events exists in every cgroup but the root (Documentation/admin-guide/cgroup-v2.rst).
        let is_root = !top.join("cgroup.events").exists();
        let mut flush = Self { top: top.into(), files: BTreeMap::new(), is_root };
        if is_root {
            flush.refresh()?;
        } else {
            flush.files.insert(top_id, File::open(top.join("cpu.stat"))?);
        }
        Ok(flush)
    }

    /// Flushes. Allocates nothing.
    pub(crate) fn run(&self) -> io::Result<()> {
        for file in self.files.values() {
            match file.read_at(&mut [0; 64], 0) {
                Err(error) if self.is_root && error.raw_os_error() == Some(libc::ENODEV) => {} // Removed since.
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Given the ids one level below the top as the pass saw them: are those that are flushed the same?
    pub(crate) fn is_complete(&self, below_top: impl Iterator<Item = u64>) -> bool {
        if !self.is_root {
            return true;
        }
        let mut count = 0;
        let known = below_top.inspect(|_| count += 1).filter(|id| self.files.contains_key(id)).count();
        known == count && count == self.files.len()
    }

    /// Opens the files of new children of the root, and closes those of removed ones.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.top)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let file = match self.files.remove(&entry.ino()) {
                Some(file) => file,
                None => match File::open(entry.path().join("cpu.stat")) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // Removed meanwhile.
                    file => file?,
                },
            };
            files.insert(entry.ino(), file);
        }
        self.files = files;
        Ok(())
    }
}
