//! `cargo xtask lab-test`: what Trimtab does beside real clusters, shown on those of `cargo xtask lab`.

mod rebalance;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use model::units::Millis;

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
    /// The autoscaler scales a YARN cluster while jobs run; autoscaler, agent and ResourceManager die meanwhile (about 9 minutes, 2 GB).
    Yarn,
    /// A file system of Trimtab's own DataNodes shrinks and grows with data on it; autoscaler and a DataNode die (about 3 minutes, 1 GB).
    Hdfs,
    /// A node is emptied of its NodeManager and its DataNode while a job runs; autoscaler and agent die meanwhile (about 4 minutes, 2 GB).
    Drain,
    /// A ring grows and shrinks under load; the autoscaler dies in every state of a change (about 10 minutes, 3 GB).
    Cassandra,
    /// A web application, YARN and Cassandra on this machine, divided by Trimtab beside halved: four days (about 30 minutes, 4 GB).
    Rebalance {
        /// Length of each compressed day.
        #[arg(long = "for", value_name = "TIME", default_value = "300s")]
        day: Millis,
    },
    /// YARN, HDFS and Cassandra, each in its shorter form: what CI runs (about 13 minutes, 3 GB).
    Short,
}

impl What {
    /// Clusters, each with the tests that need it.
    fn parts(self) -> Vec<(lab::Clusters, &'static str)> {
        let hadoop = |workers| lab::Clusters { workers: Some(workers), ..lab::Clusters::default() };
        let ring = |nodes| lab::Clusters { nodes, ..lab::Clusters::default() };
        match self {
            Self::Adapters => vec![(hadoop(3), "lab_hadoop"), (ring(4), "lab_cassandra")],
            Self::Yarn => vec![(hadoop(0), "cluster_yarn")],
            Self::Hdfs => vec![(hadoop(0), "cluster_hdfs")],
            Self::Drain => vec![(hadoop(0), "cluster_drain")],
            Self::Cassandra => vec![(ring(3), "cluster_cassandra")],
            Self::Short => {
                vec![(hadoop(0), "cluster_hdfs"), (hadoop(0), "cluster_yarn"), (ring(3), "cluster_cassandra")]
            }
            Self::Rebalance { .. } => Vec::new(),
        }
    }
}

/// Runs it.
///
/// # Errors
/// When a cluster does not start, or a test fails.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    if let What::Rebalance { day } = args.what {
        let directory = std::env::temp_dir().join("trimtab-rebalance");
        return rebalance::run(root, &directory, Duration::from_millis(day.0), args.json.as_deref());
    }
    // Tests run the programs that are there, and those must be of this source.
    let programs = ["build", "--quiet", "-p", "agent", "-p", "autoscaler", "-p", "cli"];
    let built =
        Command::new("cargo").args(programs).current_dir(root).status().context("starting cargo build")?;
    ensure!(built.success(), "the programs could not be built");
    let directory = std::env::temp_dir().join("trimtab-lab-test");
    for (clusters, tests) in args.what.parts() {
        let began = Instant::now();
        crate::cgroup::end_orphans()?;
        lab::fresh(&directory, root, &clusters)?;
        let tested = test(root, &directory, tests, args);
        // A test that hangs is killed, and its members with it: they would hold the addresses of the next clusters.
        crate::cgroup::end_orphans()?;
        match &tested {
            Ok(()) => lab::wipe(&directory, root)?,
            Err(_) if args.keep => {}
            // Logs stay until the next test.
            Err(_) => lab::end(&directory, root)?,
        }
        tested?;
        println!("==> {tests}: passed, {:.0} s with its clusters", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn test(root: &Path, directory: &PathBuf, tests: &str, args: &Args) -> Result<()> {
    let mut cargo = Command::new("cargo");
    if args.what == What::Short {
        cargo.env("TRIMTAB_LAB_SHORT", "1");
    }
    if let Some(json) = &args.json {
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
