//! What the brain answers when somebody asks how things are, and whether something could be done.

use std::collections::BTreeMap;

use model::decision::DecisionId;
use model::id::{NodeId, WorkloadName};
use model::reason::Reason;
use model::workload::WorkloadKind;

use super::{Brain, Config};
use crate::course::Glance;
use crate::event::Time;
use crate::place::{Link, Node};
use crate::room::Room;
use crate::survive::{Host, Kind, Piece, Question, millis};
use crate::view::{DrainView, Explanation, GivenView, Keeps, WorkloadView};
use crate::what_if::Subject;

impl Brain {
    /// All workloads whose specification is in force, by name.
    #[must_use]
    pub fn workloads(&self, now: Time) -> Vec<WorkloadView> {
        let context = self.context(now);
        let plain = self.workloads.values().filter(|w| w.in_force).map(|w| w.view(&context));
        let clusters = self.clusters.values().filter(|c| c.in_force).map(|c| c.view(&context));
        let mut views: Vec<WorkloadView> = plain.chain(clusters).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// The numbers of this round of all workloads whose specification is in force.
    pub fn glances(&self) -> impl Iterator<Item = (WorkloadName, Glance)> {
        let plain =
            self.workloads.values().filter(|w| w.in_force).map(|w| (w.workload.name.clone(), w.glance()));
        let clusters = self.clusters.values().filter(|c| c.in_force);
        plain.chain(clusters.map(|c| (c.workload.name.clone(), c.glance())))
    }

    /// The settings of the whole brain.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// All workloads whose specification is in force, as a replay of the past needs them; by name. Of a cluster there is what is asked.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let plain = self.workloads.values().filter(|w| w.in_force).map(|w| w.subject());
        let clusters = self.clusters.values().filter(|c| c.in_force).map(|c| Subject::unplayed(&c.workload));
        let mut subjects: Vec<Subject> = plain.chain(clusters).collect();
        subjects.sort_by(|a, b| a.workload.name.cmp(&b.workload.name));
        subjects
    }

    /// Why a workload is as it is; `None` when there is no such workload.
    #[must_use]
    pub fn explain(&self, workload: &WorkloadName, now: Time) -> Option<Explanation> {
        let context = self.context(now);
        if let Some(cluster) = self.clusters.get(workload).filter(|c| c.in_force) {
            return Some(cluster.explain(&context));
        }
        Some(self.workloads.get(workload).filter(|w| w.in_force)?.explain(&context))
    }

    /// All acting is paused by an operator: why.
    #[must_use]
    pub fn paused(&self) -> Option<&str> {
        self.pause.as_ref().map(|pause| pause.why.as_str())
    }

    /// The nodes that are to be empty, with what is left on each.
    #[must_use]
    pub fn drains(&self) -> BTreeMap<NodeId, DrainView> {
        let drained = self.nodes.iter().filter_map(|(node, known)| Some((node, known.drained.clone()?)));
        drained
            .map(|(node, why)| {
                let plain = self.workloads.values().map(|workload| workload.left_on(node));
                let left = plain.chain(self.clusters.values().map(|cluster| cluster.left_on(node))).sum();
                (node.clone(), DrainView { why, left })
            })
            .collect()
    }

    /// What could not leave `node` now if it were drained: of each workload how many replicas, and why.
    #[must_use]
    pub fn would_stay(&self, node: &NodeId, now: Time) -> Vec<(WorkloadName, u32, Reason)> {
        let all = self.keeps(node, now).into_iter();
        all.filter_map(|one| Some((one.workload, one.tasks, one.stays?))).collect()
    }

    /// What Trimtab has on a node, by workload, and what emptying it takes.
    #[must_use]
    pub fn keeps(&self, node: &NodeId, now: Time) -> Vec<Keeps> {
        let context = self.context(now);
        let workloads = self.workloads.values().filter(|workload| workload.in_force);
        let plain = workloads.filter_map(|workload| workload.keeps(node, &context));
        plain.chain(self.clusters.values().filter_map(|cluster| cluster.keeps(node, &context))).collect()
    }

    /// What must be known to say whether the loss of a node or a rack is survived. To answer it takes long in a large fleet.
    #[must_use]
    pub fn losses(&self) -> Question {
        let stale = 3 * self.config.round_ms;
        let workloads = self.workloads.values().filter(|w| w.in_force);
        let kinds: Vec<Kind> = workloads.map(|workload| workload.piece_kind()).collect();
        let host = |(name, node): (&NodeId, &Node)| {
            let has = node.inventory.as_ref().filter(|_| node.link == Link::Up)?;
            let fresh = node.load.as_ref().filter(|load| load.age_ms.is_some_and(|age| age <= stale));
            let all = has.launchers.iter().filter(|launcher| node.can_start(launcher));
            Some(Host {
                name: name.clone(),
                rack: has.rack.clone(),
                launchers: all.cloned().collect(),
                capacity: Room { cpu_millis: u64::from(has.cpus) * 1_000, memory_bytes: has.memory_bytes },
                used: (
                    fresh.and_then(|load| load.cpu_cores).map(millis),
                    fresh.and_then(|load| load.memory_bytes),
                ),
            })
        };
        Question {
            hosts: self.nodes.iter().filter_map(host).collect(),
            pieces: self.pieces().collect(),
            kinds,
        }
    }

    /// What was given on each node where Trimtab has something.
    #[must_use]
    pub fn given(&self) -> BTreeMap<NodeId, GivenView> {
        GivenView::by_node(self.pieces().map(|piece| (piece.node, piece.given)))
    }

    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let plain = self.workloads.values().filter(|w| w.in_force).flat_map(|workload| workload.pieces());
        let clusters = self.clusters.values().filter(|c| c.in_force);
        plain.chain(clusters.flat_map(|cluster| cluster.pieces()))
    }

    /// The decision that recommends a change of a cluster and can be approved; `None` when there is none.
    #[must_use]
    pub fn recommends(&self, workload: &WorkloadName) -> Option<DecisionId> {
        self.clusters.get(workload).filter(|c| c.in_force)?.recommends()
    }

    /// A change of a cluster is on its way.
    #[must_use]
    pub fn changes(&self, workload: &WorkloadName) -> bool {
        self.clusters.get(workload).is_some_and(|c| c.in_force && c.changes())
    }

    /// The kind of a workload whose name is taken.
    #[must_use]
    pub fn kind(&self, workload: &WorkloadName) -> Option<WorkloadKind> {
        let plain = self.workloads.get(workload).map(|w| w.workload.spec.kind);
        plain.or_else(|| Some(self.clusters.get(workload)?.workload.spec.kind))
    }
}
