//! What the fleet had, used and left idle over hours and weeks.
//!
//! Problem: a month of the idle ledger is 43,200 pages of JSON; a page that shows it must not read them. Method: the sums of each page are
//! columns of their own, and causes are added up in slots of [`SLOT_MS`] as pages come. Times without a page are unknown, not 0; capacity of
//! which nothing was known is kept apart from what was used and what was idle. Bounds: one row per page and one per slot and cause.

use std::collections::BTreeMap;

use autoscaler_core::event::Time;
use autoscaler_core::idle::{Cause, Page};
use rusqlite::{Connection, params};

use super::schema::integer;

/// Causes are added up over ten minutes: a sixth of the shortest range that people ask for, an hour.
pub const SLOT_MS: u64 = 600_000;

/// What one resource was, on average; in cores or in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    /// All there was.
    pub capacity: f64,
    /// What was used of it.
    pub used: f64,
    /// Of which nothing was known.
    pub dark: f64,
}

/// Idle capacity of one cause, as shares of all capacity of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Why.
    pub cause: Cause,
    /// Of the CPUs.
    pub cpu: f64,
    /// Of the memory.
    pub memory: f64,
}

/// A range of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// From: the start of a slot.
    pub from: Time,
    /// To: the end of the newest page.
    pub to: Time,
    /// Time of which there are pages, ms.
    pub covered_ms: u64,
    /// CPU and memory over all of it; absent when there is no page.
    pub mean: Option<(Span, Span)>,
    /// Used CPU (cores) and memory (bytes): 95 % of the pages have at most this. Pages in the dark are not among them.
    pub used_p95: (Option<f64>, Option<f64>),
    /// Causes of what was idle, largest share of CPU first; with use they are 1.
    pub idle: Vec<Share>,
    /// Distance of points, ms.
    pub step_ms: u64,
    /// CPU and memory of each step; `None` where there is no page.
    pub points: Vec<Option<(Span, Span)>>,
}

/// Stores a page.
pub(super) fn note(db: &Connection, page: &Page) -> Result<(), rusqlite::Error> {
    let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let dark =
        page.idle.iter().find(|line| line.cause == Cause::NoData).map(|line| line.amount).unwrap_or_default();
    let sums = [
        page.capacity.cpu_millicore_ms,
        page.used.cpu_millicore_ms,
        dark.cpu_millicore_ms,
        page.capacity.memory_kib_ms,
        page.used.memory_kib_ms,
        dark.memory_kib_ms,
    ]
    .map(integer);
    let [cpu_all, cpu_used, cpu_dark, memory_all, memory_used, memory_dark] = sums;
    let (from, to) = (integer(page.from.0), integer(page.to.0));
    db.prepare_cached(
        "INSERT INTO idle (at_ms, body, from_ms, cpu_all, cpu_used, cpu_dark, memory_all, memory_used, memory_dark)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        to,
        serde_json::to_string(page).map_err(json)?,
        from,
        cpu_all,
        cpu_used,
        cpu_dark,
        memory_all,
        memory_used,
        memory_dark
    ])?;
    // A page that ends with a slot is part of it.
    let slot = integer(page.to.0.saturating_sub(1) / SLOT_MS * SLOT_MS);
    for line in &page.idle {
        let cause = serde_json::to_string(&line.cause).map_err(json)?;
        // What is more than fits counts as all that fits.
        db.prepare_cached(
            "INSERT INTO idle_causes (at_ms, cause, cpu, memory) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (at_ms, cause) DO UPDATE SET
                cpu = cpu + min(excluded.cpu, 9223372036854775807 - cpu),
                memory = memory + min(excluded.memory, 9223372036854775807 - memory)",
        )?
        .execute(params![
            slot,
            cause,
            integer(line.amount.cpu_millicore_ms),
            integer(line.amount.memory_kib_ms)
        ])?;
    }
    Ok(())
}

