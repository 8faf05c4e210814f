//! The size of a replica: recommended when it differs from what is given and the number of replicas stands still; with
//! `size.mode: apply` also set, on one replica first ([`crate::resize`]).

use model::action::{Command, Size, Verb};
use model::decision::{Decision, DecisionKind};
use model::id::{NodeId, TaskName};
use model::reason::{Reason, Resource};
use model::units::{Bytes, MilliCpu};
use model::workload::{Mode, SizeMode};

use super::{Context, Controller};
use crate::check::{self, Findings, SizeChange};
use crate::decide::Decided;
use crate::event::{Digest, Time};
use crate::joint;
use crate::place::Link;
use crate::record::DecisionIds;
use crate::resize::{self, Effect, Event, State};
use crate::rollout::{ANSWER_MS, Fence, Issue, Resized, command};
use crate::view::{Amounts, Anomaly, SizeAdvice};

/// Longest time between two samples of a replica, ms: the VPA's recommender counts one a minute.
const SAMPLE_MS: u64 = 60_000;
/// Samples that the asked-for history is made of at least.
const SAMPLES: u64 = 20;

impl Controller {
    /// Limits that every replica has when no change is under way.
    pub(super) fn size_in_force(&self) -> Size {
        let size = self.workload.spec.size;
        Size {
            cpu_max_millis: size.cpu.map(|cpu| cpu.0),
            memory_max_bytes: size.memory.map(|memory| memory.0),
            ..Size::default()
        }
    }

    /// From now on replicas are given this; the specification keeps what its owner asked for.
    pub(super) fn put_in_force(&mut self, size: Size) {
        let given = &mut self.workload.spec.size;
        given.cpu = size.cpu_max_millis.map(MilliCpu);
        given.memory = size.memory_max_bytes.map(Bytes);
        self.capacity.cores = given.cpu.map(|cpu| f64::from(cpu.0) / 1_000.0);
    }

    /// Takes this round's use of each replica: samples for the recommendation, and a look at a size that is new.
    pub(super) fn size_seen(&mut self, digest: &Digest, stale_ms: u64, now: Time) {
        let mut killed = None;
        for replica in &digest.replicas {
            let kills = replica.oom_kills.unwrap_or(0);
            let before = self.oom_kills.insert(replica.task.clone(), kills);
            if let Some(before) = before
                && kills > before
            {
                killed = Some(replica.task.clone());
                if let Some(bytes) = replica.memory_bytes {
                    self.sizes.oom(bytes as f64, now.0);
                }
            }
        }
        self.oom_kills.retain(|task, _| digest.replicas.iter().any(|r| r.task == *task));
        self.look(digest, killed, stale_ms, now);
        let sample_ms = (self.workload.spec.size.after.0 / SAMPLES).min(SAMPLE_MS);
        if now.since(self.sized_at) < sample_ms {
            return;
        }
        self.sized_at = now;
        let request = crate::service::cores(&self.workload.spec);
        for replica in &digest.replicas {
            // A start is no use of the size: it has its own quota, or none.
            let up = self
                .replicas
                .get(&replica.task)
                .is_some_and(|r| matches!(r.state, crate::replica::State::Up { .. }));
            if let Some(cores) = replica.cpu_cores.filter(|cores| up && cores.is_finite()) {
                self.sizes.cpu(cores.max(0.0), request, now.0);
            }
            if let Some(bytes) = replica.memory_bytes {
                self.sizes.memory(bytes as f64, now.0);
            }
        }
    }

