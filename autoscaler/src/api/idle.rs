//! The idle ledger: where capacity was not used, and why.

use autoscaler_core::idle as core;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::usage as stored;

/// The idle ledger. Newest page first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Pages.
    pub items: Vec<IdlePage>,
}

/// An interval: what was used and what was idle, by cause, sum to the capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdlePage {
    /// Start.
    pub from_ms: u64,
    /// End.
    pub to_ms: u64,
    /// All there was.
    pub capacity: Amount,
    /// What was used.
    pub used: Amount,
    /// What was not used, by cause.
    pub idle: Vec<IdleCause>,
}

/// An amount of CPU and memory over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Core-seconds.
    pub cpu_core_seconds: f64,
    /// GiB-seconds.
    pub memory_gib_seconds: f64,
}

/// Idle capacity of one cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleCause {
    /// `no_data`, `draining`, `cooling_down`, `kept_for_failure`, `blocked`, `over_sized`, `fragmented`, `unmanaged`,
    /// `no_demand`.
    pub cause: String,
    /// Whose, when it was given to a workload.
    pub workload: Option<String>,
    /// For `blocked`, the code of the reason that blocks.
    pub rule: Option<String>,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
    /// Share of the page's CPU capacity.
    pub cpu_ratio: f64,
    /// Share of the page's memory capacity.
    pub memory_ratio: f64,
}

impl From<core::Amount> for Amount {
    fn from(amount: core::Amount) -> Self {
        Self { cpu_core_seconds: amount.core_seconds(), memory_gib_seconds: amount.gib_seconds() }
    }
}

/// A cause's name, whose it is, and the rule.
pub(crate) fn cause_words(cause: &core::Cause) -> (String, Option<String>, Option<String>) {
    let tags = serde_json::to_value(cause).unwrap_or_default();
    let tag = |name: &str| tags.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    (tag("cause").unwrap_or_default(), tag("workload"), tag("rule"))
}

impl From<core::Page> for IdlePage {
    fn from(page: core::Page) -> Self {
        let all = page.capacity;
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let idle = page.idle.into_iter().map(|line| {
            let (cause, workload, rule) = cause_words(&line.cause);
            IdleCause {
                cause,
                workload,
                rule,
                amount: line.amount.into(),
                cpu_ratio: share(line.amount.cpu_millicore_ms, all.cpu_millicore_ms),
                memory_ratio: share(line.amount.memory_kib_ms, all.memory_kib_ms),
            }
        });
        Self {
            from_ms: page.from.0,
            to_ms: page.to.0,
            capacity: all.into(),
            used: page.used.into(),
            idle: idle.collect(),
        }
    }
}

/// What the fleet had, used and left idle in a range of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// `trimtab/v1`.
    pub api_version: String,
    /// From: the range that was asked for, moved back to the start of ten minutes.
    pub from_ms: u64,
    /// To: the end of the newest page of the idle ledger.
    pub to_ms: u64,
    /// How much of that the ledger has pages of, ms. What was before it began, or while nothing ran, is unknown and counts nowhere.
    pub covered_ms: u64,
    /// CPU, in cores; absent when there is no page.
    pub cpu: Option<ResourceUsage>,
    /// Memory, in bytes; likewise.
    pub memory: Option<ResourceUsage>,
    /// What was not used, by cause; with use they are all capacity. Largest share of CPU first.
    pub idle: Vec<IdleShare>,
    /// Distance of the values below, ms.
    pub step_ms: u64,
    /// CPU over time.
    pub cpu_points: UsagePoints,
    /// Memory over time.
    pub memory_points: UsagePoints,
}

/// A resource in a range of time; averages over the pages of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceUsage {
    /// All there was.
    pub capacity: f64,
    /// What was used.
    pub used: f64,
    /// 95 % of the minutes used at most this; absent when in none of them all nodes were known.
    pub used_p95: Option<f64>,
    /// Of which nothing was known: neither used nor idle.
    pub unknown: f64,
}

/// A resource over time; null where there is no page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsagePoints {
    /// All there was.
    pub capacity: Vec<Option<f64>>,
    /// What was used.
    pub used: Vec<Option<f64>>,
    /// Of which nothing was known.
    pub unknown: Vec<Option<f64>>,
}

/// Idle capacity of one cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleShare {
    /// As in the idle ledger.
    pub cause: String,
    /// Whose, when it was given to a workload.
    pub workload: Option<String>,
    /// For `blocked`, the code of the reason that blocks.
    pub rule: Option<String>,
    /// Share of the CPU capacity.
    pub cpu_ratio: f64,
    /// Share of the memory capacity.
    pub memory_ratio: f64,
}

impl From<stored::Usage> for Usage {
    fn from(usage: stored::Usage) -> Self {
        let mean = |span: stored::Span, used_p95| ResourceUsage {
            capacity: span.capacity,
            used: span.used,
            used_p95,
            unknown: span.dark,
        };
        let points = |of: fn(&(stored::Span, stored::Span)) -> stored::Span| {
            let each = |value: fn(stored::Span) -> f64| {
                usage.points.iter().map(|point| point.as_ref().map(of).map(value)).collect()
            };
            UsagePoints {
                capacity: each(|span| span.capacity),
                used: each(|span| span.used),
                unknown: each(|span| span.dark),
            }
        };
        let idle = usage.idle.iter().map(|share| {
            let (cause, workload, rule) = cause_words(&share.cause);
            IdleShare { cause, workload, rule, cpu_ratio: share.cpu, memory_ratio: share.memory }
        });
        Self {
            api_version: super::API_VERSION.to_owned(),
            from_ms: usage.from.0,
            to_ms: usage.to.0,
            covered_ms: usage.covered_ms,
            cpu: usage.mean.map(|(cpu, _)| mean(cpu, usage.used_p95.0)),
            memory: usage.mean.map(|(_, memory)| mean(memory, usage.used_p95.1)),
            idle: idle.collect(),
            step_ms: usage.step_ms,
            cpu_points: points(|(cpu, _)| *cpu),
            memory_points: points(|(_, memory)| *memory),
        }
    }
}
