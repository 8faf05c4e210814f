//! `cargo xtask codegen`: makes `wire/src/generated` from `wire/proto`; `--check` compares only.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Options of `cargo xtask codegen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare with the committed code and fail when it is stale.
    #[arg(long)]
    check: bool,
}

#[cfg(feature = "codegen")]
const COMMITTED: &str = "wire/src/generated/trimtab.v1.rs";

/// Generates, then writes or compares.
///
/// # Errors
/// When the protocol does not parse, or `--check` finds a difference.
#[cfg(feature = "codegen")]
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let fresh = generate(root)?;
    let path = root.join(COMMITTED);
    if args.check {
        let committed =
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(committed == fresh, "{COMMITTED} is stale: run `cargo xtask codegen` and commit the result");
        println!("codegen: {COMMITTED} is up to date");
    } else {
        std::fs::write(&path, fresh).with_context(|| format!("writing {}", path.display()))?;
        println!("codegen: wrote {COMMITTED}");
    }
    Ok(())
}

/// Runs this command again, built with the protocol compiler.
#[cfg(not(feature = "codegen"))]
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let mut cargo = std::process::Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(root).args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "codegen",
        "--",
        "codegen",
    ]);
    if args.check {
        cargo.arg("--check");
    }
    let status = cargo.status().context("starting cargo")?;
    ensure!(status.success(), "cargo xtask codegen ended with {status}");
    Ok(())
}

#[cfg(feature = "codegen")]
fn generate(root: &Path) -> Result<String> {
    let protos = root.join("wire/proto");
    let descriptors = protox::compile(["trimtab/v1/session.proto", "trimtab/v1/identity.proto"], [&protos])
        .context("reading wire/proto")?;
    let out = std::env::temp_dir().join(format!("trimtab-codegen-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    let result = tonic_prost_build::configure()
        .btree_map(".")
        .out_dir(&out)
        .compile_fds(descriptors)
        .context("generating")
        .and_then(|()| std::fs::read_to_string(out.join("trimtab.v1.rs")).context("reading generated code"));
    std::fs::remove_dir_all(&out)?;
    result
}
