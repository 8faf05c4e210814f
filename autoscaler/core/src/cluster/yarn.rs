//! A NodeManager leaves, or comes: one change of a YARN cluster.
//!
//! Problem: three ways lead from a drain to killed containers: any refresh without a grace, a restart of the ResourceManager (it does not
//! remember timeouts), and the timeout itself. Method: the timeout that YARN is told is far longer than ours; when ours is over and work
//! still runs, the drain is cancelled, never forced. What others force is seen and said. Done is what the ResourceManager shows, and the
//! process ends by itself: a supervisor that starts it again would get one that is refused. Bounds: each state but the drain has a deadline.
//!
//! ```text
//! out: EXCLUDING → DRAINING → ENDING (→ STOPPING) → DONE       in: CLEARING → STARTING → REGISTERING → DONE
//!           ↘ RETURNING ↙ → CANCELLED
//! ```

use model::yarn::YarnState;
use serde::{Deserialize, Serialize};

use crate::event::Time;

/// How far the change is. Each variant holds since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The exclude list and a graceful refresh are ordered.
    Excluding {
        /// Since when.
        since: Time,
    },
    /// It takes no more containers, and finishes those that it has, and their applications.
    Draining {
        /// Since when.
        since: Time,
        /// It had containers when it was seen last.
        busy: bool,
    },
    /// It is out; its process ends by itself.
    Ending {
        /// Since when.
        since: Time,
        /// The process is told to end now: it took too long.
        told: bool,
    },
    /// Its process ended before the ResourceManager said anything of it.
    Vanished {
        /// Since when.
        since: Time,
    },
    /// The drain is cancelled: it is taken off the list.
    Returning {
        /// Since when.
        since: Time,
    },
    /// Its host is taken off the exclude list before it starts there.
    Clearing {
        /// Since when.
        since: Time,
    },
    /// Its start is ordered.
    Starting {
        /// Since when.
        since: Time,
    },
    /// It runs, and the ResourceManager does not call it running yet.
    Registering {
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
    /// Put it on the exclude list, and refresh gracefully.
    Exclude,
    /// Take it off, and refresh gracefully.
    Include,
    /// Start the process.
    Start,
    /// End the process.
    Stop,
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
        /// The ResourceManager's word.
        state: YarnState,
        /// It has containers.
        busy: bool,
        /// An ApplicationMaster runs on it.
        master: bool,
    },
    /// A report newer than the last answer does not show its host.
    Missing,
    /// The ResourceManager was started anew.
    Restarted,
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
    /// It went out while it had containers: a refresh without a grace, which nobody here asked for.
    Forced,
    /// The ResourceManager was started anew while it drained: it forgot the timeout, and may kill what runs there.
    LostGrace,
    /// Somebody took it off the exclude list while it drained.
    TakenBack,
    /// An ApplicationMaster runs on it: the drain is cancelled.
    Master,
    /// It had containers for as long as a drain may take: it is cancelled.
    TooLong,
    /// Its process did not end by itself, and is told to.
    Lingers,
    /// It is gone, and its containers with it.
    Lost,
}

impl std::fmt::Display for Incident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Forced => "it went out within seconds of having containers: they ended just then, or somebody refreshed the list without a grace (-g)",
            Self::LostGrace => "the ResourceManager was started anew and forgot the drain's timeout: what runs there may be killed",
            Self::TakenBack => "somebody took it off the exclude list while it drained",
            Self::Master => "an ApplicationMaster runs on it: the drain is cancelled",
            Self::TooLong => "it still had containers when the drain's time was over: the drain is cancelled, nothing is killed",
            Self::Lingers => "its process did not end by itself after the decommission, and is told to",
            Self::Lost => "it is gone, and its containers with it",
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
    /// The ResourceManager did not call it running in time.
    NotRegistered,
    /// The list could not be changed.
    List,
    /// It went out although it was to stay: it must be started again.
    WentOut,
    /// Its node was lost.
    NodeLost,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "the agent refused to start it",
            Self::NotStarted => "it did not start",
            Self::Ended => "its process ended before it was in service",
            Self::NotRegistered => "the ResourceManager did not call it running in time",
            Self::List => "the exclude list could not be changed",
            Self::WentOut => "it went out before the drain was cancelled, and must be started again",
            Self::NodeLost => "its node was lost",
        })
    }
}

