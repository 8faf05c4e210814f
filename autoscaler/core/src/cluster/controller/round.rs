//! What to do about the newest reports: how many members are wanted, and whether a change begins.

use std::collections::BTreeSet;

use model::decision::{Alternative, Decision, DecisionKind, Prediction};
use model::id::TaskName;
use model::reason::{Direction, Reason};
use model::workload::WorkloadKind;
use serde::Serialize;

use super::{Controller, PAST_KEPT, Past, Retry};
use crate::assess::Assessment;
use crate::cluster::change::Machine;
use crate::cluster::{cassandra, hdfs, need, space, yarn};
use crate::controller::Context;
use crate::decide::{Decided, Standing, decide};
use crate::event::Time;
use crate::hpa::Hpa;
use crate::record::{DecisionIds, Grounds};

/// A DataNode that could not be started again so often is given up, and its blocks are copied from their other replicas.
const AGAIN: u32 = 3;

/// Everything that goes into a decision, for its hash.
#[derive(Serialize)]
struct Inputs<'a> {
    spec: &'a model::workload::Workload,
    yarn: Option<&'a model::yarn::YarnReport>,
    hdfs: Option<&'a model::hdfs::HdfsReport>,
    ring: Vec<&'a model::cassandra::CassandraReport>,
    wanted: u32,
    own: Vec<&'a super::Own>,
    change: Option<Machine>,
    failures: (u32, u32),
}

impl Controller {
    /// Does one round. Decisions that only repeat the last non-act are left out.
    pub(crate) fn round(&mut self, ids: &mut DecisionIds, context: &Context<'_>) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.pass(self.node_lost(context), context.now);
        decisions.extend(self.say_told(ids, context));
        if let Some(why) = self.cancelled.take() {
            let decision =
                self.non_act(DecisionKind::CancelDrain, vec![Reason::Cancelled { why }], ids, context);
            self.record.keep(decision.clone());
            decisions.push(decision);
        }
        self.finish(context.now);
        self.forget_ended();
        self.approved = self.approved.take().filter(|(_, until)| *until > context.now);
        self.declined = self.declined.take().filter(|declined| declined.until > context.now);
        self.follow_others(context);
        let doubt = self.seen.doubt(context.now);
        if !self.in_force || !(std::mem::take(&mut self.news) || doubt.is_some()) {
            return decisions;
        }
        let sure = doubt.is_none();
        decisions.extend(self.judge(doubt, ids, context));
        if sure {
            decisions.extend(self.amounts(ids, context));
        }
        decisions
    }

    /// The node of the change is lost: its agent is silent, and nobody else has seen the member lately either.
    fn node_lost(&self, context: &Context<'_>) -> bool {
        let change = self.underway.as_ref().map(|underway| &underway.change);
        change.is_some_and(|change| {
            change.node.as_ref().is_some_and(|node| context.is_lost(node))
                && self.seen.doubt(context.now).is_none()
                && !self.seen.taken().contains(&change.member)
        })
    }

    /// What people must hear of, as decisions that change nothing.
    fn say_told(&mut self, ids: &mut DecisionIds, context: &Context<'_>) -> Vec<Decision> {
        let told = std::mem::take(&mut self.news_told);
        let said = told.into_iter().map(|(member, what)| {
            let decision =
                self.non_act(DecisionKind::Hold, vec![Reason::Told { member, what }], ids, context);
            self.record.keep(decision.clone());
            decision
        });
        said.collect()
    }

