//! What `/metrics` shows of nodes and workloads: asked when somebody scrapes, and kept nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use autoscaler_core::event::Time;
use autoscaler_core::fleet::NodeView;
use autoscaler_core::survive::Question;
use autoscaler_core::view::{DrainView, WorkloadView};
use model::decision::{Decision, DecisionKind};
use model::id::{NodeId, WorkloadName};
use model::reason::Reason;
use model::workload::Target;

use super::handle::{Handle, Unreachable};
use super::{Control, INPUTS};

/// The fleet at an instant.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Controller time.
    pub now: Time,
    /// This controller's epoch.
    pub epoch: u64,
    /// Inputs that wait for the loop.
    pub waiting: usize,
    /// All nodes, by name.
    pub nodes: Vec<NodeView>,
    /// Those that are to be empty.
    pub drains: BTreeMap<NodeId, DrainView>,
    /// All workloads, by name, with what is asked of each.
    pub workloads: Vec<(WorkloadView, Target)>,
    /// What must be known to say what a loss would mean.
    pub losses: Question,
    /// Decisions since the start, about workloads that are there.
    pub decided: BTreeMap<Decided, u64>,
}

/// What decisions are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decided {
    /// About which workload.
    pub workload: WorkloadName,
    /// What.
    pub kind: DecisionKind,
    /// The code of its first reason.
    pub reason: &'static str,
    /// It was carried out.
    pub act: bool,
}

impl From<&Decision> for Decided {
    fn from(decision: &Decision) -> Self {
        Self {
            workload: decision.workload.clone(),
            kind: decision.kind,
            reason: decision.reasons.first().map_or("none", Reason::code),
            act: decision.act,
        }
    }
}

impl Handle {
    /// What `/metrics` shows.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn facts(&self) -> Result<Facts, Unreachable> {
        let waiting = INPUTS.saturating_sub(self.inputs.capacity());
        self.ask(move |control, now| control.facts(waiting, now)).await
    }
}

impl Control {
    fn facts(&mut self, waiting: usize, now: Time) -> Facts {
        self.forget_decided();
        let targets: BTreeMap<WorkloadName, Target> =
            self.brain.specs().map(|workload| (workload.name.clone(), workload.spec.target)).collect();
        let workloads = self.brain.workloads(now).into_iter().map(|view| {
            let target = targets.get(&view.name).copied().unwrap_or_default();
            (view, target)
        });
        Facts {
            now,
            epoch: self.store.epoch().0,
            waiting,
            nodes: self.fleet.nodes(now),
            drains: self.brain.drains(),
            workloads: workloads.collect(),
            losses: self.brain.losses(),
            decided: self.decided.clone(),
        }
    }

    /// Counts of workloads that were withdrawn are dropped: there may be many names over the years.
    pub(super) fn forget_decided(&mut self) {
        let known: BTreeSet<&WorkloadName> = self.brain.specs().map(|workload| &workload.name).collect();
        self.decided.retain(|decided, _| known.contains(&decided.workload));
    }
}