/// How long each state may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A drain, until it is cancelled, ms.
    pub drain_ms: u64,
    /// From decommissioned to the end of the process, ms.
    pub end_ms: u64,
    /// From the end of a process to the ResourceManager's word on it, ms.
    pub vanished_ms: u64,
    /// From running to registered, ms.
    pub register_ms: u64,
}

impl Limits {
    /// The process ends 10–22 s after its decommission (workloads.md); three times the longest, and a loaded host.
    pub const END_MS: u64 = 90_000;
    /// It calls a node lost after 600 s by default (`yarn.nm.liveness-monitor.expiry-interval-ms`), and looks every third of it.
    pub const VANISHED_MS: u64 = 900_000;
    /// 5–10 s (workloads.md); a loaded host, and a ResourceManager that starts at the same time.
    pub const REGISTER_MS: u64 = 180_000;
}

impl State {
    /// A node that is to leave.
    #[must_use]
    pub fn leave(now: Time) -> Self {
        State::Excluding { since: now }
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
            State::Excluding { .. } => Some(Step::Exclude),
            State::Returning { .. } | State::Clearing { .. } => Some(Step::Include),
            State::Starting { .. } => Some(Step::Start),
            State::Ending { told: true, .. } => Some(Step::Stop),
            State::Draining { .. }
            | State::Vanished { .. }
            | State::Ending { told: false, .. }
            | State::Registering { .. }
            | State::Done { .. }
            | State::Cancelled { .. }
            | State::Failed { .. } => None,
        }
    }

    /// Since when it is in this state.
    #[must_use]
    pub fn since(self) -> Time {
        match self {
            State::Excluding { since }
            | State::Draining { since, .. }
            | State::Ending { since, .. }
            | State::Vanished { since }
            | State::Returning { since }
            | State::Clearing { since }
            | State::Starting { since }
            | State::Registering { since }
            | State::Done { since }
            | State::Cancelled { since }
            | State::Failed { since, .. } => since,
        }
    }

    /// Its name, as in the documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Excluding { .. } => "excluding",
            State::Draining { .. } => "draining",
            State::Ending { told: false, .. } => "ending",
            State::Ending { told: true, .. } => "stopping",
            State::Vanished { .. } => "vanished",
            State::Returning { .. } => "returning",
            State::Clearing { .. } => "clearing",
            State::Starting { .. } => "starting",
            State::Registering { .. } => "registering",
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
        use YarnState as Y;
        use {Event as E, State as S};
        let to = |state| (state, Vec::new());
        let tell = |state, incident| (state, vec![Effect::Incident(incident)]);
        let failed = |why| S::Failed { since: now, why };
        let ending = S::Ending { since: now, told: false };
        match (self, event) {
            // Leaving. Until the list is known to be in force nothing is known to have begun.
            (S::Excluding { .. }, E::Done(Step::Exclude)) => to(S::Draining { since: now, busy: true }),
            (S::Excluding { .. }, E::Refused(Step::Exclude)) => to(S::Cancelled { since: now }),
            // What is on the list may be in force after all.
            (S::Excluding { .. }, E::GaveUp(Step::Exclude) | E::Cancel) => to(S::Returning { since: now }),
            (
                S::Excluding { .. } | S::Draining { .. },
                E::Seen { state: Y::Decommissioning | Y::Running, master: true, .. },
            ) => tell(S::Returning { since: now }, Incident::Master),
            (S::Excluding { .. }, E::Seen { state: Y::Decommissioning, busy, .. }) => {
                to(S::Draining { since: now, busy })
            }
            (S::Draining { since, .. }, E::Seen { state: Y::Decommissioning, busy, .. }) => {
                to(S::Draining { since, busy })
            }
            (S::Draining { busy: true, .. }, E::Seen { state: Y::Decommissioned | Y::Shutdown, .. }) => {
                // Containers end between two reports, too: what is sure is that they are gone.
                let grace_over = self.older(limits.drain_ms, now);
                if grace_over { to(ending) } else { tell(ending, Incident::Forced) }
            }
            (
                S::Excluding { .. } | S::Draining { .. },
                E::Seen { state: Y::Decommissioned | Y::Shutdown, .. },
            ) => to(ending),
            (S::Draining { .. }, E::Seen { state: Y::Running | Y::Unhealthy, .. }) => {
                tell(S::Cancelled { since: now }, Incident::TakenBack)
            }
            (S::Excluding { .. } | S::Draining { .. }, E::Restarted) => {
                (S::Excluding { since: now }, vec![Effect::Incident(Incident::LostGrace), Effect::Reorder])
            }
            (S::Draining { .. }, E::Cancel) => to(S::Returning { since: now }),
            (S::Draining { busy: true, .. }, E::Tick) if self.older(limits.drain_ms, now) => {
                tell(S::Returning { since: now }, Incident::TooLong)
            }
            // Its process may be faster than the next report.
            (S::Excluding { .. } | S::Draining { .. }, E::Ended) => to(S::Vanished { since: now }),
            (S::Vanished { .. }, E::Seen { state: Y::Decommissioned | Y::Shutdown, .. }) => {
                to(S::Done { since: now })
            }
            (
                S::Excluding { .. } | S::Draining { .. } | S::Vanished { .. } | S::Returning { .. },
                E::Seen { state: Y::Lost, .. } | E::NodeLost,
            ) => tell(failed(Why::NodeLost), Incident::Lost),
            (S::Vanished { .. }, E::Tick) if self.older(limits.vanished_ms, now) => {
                tell(failed(Why::NodeLost), Incident::Lost)
            }
            (S::Returning { .. }, E::Ended) => tell(failed(Why::WentOut), Incident::Lost),
            (S::Ending { .. }, E::Ended | E::NodeLost | E::Done(Step::Stop)) => to(S::Done { since: now }),
            (S::Ending { told: false, .. }, E::Tick) if self.older(limits.end_ms, now) => {
                tell(S::Ending { since: now, told: true }, Incident::Lingers)
            }
            // Somebody took it off the list and started it again.
            (S::Ending { .. }, E::Seen { state: Y::Running, .. }) => {
                tell(S::Cancelled { since: now }, Incident::TakenBack)
            }

            // Returning.
            (S::Returning { .. }, E::Done(Step::Include)) => to(S::Cancelled { since: now }),
            (S::Returning { .. }, E::Seen { state: Y::Decommissioned | Y::Shutdown, .. }) => {
                to(failed(Why::WentOut))
            }
            (S::Returning { .. }, E::Restarted) => (self, vec![Effect::Reorder]),

            // Coming. What is not on the list need not be taken off.
            (S::Clearing { .. }, E::Done(Step::Include) | E::Refused(Step::Include)) => {
                to(S::Starting { since: now })
            }
            (S::Clearing { .. }, E::GaveUp(Step::Include)) => to(failed(Why::List)),
            (S::Clearing { .. }, E::Cancel) => to(S::Cancelled { since: now }),
            (S::Starting { .. }, E::Done(Step::Start)) => to(S::Registering { since: now }),
            (S::Starting { .. }, E::Refused(Step::Start)) => to(failed(Why::Refused)),
            (S::Starting { .. }, E::GaveUp(Step::Start)) => to(failed(Why::NotStarted)),
            (S::Starting { .. } | S::Registering { .. }, E::Seen { state: Y::Running, .. }) => {
                to(S::Done { since: now })
            }
            (S::Starting { .. } | S::Registering { .. }, E::Ended) => to(failed(Why::Ended)),
            (S::Starting { .. } | S::Registering { .. } | S::Clearing { .. }, E::NodeLost) => {
                to(failed(Why::NodeLost))
            }
            (S::Registering { .. }, E::Tick) if self.older(limits.register_ms, now) => {
                to(failed(Why::NotRegistered))
            }
            // It has no containers yet: what was started leaves by the way that all leave.
            (S::Starting { .. } | S::Registering { .. }, E::Cancel) => to(S::Excluding { since: now }),

            // Said again, or seen on the way: true, and nothing follows from it.
            (_, E::Tick | E::Seen { .. } | E::Missing) => to(self),
            (
                S::Ending { .. }
                | S::Clearing { .. }
                | S::Starting { .. }
                | S::Registering { .. }
                | S::Done { .. }
                | S::Cancelled { .. }
                | S::Failed { .. },
                E::Restarted,
            ) => to(self),
            (S::Returning { .. } | S::Ending { .. } | S::Vanished { .. }, E::Cancel) => to(self),
            (S::Vanished { .. }, E::Restarted) => to(self),
            (S::Returning { .. } | S::Ending { .. }, E::Refused(_) | E::GaveUp(_)) => {
                (self, vec![Effect::Reorder])
            }
            (S::Done { .. } | S::Cancelled { .. } | S::Failed { .. }, E::Ended | E::NodeLost) => to(self),

            (state, event) => (state, vec![Effect::Anomaly(state, event)]),
        }
    }
}

#[cfg(test)]
#[path = "yarn_tests.rs"]
mod tests;
