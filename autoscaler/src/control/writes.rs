//! What people change: each change is an event, answered when it is durable.

use autoscaler_core::event::{Event, Time};
use model::decision::DecisionId;
use model::id::{NodeId, WorkloadName};
use model::workload::Workload;
use tokio::sync::oneshot;

use super::Control;
use crate::store::{SpecRow, StoreError};

/// A change.
#[derive(Debug, Clone)]
pub enum Write {
    /// Apply a specification.
    Apply {
        /// The whole of it.
        workload: Box<Workload>,
        /// What must be in force before.
        expect: Expect,
    },
    /// Withdraw a specification.
    Remove {
        /// Which.
        name: WorkloadName,
        /// What must be in force before.
        expect: Expect,
    },
    /// Stop acting.
    Pause {
        /// One workload, or all.
        workload: Option<WorkloadName>,
        /// Why, in the operator's words.
        reason: String,
        /// For how long, ms; absent = until resumed.
        for_ms: Option<u64>,
    },
    /// Act again.
    Resume {
        /// One workload, or all.
        workload: Option<WorkloadName>,
    },
    /// Let a recommended change of a cluster be carried out.
    Approve {
        /// Which workload.
        workload: WorkloadName,
        /// The decision that recommends it; absent = whichever does now.
        decision: Option<DecisionId>,
    },
    /// Do not offer a recommended change of a cluster again for a while.
    Reject {
        /// Which workload.
        workload: WorkloadName,
        /// The decision that recommends it; absent = whichever does now.
        decision: Option<DecisionId>,
        /// Why, in the operator's words.
        reason: String,
        /// For how long, ms; absent = a day.
        for_ms: Option<u64>,
    },
    /// Take the change of a cluster back, as far as it can be.
    Cancel {
        /// Which workload.
        workload: WorkloadName,
        /// Why, in the operator's words.
        reason: String,
    },
    /// Empty a node.
    Drain {
        /// Which.
        node: NodeId,
        /// Why, in the operator's words.
        reason: String,
        /// Also when something could not leave it now.
        partly: bool,
    },
    /// Let replicas start on a node again.
    Uncordon {
        /// Which.
        node: NodeId,
    },
}

/// What must be in force for a change to go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Some revision.
    Some,
    /// Nothing yet.
    Nothing,
    /// Exactly this revision.
    Revision(i64),
}

impl Expect {
    /// Whether this revision may be changed; 0 = there is none.
    #[must_use]
    pub fn fits(self, found: i64) -> bool {
        match self {
            Expect::Any => true,
            Expect::Some => found > 0,
            Expect::Nothing => found == 0,
            Expect::Revision(wanted) => found == wanted,
        }
    }
}

/// A change that is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// When.
    pub at: Time,
    /// The specification in force now, for `Apply`.
    pub spec: Option<SpecRow>,
    /// True when there was none before.
    pub created: bool,
    /// True when nothing had to be changed.
    pub unchanged: bool,
}

/// Why a change did not go through.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such workload.
    #[error("there is no workload `{0}`")]
    NotFound(WorkloadName),
    /// There is no such node.
    #[error("there is no node `{0}`")]
    NoNode(NodeId),
    /// Something could not leave the node.
    #[error(
        "node `{node}` cannot be emptied now: {stays}; make room elsewhere, or drain it partly (--partly)"
    )]
    WouldStay {
        /// Which.
        node: NodeId,
        /// How many of which workload, and why.
        stays: String,
    },
    /// A workload does not become another kind: what runs of it would be nobody's.
    #[error(
        "workload `{name}` is of type `{kind}`, and stays that; withdraw it and give the new one another name"
    )]
    OtherKind {
        /// Which.
        name: WorkloadName,
        /// Its type.
        kind: &'static str,
    },
    /// Nothing is recommended that could be approved, or rejected.
    #[error("workload `{name}` {why}; `trimtab explain workload {name}` says what it would do")]
    NothingToApprove {
        /// Which.
        name: WorkloadName,
        /// Why not.
        why: String,
    },
    /// Nothing is on its way.
    #[error("no change of the members of workload `{0}` is on its way")]
    NothingToCancel(WorkloadName),
    /// Somebody else changed it in between.
    #[error("workload `{name}` is at revision {found}, not at the one that was expected: read it again")]
    Conflict {
        /// Which.
        name: WorkloadName,
        /// In force; 0 = none.
        found: i64,
    },
    /// No prices are in force.
    #[error("no price table is in force")]
    NoPrices,
    /// Somebody else changed the prices in between.
    #[error("the price table is at revision {found}, not at the one that was expected: read it again")]
    OtherPrices {
        /// In force; 0 = none.
        found: i64,
    },
    /// Nothing can be made durable.
    #[error(
        "the store cannot be written ({0}): nothing is changed until it can; free space in the state directory"
    )]
    Frozen(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) type Reply = oneshot::Sender<Result<Written, WriteError>>;

/// A change that waits to be durable.
#[derive(Debug)]
pub(super) struct Waiting {
    reply: Reply,
    name: Option<WorkloadName>,
    created: bool,
    at: Time,
}

