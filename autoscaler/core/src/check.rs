//! The linter of plans: what must hold whatever a policy thinks. Run after every planner's test and before execution.
//!
//! Two questions are asked. Of a change, before any state machine hears of it: does it keep to the bounds, to one change
//! at a time, to fresh proof? Of the commands, before they leave: is each fenced, in time, and for a node that is there?
//! A finding refuses the change, or the command; since a step is ordered again until it is answered, a refused command is
//! only a late one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::action::{BalancerStep, Command, Size, Verb};
use model::id::{ControllerEpoch, Generation, NodeId, TaskName, WorkloadName};

use crate::event::Time;
use crate::place::Node;
use crate::resize;

/// A workload as the linter sees it, before the change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// Acting is allowed: mode auto, not paused, specification in force.
    pub may_act: bool,
    /// All data is fresh and has been for the whole window.
    pub proven: bool,
    /// Replicas that are there or will be, by name.
    pub counting: BTreeSet<TaskName>,
    /// Those that take requests now.
    pub serving: BTreeSet<TaskName>,
    /// Those that drain, and can still be taken back.
    pub draining: BTreeSet<TaskName>,
    /// Those past taking back.
    pub ending: BTreeSet<TaskName>,
    /// Those on their way up.
    pub rising: BTreeSet<TaskName>,
    /// Those that take requests and fail their checks.
    pub failing: BTreeSet<TaskName>,
    /// Those that are there or will be on a node that is being emptied: their replacements count in their stead.
    pub moving: BTreeSet<TaskName>,
    /// Replicas wanted.
    pub wanted: u32,
    /// Processes that exist or may.
    pub processes: u32,
    /// Most processes at once that a shared ceiling (database connections) allows.
    pub ceiling: Option<u32>,
    /// Names that were used.
    pub next_number: u32,
}

/// A change of one workload, before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// New replicas: name, number, node.
    pub start: Vec<(TaskName, u32, NodeId)>,
    /// Replicas to leave.
    pub leave: Vec<TaskName>,
    /// Draining replicas to take back.
    pub take_back: Vec<TaskName>,
}

impl Change {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start.is_empty() && self.leave.is_empty() && self.take_back.is_empty()
    }
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Acting without being allowed to.
    #[error("a change while acting is not allowed")]
    NotAllowed,
    /// More replicas than the maximum.
    #[error("{after} replicas, at most {max} are allowed")]
    AboveMax {
        /// After the change.
        after: u32,
        /// The bound.
        max: u32,
    },
    /// Fewer replicas than the minimum by leaving.
    #[error("{after} replicas after leaving, at least {min} must be there")]
    BelowMin {
        /// After the change.
        after: u32,
        /// The bound.
        min: u32,
    },
    /// Nobody would take requests.
    #[error("no replica would be left that takes requests")]
    NoneServing,
    /// A shrink without fresh proof.
    #[error("a replica leaves without fresh proof that it is not needed")]
    NoProof,
    /// A replica leaves its node before enough others take requests.
    #[error("{left} replicas would take requests after a move, {wanted} are wanted")]
    MovedTooSoon {
        /// After the change.
        left: u32,
        /// Wanted.
        wanted: u32,
    },
    /// Two changes at once.
    #[error("{task} leaves while {other} is changing")]
    TwoAtOnce {
        /// The one that would leave.
        task: TaskName,
        /// The other one.
        other: TaskName,
    },
    /// Growing and shrinking in one change.
    #[error("replicas start and leave in one change")]
    BothWays,
    /// A name that was used, or is not the workload's next.
    #[error("{task} is not a new name")]
    NameReused {
        /// The name.
        task: TaskName,
    },
    /// A replica that does not exist or is not in a state for it.
    #[error("{task} cannot be asked for that now")]
    NotPossible {
        /// Which.
        task: TaskName,
    },
    /// A shared ceiling would be broken.
    #[error("{after} processes, the database allows {ceiling}")]
    AboveCeiling {
        /// After the change.
        after: u32,
        /// The ceiling.
        ceiling: u32,
    },
    /// More than one replica would get a size that none has held yet.
    #[error("{tasks} replicas would get a size at once that none of them has held")]
    Unverified {
        /// How many.
        tasks: usize,
    },
    /// A size that is further away than a step may go.
    #[error("the step of a size is larger than is allowed")]
    StepTooLarge,
    /// A command whose fence is not the newest.
    #[error("command {0} is not fenced by the epoch in force, or its generation or id does not grow", command.0)]
    BadFence {
        /// Its id.
        command: model::id::CommandId,
    },
    /// A command that is late before it leaves.
    #[error("command {0} has a deadline in the past", command.0)]
    Late {
        /// Its id.
        command: model::id::CommandId,
    },
    /// A command for a node that is not there, or may not act, or does not list the launcher.
    #[error("{verb} for {task} cannot be carried out by {node}")]
    WrongNode {
        /// The node.
        node: NodeId,
        /// The task.
        task: TaskName,
        /// The verb.
        verb: String,
    },
}

