//! What a kind of workload says about its need, in one form for all kinds.

use model::decision::Part;
use model::reason::{Reason, Signal};

/// One round's judgement of the signals, before bounds and stabilising.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// What each signal wishes.
    pub parts: Vec<Part>,
    /// Replicas that the largest wish needs.
    pub need: u32,
    /// Whose wish that is.
    pub signal: Signal,
    /// It cannot wait.
    pub panic: bool,
    /// Why more is needed; empty when it is not.
    pub grow: Vec<Reason>,
    /// Why nothing may shrink; empty when all data is fresh.
    pub frozen: Vec<Reason>,
    /// Load now in units of one replica's capacity at the target.
    pub load: f64,
    /// The same at t + τ.
    pub ahead: f64,
    /// Use of what is there, share.
    pub utilisation: f64,
}

impl Assessment {
    /// Nothing is known: keep what is there.
    #[must_use]
    pub fn blind(wanted: u32, frozen: Vec<Reason>) -> Self {
        Self {
            parts: Vec::new(),
            need: wanted,
            signal: Signal::Samples,
            panic: false,
            grow: Vec::new(),
            frozen,
            load: 0.0,
            ahead: 0.0,
            utilisation: 0.0,
        }
    }

    /// Takes a wish into account.
    pub fn wish(&mut self, signal: Signal, wish: u32, detail: String) {
        self.parts.push(Part { signal, wish: Some(wish), detail });
        if wish > self.need || self.parts.len() == 1 {
            self.need = wish;
            self.signal = signal;
        }
    }

    /// Predicted use of what is left when one of `serving` leaves.
    #[must_use]
    pub fn survivors(&self, serving: u32, leaving: u32) -> f64 {
        let left = serving.saturating_sub(leaving);
        if left == 0 { f64::INFINITY } else { self.utilisation * f64::from(serving) / f64::from(left) }
    }
}

/// Freshness of the samples of the replicas that are there.
pub(crate) fn samples(
    replicas: &[crate::event::ReplicaDigest],
    expected: &std::collections::BTreeSet<model::id::TaskName>,
    limit_ms: u64,
) -> Option<Reason> {
    let mut oldest = 0;
    for task in expected {
        match replicas.iter().find(|r| r.task == *task).and_then(|r| r.age_ms) {
            None => return Some(Reason::Missing { signal: Signal::Samples }),
            Some(age) => oldest = oldest.max(age),
        }
    }
    (oldest > limit_ms).then_some(Reason::Stale { signal: Signal::Samples, age_ms: oldest, limit_ms })
}