impl Control {
    pub(super) fn write(&mut self, write: Write, reply: Reply) {
        match self.prepare(write) {
            Ok(Prepared::Event { event, name, created }) => {
                self.events.push(*event);
                self.waiting.push(Waiting { reply, name, created, at: self.clock.now() });
            }
            Ok(Prepared::Unchanged(row)) => {
                let at = self.clock.now();
                // Whoever asked may be gone.
                let _ = reply.send(Ok(Written { at, spec: Some(*row), created: false, unchanged: true }));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn prepare(&self, write: Write) -> Result<Prepared, WriteError> {
        if let Some(frozen) = self.durable.frozen() {
            return Err(WriteError::Frozen(frozen.why.clone()));
        }
        let event = |event, name, created| Ok(Prepared::Event { event: Box::new(event), name, created });
        match write {
            Write::Apply { workload, expect } => {
                let kind = self.brain.kind(&workload.name).filter(|kind| *kind != workload.spec.kind);
                if let Some(kind) = kind.filter(|kind| kind.is_cluster() || workload.spec.kind.is_cluster()) {
                    return Err(WriteError::OtherKind { name: workload.name, kind: kind.word() });
                }
                let before = self.in_force(&workload.name, expect)?;
                match before {
                    Some(row) if row.workload == *workload => Ok(Prepared::Unchanged(Box::new(row))),
                    before => {
                        let name = Some(workload.name.clone());
                        event(Event::SpecApplied { workload: *workload }, name, before.is_none())
                    }
                }
            }
            Write::Remove { name, expect } => match self.in_force(&name, expect)? {
                None => Err(WriteError::NotFound(name)),
                Some(_) => event(Event::SpecRemoved { workload: name }, None, false),
            },
            Write::Pause { workload, reason, for_ms } => {
                self.known(workload.as_ref())?;
                let until = for_ms.map(|ms| self.clock.now().after(ms));
                event(Event::Paused { workload, reason, until }, None, false)
            }
            Write::Resume { workload } => {
                self.known(workload.as_ref())?;
                event(Event::Resumed { workload }, None, false)
            }
            Write::Approve { workload, decision } => {
                let decision = self.recommended(&workload, decision)?;
                event(Event::Approved { workload, decision }, None, false)
            }
            Write::Reject { workload, decision, reason, for_ms } => {
                let decision = self.recommended(&workload, decision)?;
                event(Event::Declined { workload, decision, reason, for_ms }, None, false)
            }
            Write::Cancel { workload, reason } => {
                self.known(Some(&workload))?;
                if !self.brain.changes(&workload) {
                    return Err(WriteError::NothingToCancel(workload));
                }
                event(Event::Cancelled { workload, reason }, None, false)
            }
            Write::Drain { node, reason, partly } => {
                self.known_node(&node)?;
                let stays = self.brain.would_stay(&node, self.clock.now());
                if !partly && !stays.is_empty() {
                    let stays: Vec<String> = stays
                        .iter()
                        .map(|(workload, left, why)| {
                            format!("{left} of workload {workload} would stay ({why})")
                        })
                        .collect();
                    return Err(WriteError::WouldStay { node, stays: stays.join("; ") });
                }
                event(Event::NodeDrained { node, reason }, None, false)
            }
            Write::Uncordon { node } => {
                self.known_node(&node)?;
                event(Event::NodeReturned { node }, None, false)
            }
        }
    }

    /// The decision that recommends a change of a cluster, when it is the one that is meant.
    fn recommended(&self, name: &WorkloadName, meant: Option<DecisionId>) -> Result<DecisionId, WriteError> {
        self.known(Some(name))?;
        let no = |why: String| WriteError::NothingToApprove { name: name.clone(), why };
        let recommended =
            self.brain.recommends(name).ok_or_else(|| no("recommends nothing now".to_owned()))?;
        match meant.filter(|meant| *meant != recommended) {
            None => Ok(recommended),
            Some(_) => Err(no(format!("recommends something else now (decision {recommended})"))),
        }
    }

    fn known(&self, name: Option<&WorkloadName>) -> Result<(), WriteError> {
        match name {
            Some(name) if !self.brain.specs().any(|workload| workload.name == *name) => {
                Err(WriteError::NotFound(name.clone()))
            }
            _ => Ok(()),
        }
    }

    fn known_node(&self, node: &NodeId) -> Result<(), WriteError> {
        if self.knows(node) { Ok(()) } else { Err(WriteError::NoNode(node.clone())) }
    }

    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.fleet.table(node).is_some() || self.brain.drains().contains_key(node)
    }

    /// The specification in force, when it is as expected. What waits in this very round counts as a conflict.
    fn in_force(&self, name: &WorkloadName, expect: Expect) -> Result<Option<SpecRow>, WriteError> {
        let row = self.reader.spec(name)?;
        let found = row.as_ref().map_or(0, |row| row.revision);
        let conflict = || WriteError::Conflict { name: name.clone(), found };
        let pending = self.events.iter().any(|event| match event {
            Event::SpecApplied { workload } => workload.name == *name,
            Event::SpecRemoved { workload } => workload == name,
            _ => false,
        });
        if expect.fits(found) && !(pending && expect != Expect::Any) { Ok(row) } else { Err(conflict()) }
    }

    /// The round is durable: answers everybody who waited for it, and tells agents of changed policies.
    pub(super) fn answer_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        for Waiting { reply, name, created, at } in waiting {
            let spec = name.map(|name| self.reader.spec(&name)).transpose();
            let answer = spec.map_err(WriteError::Store).map(|spec| Written {
                at,
                spec: spec.flatten(),
                created,
                unchanged: false,
            });
            let _ = reply.send(answer);
        }
    }

    /// Nothing was made durable: says so to everybody who waited.
    pub(super) fn refuse_waiting(&mut self) {
        let why = self.durable.frozen().map_or_else(String::new, |frozen| frozen.why.clone());
        for Waiting { reply, .. } in std::mem::take(&mut self.waiting) {
            let _ = reply.send(Err(WriteError::Frozen(why.clone())));
        }
    }
}

enum Prepared {
    Event { event: Box<Event>, name: Option<WorkloadName>, created: bool },
    Unchanged(Box<SpecRow>),
}
