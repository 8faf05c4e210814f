//! What was asked of a workload before.

use model::spec::to_document;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::store::RevisionRow;

/// What was asked of a workload, the newest 50 times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Newest first.
    pub items: Vec<Revision>,
}

/// An application or a withdrawal of a specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its number; numbers grow over all workloads, so those of one have gaps.
    pub revision: i64,
    /// When.
    pub at_ms: u64,
    /// The specification as a document that can be applied again; absent when it was withdrawn.
    #[schema(value_type = Option<Object>)]
    pub document: Option<serde_json::Value>,
    /// It is the one in force.
    pub in_force: bool,
    /// It withdrew the specification.
    pub withdrawn: bool,
}

/// Brings an earlier specification into force again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision to go back to.
    pub to: i64,
}

impl From<RevisionRow> for Revision {
    fn from(row: RevisionRow) -> Self {
        Self {
            revision: row.revision,
            at_ms: row.at.0,
            withdrawn: row.workload.is_none(),
            document: row.workload.as_ref().map(to_document),
            in_force: row.in_force,
        }
    }
}
