//! `cargo xtask bench switch`: ns per context switch with each contender attached (see agent/bpf/examples/switch_cost.rs).
//!
//! Needs root. The kernel's statistics add the same to each contender, so what a program costs is its difference from the empty one,
//! taken within each round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Options of `cargo xtask bench switch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds in which every contender has its turn.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Length of a turn, ms.
    #[arg(long, default_value_t = 300)]
    milliseconds: u32,
    /// Write the figures here too.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// ns per switch, by workload and contender, in the order of the rounds.
type Figures = BTreeMap<(String, String), Vec<f64>>;

/// Measures and prints.
///
/// # Errors
/// When the kernel does not take the programs, or a contender is missing from the figures.
pub(crate) fn run(args: &Args, root: &Path) -> Result<()> {
    let load_before = load_average();
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .current_dir(root)
        .args(["run", "--quiet", "--release", "--package", "agent-bpf", "--features", "yardsticks"])
        .args(["--example", "switch_cost", "--", "agent-ebpf/objects/yardsticks.o"])
        .args([args.rounds.to_string(), args.milliseconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the measurement failed: {}", output.status);
    let figures = parse(&String::from_utf8(output.stdout)?)?;
    let hot = summary(&figures, "hot")?;
    let mut report = json!({
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load_average_before": load_before,
        "load_average_after": load_average(),
        "rounds": args.rounds,
        "milliseconds": args.milliseconds,
        "cold": summary(&figures, "cold")?,
    });
    // The hot figures are the headline: at the top.
    if let (Value::Object(report), Value::Object(hot)) = (&mut report, hot) {
        report.extend(hot);
    }
    let text = serde_json::to_string_pretty(&report)?;
    println!("{text}");
    if let Some(path) = &args.json {
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn parse(text: &str) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [workload, contender, _round, ns, switches] = words.as_slice() else {
            anyhow::bail!("not a figure: {line}");
        };
        ensure!(switches.parse::<u64>()? > 0, "no switches: {line}");
        figures.entry(((*workload).to_owned(), (*contender).to_owned())).or_default().push(ns.parse()?);
    }
    Ok(figures)
}

fn summary(figures: &Figures, workload: &str) -> Result<Value> {
    let of = |contender: &str| {
        figures
            .get(&(workload.to_owned(), contender.to_owned()))
            .with_context(|| format!("no figures of {contender}, {workload}"))
    };
    let (empty, trimtab, textbook) = (of("empty")?, of("trimtab")?, of("textbook")?);
    let added = |ns: &[f64]| ns.iter().zip(empty).map(|(ns, empty)| ns - empty).collect::<Vec<_>>();
    let spread = |ns: &[f64]| -> Vec<f64> {
        let sorted = sorted(ns);
        [sorted.first(), sorted.last()].into_iter().flatten().map(|ns| tenth(*ns)).collect()
    };
    Ok(json!({
        "empty_ns": median(empty),
        "trimtab_ns": median(trimtab),
        "textbook_ns": median(textbook),
        "trimtab_added_ns": median(&added(trimtab)),
        "textbook_added_ns": median(&added(textbook)),
        "spread_ns": {
            "empty": spread(empty),
            "trimtab": spread(trimtab),
            "textbook": spread(textbook),
            "trimtab_added": spread(&added(trimtab)),
        },
    }))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let value = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    tenth(value)
}

/// Rounded to what the clock can tell.
fn tenth(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_within_a_round() {
        let mut text = String::new();
        for (round, (empty, ours)) in [(50, 64), (90, 105), (51, 67)].into_iter().enumerate() {
            text += &format!(
                "hot empty {round} {empty}.0 10\nhot trimtab {round} {ours}.0 10\nhot textbook {round} 500.0 10\n"
            );
        }
        let summary = summary(&parse(&text).unwrap(), "hot").unwrap();
        assert_eq!(summary["empty_ns"], 51.0);
        assert_eq!(summary["trimtab_added_ns"], 15.0, "14, 15, 16: the slow round falls on both");
        assert_eq!(summary["spread_ns"]["trimtab"], json!([64.0, 105.0]));
    }

    #[test]
    fn a_missing_contender_or_an_empty_turn_is_an_error() {
        assert!(summary(&parse("hot empty 0 50.0 10").unwrap(), "hot").is_err());
        assert!(parse("hot empty 0 NaN 0").is_err());
        assert!(parse("hot").is_err());
    }
}
