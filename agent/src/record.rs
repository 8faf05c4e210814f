//! Raw rounds in a file, one JSON object a line: to look at (`dump`), to keep (`record`), to play again (`replay`).

use std::io::{BufRead, Write};

use agent_core::raw::{Raw, Recorded};
use agent_core::table::Table;
use anyhow::{Context, Result};
use model::node::TaskClass;
use model::sample::{Values, derive};

use crate::source::{Reading, Source};

/// Reads `rounds` rounds, one every `interval`, and writes each as a line.
///
/// # Errors
/// When reading or writing fails.
pub fn record(
    source: &mut Source,
    rounds: u64,
    interval: std::time::Duration,
    out: &mut impl Write,
) -> Result<()> {
    let mut reading = Reading::default();
    for round in 0..rounds {
        if round > 0 {
            std::thread::sleep(interval);
        }
        source.read(&mut reading)?;
        serde_json::to_writer(&mut *out, &Recorded::from(&reading.raw))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// Plays recorded rounds through the same table that a live agent uses, and prints what each task used.
///
/// # Errors
/// When a line is no round, with its number.
pub fn replay(input: impl BufRead, out: &mut impl Write) -> Result<()> {
    let mut table = Table::default();
    let mut before: std::collections::BTreeMap<u32, (u64, Values)> = std::collections::BTreeMap::new();
    for (number, line) in input.lines().enumerate() {
        let line = line.context("reading")?;
        let recorded: Recorded =
            serde_json::from_str(&line).with_context(|| format!("line {} is no round", number + 1))?;
        let raw = Raw::from(&recorded);
        let class = |id, _| TaskClass::new("recorded", format!("{id}"));
        let round = table.observe(&raw, class);
        let (new, gone) = (round.appeared.len(), round.gone.len());
        writeln!(
            out,
            "round {} at {} ns: {} tasks, {new} new, {gone} gone",
            number + 1,
            raw.boot_ns,
            table.len()
        )?;
        for (slot, info, values) in table.live() {
            if let Some((at, earlier)) = before.get(&slot)
                && let Ok(usage) = derive(earlier, values, raw.boot_ns.saturating_sub(*at))
                && usage.cpu_cores.is_some_and(|c| c > 0.0)
            {
                let delay =
                    usage.run_delay_mean_seconds.map_or("-".to_owned(), |s| format!("{:.1}", s * 1e6));
                let cores = usage.cpu_cores.unwrap_or_default();
                writeln!(out, "  {:>12}  {cores:8.4} cores  run delay {delay} us", info.class.name)?;
            }
            before.insert(slot, (raw.boot_ns, *values));
        }
    }
    Ok(())
}
