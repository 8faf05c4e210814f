//! The load at the time when a decision taken now takes effect.
//!
//! Problem: a replica that is ordered now is ready τ later, so the present load is the wrong number; and a mean is the
//! wrong number too, because the owner's target is a rate of bad minutes. Method: several small predictors (the last
//! level, a trend, the same time yesterday scaled to today) say what the level will be at t + τ; they are mixed by how
//! well each did lately (exponential weights on the pinball loss); and what the mix then gets wrong is itself measured: the
//! ratio of what came to what was expected, in units of the present roughness, is kept in a fading histogram whose
//! `1 − budget` quantile is the margin. An adaptive step (Gibbs and Candès 2021, adaptive conformal inference) moves the
//! quantile until the realised rate of misses is the budget. Bounds: constant memory (a week of minutes), no division by
//! a level that can be zero, and with no history at all the margin of a prior.

mod experts;
mod margin;

use std::collections::VecDeque;

use self::experts::Experts;
pub use self::margin::Margin;

/// Changes of the offset under this share are left out.
const OFFSET_BAND: f64 = 0.25;
/// After a hole of so many horizons (and of means) the levels before it say nothing about now.
const HOLE: u64 = 3;
/// Least level that is remembered: ratios need a level above zero.
const LEAST: f64 = 1e-9;

/// What a forecast is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Time between two levels, ms.
    pub step_ms: u64,
    /// How far ahead, ms.
    pub ahead_ms: u64,
    /// Levels are means over this time, ms: what the target is judged by.
    pub smooth_ms: u64,
    /// Share of the time in which the level may pass the upper forecast, 0 < x < 1.
    pub budget: f64,
    /// Added to each level before ratios are taken: about the level at which counting noise is as large as the level.
    pub offset: f64,
}

/// A forecast of one level.
#[derive(Debug, Clone)]
pub struct Forecast {
    settings: Settings,
    recent: VecDeque<f64>,
    experts: Experts,
    margin: Margin,
    pending: VecDeque<Pending>,
    now: Option<Now>,
    at_ms: Option<u64>,
    /// There was a level above zero.
    began: bool,
}

/// The answer at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Now {
    expected: f64,
    upper: f64,
}

/// A forecast whose time has not come.
#[derive(Debug, Clone)]
struct Pending {
    due: u64,
    expected: f64,
    roughness: f64,
    upper: f64,
    said: experts::Said,
}

