//! The game `resize`: limits of many tasks, one resource.

use serde::Deserialize;
use serde_json::{Value, json};

use super::at_knob;
use crate::estimate::{Compressible, Estimator, Seen};

/// Share of demand that may be lost, at the five knobs.
const BUDGETS: [f64; 5] = [0.03, 0.008, 0.004, 0.001, 0.000_1];

#[derive(Deserialize)]
pub(super) struct Start {
    knob: f64,
    resource: String,
    floor: f64,
    warmup_steps: f64,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    request: f64,
    max: f64,
}

#[derive(Deserialize)]
pub(super) struct Step {
    tasks: Vec<Vec<Value>>,
}

pub(super) struct Resize {
    estimator: Estimator,
    ids: Vec<String>,
    said: Vec<f64>,
    warm: u64,
    steps: u64,
}

impl Resize {
    pub(super) fn new(start: Start) -> Self {
        let kind = if start.resource == "memory" { Compressible::No } else { Compressible::Yes };
        let mut estimator = Estimator::new(kind, at_knob(start.knob, BUDGETS));
        let said = start.tasks.iter().map(|task| task.request).collect();
        for task in &start.tasks {
            estimator.add(task.request, start.floor, task.max);
        }
        let warm = start.warmup_steps as u64;
        Self { estimator, ids: start.tasks.into_iter().map(|task| task.id).collect(), said, warm, steps: 0 }
    }

    pub(super) fn step(&mut self, step: &Step) -> Value {
        self.steps += 1;
        let mut seen = vec![Seen { used: 0.0, pressure: 0.0 }; self.ids.len()];
        let in_order = |at: usize, id: &str| self.ids.get(at).is_some_and(|known| known == id);
        for (at, entry) in step.tasks.iter().enumerate() {
            let [id, used, pressure, ..] = entry.as_slice() else { continue };
            let (Some(id), Some(used), Some(pressure)) = (id.as_str(), used.as_f64(), pressure.as_f64())
            else {
                continue;
            };
            let place =
                if in_order(at, id) { Some(at) } else { self.ids.iter().position(|known| known == id) };
            if let Some(place) = place {
                seen[place] = Seen { used, pressure };
            }
        }
        self.estimator.step(&seen);
        if self.steps < self.warm {
            // What a task wants is learned best while nothing holds it back.
            return json!({});
        }
        let mut limits = Vec::new();
        for (at, id) in self.ids.iter().enumerate() {
            let limit = (self.estimator.limit(at) * 1e6).ceil() / 1e6;
            if (limit - self.said[at]).abs() > 1e-9 {
                self.said[at] = limit;
                limits.push(json!([id, limit]));
            }
        }
        json!({ "limits": limits })
    }
}