/// Sums of pages; in floating point, since a month of a large fleet does not fit into 64 bits.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    ms: f64,
    /// All, used, dark: CPU, then memory.
    amounts: [f64; 6],
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.ms += other.ms;
        for (mine, theirs) in self.amounts.iter_mut().zip(other.amounts) {
            *mine += theirs;
        }
    }

    fn spans(&self) -> Option<(Span, Span)> {
        let ms = Some(self.ms).filter(|ms| *ms > 0.0)?;
        let [cpu_all, cpu_used, cpu_dark, all, used, dark] = self.amounts.map(|amount| amount / ms);
        Some((
            Span { capacity: cpu_all / 1e3, used: cpu_used / 1e3, dark: cpu_dark / 1e3 },
            Span { capacity: all * 1024.0, used: used * 1024.0, dark: dark * 1024.0 },
        ))
    }
}

/// What was between `from`, moved back to the start of its slot, and `to`; in about `points` steps.
pub(super) fn read(db: &Connection, from: Time, to: Time, points: u64) -> Result<Usage, rusqlite::Error> {
    let from = from.0 / SLOT_MS * SLOT_MS;
    // Whole minutes, so that a step holds as many pages as the next.
    let step_ms = to.0.saturating_sub(from).div_ceil(points.max(1)).div_ceil(60_000).max(1) * 60_000;
    let mut steps: BTreeMap<u64, Sum> = BTreeMap::new();
    let (mut all, mut cpu, mut memory, mut newest) = (Sum::default(), Vec::new(), Vec::new(), from);
    let mut statement = db.prepare_cached(
        "SELECT from_ms, at_ms, cpu_all, cpu_used, cpu_dark, memory_all, memory_used, memory_dark FROM idle
         WHERE at_ms > ?1 AND at_ms <= ?2 AND from_ms IS NOT NULL ORDER BY at_ms",
    )?;
    let mut rows = statement.query(params![integer(from), integer(to.0)])?;
    while let Some(row) = rows.next()? {
        let number = |at: usize| row.get::<_, i64>(at).map(|n| n.max(0));
        let (began, ended) = (number(0)?.unsigned_abs(), number(1)?.unsigned_abs());
        let mut page = Sum { ms: ended.saturating_sub(began) as f64, ..Sum::default() };
        for (at, amount) in page.amounts.iter_mut().enumerate() {
            *amount = number(at + 2)? as f64;
        }
        if let Some((of_cpu, of_memory)) = page.spans() {
            cpu.extend((of_cpu.dark <= 0.0).then_some(of_cpu.used));
            memory.extend((of_memory.dark <= 0.0).then_some(of_memory.used));
        }
        all.add(&page);
        steps.entry((ended - 1).saturating_sub(from) / step_ms).or_default().add(&page);
        newest = newest.max(ended);
    }
    let count = newest.saturating_sub(from).div_ceil(step_ms);
    Ok(Usage {
        from: Time(from),
        to: Time(newest),
        covered_ms: all.ms as u64,
        mean: all.spans(),
        used_p95: (p95(cpu), p95(memory)),
        idle: causes(db, from, to.0, &all)?,
        step_ms,
        points: (0..count).map(|at| steps.get(&at).and_then(Sum::spans)).collect(),
    })
}

/// The least value that at least 95 % are not above.
fn p95(mut values: Vec<f64>) -> Option<f64> {
    let at = (values.len() * 95).div_ceil(100).checked_sub(1)?;
    let (_, value, _) = values.select_nth_unstable_by(at, f64::total_cmp);
    Some(*value)
}

fn causes(db: &Connection, from: u64, to: u64, all: &Sum) -> Result<Vec<Share>, rusqlite::Error> {
    let mut statement = db.prepare_cached(
        "SELECT cause, sum(CAST(cpu AS REAL)), sum(CAST(memory AS REAL)) FROM idle_causes
         WHERE at_ms >= ?1 AND at_ms < ?2 GROUP BY cause",
    )?;
    let (cpu_all, memory_all) = (all.amounts[0], all.amounts[3]);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let rows = statement.query_map(params![integer(from), integer(to)], |row| {
        let cause: String = row.get(0)?;
        let cause = serde_json::from_str(&cause).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        Ok(Share { cause, cpu: share(row.get(1)?, cpu_all), memory: share(row.get(2)?, memory_all) })
    })?;
    let mut shares = rows.collect::<Result<Vec<_>, _>>()?;
    shares.sort_by(|a, b| b.cpu.total_cmp(&a.cpu));
    Ok(shares)
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
