//! The journal run through a brain again: how a start regains its state, and how anyone checks that plans follow from
//! their inputs.
//!
//! A segment begins with a [`Base`]; a new brain is told the base, then (when the base says so) recent rounds of the
//! segment before to be warm, then every round of the segment. Each round of the segment that has a plan is asked
//! again, and the answer must be the stored one, bit for bit.

use autoscaler_core::brain::Brain;
use autoscaler_core::event::{Plan, Time};
use serde::Serialize;

use crate::store::{Base, Entry, Reader, Record, StoreError};

/// A round whose plan came out differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The record's number.
    pub seq: i64,
    /// Its time, ms of controller time.
    pub at_ms: u64,
    /// The plan as it was stored.
    pub stored: serde_json::Value,
    /// The plan as it came out now.
    pub replayed: serde_json::Value,
}

/// What a replay gave.
#[derive(Debug)]
pub struct Replayed {
    /// The brain at the end.
    pub brain: Brain,
    /// The base of the segment.
    pub base: Base,
    /// Rounds that were run.
    pub rounds: u64,
    /// Plans that were compared.
    pub plans: u64,
    /// Those that differed; at most [`KEPT`].
    pub differences: Vec<Difference>,
    /// How many differed.
    pub differed: u64,
    /// When the last plan asked to be asked again.
    pub wake_at: Option<Time>,
}

/// Differences that are kept to be shown.
pub const KEPT: usize = 20;

/// Runs one segment, from its base to its end. `None` when the record `first` is no base.
///
/// # Errors
/// [`StoreError`] when the journal cannot be read.
pub fn segment(reader: &Reader, first: i64, end: i64) -> Result<Option<Replayed>, StoreError> {
    let mut base = None;
    reader.journal(first, first + 1, |_, at, entry| {
        if let Entry::Base(found) = entry {
            base = Some((at, found));
        }
    })?;
    let Some((at, base)) = base else { return Ok(None) };
    let mut brain = Brain::new(base.config.into());
    for event in &base.events {
        brain.observe(event.clone(), at);
    }
    if let Some(warm_from) = base.warm_from {
        reader.journal(warm_from, first, |_, at, entry| {
            if let Entry::Round(record) = entry {
                run(&mut brain, record, at);
            }
        })?;
    }
    let mut replayed =
        Replayed { brain, base, rounds: 0, plans: 0, differences: Vec::new(), differed: 0, wake_at: None };
    reader.journal(first + 1, end, |seq, at, entry| {
        if let Entry::Round(record) = entry {
            replayed.rounds += 1;
            replayed.round(seq, at, record);
        }
    })?;
    Ok(Some(replayed))
}

/// Tells a round to a brain, and asks it when it was asked then.
fn run(brain: &mut Brain, record: Record, at: Time) -> Option<(Plan, Plan)> {
    for event in record.events {
        brain.observe(event, at);
    }
    let plans = record.plan.map(|stored| (stored, brain.next(at)));
    // The ledger's pages were stored when they were closed.
    brain.take_idle();
    plans
}

impl Replayed {
    fn round(&mut self, seq: i64, at: Time, record: Record) {
        let Some((stored, replayed)) = run(&mut self.brain, record, at) else { return };
        self.plans += 1;
        self.wake_at = replayed.wake_at;
        // As text, so that a last bit of a number counts.
        let text = |plan: &Plan| serde_json::to_string(plan).unwrap_or_default();
        if text(&stored) != text(&replayed) {
            let json = |plan: &Plan| serde_json::to_value(plan).unwrap_or_default();
            let (stored, replayed) = (json(&stored), json(&replayed));
            self.differed += 1;
            if self.differences.len() < KEPT {
                self.differences.push(Difference { seq, at_ms: at.0, stored, replayed });
            }
        }
    }
}