    /// Puts away a change that is over.
    fn finish(&mut self, now: Time) {
        let Some(underway) = self.underway.take_if(|underway| underway.change.machine.is_over()) else {
            return;
        };
        let change = &underway.change;
        let took_ms = underway.joined.unwrap_or(now).since(change.began);
        let ended = change.machine.name();
        match (underway.direction, ended) {
            (Direction::Grow, "done") => self.joins = Retry::default(),
            (Direction::Shrink, "done") => self.leaves = Retry::default(),
            (Direction::Grow, "failed") => {
                self.failed_on.extend(change.node.clone());
                let why = format!(
                    "{}{}",
                    failure(change.machine),
                    change.trouble.as_ref().map_or(String::new(), |t| format!(" ({t})"))
                );
                self.news_told.push((change.member.clone(), why.clone()));
                self.joins.failed(why, now);
            }
            (Direction::Shrink, "failed") => {
                let why = failure(change.machine);
                self.news_told.push((change.member.clone(), why.clone()));
                self.leaves.failed(why, now);
            }
            (Direction::Shrink, _) => {
                let why = change.trouble.clone().unwrap_or_else(|| "it was taken back".to_owned());
                self.leaves.failed(why, now);
            }
            _ => {}
        }
        if ended == "done" {
            let busy = underway.price.seconds as f64 >= self.rates.fixed_s + self.rates.drain_s;
            self.rates.learn(
                underway.price.bytes,
                busy && underway.direction == Direction::Shrink,
                took_ms as f64 / 1e3,
            );
        }
        if underway.direction == Direction::Shrink && ended == "done" {
            self.own.retain(|task, _| change.task.as_ref() != Some(task));
        }
        if underway.direction == Direction::Shrink {
            self.stabiliser.changed(Direction::Shrink, now);
        }
        self.past.push_front(Past {
            member: underway.change.member,
            direction: underway.direction,
            ended,
            began: underway.change.began,
            took_ms,
            price: underway.price,
        });
        self.past.truncate(PAST_KEPT);
        self.news = true;
    }

    /// Processes that ended and that nothing needs any more: those of no member, unless a DataNode can be started again with its blocks.
    fn forget_ended(&mut self) {
        if self.own.values().all(|own| own.runs) {
            return;
        }
        let changing = self.underway.as_ref().and_then(|underway| underway.change.task.clone());
        let taken = self.seen.taken();
        let again = self.kind() == WorkloadKind::Hdfs && self.joins.failures < AGAIN;
        let known = self.seen.is_known();
        self.own.retain(|task, own| {
            own.runs || changing.as_ref() == Some(task) || again || !known || taken.contains(&own.member)
        });
    }

    fn assess(&self, wanted: u32, doubt: Option<Reason>, context: &Context<'_>) -> Assessment {
        let target = &self.workload.spec.target;
        let mut said = match self.kind() {
            WorkloadKind::Hdfs => {
                space::hdfs(self.seen.hdfs.as_ref().map(|seen| &seen.report), target, wanted)
            }
            WorkloadKind::Cassandra => space::ring(&self.seen.fresh_ring(context.now), target, wanted),
            _ => {
                let wait_ms = target.container_wait.map_or(0, |wait| wait.0);
                need::assess(
                    self.seen.yarn.as_ref().map(|seen| &seen.report),
                    &self.seen.means,
                    wanted,
                    wait_ms,
                )
            }
        };
        // On what may be old nothing is decided, more or fewer.
        if let Some(doubt) = doubt {
            said.need = wanted;
            said.grow.clear();
            said.frozen.insert(0, doubt);
        }
        said
    }

