//! How a node is emptied of members: another one comes elsewhere first, then the one there leaves, with its data or its work.
//!
//! Each round anew, as far as nothing else is to be done: a load that grows, a member that is lost or an operator who changes their mind is
//! only another round.

use std::collections::BTreeSet;

use model::decision::DecisionKind;
use model::id::{NodeId, TaskName};
use model::reason::Reason;

use super::begin::reasons;
use super::{Controller, Own};
use crate::cluster::price::Price;
use crate::controller::Context;
use crate::decide::Decided;
use crate::view::Keeps;

impl Controller {
    /// Members of ours that are on nodes that are to be empty.
    pub(super) fn moving(&self, context: &Context<'_>) -> BTreeSet<TaskName> {
        let there = self.there();
        let goes = |own: &&Own| own.runs && there.contains(&own.member) && is_drained(own, context);
        self.own.values().filter(goes).map(|own| own.task.clone()).collect()
    }

    /// Lets the next part of a move begin: with as many members as are wanted beside it, one leaves; before, another one comes.
    pub(super) fn move_away(
        &mut self,
        (there, wanted): (u32, u32),
        held: Option<&Reason>,
        tasks: &mut Vec<TaskName>,
        context: &Context<'_>,
    ) -> Decided {
        let mut decided = Decided {
            kind: DecisionKind::Replace,
            to: wanted,
            act: false,
            reasons: held.cloned().into_iter().chain(self.why_moving(context)).collect(),
            binding: None,
            alternatives: Vec::new(),
        };
        let plan = if there > wanted {
            self.leave(|own| is_drained(own, context), context)
        } else {
            self.join(context)
        };
        self.try_next(plan, &mut decided, held.is_none(), tasks, context);
        decided
    }

    fn why_moving(&self, context: &Context<'_>) -> Option<Reason> {
        self.own.values().filter(|own| own.runs).find_map(|own| {
            let why = context.nodes.get(&own.node)?.drained.clone()?;
            Some(Reason::NodeDrained { node: own.node.clone(), why })
        })
    }

    /// Processes of ours that may still be on a node.
    pub(crate) fn left_on(&self, node: &NodeId) -> u32 {
        let here = self.own.values().filter(|own| own.runs && own.node == *node).count();
        u32::try_from(here).unwrap_or(u32::MAX)
    }

    /// Which members of ours are on a node, and what their leaving takes; `None` when none is.
    pub(crate) fn keeps(&self, node: &NodeId, context: &Context<'_>) -> Option<Keeps> {
        let tasks = self.left_on(node);
        if tasks == 0 {
            return None;
        }
        let (mut price, mut closed) = (Price::default(), Vec::new());
        for own in self.own.values().filter(|own| own.runs && own.node == *node) {
            let (gates, one) = self.gates(&own.member, context);
            price.seconds += one.seconds;
            price.bytes = price.bytes.saturating_add(one.bytes);
            if !price.risk.contains(&one.risk) {
                let mark = if price.risk.is_empty() { "" } else { "; " };
                price.risk = format!("{}{mark}{}", price.risk, one.risk);
            }
            closed.extend(reasons(&own.member, &gates));
        }
        let (workload, stays) = (self.workload.name.clone(), self.stays(node, context));
        Some(Keeps { workload, tasks, price, gates: closed, stays })
    }

    /// Why the members on `node` would stay there if it were drained now; `None` when all can leave, as far as is known before.
    fn stays(&self, node: &NodeId, context: &Context<'_>) -> Option<Reason> {
        let launcher = || Some((self.cluster()?, self.cluster()?.launcher.as_ref()?));
        match (self.held(context), launcher()) {
            (Some(held), _) => Some(held),
            (None, None) => Some(Reason::NoLauncher),
            (None, Some((spec, launcher))) => {
                self.place(spec, launcher.as_str(), Some(node), context).err()?.into_iter().next()
            }
        }
    }
}

fn is_drained(own: &Own, context: &Context<'_>) -> bool {
    context.nodes.get(&own.node).is_some_and(|node| node.drained.is_some())
}
