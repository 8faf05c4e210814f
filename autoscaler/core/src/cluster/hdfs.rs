//! A DataNode leaves, or comes: one change of an HDFS file system.
//!
//! Problem: a DataNode that leaves takes replicas with it, and the counters that would show the danger are 0 in the first second; a refresh
//! calls a list that it could not read a success and lets every decommissioned node serve again; a node that died while it left is gone.
//! Method: only the NameNode's word on the node itself counts, there is no time limit on copying, and the process is ended only after
//! `Decommissioned` was seen. Whatever goes wrong before that leads back to service. One that comes is empty: what is on the others is moved to
//! it, when there is least to do; that is housekeeping, and given up for anything else. Bounds: copying that makes no progress is given up; a
//! node that was put back is listed once more, and not again.
//!
//! ```text
//! out: LISTING → COPYING → STOPPING → DONE            in: CLEARING → STARTING → REGISTERING → BALANCING → DONE
//!          ↘ RETURNING ↙ → CANCELLED
//! ```

use model::hdfs::AdminState;
use serde::{Deserialize, Serialize};

use crate::event::Time;

/// How far the change is. Each variant holds since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The list of hosts and a refresh are ordered.
    Listing {
        /// Since when.
        since: Time,
        /// It was put back once already.
        again: bool,
    },
    /// Its blocks are being copied elsewhere.
    Copying {
        /// Since when there is progress.
        since: Time,
        /// It was put back once already.
        again: bool,
        /// Blocks that still need a replica elsewhere, at the last look.
        left: u64,
    },
    /// None of its replicas is needed; its process is ended.
    Stopping {
        /// Since when.
        since: Time,
    },
    /// The decommission is cancelled: it is to serve again.
    Returning {
        /// Since when.
        since: Time,
    },
    /// It is taken off the list before it starts.
    Clearing {
        /// Since when.
        since: Time,
    },
    /// Its start is ordered.
    Starting {
        /// Since when.
        since: Time,
    },
    /// It runs, and the NameNode does not know it as alive and in service yet.
    Registering {
        /// Since when.
        since: Time,
    },
    /// It is in service, and blocks are moved until it is about as full as the others.
    Balancing {
        /// Since when.
        since: Time,
    },
    /// It is out, or in service.
    Done {
        /// Since when.
        since: Time,
    },
    /// It is as before.
    Cancelled {
        /// Since when.
        since: Time,
    },
    /// It is neither as before nor as wanted.
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
    /// List it as decommissioned, and refresh.
    Decommission,
    /// List it as in service, or not at all, and refresh.
    Recommission,
    /// Start the process.
    Start,
    /// End the process.
    Stop,
    /// Move blocks until all disks are about as full.
    Balance,
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
    /// A report newer than the last answer shows it.
    Seen {
        /// The NameNode hears of it.
        alive: bool,
        /// The NameNode's word.
        state: AdminState,
        /// Of its blocks, those that still need a replica elsewhere, while that is counted.
        left: Option<u64>,
    },
    /// A report newer than the last answer does not show it.
    Missing,
    /// All disks are about as full.
    Even,
    /// Blocks are missing or corrupt in the file system.
    Endangered,
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
    /// It serves again, and nobody here asked for it: a refresh of a list that could not be read does that.
    PutBack,
    /// The same once more: somebody wants it in service.
    TakenBack,
    /// Blocks are missing or corrupt while it leaves: it is to serve again.
    Endangered,
    /// Copying made no progress for too long: it is to serve again.
    Stalled,
    /// It died while it left.
    Died,
    /// Blocks could not be moved to it.
    NotBalanced,
}

impl std::fmt::Display for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PutBack => "it serves again although it was to leave (a refresh of a list that cannot be read does that): it is listed once more",
            Self::TakenBack => "it was put back in service twice: somebody wants it there, the decommission is cancelled",
            Self::Endangered => "blocks are missing or corrupt while it leaves: it is to serve again",
            Self::Stalled => "copying its blocks made no progress for too long: it is to serve again",
            Self::Died => "it died while it left: its blocks are copied from their other replicas",
            Self::NotBalanced => "blocks were not moved to it: it serves, and is filled by new blocks only",
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
    /// Its process ended before it was in service.
    Ended,
    /// The NameNode did not know it as alive and in service in time.
    NotRegistered,
    /// The list could not be changed.
    List,
    /// It died before its blocks were copied.
    Died,
    /// Its node was lost.
    NodeLost,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "the agent refused to start it",
            Self::NotStarted => "it did not start",
            Self::Ended => "its process ended before it was in service",
            Self::NotRegistered => "the NameNode did not know it as in service in time",
            Self::List => "the list of hosts could not be changed",
            Self::Died => "it died before its blocks were copied",
            Self::NodeLost => "its node was lost",
        })
    }
}

