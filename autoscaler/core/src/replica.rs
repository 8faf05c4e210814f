//! The life of one replica, from an order to start it until nothing of it is left.
//!
//! Problem: a replica is touched through two machines (its host and the balancer's) that answer late, twice or not at
//! all, and a request is lost whenever the order of steps is broken. Method: one state machine per replica, in which
//! each state asks for at most one step ([`State::step`]), and a step is ordered again until it is answered. So a
//! reconnect, a controller's restart and a lost answer are the same case: order the state's step again; every verb is
//! idempotent. Bounds: each state but the serving ones has a deadline that leads towards [`State::Deleted`], and a name
//! is never used twice, so the machine cannot go round for ever.
//!
//! ```text
//! NEW → BOOTING → ADDED → SETTLE → UP → DRAINING → TERM → MAINT → DELETING → DELETED
//!                    ↑       ↘ DOWN ↗  ↘ RETURNING ↗
//!                              ↘ AWAY ↗
//! ```
//! Sources of the order: workloads.md, Rails (a SIGTERM before the drain lost requests in 5 of 5 runs; a server can only
//! be deleted in maintenance and without connections). Without a balancer the states ADDED, DRAINING, RETURNING, MAINT
//! and DELETING are skipped.

use model::adapter::ServerState;
use serde::{Deserialize, Serialize};

use crate::event::Time;

/// How far a replica is. Each variant holds since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Its start is ordered.
    New {
        /// Since when.
        since: Time,
        /// The health check passed before the start was answered.
        healthy: bool,
    },
    /// It runs, and its health check does not pass yet.
    Booting {
        /// Since when.
        since: Time,
    },
    /// It is ready; the balancer is asked to add it, and does not call it up yet.
    Added {
        /// Since when.
        since: Time,
    },
    /// It takes requests, but its numbers are those of a cold process.
    Settle {
        /// Since when.
        since: Time,
    },
    /// It takes its share.
    Up {
        /// Since when.
        since: Time,
    },
    /// It is there, but its checks fail.
    Down {
        /// Since when.
        since: Time,
    },
    /// Its node is silent: it is replaced, and comes back into use if the node comes back with it.
    Away {
        /// Since when.
        since: Time,
    },
    /// The balancer sends it no new requests; it finishes what it has.
    Draining {
        /// Since when.
        since: Time,
    },
    /// A drain was cancelled: the balancer is asked to send it requests again.
    Returning {
        /// Since when.
        since: Time,
    },
    /// Its process is asked to end.
    Term {
        /// Since when.
        since: Time,
    },
    /// Its process is gone; its server is put into maintenance.
    Maint {
        /// Since when.
        since: Time,
    },
    /// Its server is being deleted.
    Deleting {
        /// Since when.
        since: Time,
    },
    /// Nothing of it is left.
    Deleted {
        /// Since when.
        since: Time,
    },
}

/// What a state asks an agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Start the process.
    Start,
    /// Add the server to the balancer.
    Add,
    /// Send it requests again.
    Ready,
    /// Send it no new requests.
    Drain,
    /// End the process.
    Stop,
    /// Put its server into maintenance.
    Maintenance,
    /// Delete its server.
    Remove,
}

/// What happened to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The state's step was done, or was so already.
    Done(Step),
    /// The state's step was refused: nothing was changed.
    Refused(Step),
    /// The state's step did not succeed as often as it is tried.
    GaveUp(Step),
    /// Its health check passes.
    Healthy,
    /// Its health check fails.
    Unhealthy,
    /// Its process ended.
    Ended,
    /// A report newer than the last answer shows its server.
    Seen {
        /// The balancer's word.
        state: ServerState,
        /// No request is active or queued at it.
        idle: bool,
    },
    /// A report newer than the last answer does not show its server.
    Missing,
    /// The plan wants it gone.
    Leave,
    /// The plan wants it back while it drains.
    Return,
    /// Its node is lost.
    NodeLost,
    /// Its agent connected and says that its process runs.
    Runs,
    /// Time passed.
    Tick,
}

/// What the machine asks of its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Order the state's step again, it was undone.
    Reorder,
    /// It never took requests: the next start waits, and prefers another node.
    StartFailed(Why),
    /// It took requests and is gone without being asked: it must be replaced.
    Lost(Why),
    /// An event that this state does not expect: nothing was done.
    Anomaly(State, Event),
}