    fn judge(
        &mut self,
        doubt: Option<Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let spec = self.workload.spec.clone();
        let there = u32::try_from(self.members()).unwrap_or(u32::MAX);
        let blind = doubt.is_some();
        if self.wanted.is_none() && blind {
            let decision = self.non_act(DecisionKind::Hold, doubt.into_iter().collect(), ids, context);
            return self.record.say(&decision).then_some(decision);
        }
        let mut wanted = self.wanted.unwrap_or_else(|| there.clamp(spec.replicas.min, spec.replicas.max));
        // Whoever came beside is wanted: people start members, too. One that is to move, and the one that came in its place, count as one.
        let moving = u32::try_from(self.moving(context).len()).unwrap_or(u32::MAX);
        let staying = there.saturating_sub(moving);
        if self.underway.is_none() && !blind {
            wanted = wanted.max(staying.min(spec.replicas.max));
        }
        wanted = wanted.clamp(spec.replicas.min, spec.replicas.max);
        let said = self.assess(wanted, doubt, context);
        self.frozen = said.frozen.clone();
        let changing = self.underway.as_ref().and_then(|underway| {
            let state = format!("{} ({})", underway.change.machine.name(), underway.change.member);
            Some((underway.change.task.clone()?, state))
        });
        let held = self.held(context);
        let standing = Standing {
            spec: &spec,
            wanted,
            serving: there,
            ceiling: None,
            changing,
            held: held.clone(),
            hpa: None,
        };
        let mut decided = decide(&standing, &said, &mut self.stabiliser, &mut Hpa::default(), context.now);
        self.wanted = Some(wanted);
        let rests = decided.kind == DecisionKind::Hold && self.underway.is_none();
        if rests && staying > spec.replicas.max {
            let max = spec.replicas.max;
            (decided.kind, decided.to, decided.act) = (DecisionKind::ScaleIn, max, held.is_none());
            decided.reasons = held.iter().cloned().chain([Reason::AboveMax { have: there, max }]).collect();
        }
        let mut tasks = Vec::new();
        let amends = if self.underway.is_none() && held.is_none() { self.amend(context) } else { None };
        if blind {
            // Nothing begins on it.
        } else if rests && moving > 0 && amends.is_none() && (wanted..=spec.replicas.max + 1).contains(&there)
        {
            decided = self.move_away((there, wanted), held.as_ref(), &mut tasks, context);
        } else if let Some(plan) = amends {
            (decided.kind, decided.act, decided.to) = (DecisionKind::Replace, true, wanted);
            decided.reasons = self.missing.drain(..).collect();
            decided.reasons.push(plan.reason());
            tasks.push(plan.own.task.clone());
            self.begin(plan, false, context);
        } else if decided.kind == DecisionKind::ScaleIn {
            self.scale_in(&mut decided, held.is_none(), &mut tasks, context);
        } else {
            self.scale_out(&mut decided, there, held.as_ref(), &mut tasks, context);
        }
        if self.underway.is_none() && there >= self.wanted.unwrap_or(0) {
            self.missing.clear();
        }
        self.said = Some(said);
        self.keep_declined(&mut decided, context.now);
        if decided.reasons.is_empty() {
            return None;
        }
        let decision = self.decision(wanted, decided, tasks, ids, context);
        self.record.say(&decision).then_some(decision)
    }

    /// What was declined is not offered again for a while: it says that in place of the offer.
    fn keep_declined(&self, decided: &mut Decided, now: Time) {
        let Some(declined) = &self.declined else { return };
        let same = !decided.act && (decided.kind, decided.to) == (declined.kind, declined.to);
        if let Some(offer) =
            decided.reasons.first_mut().filter(|first| same && **first == Reason::RecommendOnly)
        {
            *offer = Reason::Declined { why: declined.why.clone(), left_ms: declined.until.since(now) };
        }
    }

    /// Takes a leave back if its machine still can.
    fn turn_back(&mut self, now: Time) -> bool {
        let back = self.underway.as_ref().is_some_and(|underway| {
            matches!(
                underway.change.machine,
                Machine::Yarn(yarn::State::Excluding { .. } | yarn::State::Draining { .. })
                    | Machine::Hdfs(hdfs::State::Listing { .. } | hdfs::State::Copying { .. })
                    | Machine::Cassandra(cassandra::State::Asking { again: false, .. })
            )
        });
        if back {
            self.take_back(now);
        }
        back
    }

    /// Lets a member leave when every gate is open.
    fn scale_in(
        &mut self,
        decided: &mut Decided,
        may: bool,
        tasks: &mut Vec<TaskName>,
        context: &Context<'_>,
    ) {
        match self.leave(|_| true, context) {
            Ok(plan) => {
                let may = may && std::mem::replace(&mut decided.act, false);
                self.let_begin(plan, decided, may, tasks, context);
                if decided.act {
                    self.wanted = Some(decided.to);
                    self.stabiliser.changed(Direction::Shrink, context.now);
                }
            }
            Err(closed) => {
                decided
                    .alternatives
                    .extend(closed.iter().map(|why| Alternative { replicas: decided.to, why: why.clone() }));
                decided.binding = closed.first().cloned();
                let first = closed.into_iter().next();
                let at = usize::from(!may).min(decided.reasons.len());
                decided.reasons.splice(at..at, first);
                (decided.kind, decided.act) = (DecisionKind::Hold, false);
                decided.to = self.wanted.unwrap_or(decided.to);
            }
        }
    }

