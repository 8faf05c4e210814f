//! How well a node's agent keeps up: what its ledgers say, what waits on its disk, what it lost, and how its clock stands.

use model::gap::Gap;
use model::node::Receipt;
use serde::Serialize;

use crate::event::Time;

/// What is known of an agent beside its samples; it outlasts a stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Standing {
    /// Its last comparison of CPU ledgers, with what waited on its disk then.
    pub receipt: Option<Receipt>,
    /// Its wall clock − the controller's when its newest batch came, ms: the batch's way is in it, some ms.
    pub clock_skew_ms: Option<i64>,
    /// Holes in its data that it told of, since the controller's start.
    pub gaps: u64,
    /// The newest of them, and when it was told.
    pub last_gap: Option<(Gap, Time)>,
}

impl Standing {
    /// It tells of a hole in its data.
    pub(super) fn gap(&mut self, gap: Gap, now: Time) {
        self.gaps += 1;
        self.last_gap = Some((gap, now));
    }
}
