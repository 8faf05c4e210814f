//! The Vertical Pod Autoscaler's recommender, exactly, as a policy to choose, to compare with, and as the first estimate
//! of a replica's size.
//!
//! Source: kubernetes/autoscaler `vertical-pod-autoscaler/pkg/recommender` (v1.2): `util/histogram.go`,
//! `model/aggregations_config.go`, `logic/estimator.go`, `logic/recommender.go`. Decaying histograms with buckets of ratio
//! 1.05 (first 0.01 core, 10 MB), half-life 24 h; CPU by samples, memory by daily peaks over 8 days; target p90, bounds p50
//! and p95; margin 15 %; confidence min(days, samples ÷ 1440) widens the bounds; an OOM kill counts as max(+100 MiB, × 1.2);
//! floors 25 millicores and 250 MB.

use std::collections::VecDeque;

/// Ratio of neighbouring buckets' widths.
pub const RATIO: f64 = 1.05;
/// Width of the first CPU bucket, cores, and the largest value.
pub const CPU: (f64, f64) = (0.01, 1_000.0);
/// Width of the first memory bucket, bytes, and the largest value.
pub const MEMORY: (f64, f64) = (1e7, 1e12);
/// Half-life of weights, ms.
pub const HALF_LIFE_MS: u64 = 86_400_000;
/// Days of memory peaks.
pub const DAYS: usize = 8;
/// Target, lower and upper percentile.
pub const PERCENTILES: (f64, f64, f64) = (0.9, 0.5, 0.95);
/// Safety margin.
pub const MARGIN: f64 = 0.15;
/// Least CPU, cores, and memory, bytes.
pub const FLOOR: (f64, f64) = (0.025, 250e6);
/// Least weight of a CPU sample.
const LEAST_WEIGHT: f64 = 0.1;
/// Added to memory at an OOM kill, bytes, and the factor.
const OOM: (f64, f64) = (100.0 * 1_048_576.0, 1.2);
/// Weights are counted from a new reference once their exponent passes this.
const EXPONENT_LIMIT: f64 = 100.0;
/// Weights under this count as nothing (`epsilon` upstream: 0.001 × least weight).
const EPSILON: f64 = 0.001 * LEAST_WEIGHT;

/// A histogram of values whose weights halve each half-life.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    first: f64,
    weights: Vec<f64>,
    reference_ms: u64,
    /// 0 = weights do not fade.
    half_life_ms: u64,
}

impl Histogram {
    /// Buckets from `first` to `most`.
    #[must_use]
    pub fn new((first, most): (f64, f64), half_life_ms: u64) -> Self {
        let buckets = index(first, most) + 2;
        Self { first, weights: vec![0.0; buckets], reference_ms: 0, half_life_ms }
    }

    /// Adds a value with a weight at a time.
    pub fn add(&mut self, value: f64, weight: f64, at_ms: u64) {
        let factor = self.decay(at_ms);
        let bucket = index(self.first, value).min(self.weights.len() - 1);
        self.weights[bucket] += weight * factor;
    }

    /// Takes a value back that was added with this weight and time.
    pub fn subtract(&mut self, value: f64, weight: f64, at_ms: u64) {
        let factor = self.decay(at_ms);
        let bucket = index(self.first, value).min(self.weights.len() - 1);
        self.weights[bucket] = (self.weights[bucket] - weight * factor).max(0.0);
    }

    /// The upper end of the bucket that holds the percentile; 0 when empty.
    #[must_use]
    pub fn percentile(&self, share: f64) -> f64 {
        let total: f64 = self.weights.iter().sum();
        let (Some(low), Some(high)) = (
            self.weights.iter().position(|w| *w >= EPSILON),
            self.weights.iter().rposition(|w| *w >= EPSILON),
        ) else {
            return 0.0;
        };
        let mut sum = 0.0;
        let mut bucket = low;
        while bucket < high {
            sum += self.weights[bucket];
            if sum >= share * total {
                break;
            }
            bucket += 1;
        }
        if bucket < self.weights.len() - 1 { self.start(bucket + 1) } else { self.start(bucket) }
    }

