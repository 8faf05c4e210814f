//! What the fleet had, used and left idle: the ledger's newest minutes, and hours and weeks of it.

use autoscaler::api::{Idle, PriceTable, Usage};

use crate::client::{Client, escaped};
use crate::failure::Failure;
use crate::output::{self, Rows, age, bytes, moment, number, percent};
use crate::prices::{money, per_hour};

/// How far back when nothing is said: as the dashboards begin.
const RANGE: &str = "24h";
/// Nothing fresh is known of it, so it is neither used nor idle.
const UNKNOWN: &str = "no_data";
/// Pages that are not there are worth a word when they are more than this, ms.
const MISSING_MS: u64 = 600_000;
const GIB: f64 = 1_073_741_824.0;

/// A column at the end, when there are prices.
fn with_cost(
    mut columns: Vec<(&'static str, bool, bool)>,
    title: &'static str,
    prices: Option<&PriceTable>,
) -> Rows {
    columns.extend(prices.map(|_| (title, true, false)));
    Rows::new(&columns)
}

/// Of each page what was used, then what was not, by cause: the shares sum to 100 %.
pub(crate) fn idle_rows(idle: &Idle, prices: Option<&PriceTable>) -> Rows {
    let columns = vec![
        ("from", false, false),
        ("what", false, false),
        ("workload", false, false),
        ("cpu_core_s", true, false),
        ("cpu", true, false),
        ("memory_gib_s", true, false),
        ("memory", true, false),
        ("rule", false, true),
    ];
    let mut rows = with_cost(columns, "cost_per_hour", prices);
    for page in &idle.items {
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let seconds = page.to_ms.saturating_sub(page.from_ms) as f64 / 1e3;
        let cost = |known: bool, cores: f64, gib: f64| {
            let lasted = Some(seconds).filter(|seconds| known && *seconds > 0.0);
            prices.map(|table| money(table, lasted.map(|s| per_hour(table, cores / s, gib / s * GIB))))
        };
        let (used, all) = (page.used, page.capacity);
        let mut row = vec![
            moment(page.from_ms),
            "used".to_owned(),
            "-".to_owned(),
            number(Some(used.cpu_core_seconds)),
            percent(share(used.cpu_core_seconds, all.cpu_core_seconds)),
            number(Some(used.memory_gib_seconds)),
            percent(share(used.memory_gib_seconds, all.memory_gib_seconds)),
            String::new(),
        ];
        row.extend(cost(true, used.cpu_core_seconds, used.memory_gib_seconds));
        rows.push(row);
        for line in &page.idle {
            let mut row = vec![
                moment(page.from_ms),
                format!("idle: {}", line.cause.replace('_', " ")),
                line.workload.clone().unwrap_or_else(|| "-".to_owned()),
                number(Some(line.amount.cpu_core_seconds)),
                percent(Some(line.cpu_ratio)),
                number(Some(line.amount.memory_gib_seconds)),
                percent(Some(line.memory_ratio)),
                line.rule.clone().unwrap_or_default(),
            ];
            row.extend(cost(
                line.cause != UNKNOWN,
                line.amount.cpu_core_seconds,
                line.amount.memory_gib_seconds,
            ));
            rows.push(row);
        }
    }
    rows
}

/// What was in a range up to now.
pub(crate) fn over(client: &Client, range: Option<&str>) -> Result<Usage, Failure> {
    let usage: Usage = client.get(&format!("/api/v1/usage?range={}", escaped(range.unwrap_or(RANGE))))?;
    let missing = usage.to_ms.saturating_sub(usage.from_ms).saturating_sub(usage.covered_ms);
    if usage.cpu.is_some() && missing > MISSING_MS {
        output::remark(&format!(
            "the idle ledger has {} of this time: nothing is known of the rest, and it counts nowhere",
            age(Some(usage.covered_ms))
        ));
    }
    Ok(usage)
}

/// Averages over the time that is known, with the cost of that time at the prices in force now.
pub(crate) fn usage_rows(usage: &Usage, prices: Option<&PriceTable>) -> Rows {
    let columns = vec![
        ("what", false, false),
        ("workload", false, false),
        ("cpu", true, false),
        ("cpu_share", true, false),
        ("memory", true, false),
        ("memory_share", true, false),
        ("rule", false, true),
    ];
    let mut rows = with_cost(columns, "cost", prices);
    let (Some(cpu), Some(memory)) = (usage.cpu, usage.memory) else { return rows };
    let share = |part: Option<f64>, whole: f64| tenths(part.filter(|_| whole > 0.0).map(|part| part / whole));
    let hours = usage.covered_ms as f64 / 3.6e6;
    let cost = |known: bool, cores: f64, bytes: f64| {
        prices.map(|table| money(table, known.then(|| per_hour(table, cores, bytes) * hours)))
    };
    let mut add = |what: String,
                   whose: Option<(&str, &str)>,
                   cores: Option<f64>,
                   memory_bytes: Option<f64>,
                   priced: bool| {
        let (workload, rule) = whose.unwrap_or(("-", ""));
        let mut row = vec![
            what,
            workload.to_owned(),
            number(cores),
            share(cores, cpu.capacity),
            bytes(memory_bytes.map(|bytes| bytes as u64)),
            share(memory_bytes, memory.capacity),
            rule.to_owned(),
        ];
        row.extend(cost(priced, cores.unwrap_or_default(), memory_bytes.unwrap_or_default()));
        rows.push(row);
    };
    add("capacity".to_owned(), None, Some(cpu.capacity), Some(memory.capacity), true);
    add("used, mean".to_owned(), None, Some(cpu.used), Some(memory.used), true);
    add("used, p95".to_owned(), None, cpu.used_p95, memory.used_p95, false);
    for line in &usage.idle {
        let known = line.cause != UNKNOWN;
        let what =
            if known { format!("idle: {}", line.cause.replace('_', " ")) } else { "unknown".to_owned() };
        let whose = (line.workload.as_deref().unwrap_or("-"), line.rule.as_deref().unwrap_or_default());
        let amounts = (line.cpu_ratio * cpu.capacity, line.memory_ratio * memory.capacity);
        add(what, Some(whose), Some(amounts.0), Some(amounts.1), known);
    }
    rows
}

/// A share with a tenth of a percent: causes of a month are small.
fn tenths(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}
