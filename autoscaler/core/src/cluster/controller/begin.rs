//! Which member comes or goes next, and what keeps it from that.

use std::collections::{BTreeMap, BTreeSet};

use model::cassandra::CassandraMode;
use model::id::{LauncherName, NodeId, TaskName};
use model::reason::{Direction, Reason};
use model::workload::{ClusterSpec, WorkloadKind};
use model::yarn::YarnState;

use super::seen::STALE_MS;
use super::{Controller, Own, Underway};
use crate::cluster::change::{Change, Machine};
use crate::cluster::gate::{self, Gate};
use crate::cluster::price::{self, Price};
use crate::cluster::{cassandra, hdfs, yarn};
use crate::controller::Context;
use crate::decide::Decided;
use crate::place::{Node, choose};

/// A change that could begin.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) own: Own,
    pub(super) direction: Direction,
    pub(super) price: Price,
    /// Which part of a change it is.
    pub(super) how: How,
}

impl Plan {
    /// What it costs, or that it costs nothing.
    pub(super) fn reason(&self) -> Reason {
        let (member, price) = (self.own.member.clone(), &self.price);
        match self.how {
            How::Sweeps => Reason::Told { member, what: "it has left, and its process is ended".to_owned() },
            How::Whole | How::Mends => {
                Reason::Price { member, seconds: price.seconds, bytes: price.bytes, risk: price.risk.clone() }
            }
        }
    }
}

/// Where a change begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// At its beginning.
    Whole,
    /// A member of a ring whose process ended: it is started again with its data.
    Mends,
    /// One that has left a ring, and whose process is still there: it is ended.
    Sweeps,
}

impl Controller {
    /// The member to leave, of those of whom `who` is true, with what it costs; `Err` says what keeps each from it.
    pub(super) fn leave(
        &self,
        who: impl Fn(&Own) -> bool,
        context: &Context<'_>,
    ) -> Result<Plan, Vec<Reason>> {
        if self.cluster().is_none_or(|spec| spec.launcher.is_none()) {
            return Err(vec![Reason::NoLauncher]);
        }
        if let Some(left_ms) = self.leaves.left_ms(context.now) {
            let (why, left_s) = (&self.leaves.why, left_ms.div_ceil(1_000));
            let why = format!("the last one that was to leave stayed ({why}); the next try is in {left_s} s");
            return Err(vec![Reason::Gate { member: String::new(), why }]);
        }
        let there = self.there();
        let mut ours: Vec<&Own> =
            self.own.values().filter(|own| own.runs && there.contains(&own.member) && who(own)).collect();
        let moving = self.moving(context);
        // Whose node is to be empty first, then what is least to move, and of those the newest.
        ours.sort_by_key(|own| {
            (!moving.contains(&own.task), self.weight(&own.member), std::cmp::Reverse(own.number))
        });
        let mut closed = Vec::new();
        for own in ours {
            let (gates, price) = self.gates(&own.member, context);
            if gates.is_empty() {
                return Ok(Plan { own: own.clone(), direction: Direction::Shrink, price, how: How::Whole });
            }
            if closed.is_empty() {
                closed = reasons(&own.member, &gates);
            }
        }
        if closed.is_empty() {
            let why = "none of its members was started by Trimtab, and others are left alone".to_owned();
            closed.push(Reason::Gate { member: String::new(), why });
        }
        Err(closed)
    }

    /// What makes a member's leave costly: an ApplicationMaster, containers, bytes; being a seed.
    fn weight(&self, member: &str) -> (bool, u64) {
        if let Some(seen) = &self.seen.yarn {
            let node = seen.report.nodes.iter().find(|node| node.host == member);
            return node.map_or((false, 0), |node| (node.masters > 0, node.containers.into()));
        }
        if let Some(seen) = &self.seen.hdfs {
            let node = seen.report.nodes.iter().find(|node| node.name == member);
            return node.map_or((false, 0), |node| (false, node.used_bytes));
        }
        let seeds = |known: &crate::fleet::Reported<model::cassandra::CassandraReport>| {
            known.report.ring.seeds.iter().any(|seed| seed == member)
        };
        // Data is spread evenly: its differences are noise.
        (self.seen.ring.values().any(seeds), 0)
    }

