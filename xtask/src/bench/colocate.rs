//! `cargo xtask bench colocate`: what best-effort work costs a latency-critical service beside it, and what it gets done, under several ways to
//! hold it back.
//!
//! **What runs.** A service that answers requests over TCP with a fixed amount of CPU work each, by more workers than CPUs; a load generator with
//! Poisson arrivals at shares of the capacity that the service has alone; best-effort work that never waits and counts what it has done.
//! Service and best-effort work are tasks of the real agent, run by its executor, in all modes; in those that are not ours the best-effort
//! task is stopped and another one runs in a group beside the two workloads.
//! **How it is compared.** Each round goes through the modes and back (A B C D D C B A), each way with arrivals from one seed for all
//! modes; ratios are of slots with the same arrivals. First, no mode against itself: that is the noise. A slot during which others used
//! more than a share of this machine is measured once more, whatever it gave.
//! **What it is not.** The generator runs on the same CPUs: with real-time priority, so that what it measures is not its own wait. Two CPUs of
//! a virtual machine have no siblings; caches are the host's.

mod arrivals;
mod histogram;
mod hog;
mod host;
mod load;
mod report;
mod service;
mod slot;
mod stage;
mod suppress;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::up::install;
use hog::Kind;
use host::{Group, Host};
use report::{Pair, Report, Run};
use slot::{Bench, Mode, Slot, Wanted};
use stage::Stage;

/// Options of `cargo xtask bench colocate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Loads, percent of the capacity that the service has alone.
    #[arg(long, value_delimiter = ',', default_value = "10,30,50,60,70,80,90")]
    loads: Vec<u32>,
    /// Modes, each compared with `off`.
    #[arg(long, value_delimiter = ',', default_value = "off,weight,fixed,ours")]
    modes: Vec<Mode>,
    /// Ways there and back at each load.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Length of a slot, seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Time that the loop is given before its slots, seconds: ten that are calm, and growth by a tenth of the node in each more.
    #[arg(long, default_value_t = 15.0)]
    settle: f64,
    /// Pairs without best-effort work, at the worst load.
    #[arg(long, default_value_t = 9)]
    pairs: u32,
    /// What best-effort work does.
    #[arg(long, default_value = "cpu")]
    kind: Kind,
    /// CPU time of a request, µs.
    #[arg(long, default_value_t = 1000)]
    request_us: u64,
    /// A line for `[qos]` of the agent's configuration, as `headroom = "5%"`; may be given several times.
    #[arg(long, value_name = "KEY = VALUE")]
    qos: Vec<String>,
    /// Of the arrivals; each slot's is printed.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// A slot during which others used more than this share of the machine is measured again, up to twice, and does not count when there are
    /// others.
    #[arg(long, default_value_t = 0.1)]
    foreign: f64,
    /// For waiting until others use less than that, and for measuring again: seconds in all.
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    /// Measure the programs in this directory instead of building them.
    #[arg(long, value_name = "DIRECTORY")]
    bin: Option<PathBuf>,
    /// Put the slots of an earlier result of this command, with the same settings, to those of this one.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Measure nothing: show what `--with` has.
    #[arg(long, requires = "with")]
    show: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table between the marks of this Markdown file.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

/// A part of the benchmark that is a process of its own.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// The service.
    Serve { place: PathBuf, workers: u32, units: u32 },
    /// Best-effort work.
    Burn { counter: PathBuf, threads: u32, kind: Kind },
    /// The load generator.
    Load(load::Plan),
}

/// A hidden command: one part.
///
/// # Errors
/// Those of the part.
pub(crate) fn part(part: Part) -> Result<()> {
    match part {
        Part::Serve { place, workers, units } => service::serve(&place, workers, units),
        Part::Burn { counter, threads, kind } => hog::burn(&counter, threads, kind),
        Part::Load(plan) => load::generate(plan),
    }
}

/// Workers of the service and connections to it: two for each CPU, as services have that wait for others now and then.
fn workers() -> u32 {
    host::cpus() * 2
}

/// Length of a calibration, seconds.
const CALIBRATION: f64 = 5.0;
/// Not measured at the start of a slot: without best-effort work, and where it begins anew (two intervals of the fixed rule, and some).
const WARM: (f64, f64) = (0.5, 2.5);
/// It is quiet when others used little for so long.
const QUIET: Duration = Duration::from_millis(500);
/// Measurements of one slot at most.
const TRIALS: u32 = 3;
/// Between these the table stands.
const MARKS: (&str, &str) = ("<!-- begin colocate -->", "<!-- end colocate -->");

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Off => "no best-effort work",
            Mode::Weight => "smallest weight",
            Mode::Fixed => "fixed 65 %",
            Mode::Ours => "our loop",
            Mode::Idle => "idle group only",
        }
    }
}

pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "making cgroups needs root");
    ensure!(args.loads.iter().all(|load| (1..=100).contains(load)), "loads are percent: 1 to 100");
    ensure!(args.modes.contains(&Mode::Off), "all modes are compared with `off`: add it to --modes");
    let earlier = args.with.as_deref().map(read).transpose()?;
    if let (true, Some(earlier)) = (args.show, &earlier) {
        return tell(args, &earlier.clone().complete());
    }
    let bin = args.bin.clone().map_or_else(|| install::build(root, false), Ok)?;
    let (report, took) = measure(args, &bin, earlier)?;
    tell(args, &report)?;
    println!("  took {:.0} s", took.as_secs_f64());
    Ok(())
}

fn tell(args: &Args, report: &Report) -> Result<()> {
    println!("\n{}", report.table());
    summary(report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(path) = &args.table {
        fill(path, &report.table())?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no result of this command", path.display()))
}

fn measure(args: &Args, bin: &Path, earlier: Option<Report>) -> Result<(Report, Duration)> {
    let began = Instant::now();
    // The first signal ends it in order after its slot, the second one at once.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let at_start = host::load_average()?;
    let units = work::units_for(Duration::from_micros(args.request_us));
    let priority = load::priority();
    println!("==> load average {at_start}; a request is {units} units of work; the stage comes up");
    let stage = Stage::start(bin, units, args.kind, &args.qos)?;
    let group = Group::make(&stage.slice)?;
    let host = Host {
        kernel: super::kernel()?,
        cpu: host::cpu_name(),
        cpus: host::cpus(),
        cgroup_cpu: group.version().to_owned(),
        cpu_idle: group.can_idle(),
        generator: if priority.is_empty() { "no priority".to_owned() } else { priority.join(" ") },
    };
    if let Some(earlier) = &earlier {
        let same = (&earlier.host, earlier.kind.as_str(), &earlier.qos, earlier.request_us)
            == (&host, args.kind.name(), &args.qos, args.request_us);
        ensure!(
            same,
            "--with: that was another host, kind of work, request or [qos]: they cannot be put together"
        );
    }
    let cpus = host::cpus();
    let mut bench = Bench { group, stage, priority, kind: args.kind, cpus, capacity: 0.0, best_alone: 0.0 };
    bench.calibrate_service(CALIBRATION)?;
    bench.calibrate_best(CALIBRATION)?;
    println!("==> alone: {:.0} requests/s; best-effort work {:.0} units/s", bench.capacity, bench.best_alone);
    let mut taker = Taker { args, bench, repeated: 0, patience: args.patience, stop };
    let pairs = taker.pairs()?;
    let mut slots = Vec::new();
    for round in 0..args.rounds {
        for load in &args.loads {
            slots.extend(taker.round(*load, round)?);
        }
    }
    let run = Run {
        seed: args.seed,
        capacity: taker.bench.capacity,
        load_average: (at_start, host::load_average()?),
        repeated: taker.repeated,
    };
    let mut report = Report {
        aa_p99_ratio: None,
        aa_p99_spread: None,
        counted_pairs: 0,
        lc_p99_ratio: None,
        lc_p99_spread: None,
        utilisation_gain_points_at_60: None,
        worst_load: 0,
        inconclusive: Vec::new(),
        others: Vec::new(),
        rows: Vec::new(),
        host,
        kind: args.kind.name().to_owned(),
        qos: args.qos.clone(),
        request_us: args.request_us,
        seconds: args.seconds,
        settle: args.settle,
        foreign_limit: args.foreign,
        runs: vec![run],
        pairs,
        slots,
    };
    if let Some(earlier) = earlier {
        report.runs.splice(0..0, earlier.runs);
        report.pairs.splice(0..0, earlier.pairs);
        report.slots.splice(0..0, earlier.slots);
    }
    Ok((report.complete(), began.elapsed()))
}

/// Takes slots.
struct Taker<'a> {
    args: &'a Args,
    bench: Bench,
    repeated: u32,
    /// Left for waiting and measuring again, seconds.
    patience: f64,
    stop: Arc<AtomicBool>,
}

impl Taker<'_> {
    /// No mode against itself.
    fn pairs(&mut self) -> Result<Vec<Pair>> {
        let load = self.args.loads.iter().copied().max().unwrap_or(0);
        let mut pairs = Vec::new();
        for number in 0..self.args.pairs {
            self.wait_for_quiet()?;
            let mut one = || self.slot(Mode::Off, load, number, 2, WARM.0);
            pairs.push(Pair { load, first: one()?, second: one()? });
        }
        Ok(pairs)
    }

    /// Through the modes and back.
    fn round(&mut self, load: u32, round: u32) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        let modes = self.args.modes.clone();
        let there = modes.iter().map(|mode| (*mode, 0));
        let back = modes.iter().rev().map(|mode| (*mode, 1));
        let mut before = None;
        for (mode, half) in there.chain(back) {
            let goes_on = before == Some(mode);
            if before == Some(Mode::Ours) && !goes_on {
                self.bench.rest()?;
            }
            if !goes_on {
                self.wait_for_quiet()?;
            }
            let warm = match mode {
                Mode::Off => WARM.0,
                Mode::Ours if goes_on => WARM.0,
                Mode::Ours => self.args.settle,
                Mode::Weight | Mode::Fixed | Mode::Idle => WARM.1,
            };
            slots.push(self.slot(mode, load, round, half, warm)?);
            before = Some(mode);
        }
        self.bench.rest()?;
        Ok(slots)
    }

    /// Waits until others use little of this machine, as long as there is patience for it. Nothing of ours runs now.
    fn wait_for_quiet(&mut self) -> Result<()> {
        let node = f64::from(self.bench.cpus) * QUIET.as_micros() as f64;
        while self.patience > 0.0 {
            let (before, _) = host::busy_and_stolen_us()?;
            std::thread::sleep(QUIET);
            let (after, _) = host::busy_and_stolen_us()?;
            if (after.saturating_sub(before)) as f64 / node <= self.args.foreign {
                return Ok(());
            }
            self.patience -= QUIET.as_secs_f64();
        }
        Ok(())
    }

    fn slot(&mut self, mode: Mode, load: u32, round: u32, half: u32, warm: f64) -> Result<Slot> {
        let seed = arrivals::seed(self.args.seed, load, round, half);
        let mut wanted = Wanted { mode, load, round, half, seed, warm, seconds: self.args.seconds };
        let mut best: Option<Slot> = None;
        for trial in 0..TRIALS {
            let length = wanted.warm + wanted.seconds;
            if trial > 0 && self.patience < length {
                break;
            }
            if trial > 0 {
                self.repeated += 1;
                self.patience -= length;
            }
            ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
            let slot = self.bench.slot(wanted)?;
            println!(
                "  {load:>3} % {:<20} seed {seed:<16} p50 {:>7.2} p99 {:>8.2} ms, best-effort {:>5.1} %, others {:>5.1} %, wait {} ms, allowed {}",
                mode.name(),
                slot.p50_us / 1e3,
                slot.p99_us / 1e3,
                slot.best_share * 100.0,
                slot.foreign * 100.0,
                slot.delay_ms.map_or("–".to_owned(), |ms| format!("{ms:.2}")),
                slot.allowance_cores.map_or("–".to_owned(), |cores| format!("{cores:.2}")),
            );
            let clean = slot.foreign <= self.args.foreign;
            if best.as_ref().is_none_or(|best| slot.foreign < best.foreign) {
                best = Some(slot);
            }
            if clean {
                break;
            }
            // The loop has settled: what disturbs it is what is to pass.
            wanted.warm = wanted.warm.min(WARM.1);
        }
        best.context("no slot was measured")
    }
}

