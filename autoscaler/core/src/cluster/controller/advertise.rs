//! What each NodeManager of ours advertises: it follows what its node can give, without killing anything.
//!
//! More is told at once when it is there; less is told with a timeout of −1, so that containers run on and only new ones find no place. What a
//! NodeManager advertises is lost when it starts anew, and is told again then: the report says what is so.

use std::collections::BTreeMap;

use model::action::{Command, Outcome, OutcomeKind, Verb};
use model::decision::{Decision, DecisionKind};
use model::id::{NodeId, TaskName};
use model::reason::Reason;
use model::workload::{Advertise, Mode};
use model::yarn::{Resources, YarnState, YarnStep};

use super::{Controller, Own};
use crate::cluster::room::{Has, Others, STEP_MIB, offer};
use crate::controller::Context;
use crate::decide::Decided;
use crate::event::{Digest, Time};
use crate::order::Order;
use crate::place::Link;
use crate::record::DecisionIds;
use crate::rollout::{ANSWER_MS, Fence};

/// A member is told another amount at most so often, ms, when it may have more: YARN gives out what is told within a second, and what it gave
/// out it does not get back.
const GROW_EVERY_MS: u64 = 15_000;

/// So many of those who use a node are named beside what is left of it.
const NAMED: usize = 3;

/// What is known and wanted about amounts.
#[derive(Debug, Default)]
pub(super) struct Amounts {
    /// What others use on each node.
    others: BTreeMap<NodeId, Others>,
    /// What a member's own process and containers use: cores, bytes.
    own: BTreeMap<TaskName, (f64, Option<f64>)>,
    /// What members are to advertise, until they do.
    orders: BTreeMap<String, (Resources, Order)>,
    /// When a member was last told to advertise more.
    grew: BTreeMap<String, Time>,
    /// What was recommended where nothing may be done.
    recommended: BTreeMap<String, Resources>,
}

impl Amounts {
    /// What a member and its containers use, cores and bytes, if it was measured.
    pub(super) fn used(&self, task: &TaskName) -> Option<(f64, Option<f64>)> {
        self.own.get(task).copied()
    }

    /// What was sent may never have arrived.
    pub(super) fn forget_sent(&mut self) {
        self.orders.clear();
    }
}

impl Controller {
    /// What the members' processes use, with their containers.
    pub(crate) fn usage(&mut self, digest: &Digest) {
        self.amounts.own.clear();
        for replica in &digest.replicas {
            if let Some(cores) = replica.cpu_cores {
                let bytes = replica.memory_bytes.map(|bytes| bytes as f64);
                self.amounts.own.insert(replica.task.clone(), (cores, bytes));
            }
        }
    }

    fn bounds(&self) -> Option<Advertise> {
        self.cluster()?.advertise
    }

    /// Follows what the others use on the nodes of members, once a round.
    pub(super) fn follow_others(&mut self, context: &Context<'_>) {
        if self.bounds().is_none() {
            return;
        }
        let stale_ms = 3 * context.config.round_ms;
        let mut nodes: Vec<&NodeId> = self.own.values().filter(|own| own.runs).map(|own| &own.node).collect();
        nodes.dedup();
        let mut seen = Vec::new();
        for name in nodes {
            let load = context.nodes.get(name).and_then(|node| node.load.as_ref());
            let Some(load) = load.filter(|load| load.age_ms.is_some_and(|age| age <= stale_ms)) else {
                continue;
            };
            let here = self.own.values().filter(|own| own.node == *name);
            let (mut cores, mut bytes) = (0.0, Some(0.0));
            for (own_cores, own_bytes) in here.filter_map(|own| self.amounts.own.get(&own.task)) {
                cores += own_cores;
                bytes = bytes.zip(*own_bytes).map(|(sum, own): (f64, f64)| sum + own);
            }
            let Some(all) = load.cpu_cores else { continue };
            let all_bytes =
                load.memory_bytes.map(|all| all as f64).zip(bytes).map(|(all, own)| (all - own).max(0.0));
            seen.push((name.clone(), all - cores, all_bytes));
        }
        for (name, cores, bytes) in seen {
            self.amounts.others.entry(name).or_default().observe(cores, bytes, context.now);
        }
    }

    /// What a member should advertise, and does; `None` while that is not known or not ours to say.
    fn amount(&self, own: &Own, context: &Context<'_>) -> Option<(Resources, Resources)> {
        let bounds = self.bounds()?;
        let report = &self.seen.yarn.as_ref()?.report;
        let node = report.nodes.iter().find(|n| n.host == own.member && n.state == YarnState::Running)?;
        let has = context.nodes.get(&own.node)?.inventory.as_ref()?;
        let others = self.amounts.others.get(&own.node)?;
        let members = self.own.values().filter(|other| other.runs && other.node == own.node).count();
        let has = Has { cores: f64::from(has.cpus), bytes: has.memory_bytes as f64 };
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        Some((offer(has, others, members, &bounds, node.total), node.total))
    }

    /// Cores of a node that count as used by others, and all of them.
    fn others_on(&self, node: &NodeId, context: &Context<'_>) -> (f64, f64) {
        let inventory = context.nodes.get(node).and_then(|node| node.inventory.as_ref());
        let used = self.amounts.others.get(node).map_or(0.0, Others::cores);
        (used, inventory.map_or(0.0, |has| f64::from(has.cpus)))
    }

