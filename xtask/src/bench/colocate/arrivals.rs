//! When requests are sent: a Poisson process from a seed, so that two modes can be given the very same arrivals.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Uniform in 0..1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Moments of arrivals since the start, ns, ascending, without end.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    random: Random,
    mean_ns: f64,
    at_ns: f64,
}

impl Arrivals {
    /// So many a second; 0 = all at once, which is a closed loop.
    pub(super) fn new(rate: f64, seed: u64) -> Self {
        let mean_ns = if rate > 0.0 { 1e9 / rate } else { 0.0 };
        Self { random: Random(seed), mean_ns, at_ns: 0.0 }
    }

    /// True when the next request waits for an answer, not for its time.
    pub(super) fn is_closed(&self) -> bool {
        self.mean_ns == 0.0
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.at_ns += self.mean_ns * -(1.0 - self.random.next()).ln();
        Some(self.at_ns as u64)
    }
}

/// The seed of one slot: the same for all modes that are to be compared, another for everything else.
pub(super) fn seed(base: u64, load: u32, round: u32, half: u32) -> u64 {
    base ^ (u64::from(load) << 40) ^ (u64::from(round) << 20) ^ u64::from(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential_and_a_seed_gives_the_same_ones() {
        let all: Vec<u64> = Arrivals::new(1_000.0, 7).take(50_000).collect();
        assert_eq!(all, Arrivals::new(1_000.0, 7).take(50_000).collect::<Vec<_>>());
        assert_ne!(all[0], Arrivals::new(1_000.0, 8).next().unwrap());
        let gaps: Vec<f64> = all.windows(2).map(|two| (two[1] - two[0]) as f64 / 1e6).collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 1.0).abs() < 0.02, "mean gap {mean} ms at 1,000 a second");
        assert!(
            (variance - 1.0).abs() < 0.05,
            "the variance of an exponential is its mean squared: {variance}"
        );
        let longer = gaps.iter().filter(|gap| **gap > 2.0).count() as f64 / n;
        assert!((longer - (-2.0f64).exp()).abs() < 0.005, "{longer}");
    }

    #[test]
    fn a_closed_loop_waits_for_nothing() {
        let mut closed = Arrivals::new(0.0, 7);
        assert!(closed.is_closed());
        assert_eq!((closed.next(), closed.next()), (Some(0), Some(0)));
    }

    #[test]
    fn slots_that_are_not_compared_have_seeds_of_their_own() {
        let mut all = Vec::new();
        for load in [10, 60, 90] {
            for round in 0..3 {
                for half in 0..2 {
                    all.push(seed(2026, load, round, half));
                }
            }
        }
        let many = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), many);
    }
}