/// A list of findings as one line.
#[derive(Debug)]
pub struct Findings<'a>(pub &'a [Finding]);

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What is wrong with a change; empty when nothing is.
#[must_use]
pub fn change(facts: &Facts, change: &Change) -> Vec<Finding> {
    let mut found = Vec::new();
    if change.is_empty() {
        return found;
    }
    if !facts.may_act {
        found.push(Finding::NotAllowed);
    }
    let coming = count(change.start.len() + change.take_back.len());
    let after = (count(facts.counting.len()) + coming).saturating_sub(count(change.leave.len()));
    let beside = after.saturating_sub(count(facts.moving.len()));
    if coming > 0 && beside > facts.max {
        found.push(Finding::AboveMax { after: beside, max: facts.max });
    }
    if !change.leave.is_empty() {
        if coming > 0 {
            found.push(Finding::BothWays);
        }
        leaving(facts, change, after, &mut found);
    }
    for (task, number, _) in &change.start {
        if *number < facts.next_number || facts.counting.contains(task) || facts.ending.contains(task) {
            found.push(Finding::NameReused { task: task.clone() });
        }
    }
    for task in &change.take_back {
        if !facts.draining.contains(task) {
            found.push(Finding::NotPossible { task: task.clone() });
        }
    }
    let processes = facts.processes + count(change.start.len());
    if let Some(ceiling) = facts.ceiling
        && !change.start.is_empty()
        && processes > ceiling
    {
        found.push(Finding::AboveCeiling { after: processes, ceiling });
    }
    found
}

fn leaving(facts: &Facts, change: &Change, after: u32, found: &mut Vec<Finding>) {
    let serving = facts.serving.iter().filter(|task| !change.leave.contains(task)).count();
    let above = count(facts.counting.len()) > facts.max;
    if after < facts.min {
        found.push(Finding::BelowMin { after, min: facts.min });
    }
    if serving == 0 && change.leave.iter().any(|task| facts.serving.contains(task)) {
        found.push(Finding::NoneServing);
    }
    // A move is no shrink: it needs no proof that fewer would do, but those that take its place.
    let moves = change.leave.iter().all(|task| facts.moving.contains(task));
    if moves && count(serving) < facts.wanted && change.leave.iter().any(|task| facts.serving.contains(task))
    {
        found.push(Finding::MovedTooSoon { left: count(serving), wanted: facts.wanted });
    }
    if !facts.proven && !above && !moves {
        found.push(Finding::NoProof);
    }
    for task in &change.leave {
        if !facts.counting.contains(task) {
            found.push(Finding::NotPossible { task: task.clone() });
        }
        // One that takes no requests yet, or no more, is a change that is taken back, not a second one.
        if moves || !facts.serving.contains(task) {
            continue;
        }
        let others = facts.draining.iter().chain(&facts.ending).chain(&facts.rising).chain(&facts.failing);
        if let Some(other) = others.into_iter().find(|other| !change.leave.contains(other)) {
            found.push(Finding::TwoAtOnce { task: task.clone(), other: other.clone() });
        }
    }
}

/// A change of size, before it is carried out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizeChange {
    /// From.
    pub from: Size,
    /// To.
    pub to: Size,
    /// Replicas that get it now.
    pub tasks: usize,
    /// One of them has held it for its while.
    pub verified: bool,
    /// All data is fresh.
    pub fresh: bool,
    /// Acting is allowed.
    pub may_act: bool,
}

/// What is wrong with a change of size; empty when nothing is.
#[must_use]
pub fn size(change: &SizeChange) -> Vec<Finding> {
    let mut found = Vec::new();
    if !change.may_act {
        found.push(Finding::NotAllowed);
    }
    if !change.verified && change.tasks > 1 {
        found.push(Finding::Unverified { tasks: change.tasks });
    }
    if resize::step(change.from, change.to).0 != change.to {
        found.push(Finding::StepTooLarge);
    }
    if !change.verified && !change.fresh && resize::lowers(change.from, change.to) {
        found.push(Finding::NoProof);
    }
    found
}