    /// Decides what members advertise. More and less at once for different members is no contradiction: their nodes differ.
    pub(super) fn amounts(&mut self, ids: &mut DecisionIds, context: &Context<'_>) -> Vec<Decision> {
        let now = context.now;
        let changing = self.underway.as_ref().and_then(|underway| underway.change.task.clone());
        let held = self.held(context);
        let members: Vec<Own> = self
            .own
            .values()
            .filter(|own| own.runs && Some(&own.task) != changing.as_ref())
            .cloned()
            .collect();
        let mut decisions = Vec::new();
        for own in members {
            let Some((wanted, is)) = self.amount(&own, context) else { continue };
            if wanted == is {
                self.amounts.orders.remove(&own.member);
                continue;
            }
            let grows = wanted.holds(is);
            let lately = self.amounts.grew.get(&own.member).is_some_and(|at| now.since(*at) < GROW_EVERY_MS);
            if grows && !is_worth_it(is, wanted) {
                continue;
            }
            let ordered = self.amounts.orders.get(&own.member).is_some_and(|(to, _)| *to == wanted);
            if ordered || (grows && lately) {
                continue;
            }
            let mut reasons: Vec<Reason> = held.clone().into_iter().collect();
            reasons.push(Reason::Advertises {
                member: own.member.clone(),
                memory_mib: (is.memory_mib, wanted.memory_mib),
                vcores: (is.vcores, wanted.vcores),
                others: self.others_on(&own.node, context),
                by: context.uses.of(&own.node, &self.workload.name, NAMED),
            });
            let to = self.wanted.unwrap_or(0);
            let act = held.is_none();
            let decided = Decided {
                kind: DecisionKind::Resize,
                to,
                act,
                reasons,
                binding: None,
                alternatives: Vec::new(),
            };
            if act {
                self.amounts.orders.insert(own.member.clone(), (wanted, Order::new(now)));
                if grows {
                    self.amounts.grew.insert(own.member.clone(), now);
                }
            }
            // Said once for each amount: it stands beside what is said of members, and does not make that new.
            let before = self.amounts.recommended.insert(own.member.clone(), wanted);
            if act || before != Some(wanted) {
                let decision = self.decision(to, decided, vec![own.task.clone()], ids, context);
                self.record.keep(decision.clone());
                decisions.push(decision);
            }
        }
        decisions
    }

    /// Commands for amounts that are due.
    pub(super) fn amount_orders(
        &mut self,
        fence: &mut Fence,
        context: &Context<'_>,
    ) -> Vec<(NodeId, Command)> {
        let paused = self.paused(context).is_some();
        let Some(beside) = self.seen.yarn.as_ref().map(|seen| seen.node.clone()) else { return Vec::new() };
        let there = context.nodes.get(&beside).is_some_and(|node| node.link == Link::Up);
        if !there || paused || !self.in_force || self.workload.spec.mode != Mode::Auto {
            return Vec::new();
        }
        let Some(cluster) = self.cluster().map(|spec| spec.cluster.clone()) else { return Vec::new() };
        let mut commands = Vec::new();
        for (member, (resources, order)) in &mut self.amounts.orders {
            if order.is_overdue(context.now) {
                order.failed(context.now);
            }
            let own = self.own.values().find(|own| own.member == *member);
            let Some(task) = own.map(|own| own.task.clone()).filter(|_| order.is_due(context.now)) else {
                continue;
            };
            let step = YarnStep::Advertise { host: member.clone(), resources: *resources };
            let verb = Verb::Yarn { cluster: cluster.clone(), step };
            let of = (&self.workload.name, &task);
            let (command, due) = fence.command(&mut self.generation, of, verb, ANSWER_MS, context.now);
            order.sent(command.id, due);
            commands.push((beside.clone(), command));
        }
        commands
    }

    /// Takes an answer about an amount; false when it is about something else.
    pub(super) fn amount_answered(&mut self, outcome: &Outcome, now: Time) -> bool {
        let found = self.amounts.orders.iter_mut().find(|(_, (_, order))| order.awaits(outcome.command));
        let Some((member, (_, order))) = found else { return false };
        match outcome.kind {
            // The next report shows it; if not, it is told again.
            OutcomeKind::Applied | OutcomeKind::Already => {
                let member = member.clone();
                self.amounts.orders.remove(&member);
            }
            OutcomeKind::Refused | OutcomeKind::Failed => {
                order.failed(now);
                let told =
                    (member.clone(), format!("what it advertises could not be changed: {}", outcome.why));
                if order.failures() == 1 {
                    self.news_told.push(told);
                }
            }
        }
        true
    }
}

/// A tenth more, and a step at least: what is told and taken back all the time is noise in everybody's lists.
fn is_worth_it(is: Resources, wanted: Resources) -> bool {
    let vcores = is.vcores.saturating_add((is.vcores / 10).max(1));
    let memory_mib = is.memory_mib.saturating_add((is.memory_mib / 10).max(STEP_MIB));
    wanted.vcores >= vcores || wanted.memory_mib >= memory_mib
}