/// How long each state may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Copying without any progress, ms.
    pub stalled_ms: u64,
    /// From running to alive and in service, ms.
    pub register_ms: u64,
}

impl Limits {
    /// The NameNode looks for work every 30 s and gives each node a few blocks at a time; a reconstruction that failed is tried again after
    /// five minutes (`dfs.namenode.reconstruction.pending.timeout-sec`). Three such rounds.
    pub const STALLED_MS: u64 = 900_000;
    /// A DataNode registers within seconds of its start, and sends its block report then; minutes with many blocks.
    pub const REGISTER_MS: u64 = 300_000;
}

impl State {
    /// A node that is to leave.
    #[must_use]
    pub fn leave(now: Time) -> Self {
        State::Listing { since: now, again: false }
    }

    /// A node that is to come.
    #[must_use]
    pub fn join(now: Time) -> Self {
        State::Clearing { since: now }
    }

    /// The step that this state asks for, until it is answered.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            State::Listing { .. } => Some(Step::Decommission),
            State::Returning { .. } | State::Clearing { .. } => Some(Step::Recommission),
            State::Starting { .. } => Some(Step::Start),
            State::Balancing { .. } => Some(Step::Balance),
            State::Stopping { .. } => Some(Step::Stop),
            State::Copying { .. }
            | State::Registering { .. }
            | State::Done { .. }
            | State::Cancelled { .. }
            | State::Failed { .. } => None,
        }
    }

    /// Since when it is in this state, or makes progress in it.
    #[must_use]
    pub fn since(self) -> Time {
        match self {
            State::Listing { since, .. }
            | State::Copying { since, .. }
            | State::Stopping { since }
            | State::Returning { since }
            | State::Clearing { since }
            | State::Starting { since }
            | State::Registering { since }
            | State::Balancing { since }
            | State::Done { since }
            | State::Cancelled { since }
            | State::Failed { since, .. } => since,
        }
    }

    /// Its name, as in the documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Listing { .. } => "listing",
            State::Copying { .. } => "copying",
            State::Stopping { .. } => "stopping",
            State::Returning { .. } => "returning",
            State::Clearing { .. } => "clearing",
            State::Starting { .. } => "starting",
            State::Registering { .. } => "registering",
            State::Balancing { .. } => "balancing",
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

    fn older(self, ms: u64, now: Time) -> bool {
        now.since(self.since()) >= ms
    }

    /// What becomes of it when `event` happens.
    #[must_use]
    pub fn on(self, event: Event, limits: &Limits, now: Time) -> (State, Vec<Effect>) {
        use AdminState as A;
        use {Event as E, State as S};
        let to = |state| (state, Vec::new());
        let tell = |state, incident| (state, vec![Effect::Incident(incident)]);
        let failed = |why| S::Failed { since: now, why };
        let returning = S::Returning { since: now };
        match (self, event) {
            // Leaving.
            (S::Listing { again, .. }, E::Done(Step::Decommission)) => {
                to(S::Copying { since: now, again, left: u64::MAX })
            }
            (S::Listing { .. }, E::Refused(Step::Decommission)) => to(S::Cancelled { since: now }),
            (S::Listing { .. }, E::GaveUp(Step::Decommission)) => to(returning),
            (S::Listing { .. } | S::Copying { .. }, E::Cancel) => to(returning),
            (S::Listing { .. } | S::Copying { .. }, E::Endangered) => tell(returning, Incident::Endangered),
            (
                S::Listing { .. } | S::Copying { .. },
                E::Seen { alive: true, state: A::Decommissioned, .. },
            ) => to(S::Stopping { since: now }),
            (S::Listing { again, .. }, E::Seen { alive: true, state: A::Decommissioning, left }) => {
                to(S::Copying { since: now, again, left: left.unwrap_or(u64::MAX) })
            }
            (
                S::Copying { since, again, left: before },
                E::Seen { alive: true, state: A::Decommissioning, left },
            ) => {
                let left = left.unwrap_or(before);
                to(S::Copying { since: if left < before { now } else { since }, again, left })
            }
            (S::Copying { again: false, .. }, E::Seen { alive: true, state: A::Normal, .. }) => {
                tell(S::Listing { since: now, again: true }, Incident::PutBack)
            }
            (S::Copying { again: true, .. }, E::Seen { alive: true, state: A::Normal, .. }) => {
                tell(S::Cancelled { since: now }, Incident::TakenBack)
            }
            (S::Copying { .. }, E::Tick) if self.older(limits.stalled_ms, now) => {
                tell(returning, Incident::Stalled)
            }
            (
                S::Listing { .. } | S::Copying { .. } | S::Returning { .. },
                E::Seen { alive: false, .. } | E::Ended,
            ) => tell(failed(Why::Died), Incident::Died),
            (S::Listing { .. } | S::Copying { .. } | S::Returning { .. }, E::NodeLost) => {
                tell(failed(Why::NodeLost), Incident::Died)
            }
            (S::Stopping { .. }, E::Done(Step::Stop) | E::Ended | E::NodeLost) => to(S::Done { since: now }),
            // As long as its process runs it can still serve again.
            (S::Stopping { .. }, E::Cancel | E::Endangered) => to(returning),
            (S::Stopping { .. }, E::Seen { alive: true, state: A::Normal, .. }) => {
                tell(S::Cancelled { since: now }, Incident::TakenBack)
            }

            // Returning.
            (S::Returning { .. }, E::Done(Step::Recommission)) => to(S::Cancelled { since: now }),

            // Coming. What is not on the list need not be taken off.
            (S::Clearing { .. }, E::Done(Step::Recommission) | E::Refused(Step::Recommission)) => {
                to(S::Starting { since: now })
            }
            (S::Clearing { .. }, E::GaveUp(Step::Recommission)) => to(failed(Why::List)),
            (S::Clearing { .. }, E::Cancel) => to(S::Cancelled { since: now }),
            (S::Starting { .. }, E::Done(Step::Start)) => to(S::Registering { since: now }),
            (S::Starting { .. }, E::Refused(Step::Start)) => to(failed(Why::Refused)),
            (S::Starting { .. }, E::GaveUp(Step::Start)) => to(failed(Why::NotStarted)),
            (S::Starting { .. } | S::Registering { .. }, E::Seen { alive: true, state: A::Normal, .. }) => {
                to(S::Balancing { since: now })
            }
            // It is a full member: what is left is housekeeping.
            (S::Balancing { .. }, E::Done(Step::Balance) | E::Even | E::Cancel | E::Ended | E::NodeLost) => {
                to(S::Done { since: now })
            }
            (S::Balancing { .. }, E::Refused(Step::Balance) | E::GaveUp(Step::Balance)) => {
                tell(S::Done { since: now }, Incident::NotBalanced)
            }
            (S::Starting { .. } | S::Registering { .. }, E::Ended) => to(failed(Why::Ended)),
            (S::Starting { .. } | S::Registering { .. } | S::Clearing { .. }, E::NodeLost) => {
                to(failed(Why::NodeLost))
            }
            (S::Registering { .. }, E::Tick) if self.older(limits.register_ms, now) => {
                to(failed(Why::NotRegistered))
            }
            // It may have blocks already: it leaves by the way that all leave.
            (S::Starting { .. } | S::Registering { .. }, E::Cancel) => {
                to(S::Listing { since: now, again: false })
            }

            // Said again, or seen on the way: true, and nothing follows from it.
            (_, E::Tick | E::Seen { .. } | E::Missing | E::Even) => to(self),
            (S::Returning { .. }, E::Cancel | E::Endangered) => to(self),
            (
                S::Clearing { .. }
                | S::Starting { .. }
                | S::Registering { .. }
                | S::Balancing { .. }
                | S::Done { .. }
                | S::Cancelled { .. }
                | S::Failed { .. },
                E::Endangered,
            ) => to(self),
            (S::Returning { .. } | S::Stopping { .. }, E::Refused(_) | E::GaveUp(_)) => {
                (self, vec![Effect::Reorder])
            }
            (S::Done { .. } | S::Cancelled { .. } | S::Failed { .. }, E::Ended | E::NodeLost) => to(self),

            (state, event) => (state, vec![Effect::Anomaly(state, event)]),
        }
    }
}

#[cfg(test)]
#[path = "hdfs_tests.rs"]
mod tests;
