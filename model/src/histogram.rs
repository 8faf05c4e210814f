//! Distributions of delays, in the layout that the kernel program fills: merging is adding.

pub use agent_abi::histogram::{BUCKETS, bounds, bucket_of, midpoint};

/// Counts of delays by bucket; ≤ 6.25 % error from 1 µs to 17 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayHistogram {
    counts: Box<[u64; BUCKETS]>,
}

impl Default for DelayHistogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl DelayHistogram {
    /// Adds `count` delays to a bucket; a bucket outside the layout is ignored.
    pub fn add(&mut self, bucket: u16, count: u64) {
        if let Some(n) = self.counts.get_mut(usize::from(bucket)) {
            *n = n.saturating_add(count);
        }
    }

    /// Records one delay.
    pub fn record_ns(&mut self, ns: u64) {
        self.counts[bucket_of(ns)] += 1;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (n, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *n = n.saturating_add(*more);
        }
    }

    /// How many delays.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The smallest bucket's middle, in ns, at or below which `share` (0..=1) of the delays are; `None` when empty.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let wanted = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, n) in self.counts.iter().enumerate() {
            seen = n.saturating_add(seen);
            if seen >= wanted {
                return midpoint(bucket);
            }
        }
        None
    }

    /// Non-empty buckets, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(b, n)| (b as u16, *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(DelayHistogram::default().quantile_ns(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_bucket_of_the_truth(mut delays in prop::collection::vec(0u64..10_000_000_000, 1..200), q in 0.0..1.0f64) {
            let mut h = DelayHistogram::default();
            for d in &delays { h.record_ns(*d); }
            delays.sort_unstable();
            let truth = delays[((delays.len() as f64 * q).ceil() as usize).max(1) - 1];
            let found = h.quantile_ns(q).unwrap();
            let error = found.abs_diff(truth);
            prop_assert!(error <= 64 || error as f64 <= truth as f64 * 0.0625 + 1.0, "{found} for {truth}");
        }
    }
}
