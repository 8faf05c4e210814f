//! `cargo xtask vm`: suites on real machines with systemd and cgroup v2, booted in an emulator, on three kernels.
//!
//! | module | question |
//! |---|---|
//! | [`apt`] | how do Debian's packages get here without installing them? |
//! | [`crate::cache`] | what is made once and kept? |
//! | [`qemu`] | which emulator? |
//! | [`queue`] | what runs beside what? |
//! | [`kernel`] | which kernels, and what do they need to boot? |
//! | [`image`] | what is on a node? |
//! | [`machine`] | how does one guest boot, and how does it end? |
//! | [`fleet`] | how do guests run together, and on which network? |
//! | [`suite`] | what is run there? |

mod apt;
mod fleet;
mod image;
mod kernel;
mod machine;
mod qemu;
mod queue;
mod suite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::cache;
use crate::up::install;
use kernel::{Bootable, KERNELS, Kernel};
use machine::{Ended, Machine};
use qemu::Qemu;
use suite::{Counted, Suite};

/// Options of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every suite on every kernel.
    #[arg(long, conflicts_with_all = ["kernel", "suite"])]
    all: bool,
    /// What CI runs: the kernel side on every kernel, the rest on the oldest.
    #[arg(long, conflicts_with_all = ["kernel", "suite", "all"])]
    essential: bool,
    /// A kernel: 6.1, 6.12 or 7; several times for several.
    #[arg(long, value_name = "NAME", default_value = "6.1")]
    kernel: Vec<String>,
    /// A suite; several times for several.
    #[arg(long, value_name = "NAME", default_value = "kernel")]
    suite: Vec<String>,
    /// Suites at a time; one more than the host has processors, otherwise.
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZero<u32>>,
    /// Write what each kernel can do as a table (Markdown); needs the suite `kernel`.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Debian packages that make and boot machines, beside the emulator.
const PACKAGES: [&str; 14] = [
    "mmdebstrap",
    "erofs-utils",
    "busybox-static",
    "cpio",
    "kmod",
    "zstd",
    "xz-utils",
    "binutils",
    "clang-19",
    "libbpf-dev",
    "libelf-dev",
    "zlib1g-dev",
    "pkg-config",
    "make",
];

#[derive(Debug, Serialize)]
struct Report {
    kernels: Vec<String>,
    emulator: String,
    passed: u32,
    failed: u32,
    skipped: u32,
    runs: Vec<Run>,
    /// What each kernel can do: capability, then kernel.
    capabilities: BTreeMap<String, BTreeMap<String, String>>,
    /// What was measured on each: figure, then kernel.
    figures: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
struct Run {
    kernel: String,
    suite: &'static str,
    passed: u32,
    failed: u32,
    skipped: u32,
    seconds: u64,
}

impl Report {
    fn add(&mut self, run: Run) {
        println!(
            "    {} on {}: {} passed, {} failed, {} skipped, in {} s",
            run.suite, run.kernel, run.passed, run.failed, run.skipped, run.seconds
        );
        self.passed += run.passed;
        self.failed += run.failed;
        self.skipped += run.skipped;
        self.runs.push(run);
    }

    /// Takes what came of a run; a guest that did not come to its end is a failure.
    fn ended(&mut self, job: &Job, (ended, seconds): (Result<Ended>, u64)) {
        let kernel = &job.kernel.release;
        let counted = match &ended {
            Ok(ended) => {
                self.note(kernel, &ended.output);
                suite::count(ended)
            }
            Err(error) => {
                println!("    {} on {kernel}: {error:#}", job.suite.name);
                Counted { failed: 1, ..Counted::default() }
            }
        };
        let Counted { passed, failed, skipped } = counted;
        let (kernel, suite) = (kernel.clone(), job.suite.name);
        self.add(Run { kernel, suite, passed, failed, skipped, seconds });
    }

    /// Notes the lines `capability: WHAT = YES` and `figure: WHAT = NUMBER` of a guest.
    fn note(&mut self, kernel: &str, output: &str) {
        for (word, into) in [("capability: ", &mut self.capabilities), ("figure: ", &mut self.figures)] {
            let said = output.lines().filter_map(|line| line.split_once(word)?.1.split_once(" = "));
            for (what, state) in said {
                let by_kernel = into.entry(what.to_owned()).or_default();
                by_kernel.insert(kernel.to_owned(), state.trim().to_owned());
            }
        }
    }

