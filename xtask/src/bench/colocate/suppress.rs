//! A fixed share for best-effort work, by Koordinator's rule with its constants (koordlet `cpu_suppress.go`, policy `cfsQuota`): each second,
//! 65 % of the node less what everybody else used.

use std::time::Duration;

/// `CPUSuppressIntervalSeconds`.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// `CPUSuppressThresholdPercent`.
const THRESHOLD: f64 = 0.65;
/// `DefaultCPUCFSPeriod`, µs.
pub(super) const PERIOD_US: u64 = 100_000;
/// `beMinQuota`, µs in a period.
const LEAST_US: f64 = 2_000.0;
/// `suppressBypassQuotaDeltaRatio`: a smaller change, as a share of the node, is not made.
const BYPASS: f64 = 0.01;
/// `beMaxIncreaseCPUPercent`: more is given back in steps of this share of the node.
const INCREASE: f64 = 0.1;

/// The quota as it is in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suppress {
    cpus: f64,
    quota_us: Option<f64>,
}

impl Suppress {
    pub(super) fn new(cpus: u32) -> Self {
        Self { cpus: f64::from(cpus), quota_us: None }
    }

    /// The new quota, µs in a period, when all but best-effort work used so many cores; `None` = as it is.
    pub(super) fn on(&mut self, others: f64) -> Option<u64> {
        let period = PERIOD_US as f64;
        let mut wanted = ((self.cpus * THRESHOLD - others) * period).max(LEAST_US);
        if let Some(now) = self.quota_us {
            if (wanted - now).abs() < self.cpus * period * BYPASS && wanted > LEAST_US {
                return None;
            }
            wanted = wanted.min(now + self.cpus * period * INCREASE);
        }
        self.quota_us = Some(wanted);
        Some(wanted as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_65_percent_leaves_never_nothing_and_grows_in_steps() {
        let mut rule = Suppress::new(2);
        assert_eq!(rule.on(0.3), Some(100_000), "1.3 of two cores less 0.3");
        assert_eq!(rule.on(0.31), None, "a change of half a percent of the node");
        assert_eq!(rule.on(1.2), Some(10_000), "down at once");
        assert_eq!(rule.on(0.2), Some(30_000), "up by a tenth of the node");
        assert_eq!(rule.on(0.2), Some(50_000));
        assert_eq!(rule.on(1.9), Some(2_000), "the least");
    }
}