    /// Nothing was added, or all of it faded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.weights.iter().all(|w| *w < EPSILON)
    }

    fn start(&self, bucket: usize) -> f64 {
        self.first * (RATIO.powi(i32::try_from(bucket).unwrap_or(i32::MAX)) - 1.0) / (RATIO - 1.0)
    }

    fn decay(&mut self, at_ms: u64) -> f64 {
        if self.half_life_ms == 0 {
            return 1.0;
        }
        let ages = |from: u64| (at_ms as f64 - from as f64) / self.half_life_ms as f64;
        if ages(self.reference_ms) > EXPONENT_LIMIT {
            let shift = ages(self.reference_ms).round();
            for weight in &mut self.weights {
                *weight *= (-shift).exp2();
            }
            self.reference_ms += (shift * self.half_life_ms as f64) as u64;
        }
        ((at_ms as f64 - self.reference_ms as f64) / self.half_life_ms as f64).exp2()
    }
}

fn index(first: f64, value: f64) -> usize {
    if value < first {
        return 0;
    }
    // 1e-9: a value on a bucket's edge belongs to it, whatever the logarithm's last bit says.
    ((value * (RATIO - 1.0) / first + 1.0).ln() / RATIO.ln() + 1e-9).floor() as usize
}

/// A recommendation, or nothing while there is no sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommendation {
    /// What should be asked for: cores, bytes.
    pub target: (f64, f64),
    /// Below this it is too small.
    pub lower: (f64, f64),
    /// Above this it is too large.
    pub upper: (f64, f64),
}

/// What was seen of one kind of task.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommender {
    cpu: Histogram,
    memory: Histogram,
    peaks: VecDeque<(u64, f64)>,
    first_ms: Option<u64>,
    last_ms: u64,
    samples: u64,
}

impl Default for Recommender {
    fn default() -> Self {
        Self::new()
    }
}

