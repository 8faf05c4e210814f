//! The idle ledger: where capacity was not used, and why.

use autoscaler_core::idle as core;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

impl From<core::Page> for IdlePage {
    fn from(page: core::Page) -> Self {
        let all = page.capacity;
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let idle = page.idle.into_iter().map(|line| {
            let tags = serde_json::to_value(&line.cause).unwrap_or_default();
            let tag = |name: &str| tags.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            IdleCause {
                cause: tag("cause").unwrap_or_default(),
                workload: tag("workload"),
                rule: tag("rule"),
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
