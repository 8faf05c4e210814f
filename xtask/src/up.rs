//! `cargo xtask up`: the whole path on this machine, with a real Rails app under a compressed day of load.
//!
//! | module | question |
//! |---|---|
//! | [`install`] | what must be on the machine? |
//! | [`beside`] | what else runs on the machine? |
//! | [`work`] | who works there? |
//! | [`stage`] | which files and processes make up the stage, and how do they end? |
//! | [`ports`] | where do they listen? |
//! | [`load`] | who asks for what when? |
//! | [`watch`] | what is shown while it runs? |
//! | [`ledger`] | what does the kernel itself say, beside Trimtab? |
//! | [`report`] | what came of it? |
//! | [`pictures`] | what does it look like? |

pub(crate) mod beside;
pub(crate) mod install;
mod ledger;
mod load;
mod pictures;
pub(crate) mod ports;
pub(crate) mod report;
pub(crate) mod stage;
mod watch;
pub(crate) mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use beside::Sharing;
use report::Report;

/// Options of `cargo xtask up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of the compressed day: 90s to 2h.
    #[arg(long = "for", value_name = "TIME", default_value = "180s")]
    duration: model::units::Millis,
    /// Hadoop and Cassandra, too: YARN's containers use what the web application leaves (about 4 GB).
    #[arg(long)]
    all: bool,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Directory of the stage; removed and made anew.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Build without optimisation: faster to build, slower to run.
    #[arg(long)]
    debug: bool,
    /// Take the pictures of docs/guide during the day into this folder: with a browser and a terminal, at real daemons.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Leave logs and state in place after the end.
    #[arg(long)]
    keep: bool,
}

/// Shortest day in which each part is long enough for a replica to start and to leave.
const SHORTEST: Duration = Duration::from_secs(90);
/// Longer than any window of the demo's workload: the calibration is no part of the day.
const CALM: Duration = Duration::from_secs(8);
const LONGEST: Duration = Duration::from_secs(7200);

/// Builds, starts, loads, watches, reports, cleans up.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let day = Duration::from_millis(args.duration.0);
    if !(SHORTEST..=LONGEST).contains(&day) {
        bail!("--for {} is outside 90s..2h", args.duration);
    }
    let bin = prepare(root, args.debug)?;
    let stop = on_signals()?;
    let directory = args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("trimtab-up"));
    let sharing = if args.all { Sharing::Trimtab } else { Sharing::Web };
    let plan =
        Plan { directory, sharing, day, capacity: None, pictures: args.pictures.clone(), keep: args.keep };
    let report = plan.play(root, &bin, &stop)?;
    println!("\n{report}");
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted: the report covers only what ran");
    }
    Ok(())
}

/// What every day needs: the right, packages, programs. Where the programs are.
///
/// # Errors
/// When one of them is not to be had.
pub(crate) fn prepare(root: &Path, debug: bool) -> Result<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this makes cgroups and loads kernel programs: run it as root (for example with `sudo -E`)");
    }
    install::packages()?;
    install::build(root, debug)
}

/// Set by SIGINT and SIGTERM; a second one ends at once, by the default action.
///
/// # Errors
/// When signals cannot be handled.
pub(crate) fn on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// One day.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) sharing: Sharing,
    pub(crate) day: Duration,
    /// Requests per second that one replica serves; measured first when it is not given.
    pub(crate) capacity: Option<f64>,
    /// Where pictures go; none are taken otherwise.
    pub(crate) pictures: Option<PathBuf>,
    pub(crate) keep: bool,
}

impl Plan {
    /// Starts everything, lives through the day, and ends what was started.
    ///
    /// # Errors
    /// When something does not start, or ends on the way.
    pub(crate) fn play(&self, root: &Path, bin: &Path, stop: &Arc<AtomicBool>) -> Result<Report> {
        let mut stage = stage::Stage::open(&self.directory, root, bin, self.sharing, stage::SLICE)?;
        let played = self.play_on(&mut stage, (root, bin), stop);
        stage.end(self.keep);
        played
    }

    fn play_on(
        &self,
        stage: &mut stage::Stage,
        (root, bin): (&Path, &Path),
        stop: &Arc<AtomicBool>,
    ) -> Result<Report> {
        let day = self.day;
        stage.start(stop)?;
        println!("==> waiting for the first replicas");
        stage.wait_for_replicas(stop)?;
        let ledger = ledger::Ledger::start(stage.cgroup_slice(), stage.quota_cores());
        let capacity = match self.capacity {
            Some(capacity) => capacity,
            None => calibrate(stage, stop)?,
        };
        let mut work = stage.work(day, stop)?;
        println!(
            "==> one replica serves about {:.0} requests/s; the day: night, morning, flash crowd, evening in {} s",
            capacity,
            day.as_secs()
        );
        let queue = watch::QueueLog::open(&stage.queue_log())?;
        ledger.begin();
        let load = load::Load::start(stage.front(), capacity * stage.load(), day, stop);
        let mut watch = watch::Watch::new(stage.api(), work.is_some());
        let mut pictures = None;
        let began = Instant::now();
        while began.elapsed() < day && !stop.load(Ordering::Relaxed) {
            watch.show((began.elapsed(), day), &load, &queue, work.as_mut());
            stage.check_alive()?;
            if let Some(into) = self.pictures.as_ref().filter(|_| pictures.is_none())
                && began.elapsed() > day.mul_f64(pictures::AT)
            {
                pictures = Some(pictures::Pictures::start(root, bin, stage, into)?);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        pictures.map(pictures::Pictures::finish).transpose()?;
        let beside = work.map(|work| work.finish(began.elapsed())).transpose()?;
        let load = load.finish();
        let mut kernel = ledger.finish();
        println!("==> the day is over: waiting for the last totals");
        stage.wait_for_leaving(stop);
        kernel.finals = ledger.stop();
        let (load, kernel, queue, watch) = (&load, &kernel, &queue, &watch);
        report::make(stage, report::Shown { day, capacity, load, kernel, queue, watch, beside })
    }
}

fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(u32::MAX)
}

/// Paused, so that the CPU that this takes is not taken for a morning.
fn calibrate(stage: &stage::Stage, stop: &AtomicBool) -> Result<f64> {
    stage.tell(&["pause", "web", "--reason", "the demo measures one replica"])?;
    let capacity = load::calibrate(&stage.listeners()?, stop)?;
    std::thread::sleep(CALM);
    stage.tell(&["resume", "web"])?;
    Ok(capacity)
}
