//! `cargo xtask fuzz`: libFuzzer on one of the entries of `e2e::fuzz`, with its seeds and what was found before.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to fuzz: `kernel_files`, `answers`, `specifications`, `units`, `batches`, `identities`, `messages`.
    target: String,
    /// For how long, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Longest input, bytes.
const LONGEST: u32 = 4096;
/// An input that takes longer is a fault, seconds.
const SLOWEST: u32 = 10;

/// Builds the target and runs it.
///
/// # Errors
/// When a fault was found (the input is in `target/fuzz/artifacts`), or a tool is missing.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    installed()?;
    let work = root.join("target/fuzz");
    let (corpus, seeds, found) = (
        work.join("corpus").join(&args.target),
        work.join("seeds").join(&args.target),
        work.join("artifacts").join(&args.target),
    );
    for directory in [&corpus, &seeds, &found] {
        fs::create_dir_all(directory)?;
    }
    let written = cargo()
        .current_dir(root)
        .args(["run", "--quiet", "-p", "e2e", "--bin", "e2e-seeds", "--", &args.target])
        .arg(&seeds)
        .status()?;
    ensure!(written.success(), "no seeds for {}", args.target);
    let programs = root.join("tests/fuzz");
    fs::copy(root.join("Cargo.lock"), programs.join("Cargo.lock")).context("copying Cargo.lock")?;
    // The counters are LLVM's and need no other compiler; a sanitizer would, and there is no unsafe code to watch.
    let status = cargo()
        .current_dir(&programs)
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", "run", "--fuzz-dir", ".", "--sanitizer", "none", "--target-dir"])
        .arg(&work)
        .arg(&args.target)
        .arg(&corpus)
        .arg(&seeds)
        .arg("--")
        .args([
            &format!("-max_total_time={}", args.seconds),
            &format!("-max_len={LONGEST}"),
            &format!("-timeout={SLOWEST}"),
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .status()
        .context("starting cargo fuzz")?;
    ensure!(status.success(), "a fault was found, see above; its input is in {}", found.display());
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

fn installed() -> Result<()> {
    let there = cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if there.success() {
        return Ok(());
    }
    println!("==> cargo install cargo-fuzz");
    let status = cargo().args(["install", "--quiet", "--locked", "cargo-fuzz"]).status()?;
    ensure!(status.success(), "cargo-fuzz could not be installed");
    Ok(())
}
