//! A node leaves the ring, or joins it: one change of a Cassandra cluster.
//!
//! Problem: nobody guards the ring. A leave is accepted while another node joins, or when too few live replicas would be left; a second call
//! says success while the first one runs; a refused leave marks a healthy node as failed; who left keeps a frozen view; a node that is
//! started again on the directory of an unfinished join may take another's tokens. Method: the truth is what all *other* live members see
//! ([`Place`]), each asking is decided before by the gates, nothing is forced, and a join that does not end is given up with its directory,
//! because the next one has another name. Cleanup follows a join, on one old member after the other, and only while nothing moves.
//! Bounds: one retry of a leave whose node died, then a person is called.
//!
//! ```text
//! out: ASKING → LEAVING → STOPPING → DONE              in: STARTING → JOINING → SETTLING → CLEANING (each member) → DONE
//!         ↖ REVIVING ↙ (once)                       ↘ ABORTING → CANCELLED
//! a member whose process ended: MENDING → DONE
//! ```

use serde::{Deserialize, Serialize};

use crate::event::Time;

/// How far the change is. Each variant holds since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Its decommission is ordered.
    Asking {
        /// Since when.
        since: Time,
        /// It died once while it left.
        again: bool,
    },
    /// It hands over what it owns.
    Leaving {
        /// Since when.
        since: Time,
        /// It died once while it left.
        again: bool,
    },
    /// It died while it left: it is started again with its data, and is then a full member.
    Reviving {
        /// Since when.
        since: Time,
    },
    /// All others have seen it leave; its process, which stays, is ended.
    Stopping {
        /// Since when.
        since: Time,
    },
    /// A member whose process ended is started again with its data.
    Mending {
        /// Since when.
        since: Time,
    },
    /// Its start is ordered.
    Starting {
        /// Since when.
        since: Time,
    },
    /// It receives what it will own.
    Joining {
        /// Since when.
        since: Time,
    },
    /// It is a full member in every view; what it received is being compacted.
    Settling {
        /// Since when.
        since: Time,
    },
    /// Old members delete what they do not own any more, one after the other.
    Cleaning {
        /// Since when.
        since: Time,
        /// Members that are through.
        through: u32,
    },
    /// A join is given up: its process is ended.
    Aborting {
        /// Since when.
        since: Time,
    },
    /// It is out, or a full member.
    Done {
        /// Since when.
        since: Time,
    },
    /// The ring is as before.
    Cancelled {
        /// Since when.
        since: Time,
    },
    /// It is neither as before nor as wanted: a person must look.
    Failed {
        /// Since when.
        since: Time,
        /// Why.
        why: Why,
    },
}

/// What a state asks an agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Let it leave the ring. Only after the gates were asked again.
    Decommission,
    /// Start its process, on a directory of its own.
    Start,
    /// Start its process again, on its directory.
    Restart,
    /// End its process.
    Stop,
    /// Let the next old member delete what it does not own any more. Only while nothing moves.
    Cleanup,
}

/// Where the node is, as all other live members see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// None of them knows it as a member.
    Out,
    /// Some of them see it joining.
    Joining,
    /// All of them see it as a full member that answers.
    Normal,
    /// Some of them see it leaving.
    Leaving,
    /// Some of them see it as a member that does not answer.
    Down,
    /// Their views differ otherwise: gossip is on its way.
    Unclear,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The state's step was done, or was so already.
    Done(Step),
    /// The state's step was refused: nothing was changed.
    Refused(Step),
    /// The state's step did not succeed as often as it is tried.
    GaveUp(Step),
    /// Reports of all other live members, newer than the last answer.
    Seen {
        /// Their word.
        place: Place,
        /// Nothing streams to or from it, and it has few compactions left, in its own word.
        settled: bool,
    },
    /// Its own word: its decommission failed.
    SaysFailed,
    /// No old member is left to clean up.
    AllClean,
    /// Its process ended.
    Ended,
    /// Its node is lost.
    NodeLost,
    /// The user, or the plan, wants it as it was.
    Cancel,
    /// Time passed.
    Tick,
}

/// What the machine asks of its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Order the state's step again, it was undone.
    Reorder,
    /// Something that its users must hear of.
    Incident(Incident),
    /// An event that this state does not expect: nothing was done.
    Anomaly(State, Event),
}

