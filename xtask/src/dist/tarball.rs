//! The agent alone in an archive, for hosts without packages: unpack it, then `./trimtab-agent install`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Packs the agent of `tree`, which is its package's, into `into`; where the archive is.
pub(super) fn build(root: &Path, version: &str, tree: &Path, into: &Path) -> Result<PathBuf> {
    let name = format!("trimtab-agent-{version}-{}", std::env::consts::ARCH);
    let folder = into.join(&name);
    fs::create_dir_all(&folder)?;
    fs::copy(tree.join("usr/bin/trimtab-agent"), folder.join("trimtab-agent"))?;
    fs::copy(root.join("LICENSE"), folder.join("LICENSE"))?;
    let file = into.join(format!("{name}.tar.gz"));
    let status = Command::new("tar")
        .args(["--owner=0", "--group=0", "--sort=name", "-czf"])
        .arg(&file)
        .arg("-C")
        .args([into, Path::new(&name)])
        .status()
        .context("starting tar")?;
    ensure!(status.success(), "tar ended with {status}");
    fs::remove_dir_all(folder)?;
    Ok(file)
}