    /// Looks at the replicas that have a new size.
    fn look(&mut self, digest: &Digest, killed: Option<TaskName>, stale_ms: u64, now: Time) {
        let (from, to, of) = match &self.resize {
            State::Canary { task, from, to, applied: true, .. } => (*from, *to, Some(task.clone())),
            State::Spreading { from, to, .. } => (*from, *to, None),
            _ => return,
        };
        if let Some(killed) = killed.filter(|killed| of.as_ref().is_none_or(|task| task == killed)) {
            return self.resize_event(Event::Broke(format!("{killed} was killed for lack of memory")), now);
        }
        let ms = now.since(self.looked_at.max(self.digest_at));
        self.looked_at = now;
        let judged = digest.replicas.iter().filter(|r| {
            let has = self.replicas.get(&r.task).is_some_and(|known| known.given == Some(to));
            has && of.as_ref().is_none_or(|task| *task == r.task)
        });
        // Data that is not fresh neither proves nor refutes.
        let fresh: Vec<_> = judged.filter(|r| r.age_ms.is_some_and(|age| age <= stale_ms)).collect();
        if fresh.is_empty() {
            return;
        }
        let mut fault = fresh.into_iter().find_map(|replica| resize::fault(replica, from, to));
        let target = crate::rails::target_ms(&self.workload.spec);
        if self.balanced()
            && resize::lowers(from, to)
            && let Some(p95_ms) = self.load.delay_p95_ms().filter(|p95_ms| *p95_ms > target)
        {
            fault =
                fault.or(Some(format!("requests wait up to {p95_ms:.0} ms, the target is {target:.0} ms")));
        }
        self.resize_event(Event::Looked { ms, fault }, now);
    }

    /// Tells the change of size what happened, and takes in what follows.
    pub(super) fn resize_event(&mut self, event: Event, now: Time) {
        let verify_ms = self.workload.spec.size.verify.0;
        let before = std::mem::take(&mut self.resize);
        let (state, effects) = before.clone().on(event, verify_ms, now);
        self.resize = state;
        for effect in effects {
            match effect {
                Effect::Spread => {
                    if let State::Spreading { to, .. } = self.resize {
                        self.put_in_force(to);
                    }
                    self.size_news.push(before.clone());
                }
                Effect::Return(why) => {
                    if let State::Returning { to, .. } = self.resize {
                        self.put_in_force(to);
                    }
                    self.size_hold = Some((now.after(resize::HOLD_MS), why));
                    self.size_news.push(before.clone());
                }
                Effect::Settled | Effect::Returned => {}
                Effect::Anomaly => {
                    let task = match &before {
                        State::Canary { task, .. } => Some(task.clone()),
                        _ => self.replicas.keys().next().cloned(),
                    };
                    let what = format!("a change of size while another is {}", before.name());
                    self.anomalies.extend(task.map(|task| Anomaly { at: now, task, what }));
                }
            }
        }
    }

    /// What time and the replicas' own states mean for a change of size.
    pub(super) fn size_pass(&mut self, now: Time) {
        let ticked: Vec<_> = self
            .replicas
            .iter_mut()
            .filter_map(|(task, replica)| Some((task.clone(), replica.resize_tick(now)?)))
            .collect();
        for (task, resized) in ticked {
            self.resize_answer(&task, &resized, now);
        }
        if let State::Canary { task, .. } = &self.resize {
            let event = match self.replicas.get(task).map(|replica| replica.state) {
                Some(state) if state.serves() => None,
                Some(state) if state.leaves() => Some(Event::Withdrawn),
                Some(_) => Some(Event::Broke(format!("{task} takes no requests any more"))),
                None => Some(Event::Broke(format!("{task} is gone"))),
            };
            if let Some(event) = event {
                self.resize_event(event, now);
            }
        }
        if self.resize != State::Steady {
            let in_force = self.size_in_force();
            let all = self.replicas.values().filter(|r| r.state.serves());
            let applied = match &self.resize {
                State::Canary { task, to, .. } => {
                    self.replicas.get(task).is_some_and(|replica| replica.given == Some(*to))
                }
                state => all.clone().all(|r| r.given == Some(state.wants(&r.task, in_force))),
            };
            if applied {
                self.resize_event(Event::Applied, now);
            }
            self.resize_event(Event::Tick, now);
        }
    }

    /// An agent answered about limits, or did not.
    pub(super) fn resize_answer(&mut self, task: &TaskName, resized: &Resized, now: Time) {
        if let Resized::GaveUp(why) = resized {
            self.resize_event(Event::Broke(format!("{task} could not be given it: {why}")), now);
        }
    }

