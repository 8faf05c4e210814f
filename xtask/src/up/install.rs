//! What must be on the machine, and what is built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Debian and Ubuntu packages, each with what is run of it.
const PACKAGES: [&str; 8] = [
    "ruby",
    "ruby-railties",
    "ruby-actionpack",
    "ruby-activerecord",
    "ruby-sqlite3",
    "puma",
    "haproxy",
    "ca-certificates",
];

/// Installs missing packages; says which.
pub(crate) fn packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        println!("==> packages: all there");
        return Ok(());
    }
    apt(&missing)
}

/// Whether dpkg has a package installed.
pub(crate) fn installed(package: &str) -> bool {
    let status =
        Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output();
    status.is_ok_and(|o| o.stdout.ends_with(b"ok installed"))
}

/// Installs packages by name when root; otherwise prints the line that does it.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !nix::unistd::geteuid().is_root() {
        bail!("these packages are missing; install them with:\n  sudo {line}");
    }
    println!("==> {line}");
    // Lists of a fresh machine are empty; an update that fails shows in the install.
    let quiet = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(["-qq", "-o", "DPkg::Lock::Timeout=600"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
    };
    quiet(&["update"]).context("running apt-get; on other systems install these by hand")?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    let status = quiet(&install)?;
    ensure!(status.success(), "`{line}` failed with {status}: run it by hand to see why");
    Ok(())
}

/// Builds the daemons, with the dashboards where that can be done, and the command; returns the directory of their programs.
pub(crate) fn build(root: &Path, debug: bool) -> Result<PathBuf> {
    crate::web::ready(root);
    println!("==> building trimtab-agent, trimtab-autoscaler and trimtab (a first build takes some minutes)");
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(root).args([
        "build",
        "--quiet",
        "--bins",
        "-p",
        "agent",
        "-p",
        "autoscaler",
        "-p",
        "cli",
    ]);
    if !debug {
        cargo.arg("--release");
    }
    let status = cargo.status().context("starting cargo")?;
    ensure!(status.success(), "the build failed with {status}");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(if debug { "debug" } else { "release" }))
}
