//! The game `replicas`: a stateless service whose replicas are ready after `boot_s`.
//!
//! A reply to step k acts from k + 1 and is ready `boot_s` later; the target is judged by the minute. So the forecast
//! looks that far ahead at minute means, and a replica is kept as long as any forecast of the last boot-and-drain time
//! needed it: bridging a shorter gap costs less than stopping and starting again.

use model::reason::Signal;
use model::units::Millis;
use model::workload::Behavior;
use serde::Deserialize;
use serde_json::{Value, json};

use super::at_knob;
use crate::event::Time;
use crate::forecast::{Forecast, Settings};
use crate::horizontal::replicas_for;
use crate::stabilise::{Round, Stabiliser, Verdict};

/// Share of minutes that may pass the forecast, at the five knobs.
const BUDGETS: [f64; 5] = [0.15, 0.03, 0.006, 0.001, 0.000_02];

#[derive(Deserialize)]
pub(super) struct Start {
    step_s: f64,
    knob: f64,
    boot_s: f64,
    drain_s: f64,
    slo_utilization: f64,
    replica_rps: f64,
    min: f64,
    max: f64,
    ready: f64,
}

#[derive(Deserialize)]
pub(super) struct Step {
    t: f64,
    requests: f64,
    ready: f64,
    starting: f64,
}

pub(super) struct Replicas {
    capacity: f64,
    min: u32,
    max: u32,
    step_ms: f64,
    behavior: Behavior,
    forecast: Forecast,
    stabiliser: Stabiliser,
}

impl Replicas {
    pub(super) fn new(start: &Start) -> Self {
        let ms = |seconds: f64| (seconds * 1_000.0) as u64;
        let step_ms = start.step_s * 1_000.0;
        // The mean of the minute that ends when the replica is ready; the hold window covers the minute after.
        let ahead_ms = ms(start.boot_s);
        let capacity = start.slo_utilization * start.replica_rps;
        let settings = Settings {
            step_ms: step_ms as u64,
            ahead_ms,
            smooth_ms: 60_000,
            budget: at_knob(start.knob, BUDGETS),
            offset: 0.2 * start.min.max(1.0) * capacity,
        };
        let behavior = Behavior {
            grow_after: Millis(0),
            grow_cooldown: Millis(0),
            shrink_cooldown: Millis(0),
            shrink_after: Millis(ms(start.boot_s) + ms(start.drain_s)),
            ..Behavior::default()
        };
        Self {
            capacity,
            min: start.min as u32,
            max: (start.max as u32).max(start.ready as u32),
            step_ms,
            behavior,
            forecast: Forecast::new(settings),
            stabiliser: Stabiliser::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Value {
        let now = Time((step.t * 1_000.0 + self.step_ms) as u64);
        let rate = step.requests * 1_000.0 / self.step_ms;
        self.forecast.observe(now.0, rate);
        let wanted = (step.ready + step.starting) as u32;
        let load = self.forecast.upper().unwrap_or(rate);
        let need = replicas_for(load, self.capacity, self.max).clamp(self.min, self.max);
        let round = Round { wanted, need, signal: Signal::Forecast, panic: false, fresh: true };
        match self.stabiliser.judge(round, &self.behavior, now) {
            Verdict::Grow(n) | Verdict::Shrink(n) => json!({ "replicas": n }),
            Verdict::Stay(_) => json!({ "replicas": wanted }),
        }
    }
}
