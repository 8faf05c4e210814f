//! `cargo xtask bench ingest`: synthetic agents stream to a real autoscaler; CPU per task sample from /proc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::up::install;

/// Options of `cargo xtask bench ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Agents.
    #[arg(long, default_value_t = 1000)]
    agents: u32,
    /// Tasks of one agent.
    #[arg(long, default_value_t = 50)]
    tasks: u32,
    /// Length, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    agents: u32,
    tasks_per_agent: u32,
    hz: f64,
    seconds: u64,
    samples: u64,
    receiver_us_per_sample: f64,
    total_us_per_sample: f64,
    receiver_rss_kib: u64,
    /// Every agent was connected and acknowledged to the end, and no batch waited longer than 5 s.
    held: bool,
    load_average: String,
}

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let bin = install::build(root, false)?;
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    let built = cargo
        .current_dir(root)
        .args(["build", "--quiet", "--release", "-p", "e2e", "--bin", "e2e-fleet"])
        .status()?;
    ensure!(built.success(), "the fleet could not be built");
    let directory = std::env::temp_dir().join(format!("trimtab-ingest-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let socket = directory.join("agents.sock");
    let mut autoscaler = Command::new(bin.join("trimtab-autoscaler"))
        .arg("--state")
        .arg(directory.join("state"))
        .args(["--listen", &format!("unix:{}", socket.display()), "--api", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("log"))?)
        .spawn()
        .context("starting the autoscaler")?;
    let result = fleet(args, &bin, &socket, autoscaler.id());
    let _ = autoscaler.kill();
    let _ = autoscaler.wait();
    let _ = fs::remove_dir_all(&directory);
    let report = result?;
    println!(
        "\n{} agents x {} tasks at 1 Hz for {} s, load {}",
        report.agents, report.tasks_per_agent, report.seconds, report.load_average
    );
    println!("  receiver, us of CPU per task sample   {:>8.3}   target <= 1", report.receiver_us_per_sample);
    println!("  both ends                             {:>8.3}", report.total_us_per_sample);
    println!("  receiver RSS, KiB                     {:>8}", report.receiver_rss_kib);
    println!("  held                                  {:>8}", report.held);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

fn fleet(args: &Args, bin: &Path, socket: &Path, autoscaler: u32) -> Result<Report> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !socket.exists() {
        ensure!(Instant::now() < deadline, "the autoscaler does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (agents, tasks, seconds) =
        (args.agents.to_string(), args.tasks.to_string(), args.seconds.to_string());
    println!("==> {agents} agents connect, then stream for {seconds} s");
    let before = cpu_us(autoscaler)?;
    let output = Command::new(bin.join("e2e-fleet"))
        .arg(socket)
        .args([&agents, &tasks, &seconds])
        .stderr(Stdio::inherit())
        .output()
        .context("starting the fleet")?;
    let used = cpu_us(autoscaler)? - before;
    ensure!(output.status.success(), "the fleet ended with {}", output.status);
    let seen: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("reading the fleet's result")?;
    let number = |key: &str| seen[key].as_u64().with_context(|| format!("the fleet does not say {key}"));
    let samples = number("samples")?;
    Ok(Report {
        agents: args.agents,
        tasks_per_agent: args.tasks,
        hz: 1.0,
        seconds: args.seconds,
        samples,
        receiver_us_per_sample: used as f64 / samples as f64,
        total_us_per_sample: (used + number("cpu_us")?) as f64 / samples as f64,
        receiver_rss_kib: crate::cgroup::rss_kib(autoscaler)?,
        held: number("connected_at_end")? == u64::from(args.agents) && number("slowest_ack_ms")? <= 5000,
        load_average: fs::read_to_string("/proc/loadavg")?.trim().to_owned(),
    })
}

/// User and kernel time of a process, µs.
fn cpu_us(pid: u32) -> Result<u64> {
    let schedstat: u64 = fs::read_dir(format!("/proc/{pid}/task"))
        .context("the autoscaler is gone")?
        .filter_map(|t| fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    Ok(schedstat / 1000)
}