/// What others did, or what did not go as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incident {
    /// It died while it left: it is started again, and asked once more.
    Died,
    /// It died while it left, for the second time.
    DiedTwice,
    /// Its data could not be handed over: it is a full member still.
    NotHandedOver,
    /// A leave that has begun cannot be cancelled.
    CannotCancel,
    /// A join that may have begun cannot be cancelled.
    JoinGoesOn,
    /// A leave or a join takes longer than expected; nothing is done about it.
    Slow,
    /// A member could not be cleaned up: it keeps what it does not own, and nothing else is wrong with it.
    NotClean,
    /// A join did not end: its directory is not used again.
    NotJoined,
}

impl std::fmt::Display for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Died => "it died while it left: it is started again with its data, and asked once more",
            Self::DiedTwice => {
                "it died twice while it left: a person must look; it is a member until it has left"
            }
            Self::NotHandedOver => "its data could not be handed over: it is a full member still",
            Self::CannotCancel => {
                "a leave that has begun goes on: it could only be stopped by killing the node"
            }
            Self::JoinGoesOn => {
                "a join that may have begun goes on: in the moment of its end it could not be told from a member; it can leave then"
            }
            Self::Slow => "it takes longer than expected; nothing is forced",
            Self::NotClean => "a member could not be cleaned up: it keeps data that it does not own any more",
            Self::NotJoined => {
                "it did not finish joining: its directory must not be used again, the next one gets another"
            }
        })
    }
}

/// Why a change failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The agent refused to start it.
    Refused,
    /// The start did not succeed.
    NotStarted,
    /// It ended before it was a full member.
    NotJoined,
    /// It died twice while it left.
    DiedTwice,
    /// It could not hand over its data.
    NotHandedOver,
    /// It did not come back after it died while it left.
    NotRevived,
    /// It did not come back after its process ended.
    NotMended,
    /// Its node was lost.
    NodeLost,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "the agent refused to start it",
            Self::NotStarted => "it did not start",
            Self::NotJoined => "it ended before it was a full member",
            Self::DiedTwice => "it died twice while it left",
            Self::NotHandedOver => "it could not hand over its data",
            Self::NotMended => "it is a member, its process ended, and it did not come back",
            Self::NotRevived => "it died while it left, and did not come back",
            Self::NodeLost => "its node was lost",
        })
    }
}

/// How long each state may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A leave or a join until it is called slow, ms: as long as its data takes by the price tag, and half as much again.
    pub move_ms: u64,
    /// A node that was started again with its data until it is a full member, ms.
    pub revive_ms: u64,
}

impl Limits {
    /// 20–23 s were measured (workloads.md); the replay of a long commit log takes minutes.
    pub const REVIVE_MS: u64 = 900_000;
    /// Nobody is a member so soon after its start was ordered: a node that joins waits 30 s for the ring (`cassandra.ring_delay_ms`), 5 s in
    /// tests, and boots before.
    pub const ABORT_MS: u64 = 8_000;
}

impl State {
    /// A node that is to leave.
    #[must_use]
    pub fn leave(now: Time) -> Self {
        State::Asking { since: now, again: false }
    }

    /// A node that has left, and whose process is still there.
    #[must_use]
    pub fn left(now: Time) -> Self {
        State::Stopping { since: now }
    }

    /// A member whose process ended.
    #[must_use]
    pub fn mend(now: Time) -> Self {
        State::Mending { since: now }
    }

    /// A node that is to join.
    #[must_use]
    pub fn join(now: Time) -> Self {
        State::Starting { since: now }
    }

