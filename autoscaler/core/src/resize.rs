//! Another size for replicas that run: one first, watched, then the others; or back.
//!
//! Problem: a recommendation can be wrong for what comes next, and all replicas at once would be wrong together. Method:
//! one replica, the canary, gets the new size and must hold it for a while of fresh data; then the others follow, and are
//! watched for as long again; whatever goes wrong on the way brings everybody back to the size before, and keeps that
//! change from being tried for [`HOLD_MS`]. Bounds: a step is limited ([`step`]), nothing gets smaller without fresh data,
//! and a canary that cannot be judged within [`OVERDUE`] times its while is taken back.
//!
//! ```text
//! STEADY → CANARY → SPREADING → STEADY
//!             ↘ RETURNING ↙ → STEADY
//! ```

use model::action::Size;
use model::id::TaskName;
use serde::{Deserialize, Serialize};

use crate::event::{ReplicaDigest, Time};

/// At most this much less at once, share: three steps halve.
pub const STEP_DOWN: f64 = 0.2;
/// At most this many times as much at once.
pub const STEP_UP: f64 = 2.0;
/// After a change that was taken back, ms: an hour, in which the load that broke it is in the history.
pub const HOLD_MS: u64 = 3_600_000;
/// A canary that was not judged after so many times its while is taken back.
pub const OVERDUE: u64 = 5;
/// Time for the command itself, ms, added to that.
pub const ANSWER_MS: u64 = 30_000;
/// Use of a new, lower limit from which there is no room, share.
pub const FULL: f64 = 0.95;
/// Time held back by the quota from which there is no room, share.
pub const THROTTLED: f64 = 0.2;
/// Looks in a row that must agree.
pub const STRIKES: u8 = 2;
/// A memory limit leaves at least this much above what is in use, share (workloads.md, for heaps).
pub const MEMORY_ROOM: f64 = 0.25;

/// Where a change of size is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum State {
    /// All replicas have the size in force.
    #[default]
    Steady,
    /// One has the new size.
    Canary {
        /// Which.
        task: TaskName,
        /// The size of the others.
        from: Size,
        /// Its own.
        to: Size,
        /// Since when.
        since: Time,
        /// It has the size, read back by its agent.
        applied: bool,
        /// Fresh data that showed no fault, ms.
        good_ms: u64,
        /// Looks in a row that showed one.
        strikes: u8,
    },
    /// The others follow.
    Spreading {
        /// The size before.
        from: Size,
        /// The new one.
        to: Size,
        /// Since when.
        since: Time,
        /// Fresh data that showed no fault, ms.
        good_ms: u64,
        /// Looks in a row that showed one.
        strikes: u8,
    },
    /// Everybody goes back.
    Returning {
        /// To this.
        to: Size,
        /// Since when.
        since: Time,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A change was decided.
    Proposed {
        /// On which replica first.
        task: TaskName,
        /// From which size.
        from: Size,
        /// To which.
        to: Size,
    },
    /// Every replica that should have the new size has it.
    Applied,
    /// Fresh data was looked at: `fault` is what is wrong, if anything.
    Looked {
        /// Time that the data covers, ms.
        ms: u64,
        /// What is wrong.
        fault: Option<String>,
    },
    /// Something that cannot wait for a second look: killed, lost, or the size was refused.
    Broke(String),
    /// The canary left for another reason, or the owner changed the size.
    Withdrawn,
    /// Time passed.
    Tick,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The canary held: the others follow.
    Spread,
    /// All have the new size and held it.
    Settled,
    /// Everybody goes back, because of this.
    Return(String),
    /// Everybody is back.
    Returned,
    /// An event that this state does not expect: nothing was done.
    Anomaly,
}

impl State {
    /// What becomes of it. `verify_ms` is how long a new size is watched.
    #[must_use]
    pub fn on(self, event: Event, verify_ms: u64, now: Time) -> (State, Vec<Effect>) {
        use {Event as E, State as S};
        let back = |to: Size, why: String| (S::Returning { to, since: now }, vec![Effect::Return(why)]);
        match (self, event) {
            (S::Steady, E::Proposed { task, from, to }) => {
                let (applied, good_ms, strikes) = (false, 0, 0);
                (S::Canary { task, from, to, since: now, applied, good_ms, strikes }, vec![])
            }
            (S::Canary { task, from, to, since, good_ms, strikes, .. }, E::Applied) => {
                (S::Canary { task, from, to, since, applied: true, good_ms, strikes }, vec![])
            }
            (
                S::Canary { task, from, to, since, applied: true, good_ms, strikes },
                E::Looked { ms, fault },
            ) => match judged(good_ms, strikes, ms, fault) {
                Err(why) => back(from, why),
                Ok((good_ms, _)) if good_ms >= verify_ms => {
                    (S::Spreading { from, to, since: now, good_ms: 0, strikes: 0 }, vec![Effect::Spread])
                }
                Ok((good_ms, strikes)) => {
                    (S::Canary { task, from, to, since, applied: true, good_ms, strikes }, vec![])
                }
            },
            (S::Spreading { from, to, since, good_ms, strikes }, E::Looked { ms, fault }) => {
                match judged(good_ms, strikes, ms, fault) {
                    Err(why) => back(from, why),
                    Ok((good_ms, strikes)) => (S::Spreading { from, to, since, good_ms, strikes }, vec![]),
                }
            }
            (S::Spreading { good_ms, .. }, E::Applied) if good_ms >= verify_ms => {
                (S::Steady, vec![Effect::Settled])
            }
            (S::Canary { from, .. } | S::Spreading { from, .. }, E::Broke(why)) => back(from, why),
            (S::Canary { from, .. } | S::Spreading { from, .. }, E::Withdrawn) => {
                back(from, "it was withdrawn".to_owned())
            }
            (S::Canary { from, since, .. }, E::Tick)
                if now.since(since) >= OVERDUE * verify_ms + ANSWER_MS =>
            {
                back(from, "it could not be judged in time".to_owned())
            }
            (S::Returning { .. }, E::Applied) => (S::Steady, vec![Effect::Returned]),

            // True, and nothing follows from it.
            (state, E::Tick | E::Applied | E::Looked { .. }) => (state, vec![]),
            (state @ (S::Steady | S::Returning { .. }), E::Broke(_) | E::Withdrawn) => (state, vec![]),
            (state, _) => (state, vec![Effect::Anomaly]),
        }
    }

