//! What the REST interface says: types that clients may rely on. Times are ms of controller time.

mod change;
mod cluster;
mod container;
mod course;
mod decision;
mod doctor;
mod drain;
mod headroom;
mod idle;
mod neighbours;
mod node;
mod prices;
mod revision;
mod waits;
mod what_if;
mod workload;

pub use change::{ApproveRequest, CancelRequest, Change, Cluster, PastChange, RejectRequest};
pub use cluster::{Member, Members};
pub use container::{Container, Containers};
pub use course::Course;
pub use decision::{Alternative, Decision, Decisions, Explanation, Part, Prediction, ReasonText, Size};
pub use doctor::{Doctor, Finding, Service, Verdict};
pub use drain::{DrainPreview, Keeps};
pub use headroom::{Free, Headroom, Loss, More, Short, Survival};
#[cfg(feature = "service")]
pub(crate) use idle::cause_words;
pub use idle::{Amount, Idle, IdleCause, IdlePage, IdleShare, ResourceUsage, Usage, UsagePoints};
pub use neighbours::{Neighbour, Neighbours, NeighboursOn};
pub use node::{
    Drain, DrainRequest, EndedTask, EndedTasks, JoinToken, Network, Node, Nodes, Reserved, Task, Tasks,
    Unavailable,
};
pub use prices::{PriceTable, Prices, PricesApplied};
pub use revision::{Revision, Revisions, RollbackRequest};
pub use waits::{DelayBucket, Delays, Waits};
pub use what_if::{
    NodesLost, NodesNeeded, NodesOfType, Unplaced, WhatIf, WhatIfDifference, WhatIfNodeType, WhatIfOutcome,
    WhatIfReplicas, WhatIfRequest, WhatIfSaid, WhatIfSeries, WhatIfTarget, WhatIfWorkload,
};
pub use workload::{
    Applied, Load, Pause, Replica, SizeAdvice, SizeStatus, Workload, WorkloadDetail, Workloads,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version that every answer names.
pub const API_VERSION: &str = "trimtab/v1";

/// Whether the service acts, and why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `trimtab/v1`.
    pub api_version: String,
    /// The program's version.
    pub version: String,
    /// `acting`, `paused` or `frozen`.
    pub state: String,
    /// Why it is frozen: nothing can be made durable.
    pub frozen: Option<String>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// This controller's epoch.
    pub epoch: u64,
    /// Agents connected.
    pub agents: usize,
    /// Controller time.
    pub now_ms: u64,
}

/// What the caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// `trimtab/v1`.
    pub api_version: String,
    /// It may change something; `false` = a page without the session.
    pub writes: bool,
}

/// Values of one series at even distances; `null` where nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// `trimtab/v1`.
    pub api_version: String,
    /// `cores`, `bytes` or `seconds_per_second`.
    pub unit: String,
    /// Time of the first value.
    pub from_ms: u64,
    /// Distance of values, ms.
    pub step_ms: u64,
    /// The values.
    pub values: Vec<Option<f64>>,
}

/// Stops acting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseRequest {
    /// One workload; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Why, for those who ask later.
    #[serde(default)]
    pub reason: String,
    /// For how long (`2h`); absent = until resumed.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
}

/// Acts again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeRequest {
    /// One workload; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
}

/// A fault, RFC 9457.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`, or a URN that names the kind of fault.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here, and what to do.
    pub detail: String,
    /// Faults of a specification, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub faults: Vec<serde_json::Value>,
}

/// A value's word in the REST interface and in specifications.
pub(crate) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
