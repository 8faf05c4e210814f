//! Reproducible noise: everything that happens in a simulated world follows from one seed.

#![allow(dead_code, reason = "each test program uses a part of it")]

/// A linear congruence (Knuth's MMIX constants).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0, below 1.
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.roll()).ln()
    }

    /// One of `from..to`.
    pub(crate) fn of(&mut self, from: u64, to: u64) -> u64 {
        from + (self.roll() * (to - from) as f64) as u64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.roll() < p
    }
}
