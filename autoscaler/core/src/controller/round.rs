//! One round of one workload: look, judge, change, and say what was done or not and why.

use std::collections::BTreeSet;

use model::decision::{Alternative, Decision, DecisionKind, Prediction};
use model::id::TaskName;
use model::reason::{Direction, Reason};
use model::workload::{Policy, Target};
use serde::Serialize;

use super::{Context, Controller};
use crate::assess::Assessment;
use crate::check::Change;
use crate::decide::{Decided, Standing, decide};
use crate::event::{Digest, Followed, Time};
use crate::hpa::{self, Pod};
use crate::place::Link;
use crate::record::{DecisionIds, Grounds};
use crate::replica::State;
use crate::{rails, resize, service};

/// Learning rate of the efficiency, per round: a mistake is halved in about half a minute.
const LEARN: f64 = 0.02;

/// Everything that goes into a decision, for its hash.
#[derive(Serialize)]
struct Inputs<'a> {
    spec: &'a model::workload::Workload,
    digest: Option<&'a Digest>,
    wanted: u32,
    replicas: Vec<(&'a TaskName, State)>,
    expected: Option<f64>,
    upper: Option<f64>,
    efficiency: f64,
    failures: u32,
}

impl Controller {
    /// Does one round. Decisions that only repeat the last non-act are left out.
    pub(crate) fn round(
        &mut self,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> (Vec<Decision>, Vec<Followed>) {
        if !self.in_force {
            self.pass(context);
            return (Vec::new(), Vec::new());
        }
        let mut decisions = Vec::new();
        let failing = self.pass(context);
        let held = self.held(context);
        decisions.extend(self.cancel_drains(failing, held.as_ref(), ids, context));
        let wanted = self.wanted;
        let decided = if self.digest_new { Some(self.judge(held.clone(), context)) } else { None };
        let followed = if self.digest_new { self.followed(context.now) } else { Vec::new() };
        self.digest_new = false;
        decisions.extend(self.settle(wanted, decided, held.as_ref(), ids, context));
        let still = !self.replicas.values().any(|r| r.state.rises() || r.state.leaves());
        decisions.extend(self.size_decisions(still, ids, context));
        (decisions, followed)
    }

    /// A survivor that fails its checks, or a pause: what drains takes requests again.
    fn cancel_drains(
        &mut self,
        failing: Vec<(TaskName, String)>,
        held: Option<&Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let paused = held.filter(|reason| matches!(reason, Reason::Paused { .. })).cloned();
        let failing = failing.into_iter().next();
        let why = failing.map(|(task, check)| Reason::SurvivorFailing { task, check }).or(paused)?;
        let take_back =
            self.names(|r| matches!(r.state, State::Draining { .. }) && !self.is_drained(&r.node, context));
        let take_back: Vec<TaskName> = take_back.into_iter().collect();
        if take_back.is_empty() {
            return None;
        }
        let before = self.wanted;
        let change = Change { take_back: take_back.clone(), ..Change::default() };
        self.carry_out(&change, true, context).ok()?;
        self.wanted = self.number(|r| r.state.counts()).min(self.workload.spec.replicas.max);
        self.stabiliser.changed(Direction::Grow, context.now);
        let decided = Decided {
            kind: DecisionKind::CancelDrain,
            to: self.wanted,
            act: true,
            reasons: vec![why],
            binding: None,
            alternatives: Vec::new(),
        };
        let decision = self.record(before, decided, take_back, ids, context);
        self.record.say(&decision).then_some(decision)
    }

    /// Looks at this round's numbers and decides how many replicas are wanted.
    fn judge(&mut self, held: Option<Reason>, context: &Context<'_>) -> Decided {
        let serving = self.names(|r| r.state.serves());
        let mut said = self.assess(&serving, context);
        said.frozen.extend(self.frozen_by(context));
        self.frozen = said.frozen.clone();
        let spec = self.workload.spec.clone();
        let changing = self.replicas.values().find(|r| r.state.rises() || r.state.leaves());
        let changing = changing.map(|r| (r.task.clone(), r.state.name().to_owned()));
        let failing = self.failing_survivors().into_iter().next();
        let changing =
            changing.or(failing.map(|(task, check)| (task, format!("failing its check ({check})"))));
        // One of the two moves at a time; growing is never kept waiting.
        let changing = changing.or_else(|| match &self.resize {
            resize::State::Steady => None,
            state => Some((
                self.replicas.keys().next()?.clone(),
                format!("getting another size ({})", state.name()),
            )),
        });
        let counting = self.number(|r| r.state.counts());
        let ceiling = spec.rails.as_ref().and_then(|rails| {
            let leaving = self.processes().saturating_sub(counting);
            let ceiling = rails::ceiling(rails)?.saturating_sub(leaving);
            Some((ceiling, rails::ceiling_reason(rails, self.processes().max(ceiling))?))
        });
        let standing = Standing {
            spec: &spec,
            wanted: self.wanted,
            serving: u32::try_from(serving.len()).unwrap_or(u32::MAX),
            ceiling,
            changing,
            held,
            hpa: (spec.policy == Policy::Hpa).then(|| self.hpa_desires(&spec.target)),
        };
        let decided = decide(&standing, &said, &mut self.stabiliser, &mut self.hpa, context.now);
        self.learn(serving.len(), context);
        self.said = Some(said);
        decided
    }

    fn assess(&self, serving: &BTreeSet<TaskName>, context: &Context<'_>) -> Assessment {
        let spec = &self.workload.spec;
        let stale_ms = Self::stale_ms(context.config);
        let ahead_ms = self.ready_ms as u64;
        let Some(digest) = &self.digest else { return Assessment::blind(self.wanted, Vec::new()) };
        if self.balanced() {
            return rails::assess(&rails::Round {
                spec,
                digest,
                load: &self.load,
                capacity: &self.capacity,
                ahead: self.forecast.upper(),
                ahead_ms,
                serving,
                wanted: self.wanted,
                stale_ms,
            });
        }
        let ahead = self.forecast.upper().map(|upper| (upper, ahead_ms));
        service::assess(spec, digest, &self.load, ahead, serving, self.wanted, stale_ms)
    }

    /// What beside the age of the numbers keeps it from shrinking.
    fn frozen_by(&self, context: &Context<'_>) -> Option<Reason> {
        if let Some((node, kind, until)) = &self.gap
            && *until > context.now
        {
            let left_ms = until.since(context.now);
            return Some(Reason::DataGap { node: node.clone(), kind: *kind, left_ms });
        }
        self.replicas.values().filter(|r| r.state.counts()).find_map(|replica| {
            match context.nodes.get(&replica.node).map(|node| node.link) {
                Some(Link::Up) => None,
                Some(Link::Awaited { since }) => {
                    let left_ms = since.after(context.config.reconnect_ms).since(context.now);
                    Some(Reason::NodeAwaited { node: replica.node.clone(), left_ms })
                }
                _ => Some(Reason::NodeAwaited { node: replica.node.clone(), left_ms: 0 }),
            }
        })
    }

    fn hpa_desires(&self, target: &Target) -> u32 {
        let spec = &self.workload.spec;
        let used = self.digest.as_ref().map(|d| rails::usage(&d.replicas)).unwrap_or_default();
        let counting = self.replicas.values().filter(|r| r.state.counts());
        let pods: Vec<Pod> = counting
            .map(|r| Pod {
                usage: used.get(&r.task).copied().flatten(),
                request: service::cores(spec),
                ready: r.state.serves(),
            })
            .collect();
        let delay = spec.target.queue_delay_p95.zip(self.load.delay_p95_ms());
        match (target.cpu, delay) {
            (Some(share), _) => hpa::by_resource(&pods, self.wanted, share.0),
            (None, Some((target, p95))) => {
                let ready = u32::try_from(pods.iter().filter(|p| p.ready).count()).unwrap_or(u32::MAX);
                hpa::by_value(p95, target.0.max(1) as f64, ready, self.wanted)
            }
            (None, None) => self.wanted,
        }
    }

    /// What followed from earlier decisions; nothing while there are no fresh numbers.
    fn followed(&mut self, now: Time) -> Vec<Followed> {
        let serving = self.number(|r| r.state.serves());
        let Some(said) = self.said.as_ref().filter(|said| said.frozen.is_empty()) else { return Vec::new() };
        self.record.followed(&self.workload.name, (said.utilisation, said.load, serving), now)
    }

    fn learn(&mut self, serving: usize, context: &Context<'_>) {
        let fresh = self.balancer().is_some_and(|b| b.age_ms <= Self::stale_ms(context.config));
        let rising = self.replicas.values().any(|r| matches!(r.state, State::Settle { .. }));
        let (Some(rate), Some(p95_ms)) = (self.load.rate(), self.load.delay_p95_ms()) else { return };
        if fresh && !rising && serving > 0 {
            let target = rails::target_ms(&self.workload.spec);
            let serving = u32::try_from(serving).unwrap_or(u32::MAX);
            self.capacity.learn(serving, rate, self.load.work(), p95_ms, target, LEARN);
        }
    }

    /// Sets what is wanted, brings about what is missing, and records it.
    fn settle(
        &mut self,
        before: u32,
        decided: Option<Decided>,
        held: Option<&Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let bounds = self.workload.spec.replicas;
        let old = self.wanted;
        if held.is_none() {
            self.wanted = decided.as_ref().filter(|d| d.act).map_or(old, |d| d.to);
            self.wanted = self.wanted.clamp(bounds.min, bounds.max);
        }
        let (change, short) = self.plan(context);
        let mut decided = decided.unwrap_or_else(|| Decided {
            kind: DecisionKind::Hold,
            to: self.wanted,
            act: false,
            reasons: Vec::new(),
            binding: None,
            alternatives: Vec::new(),
        });
        let have = self.number(|r| r.state.counts());
        let moving = self.why_moving(context).filter(|_| decided.kind == DecisionKind::Hold);
        if let Some(moving) = moving.filter(|_| have >= self.wanted) {
            decided.kind = DecisionKind::Move;
            (decided.to, decided.act) = (self.wanted, !change.is_empty());
            decided.reasons = vec![moving];
        } else if decided.kind == DecisionKind::Hold && (have != self.wanted || self.wanted != old) {
            self.repair(have, bounds, &mut decided);
        }
        if let Some(short) = short {
            decided.reasons.push(short.clone());
            decided.binding = Some(short);
            decided.act &= !change.is_empty();
        }
        let mut tasks: Vec<TaskName> = Vec::new();
        if held.is_none() && !change.is_empty() {
            let names = change.start.iter().map(|(task, _, _)| task);
            tasks = names.chain(&change.take_back).chain(&change.leave).cloned().collect();
            if let Err(refused) = self.carry_out(&change, true, context) {
                self.wanted = old.clamp(bounds.min, bounds.max);
                let why = refused.clone();
                decided.alternatives.push(Alternative { replicas: decided.to, why });
                decided.reasons.insert(0, refused);
                (decided.act, decided.kind, decided.to) = (false, DecisionKind::Hold, self.wanted);
                tasks.clear();
            } else {
                let grows = change.leave.is_empty();
                let direction = if grows { Direction::Grow } else { Direction::Shrink };
                // Replacing what was lost is no change of size: it starts no cool-down.
                if self.wanted != old {
                    self.stabiliser.changed(direction, context.now);
                }
                decided.act = true;
                let replaced = tasks.len().min(self.missing.len());
                self.missing.drain(..replaced);
            }
        }
        if let Some(held) = held
            && decided.reasons.first() != Some(held)
            && !decided.reasons.is_empty()
        {
            decided.reasons.insert(0, held.clone());
            decided.act = false;
        }
        if self.number(|r| r.state.counts()) >= self.wanted {
            self.missing.clear();
        }
        if decided.reasons.is_empty() {
            return None;
        }
        let decision = self.record(before, decided, tasks, ids, context);
        self.record.say(&decision).then_some(decision)
    }

    /// Fewer or more are there than wanted although nothing new was wished.
    fn repair(&mut self, have: u32, bounds: model::workload::Replicas, decided: &mut Decided) {
        decided.to = self.wanted;
        decided.act = true;
        if have < self.wanted {
            decided.kind = DecisionKind::Replace;
            decided.reasons = self.missing.clone();
            if have < bounds.min {
                decided.reasons.push(Reason::BelowMin { have, min: bounds.min });
            }
            if decided.reasons.is_empty() {
                decided.kind = DecisionKind::ScaleOut;
                decided.reasons.push(Reason::BelowMin { have, min: self.wanted });
            } else if self.missing.is_empty() {
                decided.kind = DecisionKind::ScaleOut;
            }
        } else if have > self.wanted {
            decided.kind = DecisionKind::ScaleIn;
            decided.reasons = vec![Reason::AboveMax { have, max: bounds.max }];
        }
    }

    pub(super) fn record(
        &mut self,
        before: u32,
        decided: Decided,
        tasks: Vec<TaskName>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Decision {
        let inputs = Inputs {
            spec: &self.workload,
            digest: self.digest.as_ref(),
            wanted: before,
            replicas: self.replicas.values().map(|r| (&r.task, r.state)).collect(),
            expected: self.forecast.expected(),
            upper: self.forecast.upper(),
            efficiency: self.capacity.efficiency,
            failures: self.failures,
        };
        let said = self.said.as_ref();
        let predicted = said.map(|said| Prediction {
            after_ms: self.ready_ms as u64,
            utilisation: said.survivors(before, before.saturating_sub(decided.to))
                * f64::from(before.min(decided.to).max(1))
                / f64::from(decided.to.max(1)),
            load: said.ahead,
        });
        let workload = &self.workload;
        ids.decision(decided, Grounds { workload, before, tasks, said, predicted, inputs }, context.now)
    }
}
