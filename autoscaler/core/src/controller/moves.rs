//! How a node is emptied: its replicas are started elsewhere, and end there when as many as are wanted take requests.
//!
//! Problem: an operator wants a node empty, and nobody is to notice. Method: what counts on that node is replaced as if it
//! were lost, and leaves as far as those that take requests are more than wanted: each round anew, so that a node that goes, a load that
//! grows or an operator who changes their mind is only another round. Bounds: a replica and the one that takes its place count as one
//! towards the maximum, at most a step of growth is on its way, and a shared ceiling holds for both together.

use std::collections::BTreeSet;

use model::id::{NodeId, TaskName};
use model::reason::Reason;

use super::{Context, Controller};
use crate::check::Change;
use crate::cluster::price::Price;
use crate::rollout::Replica;
use crate::view::Keeps;

impl Controller {
    /// Replicas that count and are on a node that is to be empty.
    pub(super) fn moving(&self, context: &Context<'_>) -> BTreeSet<TaskName> {
        self.names(|r| r.state.counts() && self.is_drained(&r.node, context))
    }

    pub(super) fn is_drained(&self, node: &NodeId, context: &Context<'_>) -> bool {
        context.nodes.get(node).is_some_and(|node| node.drained.is_some())
    }

    /// Why replicas move, while some do.
    pub(super) fn why_moving(&self, context: &Context<'_>) -> Option<Reason> {
        let counting = self.replicas.values().filter(|r| r.state.counts());
        counting.into_iter().find_map(|r| {
            let why = context.nodes.get(&r.node)?.drained.clone()?;
            Some(Reason::NodeDrained { node: r.node.clone(), why })
        })
    }

    /// The next part of the move, and why it is no larger, if it is not.
    pub(super) fn moves(
        &self,
        moving: &BTreeSet<TaskName>,
        context: &Context<'_>,
    ) -> (Change, Option<Reason>) {
        let counting = self.number(|r| r.state.counts());
        let settled = counting.saturating_sub(u32::try_from(moving.len()).unwrap_or(u32::MAX));
        let mut short = None;
        let rising = |r: &Replica| r.state.rises() && !moving.contains(&r.task);
        let step = self.workload.spec.behavior.step_up.max(1).saturating_sub(self.number(rising));
        let missing = self.wanted.saturating_sub(settled).min(step);
        if missing > 0 {
            let (change, why) = self.more(missing, context);
            if !change.is_empty() {
                return (change, why);
            }
            short = why;
        }
        let leave = self.leaving_now(moving, counting);
        if leave.is_empty() && short.is_none() {
            let other = self.replicas.values().find(|r| rising(r) || r.state.leaves());
            short = other
                .map(|r| Reason::ChangeUnderway { task: r.task.clone(), state: r.state.name().to_owned() });
        }
        (Change { leave, ..Change::default() }, short)
    }

    /// Those that can go now: first those that take no requests, and of the others as many as there are more than wanted.
    fn leaving_now(&self, moving: &BTreeSet<TaskName>, counting: u32) -> Vec<TaskName> {
        let failing: BTreeSet<TaskName> =
            self.failing_survivors().into_iter().map(|(task, _)| task).collect();
        let serving = self.number(|r| r.state.serves() && !failing.contains(&r.task));
        let mut spare = counting.saturating_sub(self.wanted);
        let mut spare_serving = serving.saturating_sub(self.wanted);
        let mut order: Vec<&Replica> = moving.iter().filter_map(|task| self.replicas.get(task)).collect();
        order.sort_by_key(|r| (r.state.serves(), r.number));
        let mut leave = Vec::new();
        for replica in order {
            let serves = replica.state.serves();
            if spare == 0 || (serves && spare_serving == 0) {
                break;
            }
            spare -= 1;
            spare_serving -= u32::from(serves);
            leave.push(replica.task.clone());
        }
        leave
    }

    /// A node is in use again, maybe in the middle of a move: what was started to take a place is more than wanted now. It stays, as
    /// when a drain is cancelled, and leaves once there is proof that fewer do. `drained` are the nodes that are still to be empty.
    pub(crate) fn drain_ended(&mut self, drained: &BTreeSet<NodeId>) {
        let settled = self.number(|r| r.state.counts() && !drained.contains(&r.node));
        self.wanted = self.wanted.max(settled.min(self.workload.spec.replicas.max));
    }

    /// Replicas whose process may still be on a node.
    pub(crate) fn left_on(&self, node: &NodeId) -> u32 {
        self.number(|r| r.node == *node && r.state.may_run())
    }

    /// What of it is on a node, and what its leaving takes; `None` when nothing is.
    pub(crate) fn keeps(&self, node: &NodeId, context: &Context<'_>) -> Option<Keeps> {
        let tasks = self.number(|r| r.node == *node && r.state.counts());
        if tasks == 0 {
            return None;
        }
        let risk = "none ends before another one takes its place elsewhere".to_owned();
        let price = Price { seconds: (self.ready_ms as u64).div_ceil(1_000), bytes: 0, risk };
        let (workload, stays) = (self.workload.name.clone(), self.stays(node, context));
        Some(Keeps { workload, tasks, price, gates: Vec::new(), stays })
    }

    /// Why what is on `node` would stay there if it were drained now; `None` when all can leave.
    fn stays(&self, node: &NodeId, context: &Context<'_>) -> Option<Reason> {
        let elsewhere = || {
            let others = context.nodes.iter().filter(|(name, _)| *name != node);
            others.into_iter().any(|(_, other)| other.can_start(self.launcher()))
        };
        match self.held(context) {
            Some(held) => Some(held),
            None if elsewhere() => None,
            None => Some(Reason::NoNodeWithLauncher { launcher: self.launcher().to_owned() }),
        }
    }
}
