//! `cargo xtask bench soak`: what grows while cgroups come and go.
//!
//! Each cgroup lives a few seconds with one process in it, while an agent streams to a live autoscaler. Every ten seconds the
//! resident memory, open descriptors and places of the switch program are read; a line through them says how they grow. The
//! first part of the run is left out: caches fill, histories begin.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::daemons;
use super::line::Line;
use crate::cgroup::{rss_kib, unified_mount};
use crate::up::install;

/// Options of `cargo xtask bench soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length, seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// Cgroups that begin, and end, in a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Between two readings.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Longest life of a cgroup, ms; the shortest is a hundredth of it, so that some are shorter than a round.
const LONGEST_MS: u64 = 10_000;
/// Share of the run before lines are drawn.
const WARM_UP: f64 = 0.25;

#[derive(Debug, Serialize)]
struct Report {
    seconds: u64,
    cgroups_made: u64,
    /// Cgroups that the host failed to make in time: the rate was lower.
    rate_reached: f64,
    agent: Growth,
    autoscaler: Growth,
    agent_slots_used: Trend,
    agent_slots: f64,
    /// Cgroups that the agent measures.
    agent_tasks: Trend,
    agent_spool_bytes: f64,
    /// Waits without a place: must be 0 or is said.
    overflow: f64,
    agent_cpu_core_pct: f64,
    /// Bytes of the autoscaler's state on disk, an hour.
    state_bytes: Trend,
    kernel: String,
    load_average: String,
}

/// How one process grows.
#[derive(Debug, Serialize)]
struct Growth {
    rss_kib: Trend,
    fds: Trend,
}

/// A line through readings.
#[derive(Debug, Serialize)]
struct Trend {
    first: f64,
    last: f64,
    most: f64,
    slope_per_hour: f64,
    /// Standard error of the slope: what is smaller than twice this is no growth.
    slope_error: f64,
}

/// A hidden command: moves into the cgroup, works a little, sleeps, works again, ends.
pub(crate) fn brief(cgroup: &Path, life_ms: u64) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("entering {}", cgroup.display()))?;
    for pause in [life_ms, 0] {
        let until = Instant::now() + Duration::from_micros(100);
        while Instant::now() < until {}
        std::thread::sleep(Duration::from_millis(pause));
    }
    Ok(())
}

/// Everything that must be gone at the end.
struct Soak {
    top: PathBuf,
    directory: PathBuf,
    daemons: Vec<Child>,
    alive: VecDeque<(Child, PathBuf)>,
}

impl Drop for Soak {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().chain(self.alive.iter_mut().map(|(child, _)| child)) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (_, cgroup) in &self.alive {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = fs::remove_dir(&self.top);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "making cgroups needs root");
    ensure!(args.rate > 0 && args.seconds >= 60, "a rate above 0 for 60 s at least");
    let bin = install::build(root, false)?;
    let id = std::process::id();
    let mut soak = Soak {
        top: unified_mount()?.join(format!("trimtab-soak-{id}")),
        directory: std::env::temp_dir().join(format!("trimtab-soak-{id}")),
        daemons: Vec::new(),
        alive: VecDeque::new(),
    };
    fs::create_dir_all(&soak.directory)?;
    fs::create_dir(&soak.top)?;
    let agent = soak.start(&bin)?;
    let (mut readings, made, seconds) = soak.churn(args, &agent)?;
    let last = readings.last().context("no reading")?.clone();
    let cpu = |reading: &Reading| reading.counter("cpu_seconds_total");
    readings.retain(|reading| reading.at_s >= WARM_UP * seconds);
    let first = readings.first().context("no reading after the warm-up")?;
    let trend = |value: &dyn Fn(&Reading) -> f64| trend(&readings, value);
    let report = Report {
        seconds: seconds as u64,
        cgroups_made: made,
        rate_reached: made as f64 / seconds,
        agent: Growth { rss_kib: trend(&|r| r.agent.0), fds: trend(&|r| r.agent.1) },
        autoscaler: Growth { rss_kib: trend(&|r| r.autoscaler.0), fds: trend(&|r| r.autoscaler.1) },
        agent_slots_used: trend(&|r| r.counter("switch_slots_used")),
        agent_slots: last.counter("switch_slots"),
        agent_tasks: trend(&|r| r.counter("tasks")),
        agent_spool_bytes: last.counter("spool_bytes"),
        overflow: last.counter("switch_overflow_total"),
        agent_cpu_core_pct: (cpu(&last) - cpu(first)) / (last.at_s - first.at_s) * 100.0,
        state_bytes: trend(&|r| r.state_bytes),
        kernel: super::kernel()?,
        load_average: super::load_average()?,
    };
    show(&report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}

/// What was read at one time.
#[derive(Debug, Clone)]
struct Reading {
    at_s: f64,
    /// Resident KiB, open descriptors.
    agent: (f64, f64),
    autoscaler: (f64, f64),
    state_bytes: f64,
    /// The agent's metrics.
    metrics: String,
}

impl Reading {
    /// Not a number where the agent has no such metric: it shows in the report.
    fn counter(&self, name: &str) -> f64 {
        daemons::metric(&self.metrics, name).ok().flatten().unwrap_or(f64::NAN)
    }
}

impl Soak {
    /// Starts both daemons; where the agent's metrics are.
    fn start(&mut self, bin: &Path) -> Result<String> {
        self.daemons.push(daemons::autoscaler(bin, &self.directory)?);
        let agent = daemons::agent(bin, &self.directory, "")?.spawn().context("starting the agent")?;
        self.daemons.push(agent);
        daemons::metrics(&self.directory)
    }

