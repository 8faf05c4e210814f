//! Leaves of YARN containers: named, removed when they are over, and what keeps them from being said with this node.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::classify::Rules;
use agent_core::{leaf, parse, yarn};
use model::gap::Unavailable;
use model::id::CgroupId;
use model::node::TaskClass;
use tokio::sync::{mpsc, watch};

use super::Node;
use crate::leaf::{Leaves as Mover, Report, remove};
use crate::settings::Settings;

/// Reports that may wait; the mover waits beyond.
const WAITING: usize = 64;

/// What the node's loop knows of leaves.
pub(super) struct Leaves {
    known: leaf::Leaves,
    acts: watch::Sender<bool>,
    /// Paths of units whose containers have leaves, below the top of the hierarchy: those that the owner lists, and …
    units: watch::Sender<BTreeSet<String>>,
    /// … Trimtab's own tasks.
    own: BTreeSet<String>,
    /// For the mover's start, which is when there is a unit.
    reports: Option<mpsc::Sender<Report>>,
    /// Processes that were moved since the start.
    moved: u64,
    /// Units whose containers stay where they are, and why.
    hindered: BTreeMap<String, String>,
}

impl Leaves {
    /// Starts to move what may be moved; nothing runs where no unit is listed.
    pub(super) fn start(settings: &Settings) -> (Self, mpsc::Receiver<Report>) {
        let (sender, reports) = mpsc::channel(WAITING);
        let mut leaves = Self {
            known: leaf::Leaves::default(),
            acts: watch::Sender::new(settings.act),
            units: watch::Sender::new(settings.leaves.iter().cloned().collect()),
            own: BTreeSet::new(),
            reports: Some(sender),
            moved: 0,
            hindered: BTreeMap::new(),
        };
        leaves.move_if_any(settings);
        (leaves, reports)
    }

    /// Which of Trimtab's own tasks have leaves now, by their paths, beside the units that the owner lists.
    fn follow(&mut self, settings: &Settings, own: BTreeSet<String>) {
        if own == self.own {
            return;
        }
        self.units.send_replace(settings.leaves.iter().chain(&own).cloned().collect());
        self.own = own;
        self.move_if_any(settings);
    }

    /// Starts the mover once there is something for it.
    fn move_if_any(&mut self, settings: &Settings) {
        let some = !self.units.borrow().is_empty();
        if let Some(reports) = self.reports.take_if(|_| some) {
            let (acts, units) = (self.acts.subscribe(), self.units.subscribe());
            tokio::spawn(Mover::new(settings, acts, units, reports).run());
        }
    }

    /// Whether there is, or was, a unit with leaves.
    pub(super) fn are_watched(&self) -> bool {
        self.reports.is_none()
    }

    /// The owner lets the agent act, or does not.
    pub(super) fn may_act(&self, acts: bool) {
        self.acts.send_replace(acts);
    }

    pub(super) fn appeared(&mut self, rules: &Rules, cgroup: CgroupId, path: &str, class: &TaskClass) {
        if rules.leaf(path).is_some() {
            self.known.appeared(cgroup, path, !has_role(class));
        }
    }

    pub(super) fn gone(&mut self, cgroup: CgroupId) {
        self.known.gone(cgroup);
    }

    /// Leaves, processes moved, units that are hindered.
    pub(super) fn counts(&self) -> (usize, u64, usize) {
        (self.known.len(), self.moved, self.hindered.len())
    }
}

fn has_role(class: &TaskClass) -> bool {
    class.container.as_ref().is_some_and(|container| container.labels.contains_key(yarn::ROLE))
}

impl Node {
    /// Something came of moving.
    pub(super) fn leaf_reported(&mut self, report: Report) {
        match report {
            Report::Moved { unit, container, processes } => {
                self.leaves.moved += u64::from(processes);
                tracing::info!(unit, %container, processes, "a container has a cgroup of its own");
            }
            Report::Hindered { unit, why } => {
                match &why {
                    Some(why) => {
                        tracing::warn!(unit, %why, "containers are counted with their unit");
                        self.leaves.hindered.insert(unit.clone(), why.clone());
                    }
                    None => {
                        tracing::info!(unit, "containers can have cgroups of their own");
                        self.leaves.hindered.remove(&unit);
                    }
                }
                self.cannot(format!("leaves of {unit}"), why);
            }
            Report::Untold { why } => {
                tracing::warn!(%why, "executions are not told: containers are looked for every 2 s");
                self.cannot("executions".to_owned(), Some(why));
            }
        }
    }

    /// Something cannot be had, or can again; the autoscaler is told by a new stream.
    fn cannot(&mut self, what: String, why: Option<String>) {
        self.inventory.unavailable.retain(|gap| gap.what != what);
        self.inventory.unavailable.extend(why.map(|why| Unavailable { what, why }));
        if self.up.is_some() {
            self.lost("what this node can do has changed");
        }
    }

    /// Names leaves whose process is known only now, and removes those that are over.
    pub(super) fn look_after_leaves(&mut self) {
        let own = self.executor.with_leaves().collect();
        self.leaves.follow(&self.settings, own);
        if self.leaves.known.is_empty() {
            return;
        }
        let nameless: Vec<(CgroupId, String)> =
            self.leaves.known.nameless().map(|(id, path)| (id, path.to_owned())).collect();
        for (cgroup, path) in nameless {
            let class = self.rules.classify(&path, None, || self.processes.first(&path));
            if has_role(&class) {
                self.leaves.known.named(cgroup);
                self.name_again(cgroup, class);
            }
        }
        if !self.settings.act {
            return;
        }
        let all: Vec<(CgroupId, String)> =
            self.leaves.known.iter().map(|(id, path)| (id, path.to_owned())).collect();
        for (cgroup, path) in all {
            let events = std::fs::read(self.settings.cgroup.join(&path).join("cgroup.events"));
            let Some(populated) = events.ok().and_then(|events| parse::populated(&events).ok()) else {
                continue;
            };
            let total = self.table.slot_of(cgroup).and_then(|slot| self.table.own_cpu_ns(slot));
            if self.leaves.known.read(cgroup, populated, total.unwrap_or_default())
                && self.frozen().is_none()
                && let Err(error) = remove(&self.settings.cgroup, &path)
            {
                tracing::debug!(path, %error, "a leaf is not removed yet");
            }
        }
    }

    /// A live cgroup turned out to be something else: it is named anew on the stream.
    pub(super) fn name_again(&mut self, cgroup: CgroupId, class: TaskClass) {
        let slot = self.table.reclassify(cgroup, class);
        if let (Some(slot), Some(up)) = (slot, &mut self.up) {
            up.named.remove(slot);
        }
    }
}