    /// Limits that must be sent now. Only a workload whose sizes are applied has any.
    pub(super) fn resizes(&mut self, fence: &mut Fence, context: &Context<'_>) -> Vec<(NodeId, Command)> {
        let mut commands = Vec::new();
        if self.workload.spec.size.mode != SizeMode::Apply {
            return commands;
        }
        let in_force = self.size_in_force();
        for replica in self.replicas.values_mut() {
            let wanted = self.resize.wants(&replica.task, in_force);
            let there = context.nodes.get(&replica.node).is_some_and(|node| node.link == Link::Up);
            if there && wanted != Size::default() && replica.resize_due(wanted, context.now) {
                let issue = Issue {
                    to: replica.node.clone(),
                    verb: Verb::Resize { size: wanted },
                    within_ms: ANSWER_MS,
                };
                let generation = &mut self.generation;
                commands.push(command(fence, generation, &self.workload.name, replica, issue, context.now));
            }
        }
        commands
    }

    /// Another size, recommended or begun, or what became of the one that is on its way.
    pub(super) fn size_decisions(
        &mut self,
        still: bool,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Vec<Decision> {
        self.size_pass(context.now);
        let news = std::mem::take(&mut self.size_news);
        let mut decisions: Vec<Decision> =
            news.iter().map(|before| self.size_outcome(before, ids, context)).collect();
        if self.resize == State::Steady {
            decisions.extend(self.size_decision(still, ids, context));
        }
        decisions
    }

    /// The record of a canary that held, or of a change that was taken back.
    fn size_outcome(&mut self, before: &State, ids: &mut DecisionIds, context: &Context<'_>) -> Decision {
        let serving: Vec<TaskName> = self.names(|r| r.state.serves()).into_iter().collect();
        let (reasons, tasks) = match (before, &self.size_hold) {
            (State::Canary { task, good_ms, .. }, _) if matches!(self.resize, State::Spreading { .. }) => {
                let rest = serving.into_iter().filter(|other| other != task).collect();
                (vec![Reason::SizeVerified { held_ms: *good_ms }], rest)
            }
            (_, hold) => {
                let why = hold.as_ref().map_or_else(String::new, |(_, why)| why.clone());
                (vec![Reason::SizeReturned { why, hold_ms: resize::HOLD_MS }], serving)
            }
        };
        let size = self.size_in_force();
        self.record_size(size, tasks, true, reasons, ids, context)
    }

    /// What the replicas' own use says of their size.
    pub(super) fn size_advice(&self) -> Option<SizeAdvice> {
        let said = self.sizes.recommend()?;
        let of = |(cores, bytes): (f64, f64)| Amounts {
            cpu_millis: (cores * 1e3).ceil() as u32,
            memory_bytes: bytes.ceil() as u64,
        };
        let (target, high) = (of(said.target), of(said.upper));
        let memory_bytes = self.least_memory(target.memory_bytes);
        Some(SizeAdvice {
            size: Amounts { memory_bytes, ..target },
            low: of(said.lower),
            high: Amounts { memory_bytes: high.memory_bytes.max(memory_bytes), ..high },
            history_ms: self.sizes.history_ms(),
            after_ms: self.workload.spec.size.after.0,
        })
    }

    /// A recommendation of another size, said once until it changes; or its first step, when sizes are applied.
    fn size_decision(
        &mut self,
        still: bool,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        let said = self.size_advice()?;
        let from = self.size_in_force();
        let given =
            [(Resource::Cpu, from.cpu_max_millis.map(u64::from)), (Resource::Memory, from.memory_max_bytes)];
        let recommended = [u64::from(said.size.cpu_millis), said.size.memory_bytes];
        let ready = said.history_ms >= said.after_ms;
        let changes = joint::sizes(still && ready, given, recommended);
        let first = changes.first()?;
        let reasons: Vec<Reason> = changes
            .iter()
            .map(|c| Reason::SizeDiffers { resource: c.resource, given: c.given, recommended: c.recommended })
            .collect();
        let of = |resource| changes.iter().find(|c| c.resource == resource).map(|c| c.recommended);
        let wanted = Size {
            cpu_max_millis: of(Resource::Cpu).and_then(|n| u32::try_from(n).ok()),
            memory_max_bytes: of(Resource::Memory),
            ..Size::default()
        };
        if self.workload.spec.size.mode == SizeMode::Apply
            && self.workload.spec.mode == Mode::Auto
            && self.held(context).is_none()
        {
            return self.begin(from, wanted, reasons, ids, context);
        }
        let near = |old: u64| (first.recommended as f64 / old.max(1) as f64 - 1.0).abs() <= joint::BAND;
        if self.size_said.is_some_and(near) {
            return None;
        }
        self.size_said = Some(first.recommended);
        let held = self.held(context).unwrap_or(Reason::RecommendOnly);
        let tasks: Vec<TaskName> = self.names(|r| r.state.serves()).into_iter().collect();
        Some(self.record_size(wanted, tasks, false, [vec![held], reasons].concat(), ids, context))
    }

    /// Begins with one replica: the newest, which would leave first anyway.
    fn begin(
        &mut self,
        from: Size,
        wanted: Size,
        mut reasons: Vec<Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Option<Decision> {
        if self.size_hold.as_ref().is_some_and(|(until, _)| context.now < *until) {
            return None;
        }
        let (to, limited) = resize::step(from, self.within_nodes(wanted, context));
        let settled = self.replicas.values().all(|r| !r.state.serves() || r.given == Some(from));
        if to == from || !settled || (resize::lowers(from, to) && !self.frozen.is_empty()) {
            return None;
        }
        let canary =
            self.replicas.values().filter(|r| r.state.serves()).max_by_key(|r| r.number)?.task.clone();
        if limited {
            let steps = [
                (Resource::Cpu, to.cpu_max_millis.map(u64::from), wanted.cpu_max_millis.map(u64::from)),
                (Resource::Memory, to.memory_max_bytes, wanted.memory_max_bytes),
            ];
            reasons.extend(steps.into_iter().filter_map(|(resource, to, recommended)| {
                let (to, recommended) = to.zip(recommended).filter(|(to, recommended)| to != recommended)?;
                Some(Reason::SizeStep { resource, to, recommended })
            }));
        }
        let change = SizeChange {
            from,
            to,
            tasks: 1,
            verified: false,
            fresh: self.frozen.is_empty(),
            may_act: self.held(context).is_none(),
        };
        let findings = check::size(&change);
        if !findings.is_empty() {
            let finding = Findings(&findings).to_string();
            return Some(self.record_size(
                to,
                vec![],
                false,
                vec![Reason::PlanRefused { finding }],
                ids,
                context,
            ));
        }
        let verify_ms = self.workload.spec.size.verify.0;
        reasons.push(Reason::SizeCanary { task: canary.clone(), verify_ms });
        self.looked_at = context.now;
        self.resize_event(Event::Proposed { task: canary.clone(), from, to }, context.now);
        Some(self.record_size(to, vec![canary], true, reasons, ids, context))
    }

    /// A memory limit stays above what is in use.
    fn least_memory(&self, recommended: u64) -> u64 {
        let used = self.digest.iter().flat_map(|d| &d.replicas).filter_map(|r| r.memory_bytes).max();
        recommended.max(used.map_or(0, |used| (used as f64 * (1.0 + resize::MEMORY_ROOM)) as u64))
    }

    /// No more than the smallest node that runs a replica has.
    fn within_nodes(&self, wanted: Size, context: &Context<'_>) -> Size {
        let nodes = || self.replicas.values().filter_map(|r| context.nodes.get(&r.node)?.inventory.as_ref());
        let cpus = nodes().map(|node| node.cpus.saturating_mul(1_000)).min();
        let memory = nodes().map(|node| node.memory_bytes).min();
        let least = |a: Option<u64>, b: Option<u64>| a.map(|a| b.map_or(a, |b| a.min(b)));
        Size {
            cpu_max_millis: least(wanted.cpu_max_millis.map(u64::from), cpus.map(u64::from))
                .and_then(|n| u32::try_from(n).ok()),
            memory_max_bytes: least(wanted.memory_max_bytes, memory),
            ..wanted
        }
    }

    fn record_size(
        &mut self,
        size: Size,
        tasks: Vec<TaskName>,
        act: bool,
        reasons: Vec<Reason>,
        ids: &mut DecisionIds,
        context: &Context<'_>,
    ) -> Decision {
        let decided = Decided {
            kind: DecisionKind::Resize,
            to: self.wanted,
            act,
            reasons,
            binding: None,
            alternatives: Vec::new(),
        };
        let mut decision = self.record(self.wanted, decided, tasks, ids, context);
        decision.size = Some(size);
        self.record.keep(decision.clone());
        decision
    }
}