    fn table(&self) -> String {
        let mut text = format!(
            "# What each kernel can do\n\nWritten by `cargo xtask vm --all --table docs/kernels.md`, from Debian's kernels, each booted with systemd and a \
             whole cgroup v2.\nWhat a kernel lacks is left out, and `trimtab-agent check` names it; nothing is made up in its place.\n\n\
             | capability | {} |\n|---|{}\n",
            self.kernels.join(" | "),
            "---|".repeat(self.kernels.len())
        );
        for (what, by_kernel) in &self.capabilities {
            let states: Vec<&str> = self
                .kernels
                .iter()
                .map(|kernel| by_kernel.get(kernel).map_or("not tried", String::as_str))
                .collect();
            text.push_str(&format!("| {what} | {} |\n", states.join(" | ")));
        }
        text
    }
}

/// A suite on a kernel.
struct Job {
    /// The kernel's name on the command line.
    on: &'static str,
    kernel: Arc<Bootable>,
    suite: &'static Suite,
    /// The disk with what it runs.
    payload: PathBuf,
    /// The disk with the guest's root.
    image: PathBuf,
}

impl Job {
    /// Boots its machines and waits for its end; how it ended, and its seconds. Lines of runs beside others say whose they are.
    fn run(&self, emulator: &Qemu, scratch: &Path, alone: bool) -> (Result<Ended>, u64) {
        let began = Instant::now();
        let machines: Vec<Machine<'_>> = self
            .suite
            .places()
            .map(|(place, memory)| Machine {
                qemu: emulator,
                kernel: &self.kernel,
                root: &self.image,
                payload: &self.payload,
                memory,
                slow_disk: self.suite.slow_disk,
                place,
                label: if alone { String::new() } else { format!("{} {} ", self.suite.name, self.on) },
            })
            .collect();
        let mut ended = fleet::run(&machines, scratch);
        if let Err(error) = &ended
            && error.is::<machine::NeverBooted>()
        {
            println!("    {} on {}: {error}: it is booted once more", self.suite.name, self.kernel.release);
            ended = fleet::run(&machines, &scratch.join("again"));
        }
        (ended, began.elapsed().as_secs())
    }
}

/// Which suites run on which kernel.
fn plan(args: &Args) -> Result<Vec<(Kernel, Vec<&'static Suite>)>> {
    let kernels = chosen(&KERNELS, |k| k.name, &args.kernel, "kernel")?;
    let suites = chosen(&suite::SUITES, |s| s.name, &args.suite, "suite")?;
    let all: Vec<&Suite> = suite::SUITES.iter().collect();
    Ok(match (args.all, args.essential) {
        (true, _) => KERNELS.iter().map(|kernel| (*kernel, all.clone())).collect(),
        (_, true) => {
            // Figures are for people who ask: they need optimised programs.
            let checks = || all.iter().copied().filter(|suite| !suite.optimised).collect();
            let suites = |first: bool| if first { checks() } else { all[..1].to_vec() };
            KERNELS.iter().enumerate().map(|(number, kernel)| (*kernel, suites(number == 0))).collect()
        }
        _ => kernels.into_iter().map(|kernel| (*kernel, suites.clone())).collect(),
    })
}

/// Those that were named, in the order of the table.
fn chosen<'a, T>(
    table: &'a [T],
    name: impl Fn(&T) -> &'static str,
    wanted: &[String],
    kind: &str,
) -> Result<Vec<&'a T>> {
    if let Some(unknown) = wanted.iter().find(|wanted| !table.iter().any(|t| name(t) == wanted.as_str())) {
        let known: Vec<&str> = table.iter().map(&name).collect();
        bail!("no {kind} `{unknown}`; there are {}", known.join(", "));
    }
    Ok(table.iter().filter(|t| wanted.iter().any(|wanted| name(t) == wanted.as_str())).collect())
}

/// Prepares what is missing, runs the suites beside each other, says what came of them.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let plan = plan(args)?;
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`cargo xtask vm` makes root trees for its machines: run it as root"
    );
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|p| !install::installed(p)).collect();
    if !missing.is_empty() {
        install::apt(&missing)?;
    }
    let cache = cache::directory("vm");
    println!("==> machines: what is made once is kept in {}", cache.display());
    let emulator = qemu::prepare(&cache)?;
    let mut report = Report {
        kernels: Vec::new(),
        emulator: emulator.version.clone(),
        passed: 0,
        failed: 0,
        skipped: 0,
        runs: Vec::new(),
        capabilities: BTreeMap::new(),
        figures: BTreeMap::new(),
    };
    let scratch = cache::Scratch::new(&cache)?;
    let mut builds = suite::Builds::new(root, scratch.path());
    let mut jobs = Vec::new();
    for (kernel, suites) in plan {
        let bootable = Arc::new(kernel::prepare(kernel, &cache)?);
        report.kernels.push(bootable.release.clone());
        for suite in suites {
            let (payload, image) = (builds.payload(suite)?, image::prepare(&cache, suite.debian)?);
            jobs.push(Job { on: kernel.name, kernel: Arc::clone(&bootable), suite, payload, image });
        }
    }
    // The heaviest first, which later would wait until enough of the host is free, then the longest: what runs last runs alone.
    jobs.sort_by_key(|job| std::cmp::Reverse((job.suite.weight(), job.suite.seconds)));
    let width = args.jobs.map_or_else(
        // A suite waits for a good part of its time.
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1,
        |jobs| jobs.get() as usize,
    );
    let alone = width == 1 || jobs.len() == 1;
    let jobs =
        jobs.into_iter().enumerate().map(|(number, job)| (job.suite.weight(), (number, job))).collect();
    let shared = Mutex::new(report);
    queue::run_all(jobs, width, |(number, job)| {
        println!("==> {} on {}", job.suite.name, job.kernel.release);
        let ended = job.run(&emulator, &scratch.path().join(format!("run-{number}")), alone);
        shared.lock().unwrap_or_else(PoisonError::into_inner).ended(&job, ended);
    });
    let report = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(scratch);
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.table {
        ensure!(!report.capabilities.is_empty(), "--table needs the suite `kernel`");
        std::fs::write(path, report.table()).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("machines: {} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped);
    ensure!(report.failed == 0, "{} tests failed on machines", report.failed);
    ensure!(report.passed > 0, "no test ran on any machine");
    Ok(())
}
