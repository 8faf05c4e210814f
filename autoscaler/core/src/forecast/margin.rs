//! How much above the expected level the upper forecast must be.
//!
//! Misses are kept as log ratios in units of roughness (the fading mean size of recent misses), so that a calm night
//! needs little and a rough noon more. Their distribution is a fading histogram with a prior; its quantile at
//! `1 − α` is the margin, and α is steered by the realised misses towards the budget.

/// Half-life of the histogram, in observations: two days at 15 s.
const HALF_LIFE: f64 = 11_520.0;
/// Memory of the short roughness, observations.
const SHORT: f64 = 40.0;
/// Memory of the long roughness, observations.
const LONG: f64 = 2_000.0;
/// Share of the long roughness that always counts: a calm quarter of an hour is no promise (back-tests: 1.1 beats 0.6).
const FLOOR: f64 = 1.1;
/// Bins per unit of roughness.
const BINS_PER_UNIT: f64 = 8.0;
/// Units covered; misses beyond count in the last bin.
const UNITS: f64 = 32.0;
/// Weight of the prior, in observations.
const PRIOR: f64 = 60.0;
/// Roughness before anything was seen: a tenth.
const FIRST: f64 = 0.1;
/// Step of the steering, relative to the budget, per observation.
const STEER: f64 = 0.02;

/// The margin of a forecast.
#[derive(Debug, Clone)]
pub struct Margin {
    budget: f64,
    alpha: f64,
    bins: Vec<f64>,
    total: f64,
    weight: f64,
    short: f64,
    long: f64,
    seen: f64,
}

impl Margin {
    /// A margin for a budget of misses, 0 < budget < 1.
    #[must_use]
    pub fn new(budget: f64) -> Self {
        let bins = vec![0.0; (UNITS * BINS_PER_UNIT) as usize];
        Self { budget, alpha: budget, bins, total: 0.0, weight: 1.0, short: FIRST, long: FIRST, seen: 0.0 }
    }

    /// Allows another share of misses from now on.
    pub fn budget(&mut self, budget: f64) {
        self.alpha *= budget / self.budget;
        self.budget = budget;
    }

    /// The size of misses to be expected now, log ratio.
    #[must_use]
    pub fn roughness(&self) -> f64 {
        self.short.max(FLOOR * self.long).max(1e-4)
    }

    /// The factor from the expected to the upper level, ≥ 1.
    #[must_use]
    pub fn factor(&self, roughness: f64) -> f64 {
        // The prior: exponential misses of mean one unit.
        let mut above = 0.0;
        let total = self.total / self.weight + PRIOR;
        let mut at = self.bins.len();
        while at > 0 {
            let edge = at as f64 / BINS_PER_UNIT;
            let prior = PRIOR * (-edge).exp();
            if (above / self.weight + prior) / total > self.alpha {
                break;
            }
            at -= 1;
            above += self.bins[at];
        }
        ((at + 1) as f64 / BINS_PER_UNIT * roughness).min(3.0).exp()
    }

    /// A forecast's time came: `miss` is ln(came ÷ expected), `missed` that it passed the upper forecast.
    pub fn learn(&mut self, miss: f64, roughness: f64, missed: bool) {
        let units = (miss / roughness).max(0.0);
        let bin = ((units * BINS_PER_UNIT) as usize).min(self.bins.len() - 1);
        self.weight *= std::f64::consts::LN_2.mul_add(1.0 / HALF_LIFE, 0.0).exp();
        self.bins[bin] += self.weight;
        self.total += self.weight;
        if self.weight > 1e9 {
            for b in &mut self.bins {
                *b /= self.weight;
            }
            self.total /= self.weight;
            self.weight = 1.0;
        }
        self.seen += 1.0;
        let short = (1.0 / SHORT).max(1.0 / (self.seen + 1.0));
        let long = (1.0 / LONG).max(1.0 / (self.seen + 10.0));
        self.short += (miss.abs() - self.short) * short;
        self.long += (miss.abs() - self.long) * long;
        let miss = if missed { 1.0 } else { 0.0 };
        self.alpha = (self.alpha + STEER * self.budget * (self.budget - miss))
            .clamp(self.budget / 8.0, self.budget * 4.0);
    }
}
