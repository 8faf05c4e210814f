//! What goes over a node's network cards: the root cgroup's totals are those of the whole node.

use model::metric::Metric;
use model::sample::Values;
use serde::Serialize;

/// Bytes of all its cards, of the agent's newest round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NetworkView {
    /// Received since the cards came up, or the agent's start when one came later.
    pub received_bytes: u64,
    /// Sent, likewise.
    pub sent_bytes: u64,
    /// Received in the last interval, bytes per second.
    pub received_per_second: f64,
    /// Sent in it, likewise.
    pub sent_per_second: f64,
}

impl NetworkView {
    /// Of two readings with `seconds` between them, above 0; `None` when one of them lacks it.
    pub(super) fn between(before: &Values, after: &Values, seconds: f64) -> Option<Self> {
        let of = |metric| {
            let now = after.get(metric)?;
            Some((now, now.saturating_sub(before.get(metric)?) as f64 / seconds))
        };
        let ((received_bytes, received_per_second), (sent_bytes, sent_per_second)) =
            (of(Metric::NetworkReceived)?, of(Metric::NetworkSent)?);
        Some(Self { received_bytes, sent_bytes, received_per_second, sent_per_second })
    }
}