/// Why a replica was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The agent refused to start it.
    Refused,
    /// The start did not succeed.
    NotStarted,
    /// Its process ended by itself.
    Ended,
    /// It was not ready by the deadline.
    NotReady,
    /// The balancer did not call it up by the deadline.
    NotUp,
    /// Its checks failed for too long.
    ChecksFailed,
    /// Its node was lost.
    NodeLost,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Refused => "the agent refused to start it",
            Why::NotStarted => "it did not start",
            Why::Ended => "its process ended by itself",
            Why::NotReady => "it was not ready in time",
            Why::NotUp => "the balancer did not call it up in time",
            Why::ChecksFailed => "its checks failed for too long",
            Why::NodeLost => "its node was lost",
        })
    }
}

/// How long each state may last, and whether there is a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A balancer sends it requests.
    pub balanced: bool,
    /// From running to ready, ms.
    pub boot_ms: u64,
    /// From ready to up at the balancer, ms.
    pub up_ms: u64,
    /// From up to settled, ms.
    pub settle_ms: u64,
    /// Failing checks until it is given up, ms.
    pub down_ms: u64,
    /// A drain, ms.
    pub drain_ms: u64,
    /// Deleting a server, ms.
    pub delete_ms: u64,
    /// A silent node until its replicas are given up, ms.
    pub away_ms: u64,
}

impl Limits {
    /// Two Puma clusters boot in about 1 s idle (workloads.md); two minutes cover a loaded host and a large application.
    pub const BOOT_MS: u64 = 120_000;
    /// HAProxy's default check interval is 2 s and `rise` 2; eight times that.
    pub const UP_MS: u64 = 30_000;
    /// Three rounds: the first numbers of a cold process are out of the smoothing window.
    pub const SETTLE_MS: u64 = 3_000;
    /// As for coming up.
    pub const DOWN_MS: u64 = 30_000;
    /// Connections of a drained server linger at most as long as a client's keep-alive (60 s is HAProxy's usual
    /// `timeout client`).
    pub const DELETE_MS: u64 = 60_000;
    /// A host boots within it; what comes back later is taken back only where it is missing.
    pub const AWAY_MS: u64 = 600_000;
}

