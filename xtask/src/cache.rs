//! What is made once and kept outside the checkout: named by a hash of its inputs, complete or not there at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest, Sha256};

/// Where things of one kind are kept. Safe to delete at any time that nothing of them runs.
pub(crate) fn directory(kind: &str) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    home.join(".cache/trimtab").join(kind)
}

/// One thing in the cache.
pub(crate) struct Entry {
    cache: PathBuf,
    name: String,
    path: PathBuf,
}

impl Entry {
    /// The entry called `name` that was made from `inputs`.
    pub(crate) fn at(cache: &Path, name: &str, inputs: &str) -> Self {
        let hash = format!("{:x}", Sha256::digest(inputs.as_bytes()));
        Self {
            cache: cache.to_owned(),
            name: name.to_owned(),
            path: cache.join(format!("{name}-{}", &hash[..16])),
        }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it in a folder of its own and renames that when complete; removes what older inputs gave.
    pub(crate) fn make_once(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.cache)?;
        let unfinished = self.cache.join(format!(".{}-{}", self.name, std::process::id()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        if let Err(error) = make(&unfinished) {
            fs::remove_dir_all(&unfinished)?;
            return Err(error.context(format!("making {}", self.name)));
        }
        // Another run may have been faster: its folder is as good as ours.
        if fs::rename(&unfinished, &self.path).is_err() && self.path.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        for entry in fs::read_dir(&self.cache)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let stale = name.strip_prefix(&format!("{}-", self.name)).is_some_and(|hash| hash.len() == 16);
            if stale && path != self.path {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

/// Files of one run; removed at its end, or by a later run when this one was killed.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A folder of this process.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache)?;
        for entry in fs::read_dir(cache)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let owner = name.strip_prefix("run-").and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                fs::remove_dir_all(path)?;
            }
        }
        let path = cache.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
