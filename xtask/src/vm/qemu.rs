//! The emulator: the host's own where it is new enough, otherwise a private copy from the host's backports.
//!
//! Before version 10 guests with two processors hung now and then.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use crate::cache::Entry;

const PROGRAM: &str = "qemu-system-x86_64";
const OLDEST: u32 = 10;

/// Where the emulator is, and what it needs beside it.
#[derive(Debug)]
pub(super) struct Qemu {
    program: PathBuf,
    /// Root of a private copy.
    root: Option<PathBuf>,
    /// As it calls itself.
    pub(super) version: String,
}

/// Finds it, or unpacks a private copy.
pub(super) fn prepare(cache: &Path) -> Result<Qemu> {
    if let Some(version) = version(&mut Command::new(PROGRAM)).filter(|v| major(v) >= OLDEST) {
        return Ok(Qemu { program: PROGRAM.into(), root: None, version });
    }
    let release = apt::codename()?;
    let backports = format!("{release}-backports");
    let suites = if release == "bookworm" { vec![&*release, &*backports] } else { vec![&*release] };
    let suite = suites.last().copied().context("one suite at least")?;
    let entry = Entry::at(cache, "qemu", &format!("{suites:?} {}", include_str!("qemu.rs")));
    entry.make_once(|into| {
        println!("    emulator: {PROGRAM} of {suite}, unpacked beside the host's packages");
        let debs = into.join("debs");
        Apt::open(cache, &suites)?.download_missing(suite, "qemu-system-x86", &debs)?;
        apt::unpack(&debs, &into.join("root"))?;
        std::fs::remove_dir_all(debs)?;
        Ok(())
    })?;
    let root = entry.path().join("root");
    let program = root.join("usr/bin").join(PROGRAM);
    let mut qemu = Qemu { program, root: Some(root), version: String::new() };
    qemu.version = version(&mut qemu.command()).context("the unpacked emulator does not start")?;
    Ok(qemu)
}

impl Qemu {
    /// A command that starts it, with its own libraries and firmware.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|p| root.join(p));
            if let Ok(path) = std::env::join_paths(libraries) {
                command.env("LD_LIBRARY_PATH", path);
            }
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(firmware));
            }
        }
        command
    }
}

fn version(command: &mut Command) -> Option<String> {
    let output = command.arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.lines().next()?.split_once("version ")?;
    rest.split(' ').next().map(str::to_owned)
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|m| m.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_old_emulator_is_known_by_its_first_number() {
        assert_eq!(super::major("10.0.2"), 10);
        assert_eq!(super::major("7.2.22"), 7);
        assert_eq!(super::major("unknown"), 0);
    }
}