    /// The size that a replica should have, `in_force` being that of all when nothing changes.
    #[must_use]
    pub fn wants(&self, replica: &TaskName, in_force: Size) -> Size {
        match self {
            State::Steady => in_force,
            State::Canary { task, to, .. } if task == replica => *to,
            State::Canary { from, .. } => *from,
            State::Spreading { to, .. } | State::Returning { to, .. } => *to,
        }
    }

    /// Its name, as in the documents.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Steady => "steady",
            State::Canary { .. } => "canary",
            State::Spreading { .. } => "spreading",
            State::Returning { .. } => "returning",
        }
    }
}

/// Counts a look: `Err` when it was one bad look too many.
fn judged(good_ms: u64, strikes: u8, ms: u64, fault: Option<String>) -> Result<(u64, u8), String> {
    match fault {
        None => Ok((good_ms + ms, 0)),
        Some(why) if strikes + 1 >= STRIKES => Err(why),
        Some(_) => Ok((good_ms, strikes + 1)),
    }
}

/// The size to go to now on the way to `wanted`, and whether the limit of a step made it another.
#[must_use]
pub fn step(from: Size, wanted: Size) -> (Size, bool) {
    let limit = |from: Option<u64>, wanted: Option<u64>| match (from, wanted) {
        (Some(from), Some(wanted)) => {
            let (least, most) = ((from as f64 * (1.0 - STEP_DOWN)).ceil(), (from as f64 * STEP_UP).floor());
            Some(wanted.clamp(least as u64, most as u64))
        }
        (from, _) => from,
    };
    let cpu = limit(from.cpu_max_millis.map(u64::from), wanted.cpu_max_millis.map(u64::from));
    let memory = limit(from.memory_max_bytes, wanted.memory_max_bytes);
    let to = Size {
        cpu_max_millis: cpu.and_then(|millis| u32::try_from(millis).ok()),
        memory_max_bytes: memory,
        ..from
    };
    let same = |a: Option<u64>, b: Option<u64>| b.is_none() || a == b;
    let reached = same(to.cpu_max_millis.map(u64::from), wanted.cpu_max_millis.map(u64::from))
        && same(to.memory_max_bytes, wanted.memory_max_bytes);
    (to, !reached)
}

/// Some limit of `to` is lower than that of `from`.
#[must_use]
pub fn lowers(from: Size, to: Size) -> bool {
    let lower = |from: Option<u64>, to: Option<u64>| from.zip(to).is_some_and(|(from, to)| to < from);
    lower(from.cpu_max_millis.map(u64::from), to.cpu_max_millis.map(u64::from))
        || lower(from.memory_max_bytes, to.memory_max_bytes)
}

/// What is wrong with a replica that was given `to` instead of `from`, by its own numbers.
#[must_use]
pub fn fault(replica: &ReplicaDigest, from: Size, to: Size) -> Option<String> {
    let task = &replica.task;
    if to.cpu_max_millis < from.cpu_max_millis
        && let Some(millis) = to.cpu_max_millis
    {
        let given = f64::from(millis.max(1)) / 1_000.0;
        if let Some(used) = replica.cpu_cores.filter(|used| *used >= FULL * given) {
            return Some(format!("{task} uses {used:.2} of its {given:.2} cores: no room is left"));
        }
        if let Some(held) = replica.throttled_ratio.filter(|held| *held > THROTTLED) {
            return Some(format!("{task} is held back by its quota {:.0} % of the time", held * 100.0));
        }
    }
    if to.memory_max_bytes < from.memory_max_bytes
        && let (Some(given), Some(used)) = (to.memory_max_bytes, replica.memory_bytes)
        && used as f64 >= FULL * given as f64
    {
        return Some(format!("{task} uses {used} of its {given} bytes: no room is left"));
    }
    None
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