/// What is wrong with commands; `before` are the generations and the newest command id before them.
#[must_use]
pub fn commands(
    epoch: ControllerEpoch,
    before: &BTreeMap<WorkloadName, Generation>,
    nodes: &BTreeMap<NodeId, Node>,
    commands: &[(NodeId, Command)],
    now: Time,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut generations = before.clone();
    let mut last = None;
    for (to, command) in commands {
        let generation = generations.entry(command.workload.clone()).or_default();
        if command.epoch != epoch || command.generation <= *generation || Some(command.id) <= last {
            found.push(Finding::BadFence { command: command.id });
        }
        *generation = command.generation;
        last = Some(command.id);
        if command.deadline_ms <= now.0 {
            found.push(Finding::Late { command: command.id });
        }
        let able = nodes.get(to).is_some_and(|node| match &command.verb {
            Verb::Start { launcher, .. } => node.can_start(launcher.as_str()),
            Verb::Balancer { step: BalancerStep::Add { port, .. }, .. } if *port == 0 => false,
            _ => node.link == crate::place::Link::Up,
        });
        if !able {
            found.push(Finding::WrongNode {
                node: to.clone(),
                task: command.task.clone(),
                verb: command.verb.to_string(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> TaskName {
        TaskName::new(format!("web-{n}")).unwrap()
    }

    fn facts() -> Facts {
        Facts {
            min: 1,
            max: 3,
            may_act: true,
            proven: true,
            counting: BTreeSet::from([name(1), name(2)]),
            serving: BTreeSet::from([name(1), name(2)]),
            next_number: 3,
            ..Facts::default()
        }
    }

    fn leave(n: u32) -> Change {
        Change { leave: vec![name(n)], ..Change::default() }
    }

    #[test]
    fn a_sound_shrink_passes_and_each_broken_one_is_named() {
        assert_eq!(change(&facts(), &leave(2)), vec![]);
        assert_eq!(
            change(&Facts { min: 2, ..facts() }, &leave(2)),
            vec![Finding::BelowMin { after: 1, min: 2 }]
        );
        assert_eq!(change(&Facts { proven: false, ..facts() }, &leave(2)), vec![Finding::NoProof]);
        assert_eq!(change(&Facts { may_act: false, ..facts() }, &leave(2)), vec![Finding::NotAllowed]);
        let alone = Facts { serving: BTreeSet::from([name(2)]), ..facts() };
        assert_eq!(change(&alone, &leave(2)), vec![Finding::NoneServing]);
        let busy = Facts { ending: BTreeSet::from([name(0)]), ..facts() };
        assert_eq!(change(&busy, &leave(2)), vec![Finding::TwoAtOnce { task: name(2), other: name(0) }]);
    }

    #[test]
    fn starts_keep_to_bounds_names_and_ceilings() {
        let node = NodeId::new("a").unwrap();
        let start = |n: u32| Change { start: vec![(name(n), n, node.clone())], ..Change::default() };
        assert_eq!(change(&facts(), &start(3)), vec![]);
        assert_eq!(change(&facts(), &start(2)), vec![Finding::NameReused { task: name(2) }]);
        assert_eq!(
            change(&Facts { max: 2, ..facts() }, &start(3)),
            vec![Finding::AboveMax { after: 3, max: 2 }]
        );
        let ceiling = Facts { ceiling: Some(3), processes: 3, ..facts() };
        assert_eq!(change(&ceiling, &start(3)), vec![Finding::AboveCeiling { after: 4, ceiling: 3 }]);
    }

    #[test]
    fn a_size_goes_to_one_first_in_steps_and_never_down_on_old_data() {
        let cpu = |millis| Size { cpu_max_millis: Some(millis), ..Size::default() };
        let sound = SizeChange {
            from: cpu(500),
            to: cpu(400),
            tasks: 1,
            verified: false,
            fresh: true,
            may_act: true,
        };
        assert_eq!(size(&sound), vec![]);
        assert_eq!(size(&SizeChange { tasks: 3, ..sound }), vec![Finding::Unverified { tasks: 3 }]);
        assert_eq!(size(&SizeChange { tasks: 3, verified: true, ..sound }), vec![]);
        assert_eq!(size(&SizeChange { to: cpu(300), ..sound }), vec![Finding::StepTooLarge]);
        assert_eq!(size(&SizeChange { fresh: false, ..sound }), vec![Finding::NoProof]);
        assert_eq!(size(&SizeChange { fresh: false, to: cpu(900), ..sound }), vec![], "more is safe");
        assert_eq!(size(&SizeChange { may_act: false, ..sound }), vec![Finding::NotAllowed]);
    }
}
