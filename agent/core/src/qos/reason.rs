//! Why the isolation loop did something, or nothing: one value for the log, for `trimtab-agent qos` and for metric labels.

use std::fmt;

use model::id::TaskName;
use serde::Serialize;

use super::trial::{Added, By};

/// Why. CPU is in thousandths of a core, shares are 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "a variant's sentence names its fields, the enum their units")]
pub enum Reason {
    // Acts on CPU.
    /// Best-effort and latency-critical work meet: this is what best-effort work begins with.
    Began { millis: u32 },
    /// No latency-critical task runs here any more: nobody is to be protected.
    Opened,
    /// A latency-critical task waits too long for CPUs.
    DelayAbove { task: TaskName, delay_ns: u64, target_ns: u64, from: u32, to: u32 },
    /// Some thread of a latency-critical task waits for a CPU for too large a share of the time.
    CpuStallAbove { task: TaskName, share: f64, threshold: f64, from: u32, to: u32 },
    /// Pauses showed that best-effort work adds too much to a task's waits or computing.
    Harms { task: TaskName, added: Added, from: u32, to: u32 },
    /// Pauses showed no harm at the limit that earlier ones have set: a step more may be tried.
    HarmlessSoFar { from: u32, to: u32 },
    /// Pauses showed no harm with all that headroom leaves: less of it is left free, shares of the node's CPUs.
    HeadroomEarned { from: f64, to: f64 },
    /// Best-effort work pauses, to see what it adds to waits.
    Paused { tasks: usize },
    /// The others use more: headroom would be gone.
    HeadroomShort { others: u32, from: u32, to: u32 },
    /// Calm for long enough.
    Grown { from: u32, to: u32, clean_ms: u64 },
    /// Without data for too long.
    BlindTooLong { for_ms: u64, from: u32, to: u32 },
    // Non-acts on CPU.
    /// Nothing to decide on.
    NoBestEffort,
    /// Nobody to protect: only the kernel's own order holds.
    NoLatencyCritical,
    /// A latency-critical task suffers, and best-effort work has no more than its floor: it is not the cause that is left.
    AtFloor { task: TaskName, millis: u32 },
    /// All that headroom and the others leave.
    AtCeiling { millis: u32 },
    /// More was harm when it was tried.
    AtLimit { millis: u32 },
    /// Near a threshold: nothing grows.
    NotCalm { task: TaskName, of_threshold: f64 },
    /// Memory is not calm: nothing grows.
    MemoryNotCalm,
    /// Calm, and not yet for long enough.
    NotLongEnough { left_ms: u64 },
    /// The next step of growth is due later.
    Paced { left_ms: u64 },
    /// Best-effort work pauses: nothing is decided on what it does.
    PauseHolds,
    /// Something was not read: nothing grows.
    NoData { what: String, for_ms: u64 },
    // Acts on memory.
    /// Memory is asked back from best-effort work.
    Reclaimed { cause: Cause, bytes: u64 },
    /// Best-effort work is slowed above less memory than it has.
    SlowedEarlier { cause: Cause, tasks: usize },
    /// Best-effort work is frozen.
    Frozen { cause: Cause, tasks: usize },
    /// The youngest best-effort task is ended.
    Stopped { cause: Cause, task: TaskName },
    /// Calm for long enough: what was taken is given back.
    Undone { clean_ms: u64 },
    /// Frozen for long, and it is no better: best-effort work is not the cause.
    FreezingDidNotHelp { for_ms: u64, rest_ms: u64 },
    // Non-acts on memory.
    /// Enough for everybody.
    MemoryCalm,
    /// The last grade has not had its time yet, or nothing stronger is allowed.
    GradeHolds { cause: Cause, grade: &'static str },
    /// It is not calm yet, or not for long enough, or not known: what was taken is kept.
    GradeKept { grade: &'static str },
    /// Best-effort work was not the cause a while ago.
    Rests { left_ms: u64 },
    /// This host can do nothing about it.
    NothingPossible { cause: Cause },
}

/// What is wrong with memory.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "a variant's sentence names its fields, the enum their units")]
pub enum Cause {
    /// A latency-critical task waits for memory.
    Stall { task: TaskName, share: f64, threshold: f64 },
    /// The node has little left.
    Short { free: f64, threshold: f64 },
}

/// Every code, for metrics that name those that have not happened yet.
pub const CODES: [&str; 33] = [
    "began",
    "opened",
    "delay_above",
    "cpu_stall_above",
    "harms",
    "harmless_so_far",
    "headroom_earned",
    "paused",
    "headroom_short",
    "grown",
    "blind_too_long",
    "no_best_effort",
    "no_latency_critical",
    "at_floor",
    "at_ceiling",
    "at_limit",
    "not_calm",
    "memory_not_calm",
    "not_long_enough",
    "paced",
    "pause_holds",
    "no_data",
    "reclaimed",
    "slowed_earlier",
    "frozen",
    "stopped",
    "undone",
    "freezing_did_not_help",
    "memory_calm",
    "grade_holds",
    "grade_kept",
    "rests",
    "nothing_possible",
];

impl Reason {
    /// A bounded label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Reason::Began { .. } => "began",
            Reason::Opened => "opened",
            Reason::DelayAbove { .. } => "delay_above",
            Reason::CpuStallAbove { .. } => "cpu_stall_above",
            Reason::Harms { .. } => "harms",
            Reason::HarmlessSoFar { .. } => "harmless_so_far",
            Reason::HeadroomEarned { .. } => "headroom_earned",
            Reason::Paused { .. } => "paused",
            Reason::HeadroomShort { .. } => "headroom_short",
            Reason::Grown { .. } => "grown",
            Reason::BlindTooLong { .. } => "blind_too_long",
            Reason::NoBestEffort => "no_best_effort",
            Reason::NoLatencyCritical => "no_latency_critical",
            Reason::AtFloor { .. } => "at_floor",
            Reason::AtCeiling { .. } => "at_ceiling",
            Reason::AtLimit { .. } => "at_limit",
            Reason::NotCalm { .. } => "not_calm",
            Reason::MemoryNotCalm => "memory_not_calm",
            Reason::NotLongEnough { .. } => "not_long_enough",
            Reason::Paced { .. } => "paced",
            Reason::PauseHolds => "pause_holds",
            Reason::NoData { .. } => "no_data",
            Reason::Reclaimed { .. } => "reclaimed",
            Reason::SlowedEarlier { .. } => "slowed_earlier",
            Reason::Frozen { .. } => "frozen",
            Reason::Stopped { .. } => "stopped",
            Reason::Undone { .. } => "undone",
            Reason::FreezingDidNotHelp { .. } => "freezing_did_not_help",
            Reason::MemoryCalm => "memory_calm",
            Reason::GradeHolds { .. } => "grade_holds",
            Reason::GradeKept { .. } => "grade_kept",
            Reason::Rests { .. } => "rests",
            Reason::NothingPossible { .. } => "nothing_possible",
        }
    }

