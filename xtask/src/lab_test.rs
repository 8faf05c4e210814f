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
    /// Write what was measured there.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
enum What {
    /// Every verb of the agent's adapters: YARN and HDFS with three workers, then Cassandra with four nodes (about 6 minutes, 2 GB).
    Adapters,
    /// The autoscaler scales a YARN cluster while jobs run; autoscaler, agent and ResourceManager die meanwhile (about 7 minutes, 2 GB).
    Yarn,
}

impl What {
    /// Clusters, each with the tests that need it.
    fn parts(self) -> Vec<(lab::Clusters, &'static str)> {
        match self {
            Self::Adapters => vec![
                (lab::Clusters { workers: Some(3), nodes: 0 }, "lab_hadoop"),
                (lab::Clusters { workers: None, nodes: 4 }, "lab_cassandra"),
            ],
            Self::Yarn => vec![(lab::Clusters { workers: Some(0), nodes: 0 }, "cluster_yarn")],
        }
    }
}

/// Runs it.
///
/// # Errors
/// When a cluster does not start, or a test fails.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let directory = std::env::temp_dir().join("trimtab-lab-test");
    for (clusters, tests) in args.what.parts() {
        let began = Instant::now();
        lab::fresh(&directory, root, &clusters)?;
        let tested = test(root, &directory, tests, args.json.as_deref());
        if !args.keep || tested.is_ok() {
            lab::wipe(&directory, root)?;
        }
        tested?;
        println!("==> {tests}: passed, {:.0} s with its clusters", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn test(root: &Path, directory: &PathBuf, tests: &str, json: Option<&Path>) -> Result<()> {
    let mut cargo = Command::new("cargo");
    if let Some(json) = json {
        cargo.env("TRIMTAB_REPORT", std::path::absolute(json)?);
    }
    let status = cargo
        .args(["nextest", "run", "--package", "e2e", "--test", tests, "--no-capture"])
        .current_dir(root)
        .env("TRIMTAB_LAB", directory)
        .status()
        .context("starting cargo nextest")?;
    ensure!(status.success(), "{tests} failed; the logs are in {}", directory.display());
    Ok(())
}