fn summary(report: &Report) {
    let show = |ratio: Option<f64>, spread: Option<(f64, f64)>| match ratio.zip(spread) {
        Some((ratio, (low, high))) => format!("{ratio:.3} ({low:.3}–{high:.3})"),
        None => "not measured".to_owned(),
    };
    let points =
        |points: Option<f64>| points.map_or("not measured".to_owned(), |points| format!("{points:+.1}"));
    for doubt in &report.inconclusive {
        println!("  INCONCLUSIVE: {doubt}");
    }
    println!(
        "  p99 ÷ p99 without best-effort work at {} % load; node utilisation at 60 % load, points:",
        report.worst_load
    );
    println!("    {:<20} {:>22}", "A/A", show(report.aa_p99_ratio, report.aa_p99_spread));
    let ours = (Mode::Ours, report.lc_p99_ratio, report.lc_p99_spread, report.utilisation_gain_points_at_60);
    let others = report
        .others
        .iter()
        .map(|o| (o.mode, o.lc_p99_ratio, o.lc_p99_spread, o.utilisation_gain_points_at_60));
    for (mode, ratio, spread, gain) in std::iter::once(ours).chain(others) {
        println!("    {:<20} {:>22}   {}", mode.name(), show(ratio, spread), points(gain));
    }
}

/// Puts the table between the marks of a file.
fn fill(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let new = filled(&text, table)
        .with_context(|| format!("{} has not both marks {} and {}", path.display(), MARKS.0, MARKS.1))?;
    fs::write(path, new).with_context(|| format!("writing {}", path.display()))
}

fn filled(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(MARKS.0)?;
    let (_, after) = rest.split_once(MARKS.1)?;
    Some(format!("{before}{}\n{table}{}{after}", MARKS.0, MARKS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_before_and_nothing_else() {
        let text = format!("above\n{}\nold\n{}\nbelow\n", MARKS.0, MARKS.1);
        let new = filled(&text, "new\n").unwrap();
        assert_eq!(new, format!("above\n{}\nnew\n{}\nbelow\n", MARKS.0, MARKS.1));
        assert_eq!(filled(&new, "new\n").as_deref(), Some(new.as_str()));
        assert_eq!(filled("no marks", "new\n"), None);
    }
}
