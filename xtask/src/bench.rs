//! `cargo xtask bench`: the measurements behind the promises in SPECIFICATION.md.

mod colocate;
mod daemons;
mod face;
mod ingest;
mod line;
mod overhead;
mod soak;
mod switch;

use std::path::Path;

use anyhow::Result;

pub(crate) use colocate::{Part as ColocatePart, part as colocate_part};
pub(crate) use overhead::sleeper;
pub(crate) use soak::brief;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// What a context switch costs beside an empty program and beside the textbook design.
    Switch(switch::Args),
    /// What the agent costs at 1,000 cgroups and 1 Hz, streaming to a live autoscaler.
    Overhead(overhead::Args),
    /// What best-effort work costs a latency-critical service beside it, and what it gets done, in several modes.
    Colocate(colocate::Args),
    /// What a task sample costs at the receiver, with 1,000 agents.
    Ingest(ingest::Args),
    /// What the dashboards weigh, and how fast they are with a large fleet and a long history.
    Face(face::Args),
    /// What grows while cgroups come and go for an hour.
    Soak(soak::Args),
}

/// Measures.
///
/// # Errors
/// Those of the measurement.
pub(crate) fn run(command: &Command, root: &Path) -> Result<()> {
    match command {
        Command::Switch(args) => switch::run(args, root),
        Command::Overhead(args) => overhead::run(args, root),
        Command::Colocate(args) => colocate::run(args, root),
        Command::Ingest(args) => ingest::run(args, root),
        Command::Face(args) => face::run(args, root),
        Command::Soak(args) => soak::run(args, root),
    }
}

/// The running kernel's release.
fn kernel() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// As /proc/loadavg has it.
fn load_average() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.trim().to_owned())
}