    /// Makes and removes cgroups, and reads; readings, cgroups made, seconds.
    fn churn(&mut self, args: &Args, metrics: &str) -> Result<(Vec<Reading>, u64, f64)> {
        let own = std::env::current_exe()?;
        let began = Instant::now();
        let (mut made, mut readings, mut next) = (0_u64, Vec::new(), READ_EVERY);
        println!("==> {} cgroups a second for {} s", args.rate, args.seconds);
        while began.elapsed().as_secs() < args.seconds {
            let due = (began.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
            if made < due {
                self.begin(&own, made)?;
                made += 1;
            } else {
                std::thread::sleep(Duration::from_millis(2));
            }
            self.end()?;
            if began.elapsed() >= next {
                next += READ_EVERY;
                let reading = self.read(began, metrics)?;
                print!(
                    "\r  {:>5.0} s  {made:>7} cgroups  agent {:.0} KiB, {:.0} descriptors, {:.0} places; autoscaler {:.0} KiB, {:.0}   ",
                    reading.at_s,
                    reading.agent.0,
                    reading.agent.1,
                    reading.counter("switch_slots_used"),
                    reading.autoscaler.0,
                    reading.autoscaler.1
                );
                std::io::stdout().flush()?;
                readings.push(reading);
            }
        }
        println!();
        Ok((readings, made, began.elapsed().as_secs_f64()))
    }

    fn begin(&mut self, own: &Path, number: u64) -> Result<()> {
        let cgroup = self.top.join(format!("c{number}"));
        fs::create_dir(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        // Spread evenly, without a source of randomness: multiples of the golden ratio.
        let share = (number as f64 * 0.618_033_988_749_895).fract();
        let life = LONGEST_MS / 100 + (share * LONGEST_MS as f64) as u64;
        let child = Command::new(own)
            .arg("bench-brief")
            .arg(&cgroup)
            .arg(life.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a process")?;
        self.alive.push_back((child, cgroup));
        Ok(())
    }

    /// Removes what has ended.
    fn end(&mut self) -> Result<()> {
        // A few are asked each time: all are asked several times a second.
        for _ in 0..self.alive.len().min(8) {
            let Some((mut child, cgroup)) = self.alive.pop_front() else { break };
            match child.try_wait()? {
                Some(status) => {
                    ensure!(status.success(), "a process could not enter {}", cgroup.display());
                    fs::remove_dir(&cgroup).with_context(|| format!("removing {}", cgroup.display()))?;
                }
                None => self.alive.push_back((child, cgroup)),
            }
        }
        Ok(())
    }

    fn read(&mut self, began: Instant, metrics: &str) -> Result<Reading> {
        for (child, name) in self.daemons.iter_mut().zip(["autoscaler", "agent"]) {
            if let Some(status) = child.try_wait()? {
                bail!("the {name} ended with {status}; its log is {}/{name}.log", self.directory.display());
            }
        }
        let of = |child: &Child| -> Result<(f64, f64)> {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", child.id()))?.count();
            Ok((rss_kib(child.id())? as f64, descriptors as f64))
        };
        Ok(Reading {
            at_s: began.elapsed().as_secs_f64(),
            autoscaler: of(&self.daemons[0])?,
            agent: of(&self.daemons[1])?,
            state_bytes: bytes_below(&self.directory.join("autoscaler")),
            metrics: ureq::get(metrics).call()?.body_mut().read_to_string()?,
        })
    }
}

/// Bytes of all files of a tree; files that vanish meanwhile are left out.
fn bytes_below(directory: &Path) -> f64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        Ok(about) => about.len() as f64,
        Err(_) => 0.0,
    };
    entries.map(size).sum()
}

fn trend(readings: &[Reading], value: &dyn Fn(&Reading) -> f64) -> Trend {
    let points: Vec<(f64, f64)> = readings.iter().map(|r| (r.at_s / 3600.0, value(r))).collect();
    let line = Line::through(&points);
    Trend {
        first: points.first().map_or(f64::NAN, |p| p.1),
        last: points.last().map_or(f64::NAN, |p| p.1),
        most: points.iter().map(|p| p.1).fold(f64::NAN, f64::max),
        slope_per_hour: line.slope,
        slope_error: line.slope_error,
    }
}

fn show(r: &Report) {
    println!(
        "\n{} cgroups in {} s ({:.1} a second), kernel {}, load {}",
        r.cgroups_made, r.seconds, r.rate_reached, r.kernel, r.load_average
    );
    println!("  {:<34} {:>11} {:>11} {:>11} {:>22}", "", "first", "last", "most", "slope an hour");
    for (what, t) in [
        ("agent RSS, KiB", &r.agent.rss_kib),
        ("agent descriptors", &r.agent.fds),
        ("agent, cgroups measured", &r.agent_tasks),
        ("switch program, places in use", &r.agent_slots_used),
        ("autoscaler RSS, KiB", &r.autoscaler.rss_kib),
        ("autoscaler descriptors", &r.autoscaler.fds),
        ("autoscaler's state on disk, bytes", &r.state_bytes),
    ] {
        let slope = format!("{:.1} ± {:.1}", t.slope_per_hour, t.slope_error);
        println!("  {what:<34} {:>11.0} {:>11.0} {:>11.0} {slope:>22}", t.first, t.last, t.most);
    }
    println!(
        "  agent: {:.2} % of one core; places {:.0}; waits without a place {:.0}, bytes waiting on disk {:.0}",
        r.agent_cpu_core_pct, r.agent_slots, r.overflow, r.agent_spool_bytes
    );
}
