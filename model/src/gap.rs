//! Why a number is missing. Each kind is a different fact: none of them is zero, and none lets anything shrink.

use serde::{Deserialize, Serialize};

/// What kind of hole in the data this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// Nothing arrived for longer than three intervals.
    Stale,
    /// Samples were taken but are gone; totals are still right.
    Lost,
    /// The agent or the task started anew in between.
    Restarted,
    /// Some of the values of a sample could not be read.
    Partial,
    /// The wall clock was set.
    ClockStepped,
    /// Samples were merged to a coarser interval because the spool was full.
    Merged,
}

/// One hole, on the node's boot clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What kind.
    pub kind: GapKind,
    /// Start, CLOCK_BOOTTIME ns.
    pub from_ns: u64,
    /// End, CLOCK_BOOTTIME ns.
    pub to_ns: u64,
    /// The cause, for people.
    pub cause: String,
}

/// Why a metric cannot be had at all on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// The metric's name in the catalogue, or a feature's name.
    pub what: String,
    /// The reason, for people, with what would give it.
    pub why: String,
}
