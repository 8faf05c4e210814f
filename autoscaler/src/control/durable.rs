//! What waits to be made durable while the store cannot be written.

use std::collections::VecDeque;

use autoscaler_core::event::{Event, Plan, Time};
use autoscaler_core::fleet::EndedTask;
use autoscaler_core::idle::Page;
use model::id::NodeId;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::store::Round;

/// A round that owns its parts.
#[derive(Debug)]
pub(super) struct OwnedRound {
    pub(super) at: Time,
    pub(super) events: Vec<Event>,
    pub(super) plan: Option<Plan>,
    pub(super) idle: Vec<Page>,
    pub(super) ended: Vec<(NodeId, EndedTask)>,
}

impl OwnedRound {
    pub(super) fn borrowed(&self) -> Round<'_> {
        Round {
            at: self.at,
            events: &self.events,
            plan: self.plan.as_ref(),
            idle: &self.idle,
            ended: &self.ended,
        }
    }
}

/// Why nothing is done at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Frozen {
    /// What the store says.
    pub why: String,
    /// Since when, ms of controller time.
    pub since_ms: u64,
}

/// Most rounds that wait. Above it the oldest measurements are dropped; what happened is never dropped.
const MOST: usize = 900;

/// Rounds in order of time, oldest first.
#[derive(Debug, Default)]
pub(super) struct Durable {
    frozen: Option<Frozen>,
    rounds: VecDeque<OwnedRound>,
}

impl Durable {
    pub(super) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    pub(super) fn freeze(&mut self, why: String, now: Time) {
        self.frozen = Some(Frozen { why, since_ms: now.0 });
    }

    pub(super) fn still(&mut self, why: String) {
        if let Some(frozen) = &mut self.frozen {
            frozen.why = why;
        }
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Keeps a round. Beyond the bound the measurements of the oldest waiting round without a plan are dropped; the
    /// brain has seen them, so the dropped count says that a replay of this stretch differs.
    pub(super) fn keep(&mut self, round: OwnedRound, metrics: &Metrics) {
        self.rounds.push_back(round);
        if self.rounds.len() <= MOST {
            return;
        }
        let measured = |event: &Event| matches!(event, Event::Digest(_) | Event::Nodes { .. });
        self.rounds.retain_mut(|round| {
            if round.plan.is_some() {
                return true;
            }
            let before = round.events.len();
            round.events.retain(|event| !measured(event));
            metrics.digests_dropped.inc_by((before - round.events.len()) as u64);
            !round.events.is_empty() || !round.ended.is_empty() || !round.idle.is_empty()
        });
    }

    pub(super) fn oldest(&self) -> Option<&OwnedRound> {
        self.rounds.front()
    }

    /// The oldest is durable now. Returns its plan.
    pub(super) fn written(&mut self) -> Option<Plan> {
        self.rounds.pop_front().and_then(|round| round.plan)
    }
}
