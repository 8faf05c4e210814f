//! `cargo xtask bench`: the measurements behind the promises in SPECIFICATION.md.

mod switch;

use std::path::Path;

use anyhow::Result;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// What a context switch costs beside an empty program and beside the textbook design.
    Switch(switch::Args),
}

/// Measures.
///
/// # Errors
/// Those of the measurement.
pub(crate) fn run(command: &Command, root: &Path) -> Result<()> {
    match command {
        Command::Switch(args) => switch::run(args, root),
    }
}
