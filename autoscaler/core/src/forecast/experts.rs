//! Small predictors of a level, and their mix.
//!
//! Each says where the level will be at t + τ: where it is, where it goes if it goes on like this (by half and whole), its
//! mean of ten minutes and of an hour (noise returns to its mean), the way it went yesterday and on the mean of the last
//! seven days at this time. The mix weighs them by `exp(−η · loss)` with a fading loss, where the loss is the pinball loss
//! of the log ratio at [`TILT`]: being too low costs a little more than being too high; the margin does the rest. A share
//! of weight is always redistributed (Herbster and Warmuth 1998, fixed share), so a predictor that was bad for a day comes
//! back within minutes when the regime changes.

use std::collections::VecDeque;

use super::Settings;

/// How many predictors there are.
const COUNT: usize = 7;
/// Quantile of the pinball loss that weighs them. Back-tests on the public traces: 0.65 beats 0.9, whose mix follows the
/// last peak and makes the margin count it twice.
const TILT: f64 = 0.65;
/// Learning rate of the weights, per unit of log ratio (back-tests: 2 beats 1, 4 and 10).
const RATE: f64 = 2.0;
/// Weight that is redistributed at each step.
const SHARE: f64 = 0.002;
/// Most that is believed, in multiples of the highest minute seen.
const LIMIT: f64 = 1.75;
/// Minutes of a day.
const DAY: usize = 1_440;
/// Days that are averaged.
const DAYS: usize = 7;
/// The two means' time constants, ms.
const MEANS_MS: [f64; 2] = [600_000.0, 3_600_000.0];

/// What each predictor said at one time.
pub(super) type Said = [f64; COUNT];

/// The predictors' state.
#[derive(Debug, Clone)]
pub(super) struct Experts {
    settings: Settings,
    weights: [f64; COUNT],
    means: [f64; 2],
    seen: f64,
    /// Means of minutes, newest last; at most a week and a day.
    minutes: VecDeque<f64>,
    minute: Option<(u64, f64, u32)>,
    /// The highest of `minutes`.
    highest: f64,
    /// Levels of the last steps, newest last.
    levels: VecDeque<f64>,
}

impl Experts {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            weights: [1.0 / COUNT as f64; COUNT],
            means: [0.0; 2],
            seen: 0.0,
            minutes: VecDeque::new(),
            minute: None,
            highest: 0.0,
            levels: VecDeque::new(),
        }
    }

    /// The last levels and their means are of another time; days before stay.
    pub(super) fn forget_recent(&mut self) {
        self.levels.clear();
        self.seen = 0.0;
    }

    pub(super) fn look_ahead(&mut self, ahead_ms: u64) {
        self.settings.ahead_ms = ahead_ms;
    }

    /// Moves all that is remembered: levels are counted from another origin from now on.
    pub(super) fn shift(&mut self, by: f64) {
        let all = self.minutes.iter_mut().chain(&mut self.levels).chain(&mut self.means);
        for level in all.chain(std::iter::once(&mut self.highest)) {
            *level = (*level + by).max(super::LEAST);
        }
        if let Some((_, sum, n)) = &mut self.minute {
            *sum = (*sum + by * f64::from(*n)).max(super::LEAST);
        }
    }

    pub(super) fn observe(&mut self, at_ms: u64, level: f64) -> Said {
        self.keep_minute(at_ms, level);
        let ahead = (self.settings.ahead_ms / self.settings.step_ms.max(1)).max(1) as usize;
        self.levels.push_back(level);
        while self.levels.len() > 2 * ahead + 1 {
            self.levels.pop_front();
        }
        self.seen += 1.0;
        for (mean, ms) in self.means.iter_mut().zip(MEANS_MS) {
            let steps = (ms / self.settings.step_ms.max(1) as f64).max(1.0);
            *mean += (level - *mean) / steps.min(self.seen);
        }
        let then = self.levels.len().saturating_sub(1 + ahead);
        let before = self.levels.get(then).copied().unwrap_or(level);
        // As far forward as it came in the same time, at most doubling.
        let growth = (level / before.max(1e-9)).clamp(0.5, 2.0);
        let yesterday = self.days(level, 1).unwrap_or(level);
        let week = self.days(level, DAYS).unwrap_or(level);
        [level, level * growth.sqrt(), level * growth, self.means[0], self.means[1], yesterday, week]
    }

    /// What is not believed: this much above the highest minute of the last days, once a day was seen. A quantile far out
    /// in the tail rests on few observations, and their product with a rough hour would ask for what never was.
    pub(super) fn limit(&self, level: f64) -> f64 {
        if self.minutes.len() < DAY { f64::INFINITY } else { LIMIT * self.highest.max(level) }
    }

    pub(super) fn mix(&self, said: &Said) -> f64 {
        // Geometric: ratios are what is predicted.
        said.iter().zip(self.weights).map(|(s, w)| s.max(1e-9).ln() * w).sum::<f64>().exp()
    }

    pub(super) fn learn(&mut self, said: &Said, level: f64) {
        for (weight, said) in self.weights.iter_mut().zip(said) {
            let miss = (level / said.max(1e-9)).ln();
            let loss = if miss > 0.0 { TILT * miss } else { (TILT - 1.0) * miss };
            *weight *= (-RATE * loss.min(2.0)).exp();
        }
        let sum = self.weights.iter().sum::<f64>().max(1e-300);
        for weight in &mut self.weights {
            *weight = *weight / sum * (1.0 - SHARE) + SHARE / COUNT as f64;
        }
    }

    fn keep_minute(&mut self, at_ms: u64, level: f64) {
        let minute = at_ms / 60_000;
        match &mut self.minute {
            Some((of, sum, n)) if *of >= minute => {
                *sum += level;
                *n += 1;
            }
            Some((of, sum, n)) => {
                let mean = *sum / f64::from(*n);
                // A hole is filled with the last mean, so that a day back stays a day back.
                for _ in 0..(minute - *of).min(DAY as u64) {
                    self.minutes.push_back(mean);
                }
                while self.minutes.len() > DAY * (DAYS + 1) {
                    self.minutes.pop_front();
                }
                self.highest = self.minutes.iter().copied().fold(0.0, f64::max);
                self.minute = Some((minute, level, 1));
            }
            none => *none = Some((minute, level, 1)),
        }
    }

    /// The mean way from now to t + τ on up to `days` days before, gone again from today's level.
    fn days(&self, level: f64, days: usize) -> Option<f64> {
        let ahead = (self.settings.ahead_ms as f64 / 60_000.0).round() as usize;
        let mean = |from: usize, to: usize| {
            let range = self.minutes.range(from..to.min(self.minutes.len()));
            let n = range.len();
            (n > 0).then(|| range.sum::<f64>() / n as f64)
        };
        let (mut sum, mut n) = (0.0, 0.0);
        for day in 1..=days {
            let Some(then) = self.minutes.len().checked_sub(DAY * day) else { break };
            let before = mean(then.saturating_sub(1), then + 1)?;
            let after = mean(then + ahead, then + ahead + 2)?;
            sum += (after / before.max(1e-9)).clamp(0.5, 2.0).ln();
            n += 1.0;
        }
        (n > 0.0).then(|| level * (sum / n).exp())
    }
}
