//! Which replicas start, leave or come back, so that there are as many as wanted.

use std::collections::BTreeMap;

use model::id::{NodeId, TaskName};
use model::reason::Reason;

use super::{Context, Controller};
use crate::check::{self, Change, Facts, Findings};
use crate::place::choose;
use crate::rails;
use crate::replica::{Event, State};
use crate::rollout::Replica;

/// Mean CPU of a replica before any was measured, cores: a started Puma is busy with booting on one core.
const REPLICA_CORES: f64 = 0.5;

impl Controller {
    /// The change from what is there to what is wanted, and why it is smaller than that, if it is.
    pub(super) fn plan(&self, context: &Context<'_>) -> (Change, Option<Reason>) {
        let moving = self.moving(context);
        if !moving.is_empty() {
            return self.moves(&moving, context);
        }
        let have = self.number(|r| r.state.counts());
        match have.cmp(&self.wanted) {
            std::cmp::Ordering::Less => self.more(self.wanted - have, context),
            std::cmp::Ordering::Greater => self.fewer(have - self.wanted),
            std::cmp::Ordering::Equal => (Change::default(), None),
        }
    }

    /// Lints a change and carries it out in the state machines. `Err` says which rule it breaks.
    pub(super) fn carry_out(
        &mut self,
        change: &Change,
        may_act: bool,
        context: &Context<'_>,
    ) -> Result<(), Reason> {
        let findings = check::change(&self.facts(may_act, context), change);
        if !findings.is_empty() {
            return Err(Reason::PlanRefused { finding: Findings(&findings).to_string() });
        }
        for (task, number, node) in &change.start {
            let mut replica = Replica::new(task.clone(), *number, node.clone(), context.now);
            (replica.port, replica.control_port) = self.ports(*number);
            self.replicas.insert(task.clone(), replica);
            self.next_number = self.next_number.max(number + 1);
        }
        for task in &change.leave {
            self.tell(task, Event::Leave, context.now);
        }
        for task in &change.take_back {
            self.tell(task, Event::Return, context.now);
        }
        Ok(())
    }

    /// The workload as the linter sees it.
    pub(super) fn facts(&self, may_act: bool, context: &Context<'_>) -> Facts {
        let spec = &self.workload.spec;
        Facts {
            min: spec.replicas.min,
            max: spec.replicas.max,
            may_act,
            proven: self.frozen.is_empty() && self.stabiliser.proven(&spec.behavior, context.now),
            counting: self.names(|r| r.state.counts()),
            serving: self.names(|r| r.state.serves()),
            draining: self.names(|r| matches!(r.state, State::Draining { .. })),
            ending: self.names(|r| r.state.leaves() && !matches!(r.state, State::Draining { .. })),
            rising: self.names(|r| r.state.rises()),
            failing: self.failing_survivors().into_iter().map(|(task, _)| task).collect(),
            moving: self.moving(context),
            wanted: self.wanted,
            processes: self.processes(),
            ceiling: spec.rails.as_ref().and_then(rails::ceiling),
            next_number: self.next_number,
        }
    }

    /// Processes that exist or may; those of a silent node are replaced, and do not count beside their replacements.
    pub(super) fn processes(&self) -> u32 {
        self.number(|r| r.state.may_run() && !matches!(r.state, State::Away { .. }))
    }

