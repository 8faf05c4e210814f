//! Latencies in log-linear buckets that are fine enough to compare two of them by a percent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets of an octave as a power of two: 128 of them, so that a value is at most 0.4 % from the middle of its bucket. The agent's
/// own layout (`model::histogram`, 6.25 %) is for delays of a whole fleet, too coarse for this.
const BITS: u32 = 7;
const LINEAR: u64 = 1 << BITS;

/// Counts of latencies, ns, by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Latencies {
    counts: BTreeMap<u32, u64>,
}

impl Latencies {
    /// Records one latency, ns.
    pub(super) fn record(&mut self, ns: u64) {
        *self.counts.entry(bucket_of(ns)).or_insert(0) += 1;
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_insert(0) += count;
        }
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The smallest bucket's middle, ns, at or below which `share` (0..=1) of the latencies are; `None` when empty.
    pub(super) fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = ((self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted).then(|| middle(*bucket))
        })
    }
}

fn bucket_of(ns: u64) -> u32 {
    if ns < LINEAR {
        return ns as u32;
    }
    let shift = 63 - ns.leading_zeros() - BITS;
    ((shift + 1) << BITS) + ((ns >> shift) - LINEAR) as u32
}

fn middle(bucket: u32) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < LINEAR {
        return bucket;
    }
    let shift = (bucket >> BITS) - 1;
    let low = ((bucket & (LINEAR - 1)) + LINEAR) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_within_half_a_percent_of_its_buckets_middle() {
        let mut value = 1u64;
        let mut before = 0;
        while value < 1 << 40 {
            for ns in [value, value + value / 3, value * 2 - 1] {
                let found = middle(bucket_of(ns));
                assert!(found.abs_diff(ns) as f64 <= ns as f64 * 0.004, "{found} for {ns}");
                assert!(bucket_of(ns) >= before, "buckets ascend");
                before = bucket_of(ns);
            }
            value *= 2;
        }
    }

    #[test]
    fn quantiles_are_of_all_that_was_merged() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        assert_eq!(one.quantile(0.5), None);
        (1..=50).for_each(|ms| one.record(ms * 1_000_000));
        (51..=100).for_each(|ms| other.record(ms * 1_000_000));
        one.merge(&other);
        assert_eq!(one.count(), 100);
        for (share, ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = one.quantile(share).unwrap() as f64 / 1e6;
            assert!((found - ms).abs() / ms < 0.005, "{found} for {ms}");
        }
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Latencies>(&text).unwrap(), one);
    }
}
