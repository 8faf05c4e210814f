//! `cargo xtask bench ingest`: synthetic agents stream to a real autoscaler; CPU per task sample from /proc, the time
//! until a sample can be seen, memory, and with `--storm` how a killed autoscaler gets all its agents back.

mod fleet;
mod receiver;
mod storm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

pub(super) use fleet::Fleet;
pub(super) use receiver::Receiver;
use receiver::cpu_us;
use storm::Storm;

/// Options of `cargo xtask bench ingest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Agents.
    #[arg(long, default_value_t = 1000)]
    agents: u32,
    /// Tasks of one agent.
    #[arg(long, default_value_t = 50)]
    tasks: u32,
    /// Length of the measurement, seconds. History is written once a minute: shorter ones leave its cost out.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Then kill the autoscaler, start it again, and wait for all agents. Agents dial TCP, whose accept queue is counted.
    #[arg(long)]
    storm: bool,
    /// First measure the same streams into a receiver that only takes them off the wire.
    #[arg(long)]
    floor: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A stream is given so long to settle before it is measured: connecting, its first snapshot, full tables.
const SETTLE: Duration = Duration::from_secs(10);
/// As `autoscaler::listen::GATHER`.
const GATHER_MS: &str = "10";
/// Longest time until a sample can be seen, ms (SPECIFICATION.md).
const VISIBLE_MS: u64 = 2_000;
/// Longest wait of a batch for its acknowledgement, ms: the five seconds between two for all, and as much again.
const ACK_MS: u64 = 10_000;