impl Recommender {
    /// Nothing seen.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cpu: Histogram::new(CPU, HALF_LIFE_MS),
            memory: Histogram::new(MEMORY, HALF_LIFE_MS),
            peaks: VecDeque::new(),
            first_ms: None,
            last_ms: 0,
            samples: 0,
        }
    }

    /// CPU used, cores, by a task that requests `request` cores.
    pub fn cpu(&mut self, cores: f64, request: f64, at_ms: u64) {
        self.cpu.add(cores, request.max(LEAST_WEIGHT), at_ms);
        self.first_ms.get_or_insert(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
        self.samples += 1;
    }

    /// Memory in use, bytes. Only the peak of a day counts.
    pub fn memory(&mut self, bytes: f64, at_ms: u64) {
        let day = at_ms / HALF_LIFE_MS;
        let end = (day + 1) * HALF_LIFE_MS;
        match self.peaks.back_mut() {
            Some((of, peak)) if *of == day => {
                if bytes > *peak {
                    self.memory.subtract(*peak, 1.0, end);
                    self.memory.add(bytes, 1.0, end);
                    *peak = bytes;
                }
            }
            _ => {
                self.memory.add(bytes, 1.0, end);
                self.peaks.push_back((day, bytes));
                if self.peaks.len() > DAYS
                    && let Some((day, peak)) = self.peaks.pop_front()
                {
                    self.memory.subtract(peak, 1.0, (day + 1) * HALF_LIFE_MS);
                }
            }
        }
    }

    /// A task was killed for lack of memory while it had `bytes`.
    pub fn oom(&mut self, bytes: f64, at_ms: u64) {
        self.memory((bytes + OOM.0).max(bytes * OOM.1), at_ms);
    }

    /// Time from the first sample to the last, ms.
    #[must_use]
    pub fn history_ms(&self) -> u64 {
        self.first_ms.map_or(0, |first| self.last_ms.saturating_sub(first))
    }

    /// Days of history, in days or samples, whichever is less.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        let days = self.first_ms.map_or(0.0, |first| (self.last_ms - first) as f64 / HALF_LIFE_MS as f64);
        // Upstream counts a sample a minute.
        days.min(self.samples as f64 / 1_440.0)
    }

    /// What should be asked for; `None` without a sample.
    #[must_use]
    pub fn recommend(&self) -> Option<Recommendation> {
        if self.cpu.is_empty() {
            return None;
        }
        let confidence = self.confidence();
        let (target, lower, upper) = PERCENTILES;
        let of = |share: f64, multiplier: f64, exponent: f64| {
            let factor = (1.0 + MARGIN) * (1.0 + multiplier / confidence.max(1e-9)).powf(exponent);
            (
                (self.cpu.percentile(share) * factor).max(FLOOR.0),
                (self.memory.percentile(share) * factor).max(FLOOR.1),
            )
        };
        Some(Recommendation {
            target: of(target, 0.0, 1.0),
            lower: of(lower, 0.001, -2.0),
            upper: of(upper, 1.0, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// `TestPercentileEstimator`: 1, 2, 3 cores and 1, 2, 3 GB; p20 and p50 within the buckets' 5 %.
    #[test]
    fn percentiles_of_upstream() {
        let mut cpu = Histogram::new(CPU, HALF_LIFE_MS);
        let mut memory = Histogram::new(MEMORY, HALF_LIFE_MS);
        for n in 1..=3 {
            cpu.add(f64::from(n), 1.0, 0);
            memory.add(f64::from(n) * 1e9, 1.0, 0);
        }
        assert!((cpu.percentile(0.2) / 1.0 - 1.0).abs() < 0.05);
        assert!((memory.percentile(0.5) / 2e9 - 1.0).abs() < 0.05);
    }

    /// `TestConfidenceMultiplier`: 9 samples, one each two minutes, are a confidence of 9 ÷ 1440.
    #[test]
    fn confidence_of_upstream() {
        let mut recommender = Recommender::new();
        assert_eq!(recommender.recommend(), None);
        for n in 1..=9 {
            recommender.cpu(1.0, 0.1, n * 2 * MINUTE);
        }
        assert!((recommender.confidence() - 9.0 / 1_440.0).abs() < 1e-12);
    }

    /// `TestSimpleDecay`: 20 half-lives later a sample weighs 2^20 ÷ 1000 > 1000 times the one of weight 1000.
    #[test]
    fn decay_of_upstream() {
        let mut histogram = Histogram::new(CPU, HALF_LIFE_MS);
        histogram.add(2.0, 1_000.0, 0);
        histogram.add(1.0, 1.0, 20 * HALF_LIFE_MS);
        assert!((histogram.percentile(0.999) / 1.0 - 1.0).abs() < 0.06);
        assert!((histogram.percentile(1.0) / 2.0 - 1.0).abs() < 0.06);
        histogram.add(1.0, 1.0, 1_000 * HALF_LIFE_MS);
        assert!((histogram.percentile(1.0) / 1.0 - 1.0).abs() < 0.06, "a new reference keeps weights finite");
    }

    #[test]
    fn memory_is_the_peak_of_each_day_and_an_oom_counts_more() {
        let mut recommender = Recommender::new();
        recommender.cpu(0.1, 0.1, 0);
        for minute in 0..1_440 {
            recommender.memory(1e9 + minute as f64 * 1e5, minute * MINUTE);
        }
        let before = recommender.recommend().unwrap().target.1;
        assert!((before / (1.144e9 * 1.15) - 1.0).abs() < 0.06, "{before}");
        recommender.oom(2e9, 1_439 * MINUTE);
        let after = recommender.recommend().unwrap().target.1;
        assert!((after / (2.4e9 * 1.15) - 1.0).abs() < 0.06, "{after}");
        assert_eq!(
            recommender.recommend().unwrap().target.0.max(0.1),
            recommender.recommend().unwrap().target.0
        );
    }

    #[test]
    fn little_history_widens_the_bounds() {
        let mut recommender = Recommender::new();
        for n in 0..60 {
            recommender.cpu(1.0, 1.0, n * MINUTE);
            recommender.memory(1e9, n * MINUTE);
        }
        let said = recommender.recommend().unwrap();
        assert!(said.upper.0 > 20.0 * said.target.0 && said.lower.0 < said.target.0);
    }
}
