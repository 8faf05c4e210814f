//! How a workload went.

use autoscaler_core::course::Minute;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::course as stored;

/// How a workload went: each list has one value a step, the worst of its rounds; null where nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The workload.
    pub workload: String,
    /// Start of the first step.
    pub from_ms: u64,
    /// Distance of steps, ms.
    pub step_ms: u64,
    /// Largest load that came: requests per second (rails) or cores (service).
    pub load: Vec<Option<f64>>,
    /// Largest load that was expected for this time, when what was ordered then would be ready.
    pub expected: Vec<Option<f64>>,
    /// The same at the quantile of the risk: what was planned for.
    pub upper: Vec<Option<f64>>,
    /// Least load that the replicas in service carried at the target.
    pub carried: Vec<Option<f64>>,
    /// Longest queue delay, 95th percentile, ms.
    pub queue_delay_p95_ms: Vec<Option<f64>>,
    /// Largest busy share of what is there.
    pub utilisation: Vec<Option<f64>>,
    /// Fewest replicas in service.
    pub up: Vec<Option<u32>>,
    /// Most replicas wanted.
    pub wanted: Vec<Option<u32>>,
}

impl Course {
    /// Of what is stored.
    #[must_use]
    pub fn of(workload: String, course: &stored::Course) -> Self {
        let each = |of: fn(&Minute) -> Option<f64>| -> Vec<Option<f64>> {
            course.steps.iter().map(|step| step.as_ref().and_then(of)).collect()
        };
        let count = |of: fn(&Minute) -> Option<u32>| -> Vec<Option<u32>> {
            course.steps.iter().map(|step| step.as_ref().and_then(of)).collect()
        };
        Self {
            api_version: super::API_VERSION.to_owned(),
            workload,
            from_ms: course.from.0,
            step_ms: course.step_ms,
            load: each(|minute| minute.load),
            expected: each(|minute| minute.expected),
            upper: each(|minute| minute.upper),
            carried: each(|minute| minute.carried),
            queue_delay_p95_ms: each(|minute| minute.queue_delay_p95_ms),
            utilisation: each(|minute| minute.utilisation),
            up: count(|minute| minute.up),
            wanted: count(|minute| minute.wanted),
        }
    }
}
