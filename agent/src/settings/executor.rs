//! Who runs tasks on this host.

use serde::Deserialize;

use crate::executor::systemd::Systemd;

/// Who runs tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// systemd where it runs, else the agent itself.
    #[default]
    Auto,
    /// systemd: a transient service per task.
    Systemd,
    /// The agent itself, by a shim per task.
    Direct,
}

impl Executor {
    /// Whether that is systemd on this host.
    #[must_use]
    pub fn is_systemd(self) -> bool {
        match self {
            Executor::Auto => Systemd::is_here(),
            Executor::Systemd => true,
            Executor::Direct => false,
        }
    }
}