    /// Members whose process is known to have ended, whatever the cluster says of them still.
    pub(super) fn dead(&self) -> BTreeSet<&String> {
        let changing = self.underway.as_ref().and_then(|underway| underway.change.task.as_ref());
        let ended = self.own.values().filter(|own| !own.runs && Some(&own.task) != changing);
        ended.map(|own| &own.member).collect()
    }

    /// Members in service: those that the cluster says, without those that are known to have ended.
    pub(super) fn there(&self) -> BTreeSet<String> {
        let (mut there, dead) = (self.seen.there(), self.dead());
        there.retain(|member| !dead.contains(member));
        there
    }

    /// How many there are. One of a ring whose process ended is a member all the same, until it is started again.
    pub(super) fn members(&self) -> usize {
        if self.kind() == WorkloadKind::Cassandra { self.seen.there().len() } else { self.there().len() }
    }

    /// What stands in the way of a member's leave, and what it costs.
    pub(super) fn gates(&self, member: &str, context: &Context<'_>) -> (Vec<Gate>, Price) {
        let least = self.workload.spec.replicas.min as usize;
        let rates = &self.rates;
        match self.kind() {
            WorkloadKind::Yarn => self.seen.yarn.as_ref().map(|seen| {
                let (mut report, dead) = (seen.report.clone(), self.dead());
                for node in report.nodes.iter_mut().filter(|node| dead.contains(&node.host)) {
                    node.state = YarnState::Lost;
                }
                // The ResourceManager remembers those that are lost for ever; where as many run as are wanted, they are replaced.
                let running = report.nodes.iter().filter(|node| node.state == YarnState::Running).count();
                if running >= self.wanted.unwrap_or(u32::MAX) as usize {
                    report.nodes.retain(|node| node.state != YarnState::Lost);
                }
                // What waits needs a place, too.
                let gates = gate::yarn_leave(&report, member, least, report.pending);
                (gates, price::yarn_leave(rates, &seen.report, member))
            }),
            WorkloadKind::Hdfs => self.seen.hdfs.as_ref().map(|seen| {
                let (mut report, dead) = (seen.report.clone(), self.dead());
                report
                    .nodes
                    .iter_mut()
                    .filter(|node| dead.contains(&node.name))
                    .for_each(|n| n.alive = false);
                let gates = gate::hdfs_leave(&report, member, least);
                (gates, price::hdfs_leave(rates, &seen.report, member))
            }),
            WorkloadKind::Cassandra => {
                let (mut ring, dead) = (self.seen.fresh_ring(context.now), self.dead());
                ring.retain(|address, _| !dead.contains(address));
                let after = self.workload.spec.behavior.survivors_below.0.min(gate::DISK_AFTER);
                let gates = gate::ring_leave(&ring, member, least, after);
                Some((gates, price::ring_leave(rates, &ring, member)))
            }
            WorkloadKind::Rails | WorkloadKind::Service => None,
        }
        .unwrap_or_else(|| (vec![Gate::Unknown { member: member.to_owned() }], Price::default()))
    }

    /// The member to come, with what it costs; `Err` says what keeps it.
    pub(super) fn join(&self, context: &Context<'_>) -> Result<Plan, Vec<Reason>> {
        let Some((spec, launcher)) = self.cluster().and_then(|spec| Some((spec, spec.launcher.as_ref()?)))
        else {
            return Err(vec![Reason::NoLauncher]);
        };
        if let Some(left_ms) = self.joins.left_ms(context.now) {
            let why = self.joins.why.clone();
            return Err(vec![Reason::StartBackoff { failures: self.joins.failures, left_ms, why }]);
        }
        let price = self.join_gates(context)?;
        let there = self.there();
        // One that runs and is no member yet goes on where it was, and a DataNode has its blocks: a new one would not help either.
        let waits =
            |own: &&Own| !there.contains(&own.member) && (own.runs || self.kind() == WorkloadKind::Hdfs);
        let waiting = self.own.values().find(|own| waits(own) && can_start(own, launcher, context));
        if let Some(own) = waiting {
            let report =
                self.seen.ring.get(&own.member).filter(|known| context.now.since(known.at) <= STALE_MS);
            if self.kind() == WorkloadKind::Cassandra && report.is_none() {
                let why = "it runs, is no member, and does not say what it does".to_owned();
                return Err(vec![Reason::Gate { member: own.member.clone(), why }]);
            }
            return Ok(Plan { own: own.clone(), direction: Direction::Grow, price, how: How::Whole });
        }
        let (node, number) = self.place(spec, launcher.as_str(), None, context)?;
        let task = TaskName::new(format!("{}-{number}", self.workload.name))
            .map_err(|error| vec![Reason::PlanRefused { finding: error.to_string() }])?;
        let member = spec.name(&node, spec.slot(number));
        let own = Own { task, number, node, member, runs: false, since: context.now };
        Ok(Plan { own, direction: Direction::Grow, price, how: How::Whole })
    }

