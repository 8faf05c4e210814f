//! Which decisions do people see? Not every reading's: what changed something, and the last of what did not.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::reason::Reason;

/// Decisions kept for people.
const KEPT: usize = 64;
/// Two decisions within this time may be one line for people, ms.
const SOON_MS: u64 = 2_000;
/// What was decided, when and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When, ms on the boot clock.
    pub at_ms: u64,
    /// Something was changed.
    pub acts: bool,
    /// Why, or why not.
    pub reason: Reason,
}

/// What was decided lately, and how often for which reason.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    decisions: VecDeque<Decision>,
    counts: BTreeMap<&'static str, u64>,
}

impl Log {
    /// Notes a decision for a reading.
    pub(super) fn note(&mut self, at_ms: u64, reason: &Reason) {
        *self.counts.entry(reason.code()).or_default() += 1;
        // It grows again within the second: that is one decision. Pauses are counted, and what they showed is in the table of tasks.
        if matches!(reason, Reason::Paced { .. } | Reason::Paused { .. } | Reason::PauseHolds) {
            return;
        }
        let acts = reason.acts();
        let memory = is_about_memory(reason);
        let last = self.decisions.iter_mut().rev().find(|d| is_about_memory(&d.reason) == memory);
        if let Some(last) = last {
            let soon = at_ms.saturating_sub(last.at_ms) <= SOON_MS;
            match (&mut last.reason, reason) {
                // Growth of many seconds is one line.
                (Reason::Grown { to, clean_ms, .. }, Reason::Grown { to: now, clean_ms: since, .. })
                    if soon =>
                {
                    (*to, *clean_ms, last.at_ms) = (*now, *since, at_ms);
                    return;
                }
                (before, now) if !acts && before.code() == now.code() => return,
                // The newest of many that change nothing.
                (before, now) if !acts && !last.acts => {
                    (*before, last.at_ms) = (now.clone(), at_ms);
                    return;
                }
                _ => {}
            }
        }
        self.decisions.push_back(Decision { at_ms, acts, reason: reason.clone() });
        if self.decisions.len() > KEPT {
            self.decisions.pop_front();
        }
    }

    /// Oldest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.decisions.iter()
    }

    pub(super) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

fn is_about_memory(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Reclaimed { .. }
            | Reason::SlowedEarlier { .. }
            | Reason::Frozen { .. }
            | Reason::Stopped { .. }
            | Reason::Undone { .. }
            | Reason::FreezingDidNotHelp { .. }
            | Reason::MemoryCalm
            | Reason::GradeHolds { .. }
            | Reason::GradeKept { .. }
            | Reason::Rests { .. }
            | Reason::NothingPossible { .. }
    )
}
