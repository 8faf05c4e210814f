//! `cargo xtask dist`: packages of the agent, the autoscaler and the command, and an archive of the agent.
//!
//! | module | question |
//! |---|---|
//! | [`package`] | what is in which package, and where? |
//! | [`deb`] | how does a tree become a .deb? |
//! | [`rpm`] | how does it become an .rpm? |
//! | [`tarball`] | what is for hosts without packages? |

mod deb;
mod package;
mod rpm;
mod tarball;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::up::install;

/// Options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the packages go.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Package unoptimised programs: faster to build, for tests.
    #[arg(long)]
    debug: bool,
    /// The packages' version, instead of the workspace's.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// Builds the programs and packs them.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let into = args.into.clone().unwrap_or_else(|| root.join("target/dist"));
    let version = args.version.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    for file in packages(root, args.debug, &version, &into)? {
        println!("    {} ({} KiB)", file.display(), fs::metadata(&file)?.len() / 1024);
    }
    Ok(())
}

/// Makes all packages in `into`; where they are.
pub(crate) fn packages(root: &Path, debug: bool, version: &str, into: &Path) -> Result<Vec<PathBuf>> {
    ensure!(
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~-".contains(&b)),
        "`{version}` is no version of a package: letters, digits and . + ~ - only"
    );
    if !install::installed("rpm") {
        install::apt(&["rpm"])?;
    }
    let bin = install::build(root, debug)?;
    fs::create_dir_all(into)?;
    let trees = into.join(".trees");
    if trees.exists() {
        fs::remove_dir_all(&trees)?;
    }
    let generated = trees.join("generated");
    generate(&bin.join("trimtab"), &generated)?;
    let mut made = Vec::new();
    for package in &package::PACKAGES {
        let tree = trees.join(package.name);
        for file in package.files {
            file.place(root, &bin, &generated, &tree)?;
        }
        // The .deb last: it adds its own folder to the tree.
        made.push(rpm::build(package, version, &tree, into)?);
        if package.name == "trimtab-agent" {
            made.push(tarball::build(root, version, &tree, into)?);
        }
        made.push(deb::build(package, root, version, &tree, into)?);
    }
    fs::remove_dir_all(trees)?;
    Ok(made)
}

/// Manual pages and completions, which the command itself writes.
fn generate(trimtab: &Path, into: &Path) -> Result<()> {
    let man = into.join("man");
    fs::create_dir_all(&man)?;
    let status = Command::new(trimtab).arg("man").arg(&man).status().context("starting trimtab")?;
    ensure!(status.success(), "`trimtab man` ended with {status}");
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(trimtab).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "`trimtab completions {shell}` ended with {}", output.status);
        fs::write(into.join(shell), output.stdout)?;
    }
    Ok(())
}
