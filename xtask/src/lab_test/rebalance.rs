//! One machine for a web application, YARN and Cassandra: days on which Trimtab divides it beside days on which it is halved.
//!
//! The same compressed day is lived through four times, halved and divided in turn, so that two equal days say how much days differ by
//! themselves.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::up::beside::Sharing;
use crate::up::report::Report;
use crate::up::work::Done;
use crate::up::{self, Plan};

/// What is to be shown of the target: the share of seconds in which it holds.
const HELD: f64 = 0.99;

/// What the four days say. Keys are a contract.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Share of the seconds of a day of Trimtab's in which the target of the queue delay held: that of the worse one.
    target_held_ratio: f64,
    /// The same of the halved days.
    halves_target_held_ratio: f64,
    /// Maps done on the days of Trimtab's, for each of a halved day.
    yarn_work_ratio: f64,
    /// Cassandra's p99 on the days of Trimtab's, for that of a halved day.
    cassandra_p99_ratio: f64,
    /// Over all days of Trimtab's.
    containers_killed_by_us: u64,
    client_errors: u64,
    cassandra_errors: u64,
    /// The same of the two halved days, the second for the first: how much equal days differ.
    aa_yarn_work_ratio: f64,
    aa_cassandra_p99_ratio: f64,
    days: Vec<Report>,
}

fn done(day: &Report) -> Result<&Done> {
    day.beside.as_ref().context("a day without Hadoop and Cassandra")
}

/// Lives through the days and compares them.
///
/// # Errors
/// When a day does not come to its end, or Trimtab's days hold less than promised.
pub(super) fn run(root: &Path, directory: &Path, day: Duration, json: Option<&Path>) -> Result<()> {
    let bin = up::prepare(root, false)?;
    let stop = up::on_signals()?;
    let mut days: Vec<Report> = Vec::new();
    for sharing in [Sharing::Halves, Sharing::Trimtab, Sharing::Halves, Sharing::Trimtab] {
        println!("==> day {} of 4: {sharing:?}", days.len() + 1);
        let capacity = days.first().map(|first| first.capacity);
        let plan =
            Plan { directory: directory.to_owned(), sharing, day, capacity, pictures: None, keep: false };
        let report = plan.play(root, &bin, &stop)?;
        println!("\n{report}");
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        days.push(report);
    }
    let outcome = compare(days)?;
    let text = serde_json::to_string_pretty(&outcome)? + "\n";
    if let Some(file) = json {
        std::fs::write(file, &text).with_context(|| format!("writing {}", file.display()))?;
    }
    print!("{outcome}");
    ensure!(
        outcome.target_held_ratio >= HELD && outcome.containers_killed_by_us == 0,
        "the target held in {:.1} % of the seconds (at least {:.0} % are promised), {} containers were killed (none may be)",
        outcome.target_held_ratio * 100.0,
        HELD * 100.0,
        outcome.containers_killed_by_us
    );
    Ok(())
}

fn compare(days: Vec<Report>) -> Result<Outcome> {
    let of = |sharing: Sharing| days.iter().filter(move |day| day.sharing == sharing);
    let sum = |sharing, what: fn(&Done) -> f64| -> Result<f64> {
        of(sharing).map(|day| done(day).map(what)).sum::<Result<f64>>()
    };
    let worst = |sharing| of(sharing).map(|day| day.target_held_ratio).fold(1.0, f64::min);
    let maps = |done: &Done| done.maps as f64;
    let p99 = |done: &Done| done.cassandra_p99_ms;
    let ratio = |what| Ok::<f64, anyhow::Error>(sum(Sharing::Trimtab, what)? / sum(Sharing::Halves, what)?);
    let mut halves = of(Sharing::Halves).map(done);
    let (first, second) = (halves.next().context("no day")??, halves.next().context("one day")??);
    let (aa_yarn_work_ratio, aa_cassandra_p99_ratio) = (maps(second) / maps(first), p99(second) / p99(first));
    Ok(Outcome {
        target_held_ratio: worst(Sharing::Trimtab),
        halves_target_held_ratio: worst(Sharing::Halves),
        yarn_work_ratio: ratio(maps)?,
        cassandra_p99_ratio: ratio(p99)?,
        containers_killed_by_us: sum(Sharing::Trimtab, |done| done.containers_killed as f64)? as u64,
        client_errors: of(Sharing::Trimtab).map(|day| day.client_errors).sum(),
        cassandra_errors: sum(Sharing::Trimtab, |done| done.cassandra_errors as f64)? as u64,
        aa_yarn_work_ratio,
        aa_cassandra_p99_ratio,
        days,
    })
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |ratio: f64| format!("{:.1} %", ratio * 100.0);
        writeln!(f, "Two days divided by Trimtab beside two that were halved")?;
        writeln!(
            f,
            "  target held            {:>8}   of the seconds; halved {}",
            percent(self.target_held_ratio),
            percent(self.halves_target_held_ratio)
        )?;
        writeln!(
            f,
            "  YARN work              {:>8.2}   times that of halved days; equal days differ by {:.2}",
            self.yarn_work_ratio, self.aa_yarn_work_ratio
        )?;
        writeln!(
            f,
            "  Cassandra p99          {:>8.2}   times that of halved days; equal days differ by {:.2}",
            self.cassandra_p99_ratio, self.aa_cassandra_p99_ratio
        )?;
        writeln!(
            f,
            "  containers killed      {:>8}   client errors {}, Cassandra errors {}",
            self.containers_killed_by_us, self.client_errors, self.cassandra_errors
        )
    }
}
