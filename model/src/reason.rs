//! Why something was done, or not.
//!
//! One value serves the log line, the API, the metric label and the test: its fields are structured, its `Display` is a
//! sentence that a newcomer understands, its [`Reason::code`] is a bounded label. A reason never holds free text from
//! outside except where its field says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gap::GapKind;
use crate::id::{NodeId, TaskName, WorkloadName};

mod signal;

pub use signal::{Resource, Signal};

/// Why something was done, or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    // Why it acts.
    /// Requests wait longer than the target, and have done so for long enough.
    QueueDelayAbove {
        /// 95th percentile now, ms.
        p95_ms: f64,
        /// The target, ms.
        target_ms: f64,
        /// Since when, ms.
        held_ms: u64,
    },
    /// A level is above its target, and has been so for long enough.
    LevelAbove {
        /// Of what.
        signal: Signal,
        /// Share now, 0.. .
        level: f64,
        /// Share wanted at most.
        target: f64,
        /// Since when, ms.
        held_ms: u64,
    },
    /// The load at the time when a replica would be ready is more than the present ones carry.
    ForecastAbove {
        /// Expected load (at the quantile that the risk asks for), in replicas' worth.
        load: f64,
        /// What is there, in replicas.
        capacity: f64,
        /// How far ahead, ms: the time that a replica needs to be ready.
        ahead_ms: u64,
    },
    /// Far more work than capacity: the panic window acts without waiting.
    Panic {
        /// Which signal.
        signal: Signal,
        /// Share of what is there, 1 = all of it.
        level: f64,
    },
    /// A replica is gone that nobody asked to stop.
    LostReplica {
        /// Which.
        task: TaskName,
        /// What was seen.
        why: String,
    },
    /// Fewer replicas than the specification's minimum.
    BelowMin {
        /// There are.
        have: u32,
        /// There must be.
        min: u32,
    },
    /// More replicas than the specification's maximum.
    AboveMax {
        /// There are.
        have: u32,
        /// There may be.
        max: u32,
    },
    /// All signals were low for the whole of the window, and the survivors can carry the load.
    ProvenIdle {
        /// Window, ms.
        window_ms: u64,
        /// Largest need within it, in replicas.
        largest_need: u32,
        /// Predicted use of the survivors, share.
        survivors: f64,
    },
    /// Use differs from the recommended size by more than the band.
    SizeDiffers {
        /// Of what: `cpu` or `memory`.
        resource: Resource,
        /// Given now, in millicores or bytes.
        given: u64,
        /// Recommended.
        recommended: u64,
    },
    /// The way to the recommended size is taken in steps.
    SizeStep {
        /// Of what.
        resource: Resource,
        /// This step goes to, in millicores or bytes.
        to: u64,
        /// Recommended.
        recommended: u64,
    },
    /// One replica gets a new size first and is watched.
    SizeCanary {
        /// Which.
        task: TaskName,
        /// For how long, ms of fresh data.
        verify_ms: u64,
    },
    /// The first replica held the new size: the others follow.
    SizeVerified {
        /// For how long it held it, ms of fresh data.
        held_ms: u64,
    },
    /// A new size was taken back from every replica that had it.
    SizeReturned {
        /// What went wrong.
        why: String,
        /// It is not tried again for, ms.
        hold_ms: u64,
    },
    /// Containers have waited longer than the target, and no node has room for them.
    ContainersWait {
        /// Without a pause since, ms.
        waited_ms: u64,
        /// The target, ms.
        target_ms: u64,
        /// How many wait now.
        pending: u32,
    },
    /// An operator approved what was recommended.
    Approved,
    /// An operator declined what was recommended: it is not offered again for a while.
    Declined {
        /// Why, in the operator's words.
        why: String,
        /// For how long it is still not offered, ms.
        left_ms: u64,
    },
    /// An operator wants a change of a cluster taken back.
    Cancelled {
        /// Why, in the operator's words.
        why: String,
    },
    /// A NodeManager is to advertise what its node can give now.
    Advertises {
        /// The member.
        member: String,
        /// Memory before and after, MiB.
        memory_mib: (u64, u64),
        /// Virtual cores before and after.
        vcores: (u32, u32),
        /// Cores of its node that count as used by others, and all cores of it.
        #[serde(default)]
        others: (f64, f64),
        /// Workloads that use most of them now, cores each.
        #[serde(default)]
        by: Vec<(WorkloadName, f64)>,
    },
    /// What a change of a cluster is expected to cost.
    Price {
        /// The member that comes or goes.
        member: String,
        /// How long, s.
        seconds: u64,
        /// Data that moves, bytes.
        bytes: u64,
        /// What can be lost by it, in words.
        risk: String,
    },
    /// Something must hold before a member of a cluster may come or go, and does not.
    Gate {
        /// Which member; empty = any.
        member: String,
        /// What does not hold.
        why: String,
    },
    /// No launcher is given: members of the cluster are seen, and none is started or ended.
    NoLauncher,
    /// Something happened to a change of a cluster that its users must hear of.
    Told {
        /// The member.
        member: String,
        /// What happened.
        what: String,
    },
    /// A survivor began to fail its checks: the drain is cancelled and the replica takes requests again.
    SurvivorFailing {
        /// Which.
        task: TaskName,
        /// What its check says.
        check: String,
    },
    /// Its node is being emptied: it is started elsewhere, then ended there.
    NodeDrained {
        /// Which node.
        node: NodeId,
        /// In the operator's words.
        why: String,
    },
    /// The policy of the Horizontal Pod Autoscaler computed this number.
    HpaRatio {
        /// Usage ÷ target.
        ratio: f64,
    },

    // Why it does not act.
    /// Everything is within its target.
    WithinTarget,
    /// The specification says to measure only.
    ObserveOnly,
    /// The specification says to recommend only.
    RecommendOnly,
    /// An operator paused it.
    Paused {
        /// In the operator's words.
        why: String,
        /// Time left, ms; absent = until resumed.
        left_ms: Option<u64>,
    },
    /// A part of the data is too old: nothing shrinks.
    Stale {
        /// Which.
        signal: Signal,
        /// Its age, ms.
        age_ms: u64,
        /// Oldest that is used, ms.
        limit_ms: u64,
    },
    /// A part of the data is missing: nothing shrinks.
    Missing {
        /// Which.
        signal: Signal,
    },
    /// There was a hole in a node's data: nothing shrinks until it has passed out of the window.
    DataGap {
        /// Which node.
        node: NodeId,
        /// What kind.
        kind: GapKind,
        /// Nothing shrinks for this long yet, ms.
        left_ms: u64,
    },
    /// Not enough was seen since the start (of the controller, or of the workload) to shrink.
    WarmingUp {
        /// Time left, ms.
        left_ms: u64,
    },
    /// The need is there, but not yet for long enough.
    NotYetLong {
        /// Which signal.
        signal: Signal,
        /// It has been so for, ms.
        held_ms: u64,
        /// It must be so for, ms.
        needed_ms: u64,
    },
    /// After a change it waits.
    Cooldown {
        /// Which direction is held back.
        direction: Direction,
        /// Time left, ms.
        left_ms: u64,
    },
    /// The need was higher within the window that a shrink looks back on.
    HoldWindow {
        /// Largest need within it, replicas.
        largest_need: u32,
        /// Time until it falls out of the window, ms.
        left_ms: u64,
    },
    /// A change is on its way; another one waits for it.
    ChangeUnderway {
        /// Which replica.
        task: TaskName,
        /// What it is doing.
        state: String,
    },
    /// As many replicas as the specification allows.
    AtMax {
        /// The bound.
        max: u32,
        /// What would be needed.
        wanted: u32,
    },
    /// As few replicas as the specification allows.
    AtMin {
        /// The bound.
        min: u32,
        /// What would do.
        wanted: u32,
    },
    /// At most so many at once.
    StepLimit {
        /// Which direction.
        direction: Direction,
        /// Replicas at once.
        step: u32,
        /// What would be needed.
        wanted: u32,
    },
    /// One more replica would open more database connections than there are.
    DatabaseCeiling {
        /// Connections that the replicas (old and new) would hold.
        connections: u32,
        /// Connections that they may hold.
        available: u32,
    },
    /// Without it the others would be too busy.
    SurvivorsTooBusy {
        /// Their predicted use, share.
        predicted: f64,
        /// The limit, share.
        limit: f64,
    },
    /// Too few replicas take requests for one to leave.
    TooFewUp {
        /// Would be left.
        left: u32,
        /// Must be left.
        needed: u32,
    },
    /// No connected node that may act lists the launcher.
    NoNodeWithLauncher {
        /// Which launcher.
        launcher: String,
    },
    /// No port of the range is free.
    NoFreePort {
        /// First of the range.
        from: u16,
        /// How many.
        span: u16,
    },
    /// Starts failed; it waits longer after each.
    StartBackoff {
        /// Failures in a row.
        failures: u32,
        /// Time left, ms.
        left_ms: u64,
        /// What the last one said.
        why: String,
    },
    /// Nothing is known yet of the node where a replica runs: neither lost nor there.
    NodeAwaited {
        /// Which node.
        node: NodeId,
        /// It counts as lost after, ms.
        left_ms: u64,
    },
    /// No agent reports the balancer's backend.
    NoBalancer {
        /// Which backend.
        backend: String,
    },
    /// The plan broke an invariant and was not carried out.
    PlanRefused {
        /// The invariant, as the checker words it.
        finding: String,
    },
}

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More.
    Grow,
    /// Less.
    Shrink,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Grow => "grow",
            Direction::Shrink => "shrink",
        })
    }
}