    /// Lets the next member come, when more are wanted than are there or come.
    fn scale_out(
        &mut self,
        decided: &mut Decided,
        there: u32,
        held: Option<&Reason>,
        tasks: &mut Vec<TaskName>,
        context: &Context<'_>,
    ) {
        let grows = decided.kind == DecisionKind::ScaleOut;
        // It is done as far as something begins.
        decided.act = false;
        if grows && held.is_none() && self.grows() {
            // One comes already; the others follow it.
            decided.act = true;
            self.wanted = Some(decided.to);
            self.stabiliser.changed(Direction::Grow, context.now);
        } else if grows && held.is_none() && self.leaves() {
            // Growing beats shrinking, while there is a way back.
            if self.turn_back(context.now) {
                (decided.kind, decided.act) = (DecisionKind::CancelDrain, true);
            }
        }
        if self.underway.is_some() || there >= decided.to {
            return;
        }
        if !grows {
            self.repair(decided, there, held);
        }
        self.try_next(self.join(context), decided, held.is_none(), tasks, context);
        if decided.act && grows {
            self.wanted = Some(decided.to);
            self.stabiliser.changed(Direction::Grow, context.now);
        }
    }

    /// Fewer are there than wanted although nothing new was wished.
    fn repair(&self, decided: &mut Decided, there: u32, held: Option<&Reason>) {
        let min = self.workload.spec.replicas.min;
        decided.kind = if self.missing.is_empty() { DecisionKind::ScaleOut } else { DecisionKind::Replace };
        decided.reasons = held.cloned().into_iter().chain(self.missing.clone()).collect();
        if there < min || self.missing.is_empty() {
            decided.reasons.push(Reason::BelowMin { have: there, min: decided.to.max(min) });
        }
    }

    fn non_act(
        &self,
        kind: DecisionKind,
        reasons: Vec<Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Decision {
        let to = self.wanted.unwrap_or(0);
        let decided = Decided { kind, to, act: false, reasons, binding: None, alternatives: Vec::new() };
        self.decision(to, decided, Vec::new(), ids, context)
    }

    pub(super) fn decision(
        &self,
        before: u32,
        decided: Decided,
        tasks: Vec<TaskName>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Decision {
        let inputs = Inputs {
            spec: &self.workload,
            yarn: self.seen.yarn.as_ref().map(|seen| &seen.report),
            hdfs: self.seen.hdfs.as_ref().map(|seen| &seen.report),
            ring: self.seen.ring.values().map(|known| &known.report).collect(),
            wanted: before,
            own: self.own.values().collect(),
            change: self.underway.as_ref().map(|underway| underway.change.machine),
            failures: (self.joins.failures, self.leaves.failures),
        };
        let moves = decided.act && decided.to != before;
        let after_ms =
            self.underway.as_ref().map_or(0, |underway| underway.price.seconds.saturating_mul(1_000));
        let said = self.said.as_ref();
        let predicted = said.filter(|_| moves).map(|said| Prediction {
            after_ms,
            utilisation: said.utilisation * f64::from(before.max(1)) / f64::from(decided.to.max(1)),
            load: said.ahead,
        });
        let workload = &self.workload;
        ids.decision(decided, Grounds { workload, before, tasks, said, predicted, inputs }, context.now)
    }

    /// Names of members that are there and were not started here.
    pub(super) fn found(&self) -> BTreeSet<String> {
        let ours: BTreeSet<&String> = self.own.values().map(|own| &own.member).collect();
        self.seen.there().into_iter().filter(|member| !ours.contains(member)).collect()
    }
}

fn failure(machine: Machine) -> String {
    match machine {
        Machine::Yarn(yarn::State::Failed { why, .. }) => why.to_string(),
        Machine::Hdfs(hdfs::State::Failed { why, .. }) => why.to_string(),
        Machine::Cassandra(cassandra::State::Failed { why, .. }) => why.to_string(),
        _ => String::new(),
    }
}
