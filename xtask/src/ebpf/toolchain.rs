//! The BPF toolchain: Debian's own Rust, whose standard library comes as source, and bpf-linker built against Debian's LLVM.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Rust with sources, and the LLVM that this Rust's bitcode needs.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
const CARGO: &str = "/usr/bin/cargo";
const LLVM: &str = "/usr/lib/llvm-22";
const LIBRARY_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";
const LINKER_VERSION: &str = "0.13.0";

/// Where the tools are.
pub(super) struct Toolchain {
    linker: PathBuf,
}

/// What is not there, and how to get it.
pub(super) struct Missing(Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the BPF toolchain is incomplete: no {}\n  apt-get install {}\n  cargo install bpf-linker --version {LINKER_VERSION} (against LLVM 22)\n  or both at once: cargo xtask ebpf --install",
            self.0.join(", no "),
            PACKAGES.join(" "),
        )
    }
}

impl Toolchain {
    /// Looks for every part.
    pub(super) fn find() -> std::result::Result<Self, Missing> {
        let linker = tools().join("bin/bpf-linker");
        let parts = [Path::new(CARGO), Path::new(LIBRARY_SOURCE), Path::new(LLVM), &linker];
        let missing: Vec<_> =
            parts.iter().filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
        if missing.is_empty() { Ok(Self { linker }) } else { Err(Missing(missing)) }
    }

    /// Builds all objects in the crate at `ebpf`.
    pub(super) fn build(&self, ebpf: &Path) -> Result<()> {
        let flags = format!("--cfg=bpf_target_arch=\"x86_64\" -Clinker={}", self.linker.display());
        let status = debian_cargo()
            .current_dir(ebpf)
            .args(["build", "--release", "--locked", "--ignore-rust-version", "--quiet"])
            .env("RUSTFLAGS", flags)
            .env("RUSTC_BOOTSTRAP", "1")
            .status()
            .with_context(|| format!("starting {CARGO}"))?;
        ensure!(status.success(), "building the kernel programs failed");
        Ok(())
    }
}

/// Installs every part.
pub(super) fn install() -> Result<()> {
    let status = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(PACKAGES)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("starting apt-get")?;
    ensure!(status.success(), "apt-get install {} failed", PACKAGES.join(" "));
    let status = debian_cargo()
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--root"])
        .arg(tools())
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM)
        .status()
        .with_context(|| format!("starting {CARGO}"))?;
    ensure!(status.success(), "cargo install bpf-linker failed");
    Ok(())
}

/// Debian's cargo with Debian's rustc, whatever this process was started with.
fn debian_cargo() -> Command {
    let mut cargo = Command::new(CARGO);
    let path = std::env::var("PATH").unwrap_or_default();
    cargo.env("PATH", format!("/usr/bin:{path}"));
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(variable);
    }
    cargo
}

fn tools() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    home.join(".cache/trimtab/tools")
}
