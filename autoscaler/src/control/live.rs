//! What is shown while it happens.

use autoscaler_core::view::WorkloadView;
use model::decision::Decision;
use tokio::sync::broadcast;

use crate::metrics::Metrics;

/// Events that a live stream may be behind before it misses some.
pub(super) const BEHIND: usize = 1024;

/// One thing that is shown live.
#[derive(Debug, Clone)]
pub enum Live {
    /// A decision was taken.
    Decision(Box<Decision>),
    /// A workload after a round.
    Workload(Box<WorkloadView>),
}

/// A live stream.
#[derive(Debug)]
pub struct Subscription {
    pub(super) events: broadcast::Receiver<Live>,
    pub(super) metrics: Metrics,
}

impl Subscription {
    /// The next event; `Err` with how many were missed when the reader was too slow; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Live, u64>> {
        match self.events.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                self.metrics.live_lagged.inc_by(missed);
                Some(Err(missed))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
