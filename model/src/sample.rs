//! What one task's counters read at one instant, and the usage that two such readings give.
//!
//! A sample holds totals since the task's start, never rates: a lost sample costs resolution, not counts. A number
//! that could not be read is absent (its presence bit is clear); it is never zero in its place.

use serde::Serialize;

use crate::metric::{Kind, Metric};

/// The values of one task at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    present: u32,
    values: [u64; Metric::COUNT],
}

impl Default for Values {
    fn default() -> Self {
        Self { present: 0, values: [0; Metric::COUNT] }
    }
}

impl Values {
    /// The value, or `None` when it could not be read.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<u64> {
        (self.present & metric.bit() != 0).then(|| self.values[metric as usize])
    }

    /// Sets a value that was read.
    pub fn set(&mut self, metric: Metric, value: u64) {
        self.present |= metric.bit();
        self.values[metric as usize] = value;
    }

    /// Sets a value, or marks it as not known.
    pub fn put(&mut self, metric: Metric, value: Option<u64>) {
        match value {
            Some(value) => self.set(metric, value),
            None => self.clear(metric),
        }
    }

    /// Marks a value as not known.
    pub fn clear(&mut self, metric: Metric) {
        self.present &= !metric.bit();
        self.values[metric as usize] = 0;
    }

    /// Which metrics are present, as a mask of [`Metric::bit`].
    #[must_use]
    pub fn present(&self) -> u32 {
        self.present
    }

    /// Present metrics in catalogue order.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, u64)> + '_ {
        Metric::ALL.iter().filter_map(|m| self.get(*m).map(|v| (*m, v)))
    }
}

/// The rates between two samples of one task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Usage {
    /// Length of the interval in seconds; > 0.
    pub seconds: f64,
    /// CPU in cores (CPU seconds per second).
    pub cpu_cores: Option<f64>,
    /// Share of the interval held back by a quota; may pass 1 with several threads.
    pub throttled_ratio: Option<f64>,
    /// Mean run-queue delay per run, in seconds.
    pub run_delay_mean_seconds: Option<f64>,
    /// Times given a CPU, per second.
    pub runs_per_second: Option<f64>,
    /// Share of the interval in which some thread waited for CPU, 0..=1.
    pub cpu_stall_ratio: Option<f64>,
    /// Share of the interval in which all threads waited for memory, 0..=1.
    pub memory_stall_ratio: Option<f64>,
    /// Memory charged at the end of the interval, in bytes.
    pub memory_bytes: Option<u64>,
}

/// Why two samples give no usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// The second sample is not later than the first.
    #[error("the second sample is not later than the first")]
    NoTimeBetween,
    /// A counter fell: the task was restarted under the same key, or a ledger was lost.
    #[error("{} fell from {before} to {after}", metric.entry().name)]
    CounterFell {
        /// Which one.
        metric: Metric,
        /// Earlier total.
        before: u64,
        /// Later total.
        after: u64,
    },
}

/// Derives usage from two samples taken `interval_ns` apart on the boot clock.
///
/// # Errors
/// [`DeriveError`] when no time passed or a counter fell; both mean that the pair says nothing.
pub fn derive(earlier: &Values, later: &Values, interval_ns: u64) -> Result<Usage, DeriveError> {
    if interval_ns == 0 {
        return Err(DeriveError::NoTimeBetween);
    }
    for (metric, after) in later.iter().filter(|(m, _)| m.entry().kind == Kind::Counter) {
        if let Some(before) = earlier.get(metric)
            && after < before
        {
            return Err(DeriveError::CounterFell { metric, before, after });
        }
    }
    let seconds = interval_ns as f64 / 1e9;
    let delta = |m: Metric| Some(later.get(m)? - earlier.get(m)?);
    let share_of_us = |m: Metric| delta(m).map(|us| us as f64 / 1e6 / seconds);
    let runs = delta(Metric::RunCount);
    Ok(Usage {
        seconds,
        cpu_cores: share_of_us(Metric::CpuTime),
        throttled_ratio: share_of_us(Metric::Throttled),
        run_delay_mean_seconds: match (delta(Metric::RunDelay), runs) {
            (Some(ns), Some(n)) if n > 0 => Some(ns as f64 / n as f64 / 1e9),
            (Some(_), Some(_)) => Some(0.0),
            _ => None,
        },
        runs_per_second: runs.map(|n| n as f64 / seconds),
        cpu_stall_ratio: share_of_us(Metric::CpuStall).map(|r| r.min(1.0)),
        memory_stall_ratio: share_of_us(Metric::MemoryStall).map(|r| r.min(1.0)),
        memory_bytes: later.get(Metric::MemoryCurrent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(Metric, u64)]) -> Values {
        let mut v = Values::default();
        for (m, x) in pairs {
            v.set(*m, *x);
        }
        v
    }

    #[test]
    fn a_missing_value_stays_missing_and_is_never_zero() {
        let a = values(&[(Metric::CpuTime, 1_000_000)]);
        let b = values(&[(Metric::CpuTime, 1_500_000), (Metric::CpuStall, 7)]);
        let usage = derive(&a, &b, 1_000_000_000).unwrap();
        assert_eq!(usage.cpu_cores, Some(0.5));
        assert_eq!(usage.cpu_stall_ratio, None, "only one of the two samples has it");
        assert_eq!(usage.memory_bytes, None);
    }

    #[test]
    fn a_counter_that_fell_is_an_error_that_names_it() {
        let a = values(&[(Metric::CpuTime, 10)]);
        let b = values(&[(Metric::CpuTime, 9)]);
        assert_eq!(derive(&a, &b, 1).unwrap_err().to_string(), "cpu_time_us fell from 10 to 9");
        assert_eq!(derive(&a, &a, 0), Err(DeriveError::NoTimeBetween));
    }
}
