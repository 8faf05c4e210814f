//! `cargo xtask ebpf`: builds the kernel programs into `agent-ebpf/objects`, where the agent embeds them; `--check` compares only.
//!
//! The objects are committed, so that nobody needs the BPF toolchain to build the agent. Beside them lies a list of SHA-256 sums, in the
//! format of `sha256sum`, of the sources they were built from and of the objects themselves: without the toolchain, `--check` still
//! finds a source that changed after the last build.

mod compare;
mod sums;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use toolchain::Toolchain;

/// Options of `cargo xtask ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install the toolchain first: Debian packages, and bpf-linker for this user.
    #[arg(long)]
    install: bool,
    /// Write nothing: build again and fail when the committed objects would behave differently.
    #[arg(long)]
    check: bool,
}

/// The objects, by name of their program crate's binary.
const OBJECTS: [&str; 5] = ["switch", "watch", "cgroups", "executions", "yardsticks"];

/// Builds, then writes or compares.
///
/// # Errors
/// When the toolchain is missing (but for `--check`), a build fails, or `--check` finds a difference.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let ebpf = root.join("agent-ebpf");
    if args.install {
        toolchain::install()?;
    }
    let toolchain = Toolchain::find();
    match (args.check, toolchain) {
        (false, Ok(toolchain)) => build(&toolchain, &ebpf),
        (false, Err(missing)) => bail!("{missing}"),
        (true, Ok(toolchain)) => {
            sums::verify(&ebpf)?;
            check(&toolchain, &ebpf)
        }
        (true, Err(missing)) => {
            sums::verify(&ebpf)?;
            println!("ebpf: sums of sources and objects match; NOT rebuilt, because {missing}");
            Ok(())
        }
    }
}

fn build(toolchain: &Toolchain, ebpf: &Path) -> Result<()> {
    toolchain.build(ebpf)?;
    for name in OBJECTS {
        let (from, to) = (built(ebpf, name), committed(ebpf, name));
        std::fs::create_dir_all(ebpf.join("objects"))?;
        let bytes = std::fs::copy(&from, &to).with_context(|| format!("copying to {}", to.display()))?;
        println!("ebpf: {name}.o, {bytes} bytes");
    }
    sums::write(ebpf)
}

fn check(toolchain: &Toolchain, ebpf: &Path) -> Result<()> {
    toolchain.build(ebpf)?;
    let mut differences = Vec::new();
    for name in OBJECTS {
        let read =
            |path: PathBuf| std::fs::read(&path).with_context(|| format!("reading {}", path.display()));
        let (old, new) = (read(committed(ebpf, name))?, read(built(ebpf, name))?);
        for difference in compare::differences(&old, &new)? {
            differences.push(format!("{name}.o: {difference}"));
        }
    }
    if differences.is_empty() {
        println!("ebpf: {} objects rebuilt, all the same", OBJECTS.len());
        return Ok(());
    }
    bail!(
        "the committed objects are stale: run `cargo xtask ebpf` and commit the result\n{}",
        differences.join("\n")
    )
}

fn built(ebpf: &Path, name: &str) -> PathBuf {
    ebpf.join("target/bpfel-unknown-none/release").join(name)
}

fn committed(ebpf: &Path, name: &str) -> PathBuf {
    ebpf.join("objects").join(format!("{name}.o"))
}
