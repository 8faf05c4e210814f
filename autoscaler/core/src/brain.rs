//! The brain: everything that decides, behind two methods.
use std::collections::BTreeMap;

use model::id::WorkloadName;
use model::workload::Workload;

use crate::event::{Event, Plan, Time};
use crate::view::{Explanation, WorkloadView};

/// Settings of the whole brain; a workload's own are in its specification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Time between two rounds of digests, ms. Data older than three of them is stale.
    pub round_ms: u64,
    /// After a controller's start, a node that has not connected for this long counts as lost, ms.
    pub reconnect_ms: u64,
    /// The risk setting, 0 (save most) ..= 1 (most cautious).
    pub risk: f64,
    /// The idle ledger closes a page this often, ms.
    pub idle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { round_ms: 1_000, reconnect_ms: 30_000, risk: 0.5, idle_ms: 60_000 }
    }
}

/// The decision core. Deterministic: the same calls give the same answers.
#[derive(Debug)]
pub struct Brain {
    #[allow(dead_code)]
    config: Config,
    workloads: BTreeMap<WorkloadName, Workload>,
}

impl Brain {
    /// A brain that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, workloads: BTreeMap::new() }
    }

    /// Takes one event. The shell has journalled it before, with the same `now`.
    pub fn observe(&mut self, event: Event, _now: Time) {
        match event {
            Event::SpecApplied { workload } => {
                self.workloads.insert(workload.name.clone(), workload);
            }
            Event::SpecRemoved { workload } => {
                self.workloads.remove(&workload);
            }
            _ => {}
        }
    }

    /// What to do now. Call it after each round of digests, after each event that is not a digest, and at `wake_at`.
    /// Replay must repeat these calls: the shell journals each with its `now`, also when the plan is empty.
    pub fn next(&mut self, _now: Time) -> Plan {
        Plan::default()
    }

    /// The specifications in force, by name: what [`Fleet::digests`](crate::fleet::Fleet::digests) needs.
    pub fn specs(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values()
    }

    /// All workloads, by name.
    #[must_use]
    pub fn workloads(&self, _now: Time) -> Vec<WorkloadView> {
        Vec::new()
    }

    /// Why a workload is as it is; `None` when there is no such workload.
    #[must_use]
    pub fn explain(&self, _workload: &WorkloadName, _now: Time) -> Option<Explanation> {
        None
    }
}
