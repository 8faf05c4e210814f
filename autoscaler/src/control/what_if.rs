//! What a what-if needs to know of now: one question to the loop, the rest is done elsewhere.

use super::handle::{Handle, Unreachable};
use crate::what_if::Known;

impl Handle {
    /// Workloads as learned, nodes, and which cgroups are whose.
    ///
    /// # Errors
    /// [`Unreachable`] at the end of the service.
    pub async fn what_if(&self) -> Result<Known, Unreachable> {
        self.ask(|control, now| Known {
            now,
            config: control.brain.config(),
            tasks_retain_ms: control.settings.journal.tasks_retain_ms,
            subjects: control.brain.subjects(),
            nodes: control.fleet.nodes(now),
            drained: control.brain.drains().into_keys().collect(),
            running: control.fleet.replicas(),
        })
        .await
    }
}