    pub(super) fn more(&self, missing: u32, context: &Context<'_>) -> (Change, Option<Reason>) {
        let mut change = Change::default();
        // One that drains is warm: nothing is faster than to take it back. The newest drain has most left to give.
        let mut draining: Vec<&Replica> =
            self.replicas.values().filter(|r| matches!(r.state, State::Draining { .. })).collect();
        draining.retain(|r| !self.is_drained(&r.node, context));
        draining.sort_by_key(|r| std::cmp::Reverse((r.state.since(), r.number)));
        change.take_back = draining.iter().take(missing as usize).map(|r| r.task.clone()).collect();
        let mut missing = missing - u32::try_from(change.take_back.len()).unwrap_or(0);
        if missing == 0 {
            return (change, None);
        }
        if context.now < self.retry_at && self.failures > 0 {
            let left_ms = self.retry_at.since(context.now);
            let (failures, why) = (self.failures, self.trouble.clone());
            return (change, Some(Reason::StartBackoff { failures, left_ms, why }));
        }
        if self.failures > 0 {
            // After a failure one at a time, until one is up.
            missing = 1;
        }
        let spec = &self.workload.spec;
        if let Some(rails) = &spec.rails
            && self.balancer().is_none()
        {
            let backend = rails.balancer.backend.clone();
            return (change, Some(Reason::NoBalancer { backend }));
        }
        let mut placed = self.by_node(|r| r.state.rises());
        let mut siblings = self.by_node(|r| r.state.counts());
        let serving = self.number(|r| r.state.serves());
        let cores = self.load.cpu_cores().map_or(REPLICA_CORES, |all| all / f64::from(serving.max(1)));
        let mut number = self.next_number;
        for _ in 0..missing {
            let processes = self.processes() + u32::try_from(change.start.len()).unwrap_or(u32::MAX);
            if let Some(rails) = &spec.rails
                && rails::ceiling(rails).is_some_and(|ceiling| processes >= ceiling)
            {
                return (change, rails::ceiling_reason(rails, processes));
            }
            let Some(node) = choose(context.nodes, self.launcher(), &siblings, &placed, cores, context.now)
            else {
                return (change, Some(Reason::NoNodeWithLauncher { launcher: self.launcher().to_owned() }));
            };
            let Some(free) = self.free_number(number, &change) else {
                let range = spec.rails.as_ref().map(|r| r.ports).unwrap_or_default();
                return (change, Some(Reason::NoFreePort { from: range.from, span: range.span }));
            };
            let Ok(task) = TaskName::new(format!("{}-{free}", self.workload.name)) else {
                return (change, None);
            };
            for counted in [&mut placed, &mut siblings] {
                *counted.entry(node.clone()).or_default() += 1;
            }
            change.start.push((task, free, node));
            number = free + 1;
        }
        (change, None)
    }

    fn by_node(&self, which: impl Fn(&Replica) -> bool) -> BTreeMap<NodeId, u32> {
        let mut counted = BTreeMap::new();
        for replica in self.replicas.values().filter(|r| which(r)) {
            *counted.entry(replica.node.clone()).or_default() += 1;
        }
        counted
    }

    /// The surplus leaves; those that take requests only when nothing else changes, and never all of them.
    fn fewer(&self, surplus: u32) -> (Change, Option<Reason>) {
        let mut change = self.less(surplus);
        let stays = |task: &TaskName| !change.leave.contains(task);
        let unsettled =
            self.replicas.values().find(|r| (r.state.rises() && stays(&r.task)) || r.state.leaves());
        let unsettled = unsettled.map(|r| (r.task.clone(), r.state.name().to_owned()));
        let failing = self.failing_survivors().into_iter().find(|(task, _)| stays(task));
        let unsettled = unsettled.or(failing);
        let left = self.replicas.values().any(|r| r.state.serves() && stays(&r.task));
        if unsettled.is_none() && left {
            return (change, None);
        }
        change.leave.retain(|task| self.replicas.get(task).is_some_and(|r| !r.state.serves()));
        let why = unsettled.map_or(Reason::TooFewUp { left: 0, needed: 1 }, |(task, state)| {
            Reason::ChangeUnderway { task, state }
        });
        (change, Some(why))
    }

    fn free_number(&self, from: u32, change: &Change) -> Option<u32> {
        let taken: Vec<_> = change.start.iter().map(|(_, number, _)| self.ports(*number).0).collect();
        let span = self.workload.spec.rails.as_ref().map_or(u32::MAX, |r| u32::from(r.ports.span.max(1)));
        (from..from.saturating_add(span)).find(|n| {
            self.port_free(*n) && (self.ports(*n).0.is_none() || !taken.contains(&self.ports(*n).0))
        })
    }

    /// Those that fail first, then those that are not up yet, then the newest.
    fn less(&self, surplus: u32) -> Change {
        let mut going: Vec<&Replica> = self.replicas.values().filter(|r| r.state.counts()).collect();
        going.sort_by_key(|r| {
            let rank = match r.state {
                State::Down { .. } => 0,
                state if state.rises() => 1,
                _ => 2,
            };
            (rank, std::cmp::Reverse(r.number))
        });
        let leave = going.into_iter().take(surplus as usize).map(|r| r.task.clone()).collect();
        Change { leave, ..Change::default() }
    }
}
