//! `cargo xtask test`: everything that must hold, in the order in which a fault is cheapest to find.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::statvfs::statvfs;

use crate::up::install;

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what takes a minute or two: format, lints, tidy, and tests without daemons.
    #[arg(long)]
    quick: bool,
    /// As CI runs it: installs what is missing, and checks generated code and licences too.
    #[arg(long, conflicts_with = "quick")]
    ci: bool,
}

/// Debian packages that tests use, beside those of `cargo xtask up`.
const PACKAGES: [&str; 10] = [
    "clang-19",
    "libbpf-dev",
    "libelf-dev",
    "zlib1g-dev",
    "bpftool",
    "systemd",
    "pkg-config",
    "make",
    "procps",
    "iproute2",
];

/// What the suite writes, GiB: builds below `target`, then data of clusters and of tests in the temporary folder. The first was
/// seen to be 6.4, and is more where builds keep what makes the next one short; the second is an estimate.
const TARGET_GIB: u64 = 16;
const TEMPORARY_GIB: u64 = 4;

type Step<'a> = (&'static str, Box<dyn Fn() -> Result<()> + 'a>);

/// Runs the steps; stops at the first that fails.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let began = Instant::now();
    let mut steps: Vec<Step<'_>> = Vec::new();
    if !args.quick {
        steps.push(("room", Box::new(|| room(root))));
        steps.push(("tools", Box::new(|| tools(args.ci))));
    }
    steps.push(("format", Box::new(|| cargo(root, &["fmt", "--all", "--check"]))));
    let lint =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "-D", "warnings"];
    // Without the protocol compiler, which is a feature of xtask and large.
    let quick_lint = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    steps.push(("lints", Box::new(move || cargo(root, if args.ci { &lint } else { &quick_lint }))));
    steps.push(("tidy", Box::new(|| crate::tidy::run(&crate::tidy::Args {}, root))));
    steps.push(("kernel programs", Box::new(|| xtask(root, &["ebpf", "--check"]))));
    if !args.quick {
        // Before the programs, which have them in them.
        steps.push(("dashboards", Box::new(|| xtask(root, &["web", "--check"]))));
    }
    if args.ci {
        steps.push(("generated code", Box::new(|| xtask(root, &["codegen", "--check"]))));
        steps.push(("licences", Box::new(|| cargo(root, &["deny", "check", "licenses", "bans", "sources"]))));
    }
    steps.push(("programs", Box::new(|| cargo(root, &["build", "--workspace", "--bins", "--quiet"]))));
    let profile = match (args.quick, args.ci) {
        (true, _) => "quick",
        (_, true) => "ci",
        _ => "default",
    };
    steps.push((
        "tests",
        Box::new(move || cargo(root, &["nextest", "run", "--workspace", "--profile", profile])),
    ));
    if !args.quick {
        steps.push((
            "interface",
            Box::new(|| xtask(root, &["api-compare"]).and_then(|()| xtask(root, &["api-fuzz"]))),
        ));
        steps.push(("browser", Box::new(|| xtask(root, &["web", "--browser"]))));
        steps.push(("metrics", Box::new(|| xtask(root, &["metrics", "--check"]))));
        steps.push(("clusters", Box::new(|| xtask(root, &["lab-test", "short"]))));
        steps.push(("the whole path", Box::new(|| whole_path(root))));
        steps.push(("machines", Box::new(|| xtask(root, &["vm", "--essential"]))));
    }
    let count = steps.len();
    for (number, (name, step)) in steps.into_iter().enumerate() {
        println!("==> [{}/{count}] {name}", number + 1);
        let at = Instant::now();
        if let Err(error) = step() {
            println!("steps: {number} passed, 1 failed");
            bail!("{name}: {error:#}");
        }
        println!("    {name}: {:.0} s", at.elapsed().as_secs_f64());
    }
    println!("everything holds, in {:.0} s", began.elapsed().as_secs_f64());
    println!("steps: {count} passed, 0 failed");
    Ok(())
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(root).args(arguments);
    command
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = command(root, arguments).status().context("starting cargo")?;
    ensure!(status.success(), "`cargo {}` ended with {status}", arguments.join(" "));
    Ok(())
}

fn xtask(root: &Path, arguments: &[&str]) -> Result<()> {
    let mut all = vec!["run", "--quiet", "--package", "xtask", "--"];
    all.extend(arguments);
    cargo(root, &all)
}

/// Room on the disks, before an hour is spent on finding that there was none.
fn room(root: &Path) -> Result<()> {
    if root.join("target/debug/trimtab").exists() {
        println!("    not asked: what an earlier build wrote is there already");
        return Ok(());
    }
    for (path, needed) in [(root.to_owned(), TARGET_GIB), (std::env::temp_dir(), TEMPORARY_GIB)] {
        let disk = statvfs(&path).with_context(|| format!("looking at the disk of {}", path.display()))?;
        let free = (disk.blocks_available() * disk.fragment_size()) >> 30;
        println!("    {} GiB free at {}", free, path.display());
        ensure!(
            free >= needed,
            "{} GiB are free at {} and it takes {needed}: remove what is not needed any more, for instance `target` of other clones",
            free,
            path.display()
        );
    }
    Ok(())
}

/// Installs what is missing: packages by apt, tools by cargo.
fn tools(ci: bool) -> Result<()> {
    install::packages()?;
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|p| !install::installed(p)).collect();
    if !missing.is_empty() {
        install::apt(&missing)?;
    }
    tool("nextest", "cargo-nextest")?;
    if ci {
        tool("deny", "cargo-deny")?;
    }
    Ok(())
}

fn tool(subcommand: &str, package: &str) -> Result<()> {
    let there =
        Command::new("cargo").args([subcommand, "--version"]).output().is_ok_and(|o| o.status.success());
    if there {
        return Ok(());
    }
    println!("    cargo install {package} (some minutes, once)");
    let status = Command::new("cargo").args(["install", "--locked", "--quiet", package]).status()?;
    ensure!(status.success(), "cargo install {package} ended with {status}");
    Ok(())
}

/// Runs the demo for its shortest day and reads its report: what must hold on any machine, however slow.
fn whole_path(root: &Path) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("trimtab-whole-path-{}", std::process::id()));
    let file = directory.with_extension("json");
    let (dir, json) = (directory.display().to_string(), file.display().to_string());
    xtask(root, &["up", "--debug", "--for", "90s", "--dir", &dir, "--json", &json])?;
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    std::fs::remove_file(&file)?;
    let number = |key: &str| report[key].as_u64().with_context(|| format!("{key} is missing in the report"));
    ensure!(number("requests")? > 0, "no requests");
    ensure!(number("client_errors")? == 0, "client errors: {}", report["first_errors"]);
    ensure!(number("scale_out")? >= 1, "it never scaled out");
    ensure!(number("scale_in")? >= 1, "it never scaled in");
    ensure!(number("tasks_compared")? >= 1, "no ended task was compared");
    ensure!(
        number("accounting_error_us")? == 0,
        "the store differs from the kernel by {}",
        report["accounting_error_us"]
    );
    Ok(())
}
