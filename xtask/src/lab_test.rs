//! `cargo xtask lab-test`: what Trimtab does beside real clusters, shown on those of `cargo xtask lab`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::lab;

/// Options of `cargo xtask lab-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Leave the clusters running, to look at them.
    #[arg(long, global = true)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
enum What {
    /// Every verb of the agent's adapters: YARN and HDFS with three workers, then Cassandra with four nodes (about 6 minutes, 2 GB).
    Adapters,
}

/// Runs it.
///
/// # Errors
/// When a cluster does not start, or a test fails.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let What::Adapters = args.what;
    let directory = std::env::temp_dir().join("trimtab-lab-test");
    for (clusters, tests) in [
        (lab::Clusters { workers: 3, nodes: 0 }, "lab_hadoop"),
        (lab::Clusters { workers: 0, nodes: 4 }, "lab_cassandra"),
    ] {
        let began = Instant::now();
        lab::fresh(&directory, root, &clusters)?;
        let tested = test(root, &directory, tests);
        if !args.keep || tested.is_ok() {
            lab::wipe(&directory, root)?;
        }
        tested?;
        println!("==> {tests}: passed, {:.0} s with its clusters", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn test(root: &Path, directory: &PathBuf, tests: &str) -> Result<()> {
    let status = Command::new("cargo")
        .args(["nextest", "run", "--package", "e2e", "--test", tests, "--no-capture"])
        .current_dir(root)
        .env("TRIMTAB_LAB", directory)
        .status()
        .context("starting cargo nextest")?;
    ensure!(status.success(), "{tests} failed; the logs are in {}", directory.display());
    Ok(())
}