impl Forecast {
    /// A forecast without history.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            recent: VecDeque::new(),
            experts: Experts::new(settings),
            margin: Margin::new(settings.budget),
            pending: VecDeque::new(),
            now: None,
            at_ms: None,
            began: false,
        }
    }

    /// What was seen lately says nothing about now: there was a hole, or a restart after a long time. The days before
    /// and how rough they were stay.
    pub fn forget_recent(&mut self) {
        self.recent.clear();
        self.pending.clear();
        self.experts.forget_recent();
        self.now = None;
    }

    /// Looks this far ahead from now on, with this budget of misses: the measured time until a replica is ready.
    pub fn look_ahead(&mut self, ahead_ms: u64, budget: f64) {
        self.settings.ahead_ms = ahead_ms;
        self.margin.budget(budget);
        self.experts.look_ahead(ahead_ms);
    }

    /// Adds this to each level from now on: what one replica carries was learned anew. What is remembered is moved along,
    /// so that the change is no miss. Small changes are left out: each costs a pass over the memory.
    pub fn offset(&mut self, offset: f64) {
        let ratio = offset / self.settings.offset.max(1e-9);
        if !offset.is_finite() || offset <= 0.0 || (1.0 - OFFSET_BAND..=1.0 + OFFSET_BAND).contains(&ratio) {
            return;
        }
        let by = offset - self.settings.offset;
        self.settings.offset = offset;
        self.experts.shift(by);
        for pending in &mut self.pending {
            pending.expected = (pending.expected + by).max(LEAST);
            pending.upper = (pending.upper + by).max(LEAST);
            for said in &mut pending.said {
                *said = (*said + by).max(LEAST);
            }
        }
        if let Some(now) = &mut self.now {
            (now.expected, now.upper) = ((now.expected + by).max(LEAST), (now.upper + by).max(LEAST));
        }
    }

    /// The level was `level` in the step that ended at `at_ms`.
    pub fn observe(&mut self, at_ms: u64, level: f64) {
        let level = if level.is_finite() { level.max(0.0) } else { return };
        let hole = HOLE * (self.settings.ahead_ms + self.settings.smooth_ms + self.settings.step_ms);
        if self.at_ms.replace(at_ms).is_some_and(|before| at_ms.saturating_sub(before) > hole) {
            self.forget_recent();
        }
        if level > 0.0 && !self.began {
            // The first load ever is no miss of those who said zero: there was nothing to know it by.
            self.forget_recent();
            self.began = true;
        }
        let keep = (self.settings.smooth_ms / self.settings.step_ms.max(1)).max(1) as usize;
        self.recent.push_back(level);
        if self.recent.len() > keep {
            self.recent.pop_front();
        }
        let smooth = self.recent.iter().sum::<f64>() / self.recent.len() as f64 + self.settings.offset;
        self.settle(at_ms, smooth);
        let said = self.experts.observe(at_ms, smooth);
        let expected = self.experts.mix(&said);
        let roughness = self.margin.roughness();
        let upper = (expected * self.margin.factor(roughness)).min(self.experts.limit(smooth));
        self.pending.push_back(Pending {
            due: at_ms + self.settings.ahead_ms,
            expected,
            roughness,
            upper,
            said,
        });
        self.now = Some(Now { expected, upper });
    }

    /// The level that at t + τ is passed with the budget's probability; `None` without any history.
    #[must_use]
    pub fn upper(&self) -> Option<f64> {
        self.now.map(|now| (now.upper - self.settings.offset).max(0.0))
    }

    /// The level expected at t + τ; `None` without any history.
    #[must_use]
    pub fn expected(&self) -> Option<f64> {
        self.now.map(|now| (now.expected - self.settings.offset).max(0.0))
    }

    /// The smoothed level now.
    #[must_use]
    pub fn level(&self) -> Option<f64> {
        (!self.recent.is_empty()).then(|| self.recent.iter().sum::<f64>() / self.recent.len() as f64)
    }

    /// Forecasts whose time has come are compared with what came.
    fn settle(&mut self, at_ms: u64, level: f64) {
        while self.pending.front().is_some_and(|p| p.due <= at_ms) {
            let Some(due) = self.pending.pop_front() else { break };
            self.experts.learn(&due.said, level);
            self.margin.learn((level / due.expected).ln(), due.roughness, level > due.upper);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(budget: f64) -> Settings {
        Settings { step_ms: 15_000, ahead_ms: 120_000, smooth_ms: 60_000, budget, offset: 1.0 }
    }

    #[test]
    fn it_says_nothing_before_it_saw_something() {
        let mut forecast = Forecast::new(settings(0.01));
        assert_eq!(forecast.upper(), None);
        forecast.observe(0, f64::NAN);
        assert_eq!(forecast.upper(), None);
        forecast.observe(15_000, 10.0);
        assert!(forecast.upper().unwrap() >= 10.0);
    }

    /// A level that changed while nobody looked is neither a trend nor a miss.
    #[test]
    fn a_hole_is_no_miss_and_no_trend() {
        let mut forecast = Forecast::new(settings(0.01));
        for step in 0..200 {
            forecast.observe(step * 15_000, 10.0);
        }
        let before = forecast.margin.roughness();
        let resumed = 200 * 15_000 + 3 * 3_600_000;
        for step in 0..20 {
            forecast.observe(resumed + step * 15_000, 100.0);
            let (expected, upper) = (forecast.expected().unwrap(), forecast.upper().unwrap());
            assert!((90.0..120.0).contains(&expected) && upper < 200.0, "{step}: {expected} {upper}");
        }
        assert!(forecast.margin.roughness() <= before, "{}", forecast.margin.roughness());
    }

    /// A workload waits for its first request, for a minute or for hours: its coming says nothing about how rough the load is.
    #[test]
    fn the_first_load_ever_is_no_miss() {
        for idle in [4, 400] {
            let mut forecast = Forecast::new(settings(0.01));
            for step in 0..idle {
                forecast.observe(step * 15_000, 0.0);
            }
            let mut highest: f64 = 0.0;
            for step in idle..idle + 40 {
                forecast.observe(step * 15_000, 10.0);
                highest = highest.max(forecast.upper().unwrap());
            }
            assert!(highest < 20.0, "after {idle} steps of nothing: {highest}");
        }
    }

    #[test]
    fn another_offset_is_no_miss() {
        let mut forecast = Forecast::new(settings(0.01));
        let mut same = Forecast::new(Settings { offset: 20.0, ..settings(0.01) });
        for step in 0..200u64 {
            let level = 10.0 + (step % 7) as f64;
            if step == 100 {
                forecast.offset(20.0);
            }
            forecast.observe(step * 15_000, level);
            same.observe(step * 15_000, level);
            assert!(forecast.upper().unwrap() < 60.0, "{step}: {:?}", forecast.upper());
        }
        let (moved, fresh) = (forecast.expected().unwrap(), same.expected().unwrap());
        assert!((moved - fresh).abs() < 0.05 * fresh, "{moved} {fresh}");
        forecast.offset(f64::NAN);
        assert_eq!(forecast.expected(), Some(moved));
    }

    /// On a noisy daily wave the upper forecast is passed about as often as the budget allows.
    #[test]
    fn the_budget_is_kept() {
        let mut seed = 7u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        for budget in [0.05, 0.01] {
            let mut forecast = Forecast::new(settings(budget));
            let (mut misses, mut all) = (0.0, 0.0);
            let mut uppers = VecDeque::new();
            for step in 0..5760u64 * 4 {
                let day = step as f64 / 5760.0 * std::f64::consts::TAU;
                forecast.observe(step * 15_000, 100.0 * (1.5 + day.sin()) * (1.0 + 0.2 * noise()));
                uppers.push_back(forecast.upper().unwrap());
                if uppers.len() > 8 && step > 5760 {
                    all += 1.0;
                    misses += f64::from(u8::from(forecast.level().unwrap() > uppers[uppers.len() - 9]));
                }
            }
            let rate = misses / all;
            assert!(rate < 2.0 * budget && rate > budget / 6.0, "{rate} for a budget of {budget}");
        }
    }
}