impl State {
    /// The step that this state asks for, until it is answered.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            State::New { .. } => Some(Step::Start),
            State::Added { .. } => Some(Step::Add),
            State::Draining { .. } => Some(Step::Drain),
            State::Returning { .. } => Some(Step::Ready),
            State::Term { .. } => Some(Step::Stop),
            State::Maint { .. } => Some(Step::Maintenance),
            State::Deleting { .. } => Some(Step::Remove),
            State::Booting { .. }
            | State::Settle { .. }
            | State::Up { .. }
            | State::Down { .. }
            | State::Away { .. }
            | State::Deleted { .. } => None,
        }
    }

    /// Since when it is in this state.
    #[must_use]
    pub fn since(self) -> Time {
        match self {
            State::New { since, .. }
            | State::Booting { since }
            | State::Added { since }
            | State::Settle { since }
            | State::Up { since }
            | State::Down { since }
            | State::Away { since }
            | State::Draining { since }
            | State::Returning { since }
            | State::Term { since }
            | State::Maint { since }
            | State::Deleting { since }
            | State::Deleted { since } => since,
        }
    }

    /// Its name, as in the documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::New { .. } => "new",
            State::Booting { .. } => "booting",
            State::Added { .. } => "added",
            State::Settle { .. } => "settle",
            State::Up { .. } => "up",
            State::Down { .. } => "down",
            State::Away { .. } => "away",
            State::Draining { .. } => "draining",
            State::Returning { .. } => "returning",
            State::Term { .. } => "term",
            State::Maint { .. } => "maint",
            State::Deleting { .. } => "deleting",
            State::Deleted { .. } => "deleted",
        }
    }

    /// It takes requests.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, State::Settle { .. } | State::Up { .. })
    }

    /// It is on its way up.
    #[must_use]
    pub fn rises(self) -> bool {
        matches!(
            self,
            State::New { .. } | State::Booting { .. } | State::Added { .. } | State::Returning { .. }
        )
    }

    /// It is on its way out; [`State::Deleted`] is not, it is out.
    #[must_use]
    pub fn leaves(self) -> bool {
        matches!(
            self,
            State::Draining { .. } | State::Term { .. } | State::Maint { .. } | State::Deleting { .. }
        )
    }

    /// It counts as a replica that is there or will be.
    #[must_use]
    pub fn counts(self) -> bool {
        self.serves() || self.rises() || matches!(self, State::Down { .. })
    }

    /// Its process may exist.
    #[must_use]
    pub fn may_run(self) -> bool {
        self.counts() || matches!(self, State::Away { .. } | State::Draining { .. } | State::Term { .. })
    }

    fn older(self, ms: u64, now: Time) -> bool {
        now.since(self.since()) >= ms
    }

    /// What becomes of it when `event` happens.
    #[must_use]
    pub fn on(self, event: Event, limits: &Limits, now: Time) -> (State, Vec<Effect>) {
        use {Event as E, State as S};
        let balanced = limits.balanced;
        let ready = if balanced { S::Added { since: now } } else { S::Settle { since: now } };
        let stopped = if balanced { S::Maint { since: now } } else { S::Deleted { since: now } };
        let leaving = if balanced { S::Draining { since: now } } else { S::Term { since: now } };
        let lost = |why| (stopped, vec![Effect::Lost(why)]);
        let to = |state| (state, Vec::new());
        match (self, event) {
            // Coming up.
            (S::New { since, .. }, E::Healthy) => to(S::New { since, healthy: true }),
            (S::New { healthy: true, .. }, E::Done(Step::Start)) => to(ready),
            (S::New { healthy: false, .. }, E::Done(Step::Start)) => to(S::Booting { since: now }),
            (S::New { .. }, E::Refused(Step::Start)) => {
                (S::Deleted { since: now }, vec![Effect::StartFailed(Why::Refused)])
            }
            (S::New { .. }, E::GaveUp(Step::Start)) => {
                (S::Term { since: now }, vec![Effect::StartFailed(Why::NotStarted)])
            }
            (S::New { .. }, E::Tick) if self.older(limits.boot_ms, now) => {
                (S::Term { since: now }, vec![Effect::StartFailed(Why::NotStarted)])
            }
            (S::New { .. } | S::Booting { .. }, E::Ended) => {
                (S::Deleted { since: now }, vec![Effect::StartFailed(Why::Ended)])
            }
            (S::New { .. } | S::Booting { .. }, E::NodeLost) => {
                (S::Deleted { since: now }, vec![Effect::StartFailed(Why::NodeLost)])
            }
            (S::New { .. } | S::Booting { .. }, E::Leave) => to(S::Term { since: now }),
            (S::Booting { .. }, E::Healthy) => to(ready),
            (S::Booting { .. }, E::Tick) if self.older(limits.boot_ms, now) => {
                (S::Term { since: now }, vec![Effect::StartFailed(Why::NotReady)])
            }
            (S::Added { .. }, E::Seen { state: ServerState::Up | ServerState::Failing, .. }) => {
                to(S::Settle { since: now })
            }
            (S::Added { .. }, E::Missing) => (self, vec![Effect::Reorder]),
            (S::Added { .. }, E::Tick) if self.older(limits.up_ms, now) => {
                (leaving, vec![Effect::StartFailed(Why::NotUp)])
            }
            (S::Added { .. }, E::GaveUp(Step::Add)) => (leaving, vec![Effect::StartFailed(Why::NotUp)]),

            // Serving.
            (S::Settle { .. }, E::Tick) if self.older(limits.settle_ms, now) => to(S::Up { since: now }),
            (
                S::Settle { .. } | S::Up { .. },
                E::Seen {
                    state: ServerState::Down | ServerState::Maintenance | ServerState::Draining, ..
                },
            ) => to(S::Down { since: now }),
            (S::Settle { .. } | S::Up { .. }, E::Unhealthy) if !balanced => to(S::Down { since: now }),
            (S::Settle { .. } | S::Up { .. } | S::Down { .. } | S::Returning { .. }, E::Missing) => {
                to(S::Added { since: now })
            }
            (S::Down { .. }, E::Seen { state: ServerState::Up | ServerState::Failing, .. }) => {
                to(S::Settle { since: now })
            }
            (S::Down { .. }, E::Healthy) if !balanced => to(S::Settle { since: now }),
            (S::Down { .. }, E::Tick) if self.older(limits.down_ms, now) => {
                (leaving, vec![Effect::Lost(Why::ChecksFailed)])
            }
            (
                S::Added { .. } | S::Settle { .. } | S::Up { .. } | S::Down { .. } | S::Returning { .. },
                E::Ended,
            ) => lost(Why::Ended),
            (
                S::Added { .. } | S::Settle { .. } | S::Up { .. } | S::Down { .. } | S::Returning { .. },
                E::NodeLost,
            ) => (S::Away { since: now }, vec![Effect::Lost(Why::NodeLost)]),
            (
                S::Added { .. } | S::Settle { .. } | S::Up { .. } | S::Down { .. } | S::Returning { .. },
                E::Leave,
            ) => to(leaving),

            // Its node is silent. What the balancer, an old answer or a late word says of it changes nothing: its agent's list
            // of what runs decides.
            (S::Away { .. }, E::Runs) => to(S::Down { since: now }),
            (S::Away { .. }, E::Leave) => to(leaving),
            (S::Away { .. }, E::Ended) => to(stopped),
            (S::Away { .. }, E::Tick) if self.older(limits.away_ms, now) => to(stopped),
            (
                S::Away { .. },
                E::NodeLost
                | E::Missing
                | E::Healthy
                | E::Unhealthy
                | E::Done(_)
                | E::Refused(_)
                | E::GaveUp(_),
            ) => to(self),

            // Leaving.
            (S::Draining { .. }, E::Return) => to(S::Returning { since: now }),
            (
                S::Draining { .. },
                E::Seen {
                    state: ServerState::Draining | ServerState::Maintenance | ServerState::Down,
                    idle: true,
                }
                | E::Missing,
            ) => to(S::Term { since: now }),
            (S::Draining { .. }, E::Seen { state: ServerState::Up | ServerState::Failing, .. }) => {
                (self, vec![Effect::Reorder])
            }
            (S::Draining { .. }, E::Tick) if self.older(limits.drain_ms, now) => to(S::Term { since: now }),
            (S::Draining { .. }, E::Ended | E::NodeLost) => to(stopped),
            (S::Returning { .. }, E::Done(Step::Ready)) => to(S::Settle { since: now }),
            (S::Term { .. }, E::Done(Step::Stop) | E::Ended | E::NodeLost) => to(stopped),
            (S::Maint { .. }, E::Done(Step::Maintenance) | E::GaveUp(Step::Maintenance)) => {
                to(S::Deleting { since: now })
            }
            (S::Maint { .. } | S::Deleting { .. }, E::Missing) => to(S::Deleted { since: now }),
            // Its node was lost and came back with it.
            (S::Maint { .. } | S::Deleting { .. } | S::Deleted { .. }, E::Runs) => to(S::Term { since: now }),
            (S::Deleting { .. }, E::Done(Step::Remove)) => to(S::Deleted { since: now }),
            (S::Deleting { .. }, E::Tick) if self.older(limits.delete_ms, now) => {
                to(S::Deleted { since: now })
            }

            // Said again, or seen on the way: true, and nothing follows from it.
            (_, E::Tick | E::Seen { .. } | E::Runs) => to(self),
            (S::Added { .. }, E::Done(Step::Add)) => to(self),
            (S::Draining { .. }, E::Done(Step::Drain)) => to(self),
            (
                S::Booting { .. }
                | S::Added { .. }
                | S::Settle { .. }
                | S::Up { .. }
                | S::Down { .. }
                | S::Returning { .. }
                | S::Draining { .. }
                | S::Term { .. },
                E::Healthy | E::Unhealthy,
            ) => to(self),
            (S::New { .. } | S::Booting { .. } | S::Term { .. } | S::Deleted { .. }, E::Missing) => to(self),
            (S::Maint { .. } | S::Deleting { .. } | S::Deleted { .. }, E::Ended | E::NodeLost) => to(self),
            (
                S::Draining { .. } | S::Returning { .. } | S::Term { .. } | S::Deleting { .. },
                E::GaveUp(_),
            ) => (self, vec![Effect::Reorder]),

            (state, event) => (state, vec![Effect::Anomaly(state, event)]),
        }
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
