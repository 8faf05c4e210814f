//! `cargo xtask vm`: suites on real machines with systemd and cgroup v2, booted in an emulator, on three kernels.
//!
//! | module | question |
//! |---|---|
//! | [`apt`] | how do Debian's packages get here without installing them? |
//! | [`cache`] | what is made once and kept? |
//! | [`qemu`] | which emulator? |
//! | [`kernel`] | which kernels, and what do they need to boot? |
//! | [`image`] | what is on a node? |
//! | [`machine`] | how does one guest run, and how does it end? |
//! | [`suite`] | what is run there? |

mod apt;
mod cache;
mod image;
mod kernel;
mod machine;
mod qemu;
mod suite;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::up::install;

/// Options of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every suite on every kernel.
    #[arg(long, conflicts_with_all = ["kernel", "suite"])]
    all: bool,
    /// A kernel: 6.1, 6.12 or 7; several times for several.
    #[arg(long, value_name = "NAME", default_value = "6.1")]
    kernel: Vec<String>,
    /// A suite; several times for several.
    #[arg(long, value_name = "NAME", default_value = "kernel")]
    suite: Vec<String>,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Debian packages that make and boot machines, beside the emulator.
const PACKAGES: [&str; 13] = [
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
];

#[derive(Debug, Serialize)]
struct Report {
    kernels: Vec<String>,
    emulator: String,
    passed: u32,
    failed: u32,
    skipped: u32,
    runs: Vec<Run>,
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

/// Prepares what is missing, runs the suites one after the other, says what came of them.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let kernels: Vec<kernel::Kernel> = kernel::KERNELS
        .into_iter()
        .filter(|k| args.all || args.kernel.iter().any(|name| name == k.name))
        .collect();
    let known: Vec<&str> = kernel::KERNELS.iter().map(|k| k.name).collect();
    if let Some(unknown) = args.kernel.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no kernel `{unknown}`; there are {}", known.join(", "));
    }
    let suites: Vec<&suite::Suite> =
        suite::SUITES.iter().filter(|s| args.all || args.suite.iter().any(|name| name == s.name)).collect();
    let known: Vec<&str> = suite::SUITES.iter().map(|s| s.name).collect();
    if let Some(unknown) = args.suite.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no suite `{unknown}`; there are {}", known.join(", "));
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`cargo xtask vm` makes root trees for its machines: run it as root"
    );
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|p| !install::installed(p)).collect();
    if !missing.is_empty() {
        install::apt(&missing)?;
    }
    let cache = cache::directory();
    println!("==> machines: what is made once is kept in {}", cache.display());
    let emulator = qemu::prepare(&cache)?;
    let image = image::prepare(&cache)?;
    let mut report = Report {
        kernels: Vec::new(),
        emulator: emulator.version.clone(),
        passed: 0,
        failed: 0,
        skipped: 0,
        runs: Vec::new(),
    };
    let scratch = std::env::temp_dir().join(format!("trimtab-vm-{}", std::process::id()));
    let payloads: Vec<(&suite::Suite, PathBuf)> =
        suites.iter().map(|s| Ok((*s, s.payload(root, &scratch.join(s.name))?))).collect::<Result<_>>()?;
    for kernel in kernels {
        let bootable = kernel::prepare(kernel, &cache)?;
        report.kernels.push(bootable.release.clone());
        for (suite, payload) in &payloads {
            println!("==> {} on {}", suite.name, bootable.release);
            let began = Instant::now();
            let machine = machine::Machine {
                qemu: &emulator,
                kernel: &bootable,
                root: &image,
                payload,
                memory: suite.memory,
            };
            let counted = suite::count(&machine.run(&scratch.join("run"))?);
            let run = Run {
                kernel: bootable.release.clone(),
                suite: suite.name,
                passed: counted.passed,
                failed: counted.failed,
                skipped: counted.skipped,
                seconds: began.elapsed().as_secs(),
            };
            println!(
                "    {} on {}: {} passed, {} failed, {} skipped, in {} s",
                run.suite, run.kernel, run.passed, run.failed, run.skipped, run.seconds
            );
            report.passed += run.passed;
            report.failed += run.failed;
            report.skipped += run.skipped;
            report.runs.push(run);
        }
    }
    std::fs::remove_dir_all(&scratch)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("machines: {} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped);
    ensure!(report.failed == 0, "{} tests failed on machines", report.failed);
    ensure!(report.passed > 0, "no test ran on any machine");
    Ok(())
}