#[derive(Debug, Serialize)]
struct Report {
    agents: u32,
    tasks_per_agent: u32,
    hz: f64,
    seconds: u64,
    samples: u64,
    receiver_us_per_sample: f64,
    total_us_per_sample: f64,
    /// The same streams taken off the wire and not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_us_per_sample: Option<f64>,
    /// At the end.
    receiver_rss_kib: u64,
    /// When half of the time was over.
    receiver_rss_half_kib: u64,
    /// From the hand-over of a sample to the answer of the REST interface that counts it.
    visible_p99_ms: u64,
    visible_max_ms: u64,
    visible_probes: usize,
    slowest_ack_ms: u64,
    /// Batches that a full queue turned away.
    dropped: u64,
    /// No stream broke, every agent was connected to the end, nothing was turned away, every probed sample was seen and
    /// 99 % of them within 2 s, no batch waited longer than 10 s for its acknowledgement.
    held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<Storm>,
    load_average: String,
}

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let bin = build(root)?;
    let directory = std::env::temp_dir().join(format!("trimtab-ingest-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let result = measure(args, &bin, &directory);
    let _ = fs::remove_dir_all(&directory);
    let report = result?;
    show(&report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

/// Builds only what is measured.
fn build(root: &Path) -> Result<PathBuf> {
    println!("==> building trimtab-autoscaler and the fleet (a first build takes some minutes)");
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(root).args(["build", "--quiet", "--release", "-p", "autoscaler", "-p", "e2e"]);
    for program in ["trimtab-autoscaler", "e2e-fleet", "e2e-floor"] {
        cargo.args(["--bin", program]);
    }
    ensure!(cargo.status()?.success(), "the programs could not be built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn measure(args: &Args, bin: &Path, directory: &Path) -> Result<Report> {
    let floor = if args.floor { Some(floor(args, bin, directory)?) } else { None };
    let listen = match args.storm {
        true => "127.0.0.1:0".to_owned(),
        false => format!("unix:{}", directory.join("agents.sock").display()),
    };
    let mut receiver = Receiver::start(bin, directory, &listen)?;
    let fleet = Fleet::start(bin, receiver.agents(), args.agents, args.tasks, Some(receiver.api()))?;
    println!("==> {} agents are connected; they stream for {} s", args.agents, args.seconds);
    std::thread::sleep(SETTLE);
    let before = (receiver.cpu_us()?, cpu_us(fleet.pid())?, receiver.counter("trimtab_samples_total")?);
    let half = Duration::from_secs(args.seconds) / 2;
    std::thread::sleep(half);
    let rss_half = receiver.rss_kib()?;
    std::thread::sleep(half);
    let after = (receiver.cpu_us()?, cpu_us(fleet.pid())?, receiver.counter("trimtab_samples_total")?);
    let rss = receiver.rss_kib()?;
    let dropped = receiver.counter("trimtab_history_batches_dropped_total")?;
    let load_average = super::load_average()?;
    let samples = after.2 - before.2;
    ensure!(samples > 0, "the autoscaler took no sample");
    let storm = if args.storm { Some(Storm::run(&mut receiver, &fleet, args.agents)?) } else { None };
    let seen = fleet.end()?;
    let used = (after.0 - before.0) as f64;
    let steady = seen.reconnects == if args.storm { u64::from(args.agents) } else { 0 };
    Ok(Report {
        agents: args.agents,
        tasks_per_agent: args.tasks,
        hz: 1.0,
        seconds: args.seconds,
        samples,
        receiver_us_per_sample: used / samples as f64,
        total_us_per_sample: (used + (after.1 - before.1) as f64) / samples as f64,
        floor_us_per_sample: floor,
        receiver_rss_kib: rss,
        receiver_rss_half_kib: rss_half,
        visible_p99_ms: seen.visible(0.99),
        visible_max_ms: seen.visible(1.0),
        visible_probes: seen.visible_ms.len(),
        slowest_ack_ms: seen.slowest_ack_ms,
        dropped,
        held: seen.connected_at_end == u64::from(args.agents)
            && steady
            && dropped == 0
            && !seen.visible_ms.is_empty()
            && seen.never_visible == 0
            && seen.visible(0.99) < VISIBLE_MS
            && (args.storm || seen.slowest_ack_ms <= ACK_MS),
        storm,
        load_average,
    })
}

/// CPU per sample of a receiver that does nothing with what it takes, µs.
fn floor(args: &Args, bin: &Path, directory: &Path) -> Result<f64> {
    let socket = directory.join("floor.sock");
    let mut floor =
        receiver::Killed(Command::new(bin.join("e2e-floor")).arg(&socket).arg(GATHER_MS).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !socket.exists() {
        ensure!(Instant::now() < deadline && floor.0.try_wait()?.is_none(), "the floor does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = floor.0.id();
    let fleet = Fleet::start(bin, &format!("unix:{}", socket.display()), args.agents, args.tasks, None)?;
    std::thread::sleep(SETTLE);
    println!("==> the floor: {} s", args.seconds.min(30));
    let (before, began) = (cpu_us(pid)?, Instant::now());
    std::thread::sleep(Duration::from_secs(args.seconds.min(30)));
    let samples = began.elapsed().as_secs_f64() * f64::from(args.agents) * f64::from(args.tasks);
    let used = cpu_us(pid)? - before;
    fleet.end()?;
    Ok(used as f64 / samples)
}

fn show(report: &Report) {
    println!(
        "\n{} agents x {} tasks at 1 Hz for {} s, load {}",
        report.agents, report.tasks_per_agent, report.seconds, report.load_average
    );
    println!("  receiver, us of CPU per task sample   {:>8.3}   target <= 1", report.receiver_us_per_sample);
    if let Some(floor) = report.floor_us_per_sample {
        println!("  of it the transport alone             {floor:>8.3}");
    }
    println!("  both ends                             {:>8.3}", report.total_us_per_sample);
    println!("  receiver RSS half way, KiB            {:>8}", report.receiver_rss_half_kib);
    println!("  receiver RSS at the end, KiB          {:>8}", report.receiver_rss_kib);
    println!(
        "  sample to visible, p99, ms            {:>8}   target < {VISIBLE_MS} (most {}, {} probes)",
        report.visible_p99_ms, report.visible_max_ms, report.visible_probes
    );
    println!("  slowest acknowledgement, ms           {:>8}", report.slowest_ack_ms);
    println!("  held                                  {:>8}", report.held);
    if let Some(storm) = &report.storm {
        println!("  storm: all agents back after, s       {:>8.1}   target < 30", storm.back_seconds);
        println!("  storm: accept queue overflows         {:>8}   target 0", storm.listen_overflows);
    }
}