impl Reason {
    /// A short stable name: the value of the metric label `reason`, and the JSON tag.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Reason::QueueDelayAbove { .. } => "queue_delay_above",
            Reason::LevelAbove { .. } => "level_above",
            Reason::ForecastAbove { .. } => "forecast_above",
            Reason::Panic { .. } => "panic",
            Reason::LostReplica { .. } => "lost_replica",
            Reason::BelowMin { .. } => "below_min",
            Reason::AboveMax { .. } => "above_max",
            Reason::ProvenIdle { .. } => "proven_idle",
            Reason::SizeDiffers { .. } => "size_differs",
            Reason::SurvivorFailing { .. } => "survivor_failing",
            Reason::HpaRatio { .. } => "hpa_ratio",
            Reason::WithinTarget => "within_target",
            Reason::ObserveOnly => "observe_only",
            Reason::RecommendOnly => "recommend_only",
            Reason::Paused { .. } => "paused",
            Reason::Stale { .. } => "stale",
            Reason::Missing { .. } => "missing",
            Reason::DataGap { .. } => "data_gap",
            Reason::WarmingUp { .. } => "warming_up",
            Reason::NotYetLong { .. } => "not_yet_long",
            Reason::Cooldown { .. } => "cooldown",
            Reason::HoldWindow { .. } => "hold_window",
            Reason::ChangeUnderway { .. } => "change_underway",
            Reason::AtMax { .. } => "at_max",
            Reason::AtMin { .. } => "at_min",
            Reason::StepLimit { .. } => "step_limit",
            Reason::DatabaseCeiling { .. } => "database_ceiling",
            Reason::SurvivorsTooBusy { .. } => "survivors_too_busy",
            Reason::TooFewUp { .. } => "too_few_up",
            Reason::NoNodeWithLauncher { .. } => "no_node_with_launcher",
            Reason::NodeDrained { .. } => "node_drained",
            Reason::NoFreePort { .. } => "no_free_port",
            Reason::StartBackoff { .. } => "start_backoff",
            Reason::NodeAwaited { .. } => "node_awaited",
            Reason::NoBalancer { .. } => "no_balancer",
            Reason::PlanRefused { .. } => "plan_refused",
            Reason::SizeStep { .. } => "size_step",
            Reason::SizeCanary { .. } => "size_canary",
            Reason::SizeVerified { .. } => "size_verified",
            Reason::SizeReturned { .. } => "size_returned",
            Reason::ContainersWait { .. } => "containers_wait",
            Reason::Advertises { .. } => "advertises",
            Reason::Approved => "approved",
            Reason::Declined { .. } => "declined",
            Reason::Cancelled { .. } => "cancelled",
            Reason::Price { .. } => "price",
            Reason::Gate { .. } => "gate",
            Reason::NoLauncher => "no_launcher",
            Reason::Told { .. } => "told",
        }
    }
}

/// Seconds with one decimal, as people say them.
fn seconds(ms: u64) -> String {
    let tenths = (ms + 50) / 100;
    if tenths.is_multiple_of(10) {
        format!("{} s", tenths / 10)
    } else {
        format!("{}.{} s", tenths / 10, tenths % 10)
    }
}

fn replicas(n: u32) -> String {
    if n == 1 { "1 replica".to_owned() } else { format!("{n} replicas") }
}

fn needed(n: u32) -> String {
    format!("{} {}", replicas(n), if n == 1 { "was" } else { "were" })
}

fn there(n: u32) -> String {
    format!("{} {}", replicas(n), if n == 1 { "is" } else { "are" })
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

mod words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_json_tag() {
        let reasons = [
            Reason::WithinTarget,
            Reason::QueueDelayAbove { p95_ms: 31.0, target_ms: 20.0, held_ms: 2000 },
            Reason::Cooldown { direction: Direction::Shrink, left_ms: 1 },
        ];
        for reason in reasons {
            let tag = format!("{{\"reason\":\"{}\"", reason.code());
            let json = serde_json::to_string(&reason).unwrap();
            assert!(json.starts_with(&tag), "{json}");
        }
    }
}