    /// What is wrong with a process of ours in a ring, and can be put right: a member's that ended, and that of one that has left. Others count
    /// on the first, and the second moves nothing: no gate stands in the way.
    pub(super) fn amend(&self, context: &Context<'_>) -> Option<Plan> {
        let launcher = self.cluster()?.launcher.as_ref()?;
        if self.kind() != WorkloadKind::Cassandra || self.joins.left_ms(context.now).is_some() {
            return None;
        }
        let price = price::join(&self.rates, 0);
        let plan =
            |own: &Own, direction, how| Plan { own: own.clone(), direction, price: price.clone(), how };
        let ring = self.seen.fresh_ring(context.now);
        let has_left = |own: &Own| {
            let says = ring.get(&own.member).map(|view| view.mode) == Some(CassandraMode::Decommissioned);
            says && gate::place(&ring, &own.member) == cassandra::Place::Out
        };
        let is_down = |own: &Own| gate::place(&ring, &own.member) == cassandra::Place::Down;
        self.own.values().find_map(|own| match own.runs {
            false if is_down(own) && can_start(own, launcher, context) => {
                Some(plan(own, Direction::Grow, How::Mends))
            }
            true if has_left(own) => Some(plan(own, Direction::Shrink, How::Sweeps)),
            _ => None,
        })
    }

    /// What a member that comes costs, or what keeps any from coming.
    fn join_gates(&self, context: &Context<'_>) -> Result<Price, Vec<Reason>> {
        match self.kind() {
            WorkloadKind::Cassandra => {
                let ring = self.seen.fresh_ring(context.now);
                let gates = gate::ring_at_rest(&ring);
                if gates.is_empty() {
                    Ok(price::ring_join(&self.rates, &ring))
                } else {
                    Err(reasons("", &gates))
                }
            }
            WorkloadKind::Hdfs => {
                let safe_mode = self.seen.hdfs.as_ref().map(|seen| seen.report.safe_mode.clone());
                match safe_mode.filter(|why| !why.is_empty()) {
                    Some(why) => Err(reasons("", &[Gate::SafeMode { why }])),
                    None => Ok(price::join(&self.rates, 0)),
                }
            }
            _ => Ok(price::join(&self.rates, 0)),
        }
    }

    /// A node that may start one, other than `but`, and a number whose slot is free there.
    pub(super) fn place(
        &self,
        spec: &ClusterSpec,
        launcher: &str,
        but: Option<&NodeId>,
        context: &Context<'_>,
    ) -> Result<(NodeId, u32), Vec<Reason>> {
        let ours = self.own.values().map(|own| own.member.clone());
        let taken: BTreeSet<String> = self.seen.taken().into_iter().chain(ours).collect();
        let span = spec.slots.map_or(1, |slots| slots.span.max(1));
        let numbers = self.next_number..self.next_number.saturating_add(span);
        let free = |node: &NodeId| numbers.clone().find(|n| !taken.contains(&spec.name(node, spec.slot(*n))));
        let able: BTreeMap<NodeId, Node> = context
            .nodes
            .iter()
            .filter(|(name, node)| Some(*name) != but && node.can_start(launcher) && free(name).is_some())
            .map(|(name, node)| (name.clone(), node.clone()))
            .collect();
        let mut siblings = BTreeMap::new();
        for own in self.own.values().filter(|own| own.runs) {
            *siblings.entry(own.node.clone()).or_default() += 1;
        }
        let chosen = choose(&able, launcher, &siblings, &BTreeMap::new(), 0.0, context.now);
        let found = chosen.and_then(|node| free(&node).map(|number| (node, number)));
        found.ok_or_else(|| {
            let any = context.nodes.iter().any(|(name, node)| Some(name) != but && node.can_start(launcher));
            vec![if any {
                let why =
                    format!("every node that may start {launcher} has a member already, and no free slot");
                Reason::Gate { member: String::new(), why }
            } else {
                Reason::NoNodeWithLauncher { launcher: launcher.to_owned() }
            }]
        })
    }

