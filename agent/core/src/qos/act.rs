//! What may be done, and to whom? To best-effort work only.

use model::id::TaskName;
use serde::Serialize;

/// Something to do to one best-effort task. None of them can name another task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Set its CPU quota, thousandths of a core; `None` = its own.
    Cap {
        /// Which.
        task: TaskName,
        /// How much.
        millis: Option<u32>,
    },
    /// Ask memory back.
    Reclaim {
        /// From whom.
        task: TaskName,
        /// How much.
        bytes: u64,
    },
    /// Slow it above so much memory; `None` = as its class says.
    High {
        /// Which.
        task: TaskName,
        /// Above which.
        bytes: Option<u64>,
    },
    /// Stop scheduling it.
    Freeze {
        /// Which.
        task: TaskName,
    },
    /// Schedule it again.
    Thaw {
        /// Which.
        task: TaskName,
    },
    /// End it.
    Stop {
        /// Which.
        task: TaskName,
        /// What its owner is told.
        why: String,
    },
}

impl Act {
    /// Whom it is done to.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        match self {
            Act::Cap { task, .. }
            | Act::Reclaim { task, .. }
            | Act::High { task, .. }
            | Act::Freeze { task }
            | Act::Thaw { task }
            | Act::Stop { task, .. } => task,
        }
    }
}