    /// The step that this state asks for, until it is answered.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            State::Asking { .. } => Some(Step::Decommission),
            State::Reviving { .. } | State::Mending { .. } => Some(Step::Restart),
            State::Stopping { .. } | State::Aborting { .. } => Some(Step::Stop),
            State::Starting { .. } => Some(Step::Start),
            State::Cleaning { .. } => Some(Step::Cleanup),
            State::Leaving { .. }
            | State::Joining { .. }
            | State::Settling { .. }
            | State::Done { .. }
            | State::Cancelled { .. }
            | State::Failed { .. } => None,
        }
    }

    /// Since when it is in this state.
    #[must_use]
    pub fn since(self) -> Time {
        match self {
            State::Asking { since, .. }
            | State::Leaving { since, .. }
            | State::Reviving { since }
            | State::Stopping { since }
            | State::Mending { since }
            | State::Starting { since }
            | State::Joining { since }
            | State::Settling { since }
            | State::Cleaning { since, .. }
            | State::Aborting { since }
            | State::Done { since }
            | State::Cancelled { since }
            | State::Failed { since, .. } => since,
        }
    }

    /// Its name, as in the documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Asking { .. } => "asking",
            State::Leaving { .. } => "leaving",
            State::Reviving { .. } => "reviving",
            State::Stopping { .. } => "stopping",
            State::Mending { .. } => "mending",
            State::Starting { .. } => "starting",
            State::Joining { .. } => "joining",
            State::Settling { .. } => "settling",
            State::Cleaning { .. } => "cleaning",
            State::Aborting { .. } => "aborting",
            State::Done { .. } => "done",
            State::Cancelled { .. } => "cancelled",
            State::Failed { .. } => "failed",
        }
    }

    /// The change is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, State::Done { .. } | State::Cancelled { .. } | State::Failed { .. })
    }

    /// The ring's members change now, or may.
    #[must_use]
    pub fn moves(self) -> bool {
        !self.is_over() && !matches!(self, State::Cleaning { .. } | State::Settling { .. })
    }

    fn older(self, ms: u64, now: Time) -> bool {
        now.since(self.since()) >= ms
    }

    /// What becomes of it when `event` happens.
    #[must_use]
    pub fn on(self, event: Event, limits: &Limits, now: Time) -> (State, Vec<Effect>) {
        use Place as P;
        use {Event as E, State as S};
        let to = |state| (state, Vec::new());
        let tell = |state, incident| (state, vec![Effect::Incident(incident)]);
        let failed = |why| S::Failed { since: now, why };
        match (self, event) {
            // Leaving. Its answer says that it was seen leaving; the rest is the others' to say.
            (S::Asking { again, .. }, E::Done(Step::Decommission)) => to(S::Leaving { since: now, again }),
            (S::Asking { .. }, E::Refused(Step::Decommission) | E::Cancel) => to(S::Cancelled { since: now }),
            (S::Asking { .. }, E::GaveUp(Step::Decommission)) => {
                tell(failed(Why::NotHandedOver), Incident::NotHandedOver)
            }
            // A dead node is never asked to leave.
            (S::Asking { .. }, E::Seen { place: P::Down, .. }) => to(S::Cancelled { since: now }),
            (S::Asking { again, .. }, E::Seen { place: P::Leaving, .. }) => {
                to(S::Leaving { since: now, again })
            }
            (S::Asking { .. } | S::Leaving { .. }, E::Seen { place: P::Out, .. }) => {
                to(S::Stopping { since: now })
            }
            (S::Leaving { .. }, E::SaysFailed) => tell(failed(Why::NotHandedOver), Incident::NotHandedOver),
            (S::Leaving { .. }, E::Cancel) => tell(self, Incident::CannotCancel),
            // It may have handed over everything when it ended: what the others see of it says whether.
            (S::Leaving { .. }, E::Ended) => to(self),
            (S::Leaving { again: false, .. }, E::Seen { place: P::Down, .. }) => {
                tell(S::Reviving { since: now }, Incident::Died)
            }
            (S::Leaving { again: true, .. }, E::Seen { place: P::Down, .. }) => {
                tell(failed(Why::DiedTwice), Incident::DiedTwice)
            }
            (S::Reviving { .. }, E::Seen { place: P::Normal, .. }) => {
                to(S::Asking { since: now, again: true })
            }
            // It had handed over everything when it died.
            (S::Reviving { .. }, E::Seen { place: P::Out, .. }) => to(S::Stopping { since: now }),
            (S::Reviving { .. }, E::Refused(Step::Restart) | E::GaveUp(Step::Restart)) => {
                to(failed(Why::NotRevived))
            }
            (S::Reviving { .. }, E::Tick) if self.older(limits.revive_ms, now) => to(failed(Why::NotRevived)),
            (S::Stopping { .. }, E::Done(Step::Stop) | E::Ended | E::NodeLost) => to(S::Done { since: now }),

            // Joining.
            (S::Starting { .. }, E::Done(Step::Start)) => to(S::Joining { since: now }),
            (S::Starting { .. }, E::Refused(Step::Start)) => to(failed(Why::Refused)),
            (S::Starting { .. }, E::GaveUp(Step::Start)) => to(failed(Why::NotStarted)),
            (S::Starting { .. }, E::Cancel) if !self.older(Limits::ABORT_MS, now) => {
                to(S::Aborting { since: now })
            }
            (S::Starting { .. }, E::Seen { place: P::Joining, .. }) => to(S::Joining { since: now }),
            (S::Starting { .. } | S::Joining { .. }, E::Seen { place: P::Normal, .. }) => {
                to(S::Settling { since: now })
            }
            (S::Starting { .. } | S::Joining { .. }, E::Ended | E::NodeLost) => {
                tell(failed(Why::NotJoined), Incident::NotJoined)
            }
            (S::Starting { .. } | S::Joining { .. }, E::Cancel) => tell(self, Incident::JoinGoesOn),
            (S::Aborting { .. }, E::Done(Step::Stop) | E::Ended | E::NodeLost) => {
                to(S::Cancelled { since: now })
            }
            (S::Settling { .. }, E::Seen { place: P::Normal, settled: true }) => {
                to(S::Cleaning { since: now, through: 0 })
            }
            (S::Cleaning { through, .. }, E::Done(Step::Cleanup)) => {
                to(S::Cleaning { since: now, through: through + 1 })
            }
            // It may be one that has no space, or that is down: the others need not wait for it.
            (S::Cleaning { through, .. }, E::Refused(Step::Cleanup) | E::GaveUp(Step::Cleanup)) => {
                tell(S::Cleaning { since: now, through: through + 1 }, Incident::NotClean)
            }
            (S::Cleaning { .. }, E::AllClean) => to(S::Done { since: now }),
            // It is a full member: what is left is housekeeping.
            (S::Settling { .. } | S::Cleaning { .. }, E::Cancel) => to(S::Done { since: now }),
            (S::Settling { .. } | S::Cleaning { .. }, E::Ended | E::NodeLost) => to(failed(Why::NodeLost)),
            (S::Asking { .. } | S::Leaving { .. } | S::Reviving { .. }, E::NodeLost) => {
                to(failed(Why::NodeLost))
            }

            // Mending.
            (S::Mending { .. }, E::Seen { place: P::Normal, .. }) => to(S::Done { since: now }),
            (S::Mending { .. }, E::Refused(Step::Restart) | E::GaveUp(Step::Restart)) => {
                to(failed(Why::NotMended))
            }
            (S::Mending { .. }, E::Tick) if self.older(limits.revive_ms, now) => to(failed(Why::NotMended)),
            (S::Mending { .. }, E::Ended) => to(failed(Why::NotMended)),
            (S::Mending { .. }, E::NodeLost) => to(failed(Why::NodeLost)),
            (S::Mending { .. }, E::Cancel) => to(S::Cancelled { since: now }),

            // Said again, or seen on the way: true, and nothing follows from it.
            (_, E::Tick | E::Seen { .. }) => to(self),
            (S::Mending { .. }, E::Done(Step::Restart) | E::SaysFailed) => to(self),
            (S::Asking { .. }, E::Ended | E::SaysFailed) => to(self),
            (S::Reviving { .. }, E::Done(Step::Restart) | E::Ended | E::Cancel | E::SaysFailed) => to(self),
            (S::Stopping { .. } | S::Aborting { .. }, E::Cancel | E::SaysFailed) => to(self),
            (S::Stopping { .. } | S::Aborting { .. }, E::Refused(_) | E::GaveUp(_)) => {
                (self, vec![Effect::Reorder])
            }
            (
                S::Done { .. } | S::Cancelled { .. } | S::Failed { .. },
                E::Ended | E::NodeLost | E::SaysFailed | E::AllClean,
            ) => to(self),

            (state, event) => (state, vec![Effect::Anomaly(state, event)]),
        }
    }

    /// Whether it takes longer than expected: said once, by who follows the change.
    #[must_use]
    pub fn is_slow(self, limits: &Limits, now: Time) -> bool {
        matches!(self, State::Leaving { .. } | State::Joining { .. }) && self.older(limits.move_ms, now)
    }
}

#[cfg(test)]
#[path = "cassandra_tests.rs"]
mod tests;