    /// Whether something was changed.
    #[must_use]
    pub fn acts(&self) -> bool {
        matches!(
            self,
            Reason::Began { .. }
                | Reason::Opened
                | Reason::DelayAbove { .. }
                | Reason::CpuStallAbove { .. }
                | Reason::Harms { .. }
                | Reason::HarmlessSoFar { .. }
                | Reason::HeadroomEarned { .. }
                | Reason::Paused { .. }
                | Reason::HeadroomShort { .. }
                | Reason::Grown { .. }
                | Reason::BlindTooLong { .. }
                | Reason::Reclaimed { .. }
                | Reason::SlowedEarlier { .. }
                | Reason::Frozen { .. }
                | Reason::Stopped { .. }
                | Reason::Undone { .. }
                | Reason::FreezingDidNotHelp { .. }
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Stall { task, share, threshold } => {
                write!(
                    f,
                    "{task} waits for memory {} of the time, borne is {}",
                    percent(*share),
                    percent(*threshold)
                )
            }
            Cause::Short { free, threshold } => {
                write!(f, "{} of the memory is available, wanted is {}", percent(*free), percent(*threshold))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| ns as f64 / 1e6;
        match self {
            Reason::Began { millis } => write!(f, "best-effort work begins with {millis}m"),
            Reason::Opened => f.write_str("no latency-critical task runs here: no limit"),
            Reason::DelayAbove { task, delay_ns, target_ns, from, to } => write!(
                f,
                "{task} waits {:.2} ms for a CPU, borne is {:.2} ms: {from}m → {to}m",
                ms(*delay_ns),
                ms(*target_ns)
            ),
            Reason::CpuStallAbove { task, share, threshold, from, to } => write!(
                f,
                "{task} waits for a CPU {} of the time, borne is {}: {from}m → {to}m",
                percent(*share),
                percent(*threshold)
            ),
            Reason::Harms { task, added, from, to } => {
                let Added { by, with, without, pauses, .. } = added;
                match by {
                    By::Delay => {
                        write!(f, "{task} waits {:.2} ms for a CPU, {:.2}", with / 1e6, without / 1e6)
                    }
                    By::Stall => {
                        write!(
                            f,
                            "{task} waits for a CPU {} of the time, {}",
                            percent(*with),
                            percent(*without)
                        )
                    }
                    By::Cpu => {
                        write!(f, "{task} takes {:.0}m of CPU, {:.0}m", with * 1e3, without * 1e3)
                    }
                }?;
                write!(f, " in {pauses} pauses of best-effort work: {from}m → {to}m")
            }
            Reason::HarmlessSoFar { from, to } => {
                write!(f, "pauses show no harm at {from}m: up to {to}m may be tried")
            }
            Reason::HeadroomEarned { from, to } => {
                write!(f, "pauses show no harm: headroom {} → {}", percent(*from), percent(*to))
            }
            Reason::Paused { tasks } => {
                write!(f, "{tasks} best-effort task(s) pause to show what they add to waits")
            }
            Reason::HeadroomShort { others, from, to } => {
                write!(f, "others use {others}m: {from}m → {to}m keeps the headroom")
            }
            Reason::Grown { from, to, clean_ms } => {
                write!(f, "calm for {:.0} s: {from}m → {to}m", *clean_ms as f64 / 1e3)
            }
            Reason::BlindTooLong { for_ms, from, to } => {
                write!(f, "no data for {:.1} s: {from}m → {to}m", *for_ms as f64 / 1e3)
            }
            Reason::NoBestEffort => f.write_str("no best-effort task runs here"),
            Reason::NoLatencyCritical => f.write_str("no latency-critical task runs here"),
            Reason::AtFloor { task, millis } => {
                write!(f, "{task} suffers, and best-effort work is at its floor of {millis}m already")
            }
            Reason::AtCeiling { millis } => write!(f, "{millis}m is all that headroom and the others leave"),
            Reason::AtLimit { millis } => write!(f, "more than {millis}m was harm when it was tried"),
            Reason::NotCalm { task, of_threshold } => {
                write!(f, "{task} is at {} of what is borne: nothing grows", percent(*of_threshold))
            }
            Reason::MemoryNotCalm => f.write_str("memory is not calm: nothing grows"),
            Reason::NotLongEnough { left_ms } => {
                write!(f, "calm, and has to be for {:.1} s more", *left_ms as f64 / 1e3)
            }
            Reason::Paced { left_ms } => write!(f, "grows again in {left_ms} ms"),
            Reason::PauseHolds => f.write_str("best-effort work pauses"),
            Reason::NoData { what, for_ms } => {
                write!(f, "nothing is known of {what} for {:.1} s: nothing grows", *for_ms as f64 / 1e3)
            }
            Reason::Reclaimed { cause, bytes } => write!(f, "{cause}: {} MiB are asked back", bytes >> 20),
            Reason::SlowedEarlier { cause, tasks } => {
                write!(f, "{cause}: {tasks} task(s) are slowed earlier")
            }
            Reason::Frozen { cause, tasks } => write!(f, "{cause}: {tasks} task(s) are frozen"),
            Reason::Stopped { cause, task } => write!(f, "{cause}: {task} is stopped, the youngest"),
            Reason::Undone { clean_ms } => {
                write!(f, "memory is calm for {:.0} s: given back", *clean_ms as f64 / 1e3)
            }
            Reason::FreezingDidNotHelp { for_ms, rest_ms } => write!(
                f,
                "frozen for {:.0} s and no better: given back, left alone for {:.0} s",
                *for_ms as f64 / 1e3,
                *rest_ms as f64 / 1e3
            ),
            Reason::MemoryCalm => f.write_str("memory is enough"),
            Reason::GradeHolds { cause, grade } => write!(f, "{cause}: {grade} has to show its effect first"),
            Reason::GradeKept { grade } => write!(f, "{grade} stays until memory is calm for long enough"),
            Reason::Rests { left_ms } => {
                write!(f, "freezing did not help: left alone for {:.0} s more", *left_ms as f64 / 1e3)
            }
            Reason::NothingPossible { cause } => write!(f, "{cause}: this host can do nothing about it"),
        }
    }
}
