//! Decisions and reasons: each reason has a code for programs and a sentence for people.

use autoscaler_core::view;
use model::decision as core;
use model::reason::Reason;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::word;

use super::workload::Workload;

/// Why something was done, or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReasonText {
    /// A short stable name.
    pub code: String,
    /// A sentence.
    pub text: String,
    /// Its numbers, by name.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl From<&Reason> for ReasonText {
    fn from(reason: &Reason) -> Self {
        let mut detail = serde_json::to_value(reason).unwrap_or_default();
        if let Some(fields) = detail.as_object_mut() {
            fields.remove("reason");
        }
        Self { code: reason.code().to_owned(), text: reason.to_string(), detail }
    }
}

/// Decisions, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Set while nothing is decided because nothing can be made durable.
    pub frozen: Option<String>,
    /// Newest first.
    pub items: Vec<Decision>,
    /// Give it as `cursor` for the next part.
    pub next: Option<String>,
}

/// An act or a non-act about one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Its number.
    pub id: String,
    /// When.
    pub at_ms: u64,
    /// About which workload.
    pub workload: String,
    /// It is carried out.
    pub act: bool,
    /// `scale_out`, `scale_in`, `replace`, `cancel_drain`, `resize`, `hold`.
    pub kind: String,
    /// Replicas wanted before.
    pub before: u32,
    /// Replicas wanted now.
    pub after: u32,
    /// Replicas that it is about.
    pub tasks: Vec<String>,
    /// Size of each replica that it recommends or sets, for a `resize` of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// One line: what and why.
    pub summary: String,
    /// Why, most important first.
    pub reasons: Vec<ReasonText>,
    /// What each signal wished.
    pub parts: Vec<Part>,
    /// What kept it from the largest wish.
    pub binding: Option<ReasonText>,
    /// What else was possible, and why it was not taken.
    pub alternatives: Vec<Alternative>,
    /// What should follow.
    pub predicted: Option<Prediction>,
    /// What did follow, once the predicted time has come.
    pub realised: Option<Realised>,
    /// Hash of everything that went into it.
    pub inputs_hash: String,
    /// By which policy.
    pub policy: String,
}

/// What a replica is given; what is absent stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// CPU quota, thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Memory limit.
    pub memory_bytes: Option<u64>,
}

/// What one signal wished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Which signal.
    pub signal: String,
    /// Replicas by this signal alone; absent when it says nothing.
    pub wish: Option<u32>,
    /// How it came to it.
    pub detail: String,
}

/// Something else that could have been done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alternative {
    /// Replicas.
    pub replicas: u32,
    /// Why it was not taken.
    pub why: ReasonText,
}

/// What did follow from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Realised {
    /// When it was looked at, ms after the decision.
    pub after_ms: u64,
    /// Use of the replicas then, share.
    pub utilisation: f64,
    /// Load then, in replicas' worth.
    pub load: f64,
    /// Replicas that took requests then.
    pub serving: u32,
}

/// What should follow from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// When it should be so, ms after the decision.
    pub after_ms: u64,
    /// Use of the replicas then, share.
    pub utilisation: f64,
    /// Load then, in replicas' worth.
    pub load: f64,
}

impl From<&core::Decision> for Decision {
    fn from(d: &core::Decision) -> Self {
        Self {
            id: d.id.to_string(),
            at_ms: d.at_ms,
            workload: d.workload.to_string(),
            act: d.act,
            kind: word(&d.kind),
            before: d.before,
            after: d.after,
            tasks: d.tasks.iter().map(ToString::to_string).collect(),
            size: d
                .size
                .map(|size| Size { cpu_millis: size.cpu_max_millis, memory_bytes: size.memory_max_bytes }),
            summary: d.to_string(),
            reasons: d.reasons.iter().map(ReasonText::from).collect(),
            parts: d
                .parts
                .iter()
                .map(|part| Part { signal: word(&part.signal), wish: part.wish, detail: part.detail.clone() })
                .collect(),
            binding: d.binding.as_ref().map(ReasonText::from),
            alternatives: d
                .alternatives
                .iter()
                .map(|other| Alternative { replicas: other.replicas, why: (&other.why).into() })
                .collect(),
            predicted: d.predicted.map(|p| Prediction {
                after_ms: p.after_ms,
                utilisation: p.utilisation,
                load: p.load,
            }),
            realised: d.realised.map(|r| Realised {
                after_ms: r.after_ms,
                utilisation: r.utilisation,
                load: r.load,
                serving: r.serving,
            }),
            inputs_hash: d.inputs_hash.to_string(),
            policy: word(&d.policy),
        }
    }
}

/// Why a workload is as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `trimtab/v1`.
    pub api_version: String,
    /// Set while nothing is done because nothing can be made durable.
    pub frozen: Option<String>,
    /// The workload now.
    pub workload: Workload,
    /// What holds it back now.
    pub blocks: Vec<ReasonText>,
    /// What would make it act.
    pub would_act: Vec<String>,
    /// The newest decisions, newest first.
    pub decisions: Vec<Decision>,
    /// Unexpected events, newest first: time, replica, what happened.
    pub anomalies: Vec<String>,
}

impl Explanation {
    /// From the brain's own, with the state of the store.
    #[must_use]
    pub fn new(explanation: view::Explanation, frozen: Option<String>) -> Self {
        Self {
            api_version: super::API_VERSION.to_owned(),
            frozen,
            workload: explanation.workload.into(),
            blocks: explanation.blocks.iter().map(ReasonText::from).collect(),
            would_act: explanation.would_act,
            decisions: explanation.decisions.iter().map(Decision::from).collect(),
            anomalies: explanation
                .anomalies
                .into_iter()
                .map(|a| format!("{} {}: {}", a.at.0, a.task, a.what))
                .collect(),
        }
    }
}
