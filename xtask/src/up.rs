//! `cargo xtask up`: the whole path on this machine, with a real Rails app under a compressed day of load.
//!
//! | module | question |
//! |---|---|
//! | [`install`] | what must be on the machine? |
//! | [`stage`] | which files and processes make up the stage, and how do they end? |
//! | [`load`] | who asks for what when? |
//! | [`watch`] | what is shown while it runs? |
//! | [`ledger`] | what does the kernel itself say, beside Trimtab? |
//! | [`report`] | what came of it? |

pub(crate) mod install;
mod ledger;
mod load;
mod report;
mod stage;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Options of `cargo xtask up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of the compressed day: 90s to 2h.
    #[arg(long = "for", value_name = "TIME", default_value = "180s")]
    duration: model::units::Millis,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Directory of the stage; removed and made anew.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Build without optimisation: faster to build, slower to run.
    #[arg(long)]
    debug: bool,
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
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "`cargo xtask up` makes cgroups and loads kernel programs: run it as root (for example `sudo -E cargo xtask up`)"
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends at once, by the default action.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    install::packages()?;
    let bin = install::build(root, args.debug)?;
    let directory = args.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("trimtab-up"));
    let mut stage = stage::Stage::open(&directory, root, &bin)?;
    let played = play(&mut stage, day, &stop);
    stage.end(args.keep);
    let report = played?;
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

fn play(stage: &mut stage::Stage, day: Duration, stop: &Arc<AtomicBool>) -> Result<report::Report> {
    stage.start(stop)?;
    println!("==> waiting for the first replicas");
    stage.wait_for_replicas(stop)?;
    let ledger = ledger::Ledger::start(stage.cgroup_slice(), stage.quota_cores());
    // Paused, so that the CPU that the calibration takes is not taken for a morning.
    stage.tell(&["pause", "web", "--reason", "the demo measures one replica"])?;
    let capacity = load::calibrate(&stage.replicas()?, stop)?;
    std::thread::sleep(CALM);
    stage.tell(&["resume", "web"])?;
    println!(
        "==> one replica serves about {:.0} requests/s; the day: night, morning, flash crowd, evening in {} s",
        capacity,
        day.as_secs()
    );
    let queue = watch::QueueLog::open(&stage.queue_log())?;
    ledger.begin();
    let load = load::Load::start(stage.front(), capacity, day, stop);
    let mut watch = watch::Watch::new(stage.api());
    let began = Instant::now();
    while began.elapsed() < day && !stop.load(Ordering::Relaxed) {
        watch.show(began.elapsed(), day, &load, &queue);
        stage.check_alive()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    let load = load.finish();
    let mut kernel = ledger.finish();
    println!("==> the day is over: waiting for the last totals");
    stage.wait_for_leaving(stop);
    kernel.finals = ledger.stop();
    report::make(stage, day, &load, &kernel, &queue, &watch)
}
