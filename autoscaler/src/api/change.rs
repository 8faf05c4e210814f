//! The change of a cluster that is on its way, those that are over, and what operators say about them.

use autoscaler_core::cluster::Past;
use autoscaler_core::view::{ChangeView, ClusterView};
use model::reason::Direction;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A cluster that keeps its own list of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name in the agents' configuration.
    pub cluster: String,
    /// Members in service that were not started by Trimtab.
    pub found: Vec<String>,
    /// The change on its way.
    pub change: Option<Change>,
    /// The newest changes that are over, newest first.
    pub past: Vec<PastChange>,
    /// The decision that recommends a change and can be approved.
    pub recommends: Option<String>,
}

/// A change that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The member that comes or goes.
    pub member: String,
    /// `out` (a member comes) or `in` (a member goes).
    pub direction: String,
    /// How far it is.
    pub state: String,
    /// Since when it is in that state.
    pub since_ms: u64,
    /// When it began.
    pub began_ms: u64,
    /// For how long it is on its way, ms.
    pub elapsed_ms: u64,
    /// How long it was expected to take, s.
    pub estimate_s: u64,
    /// Data that it moves, bytes.
    pub bytes: u64,
    /// What can be lost by it.
    pub risk: String,
    /// What it waits for.
    pub detail: String,
}

/// A change that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastChange {
    /// The member that came or went.
    pub member: String,
    /// `out` (a member came) or `in` (a member went).
    pub direction: String,
    /// `done`, `cancelled` or `failed`.
    pub ended: String,
    /// When it began.
    pub began_ms: u64,
    /// How long it took, ms.
    pub took_ms: u64,
    /// How long it was expected to take, s.
    pub estimate_s: u64,
    /// Data that it was expected to move, bytes.
    pub bytes: u64,
}

/// Lets a recommended change begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The decision that recommends it; absent = whichever does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
}

/// Says that a recommended change is not wanted, or not now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectRequest {
    /// The decision that recommends it; absent = whichever does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Why, for those who ask later.
    #[serde(default)]
    pub reason: String,
    /// For how long it is not offered again (`4h`), a minute to 30 days; absent = a day.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
}

/// Takes a change back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for those who ask later.
    #[serde(default)]
    pub reason: String,
}

fn word(direction: Direction) -> String {
    match direction {
        Direction::Grow => "out",
        Direction::Shrink => "in",
    }
    .to_owned()
}

impl From<ClusterView> for Cluster {
    fn from(view: ClusterView) -> Self {
        Self {
            cluster: view.cluster,
            found: view.found,
            change: view.change.map(Change::from),
            past: view.past.into_iter().map(PastChange::from).collect(),
            recommends: view.recommends.map(|id| id.to_string()),
        }
    }
}

impl From<ChangeView> for Change {
    fn from(view: ChangeView) -> Self {
        Self {
            member: view.member,
            direction: word(view.direction),
            state: view.state.to_owned(),
            since_ms: view.since.0,
            began_ms: view.began.0,
            elapsed_ms: view.elapsed_ms,
            estimate_s: view.price.seconds,
            bytes: view.price.bytes,
            risk: view.price.risk,
            detail: view.detail,
        }
    }
}

impl From<Past> for PastChange {
    fn from(past: Past) -> Self {
        Self {
            member: past.member,
            direction: word(past.direction),
            ended: past.ended.to_owned(),
            began_ms: past.began.0,
            took_ms: past.took_ms,
            estimate_s: past.price.seconds,
            bytes: past.price.bytes,
        }
    }
}