    /// Begins what was planned, when it may; else says what keeps it from that.
    pub(super) fn try_next(
        &mut self,
        plan: Result<Plan, Vec<Reason>>,
        decided: &mut Decided,
        may: bool,
        tasks: &mut Vec<TaskName>,
        context: &Context<'_>,
    ) {
        match plan {
            Ok(plan) => self.let_begin(plan, decided, may, tasks, context),
            Err(closed) => {
                decided.binding = closed.first().cloned();
                decided.reasons.extend(closed);
            }
        }
    }

    /// Begins what was planned, when it may.
    pub(super) fn let_begin(
        &mut self,
        plan: Plan,
        decided: &mut Decided,
        may: bool,
        tasks: &mut Vec<TaskName>,
        context: &Context<'_>,
    ) {
        tasks.push(plan.own.task.clone());
        decided.reasons.push(plan.reason());
        // What an operator approved is this change and no other; where nothing has to be approved, everything is.
        let approves = self.approved.as_ref().is_none_or(|(task, _)| *task == plan.own.task);
        if may && approves {
            let approved = self.approved.is_some();
            if approved {
                decided.reasons.insert(0, Reason::Approved);
            }
            self.begin(plan, approved, context);
            decided.act = true;
        }
    }

    /// Begins a change. Nothing else may be on its way.
    pub(super) fn begin(&mut self, plan: Plan, approved: bool, context: &Context<'_>) {
        let now = context.now;
        let machine = match (self.kind(), plan.direction) {
            (WorkloadKind::Hdfs, Direction::Shrink) => Machine::Hdfs(hdfs::State::leave(now)),
            (WorkloadKind::Hdfs, Direction::Grow) => Machine::Hdfs(hdfs::State::join(now)),
            (WorkloadKind::Cassandra, Direction::Shrink) if plan.how == How::Sweeps => {
                Machine::Cassandra(cassandra::State::left(now))
            }
            (WorkloadKind::Cassandra, Direction::Shrink) => Machine::Cassandra(cassandra::State::leave(now)),
            (WorkloadKind::Cassandra, Direction::Grow) if plan.how == How::Mends => {
                Machine::Cassandra(cassandra::State::mend(now))
            }
            (WorkloadKind::Cassandra, Direction::Grow) => Machine::Cassandra(cassandra::State::join(now)),
            (_, Direction::Shrink) => Machine::Yarn(yarn::State::leave(now)),
            (_, Direction::Grow) => Machine::Yarn(yarn::State::join(now)),
        };
        let Plan { own, direction, price, .. } = plan;
        let change =
            Change::new(own.member.clone(), Some(own.task.clone()), Some(own.node.clone()), machine, now);
        self.next_number = self.next_number.max(own.number.saturating_add(1));
        self.own.entry(own.task.clone()).or_insert(own);
        self.underway =
            Some(Underway { change, direction, approved, price, slow: false, waits: None, joined: None });
        self.approved = None;
    }
}

/// Each gate that is closed, about a member; empty = any.
pub(super) fn reasons(member: &str, closed: &[Gate]) -> Vec<Reason> {
    let reason = |gate: &Gate| Reason::Gate { member: member.to_owned(), why: gate.to_string() };
    closed.iter().map(reason).collect()
}

/// Its node may start it now.
fn can_start(own: &Own, launcher: &LauncherName, context: &Context<'_>) -> bool {
    context.nodes.get(&own.node).is_some_and(|node| node.can_start(launcher.as_str()))
}
