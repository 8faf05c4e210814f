//! What a task's past says about its next demand, as numbers in the unit of the demand.
//!
//! All features scale with the demand, so one regression serves large and small tasks.

use std::collections::VecDeque;

use super::DAY;

/// How many features there are.
pub(super) const COUNT: usize = 12;
/// Steps of a quarter of an hour, an hour, six hours at 300 s.
const WINDOWS: [usize; 3] = [3, 12, 72];
/// Fading per step of jumps: a half in six hours.
const JUMP_FADE: f64 = 0.990_4;
/// Fading per step of surprises: a half in twelve hours.
const SURPRISE_FADE: f64 = 0.995_2;
/// Half-width of "the same time yesterday", steps.
const AROUND: usize = 6;

/// The features of one task at one time, and the scale that its error is measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Features {
    pub(super) of: [f64; COUNT],
    pub(super) scale: f64,
}

/// A day of one task.
#[derive(Debug, Clone)]
pub(super) struct History {
    values: VecDeque<f64>,
    jump: f64,
    surprise: f64,
    sum: f64,
}

impl History {
    pub(super) fn new() -> Self {
        Self { values: VecDeque::with_capacity(DAY + 1), jump: 0.0, surprise: 0.0, sum: 0.0 }
    }

    pub(super) fn push(&mut self, demand: f64) {
        if let Some(last) = self.values.back() {
            let jump = demand - last;
            self.jump = self.jump * JUMP_FADE + jump * jump * (1.0 - JUMP_FADE);
            let over = (demand - self.max(WINDOWS[1])).max(0.0);
            self.surprise = self.surprise * SURPRISE_FADE + over * over * (1.0 - SURPRISE_FADE);
        }
        self.values.push_back(demand);
        self.sum += demand;
        if self.values.len() > DAY {
            self.sum -= self.values.pop_front().unwrap_or(0.0);
        }
    }

    pub(super) fn features(&self, request: f64) -> Features {
        let last = self.values.back().copied().unwrap_or(request);
        let before = self.values.iter().rev().nth(1).copied().unwrap_or(last);
        let day_mean = self.sum.max(0.0) / self.values.len().max(1) as f64;
        let hour = self.values.iter().rev().take(WINDOWS[1]);
        let hour_mean = hour.clone().sum::<f64>() / hour.len().max(1) as f64;
        let day_max = self.max(DAY);
        let of = [
            last,
            before,
            self.max(WINDOWS[0]),
            self.max(WINDOWS[1]),
            self.max(WINDOWS[2]),
            day_max,
            hour_mean,
            day_mean,
            self.yesterday().unwrap_or(day_max),
            self.jump.sqrt(),
            self.surprise.sqrt(),
            0.1 * request,
        ];
        Features { of, scale: (0.5 * day_mean + 0.5 * last).max(1e-3 * request) }
    }

    fn max(&self, steps: usize) -> f64 {
        self.values.iter().rev().take(steps).copied().fold(0.0, f64::max)
    }

    /// The largest around the next step's time, a day earlier.
    fn yesterday(&self) -> Option<f64> {
        (self.values.len() >= DAY).then(|| self.values.iter().take(AROUND + 1).copied().fold(0.0, f64::max))
    }
}
