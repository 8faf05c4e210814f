//! How large a task's limit should be.
//!
//! Problem: a limit that is too low loses work (CPU) or kills the task (memory), one that is too high idles; and how much
//! room a task needs depends on how it behaves. Method: minimise what limits cost plus a penalty on demand above them.
//! With one penalty for all tasks the optimum is one common exceedance level λ, so the fleet's loss budget is spent where
//! it buys most: each limit is the conditional `1 − λ` quantile of the task's next demand, given what it did in the last
//! quarter hour, hour, six hours and day, at the same time yesterday, and how far it usually jumps. That quantile is a
//! linear function of these [`features`], fitted over all tasks of a pool by smoothed quantile regression
//! ([`regression`]); λ is moved until the loss that was realised is the budget. Chain after it: evidence of OOM kills,
//! then floor and ceiling. Bounds: a day of values per task (1.2 KiB), [`SAMPLES`] samples for the fit, one fit an hour
//! at most of [`FIT_STEPS`] Newton steps.

mod features;
mod regression;

use self::features::{COUNT, Features, History};
use self::regression::{Regression, Sample};

/// Most samples of a fit: enough for a 0.1 % quantile to rest on tens of samples.
pub const SAMPLES: usize = 30_000;
/// Newton steps of one fit; it starts from the last one.
pub const FIT_STEPS: usize = 8;
/// Steps between two fits: half an hour at 300 s.
const FIT_EVERY: usize = 6;
/// Steps until the first fit: an hour at 300 s.
const FIRST_FIT: usize = 12;
/// Steps of a day at 300 s.
const DAY: usize = 288;
/// After an OOM kill the limit is at least so many times the one that was hit (VPA's bump-up ratio).
const OOM_FACTOR: f64 = 1.2;
/// How an OOM's evidence fades per step: a half in a day.
const OOM_FADE: f64 = 0.997_6;
/// Bounds of λ.
const LAMBDA: (f64, f64) = (1e-5, 0.3);

/// What kind of resource a pool's limits are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressible {
    /// Demand above the limit is lost (CPU).
    Yes,
    /// Demand above the limit kills the task (memory): the whole step is lost.
    No,
}

/// What was seen of one task in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Used, at most the limit in force.
    pub used: f64,
    /// Share of demand that was held back (CPU), or 1 when it was killed (memory).
    pub pressure: f64,
}

/// One task of a pool.
#[derive(Debug, Clone)]
struct Task {
    history: History,
    request: f64,
    bounds: (f64, f64),
    limit: f64,
    killed: f64,
    asked: Option<Features>,
}

/// Limits for a pool of tasks of one resource.
#[derive(Debug, Clone)]
pub struct Estimator {
    kind: Compressible,
    budget: f64,
    lambda: f64,
    tasks: Vec<Task>,
    regression: Regression,
    samples: Vec<Sample>,
    at: usize,
    steps: usize,
    stride: usize,
    realised: Realised,
}

/// Loss of the last day, fading.
#[derive(Debug, Clone, Copy, Default)]
struct Realised {
    lost: f64,
    demand: f64,
}

impl Estimator {
    /// A pool with a loss budget: the share of demand that may be lost, 0 < budget < 1.
    #[must_use]
    pub fn new(kind: Compressible, budget: f64) -> Self {
        Self {
            kind,
            budget,
            lambda: (budget * 4.0).clamp(LAMBDA.0, LAMBDA.1),
            tasks: Vec::new(),
            regression: Regression::new(),
            samples: Vec::new(),
            at: 0,
            steps: 0,
            stride: 1,
            realised: Realised::default(),
        }
    }

    /// Adds a task with its request and the bounds of its limit; returns its place in the pool.
    pub fn add(&mut self, request: f64, floor: f64, ceiling: f64) -> usize {
        self.tasks.push(Task {
            history: History::new(),
            request,
            bounds: (floor.min(ceiling), ceiling),
            limit: request,
            killed: 0.0,
            asked: None,
        });
        let most = SAMPLES / (self.tasks.len().max(1) * DAY).max(1);
        self.stride = if most >= 1 { 1 } else { (self.tasks.len() * DAY).div_ceil(SAMPLES) };
        self.tasks.len() - 1
    }

    /// The limit in force of a task.
    #[must_use]
    pub fn limit(&self, task: usize) -> f64 {
        self.tasks[task].limit
    }

    /// One step of the whole pool: what each task used. Limits change after it.
    pub fn step(&mut self, seen: &[Seen]) {
        self.steps += 1;
        let fade = 1.0 - 1.0 / DAY as f64;
        self.realised.lost *= fade;
        self.realised.demand *= fade;
        for (at, seen) in seen.iter().enumerate() {
            self.see(at, *seen);
        }
        let due = self.steps >= FIRST_FIT && self.steps.is_multiple_of(FIT_EVERY);
        if due && !self.samples.is_empty() {
            self.steer();
            self.regression.fit(&self.samples, self.lambda, FIT_STEPS);
        }
        for task in &mut self.tasks {
            let features = task.history.features(task.request);
            task.asked = Some(features);
            if self.regression.fitted() {
                let limit = self.regression.predict(&features).max(task.killed);
                task.limit = limit.clamp(task.bounds.0, task.bounds.1);
            }
        }
    }

    fn see(&mut self, at: usize, seen: Seen) {
        let Some(task) = self.tasks.get_mut(at) else { return };
        let held = seen.pressure.clamp(0.0, 1.0);
        let demand = match self.kind {
            Compressible::Yes => seen.used / (1.0 - held.min(0.99)),
            Compressible::No if held > 0.0 => task.limit * OOM_FACTOR,
            Compressible::No => seen.used,
        };
        task.killed *= OOM_FADE;
        if self.kind == Compressible::No && held > 0.0 {
            task.killed = task.killed.max(task.limit * OOM_FACTOR);
        }
        self.realised.demand += demand;
        self.realised.lost += match self.kind {
            Compressible::Yes => (demand - seen.used).max(0.0),
            Compressible::No if held > 0.0 => demand,
            Compressible::No => 0.0,
        };
        if let Some(features) = task.asked
            && (at + self.steps).is_multiple_of(self.stride)
        {
            let sample = Sample { features, demand };
            if self.samples.len() < SAMPLES {
                self.samples.push(sample);
            } else {
                self.samples[self.at % SAMPLES] = sample;
            }
            self.at += 1;
        }
        task.history.push(demand);
    }

    /// Moves λ towards the level whose loss, over the samples by the last fit, is the budget.
    fn steer(&mut self) {
        if !self.regression.fitted() {
            return;
        }
        let (mut lost, mut demand) = (0.0, 0.0);
        for sample in &self.samples {
            let over = sample.demand - self.regression.predict(&sample.features);
            demand += sample.demand;
            if over > 0.0 {
                lost += if self.kind == Compressible::Yes { over } else { sample.demand };
            }
        }
        let ratio = (lost / demand.max(1e-12) / self.budget).max(0.05);
        self.lambda = (self.lambda / ratio.sqrt().clamp(0.5, 2.0)).clamp(LAMBDA.0, LAMBDA.1);
    }

    /// Share of demand that was lost in the last day; `None` before anything was seen.
    #[must_use]
    pub fn lost(&self) -> Option<f64> {
        (self.realised.demand > 0.0).then(|| self.realised.lost / self.realised.demand)
    }
}

const _: () = assert!(COUNT <= 16, "a fit solves a system of this size");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_demand_and_keep_to_the_budget() {
        let mut pool = Estimator::new(Compressible::Yes, 0.005);
        for _ in 0..40 {
            pool.add(1.0, 0.025, 2.0);
        }
        let mut seed = 3u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut lost, mut all, mut given) = (0.0, 0.0, 0.0);
        for step in 0..2 * DAY {
            let demand: Vec<f64> = (0..40)
                .map(|task| {
                    let wave = (step as f64 / DAY as f64 * std::f64::consts::TAU).sin();
                    (0.2 + 0.01 * f64::from(task)) * (1.0 + 0.3 * wave) * (0.9 + 0.2 * noise())
                })
                .collect();
            if step > DAY / 2 {
                for (at, demand) in demand.iter().enumerate() {
                    lost += (demand - pool.limit(at)).max(0.0);
                    all += demand;
                    given += pool.limit(at);
                }
            }
            let seen: Vec<Seen> = demand
                .iter()
                .enumerate()
                .map(|(at, demand)| {
                    let used = demand.min(pool.limit(at));
                    Seen { used, pressure: (demand - used) / demand }
                })
                .collect();
            pool.step(&seen);
        }
        assert!(lost / all < 0.01, "{}", lost / all);
        assert!(all / given > 0.85, "{} of what is given is used", all / given);
    }
}
