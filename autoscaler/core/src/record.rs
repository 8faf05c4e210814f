//! What was decided about one workload: said once until it changes, kept for people, and compared with what followed from it.

use std::collections::VecDeque;

use model::decision::{Decision, DecisionId, DecisionKind, InputsHash, Prediction, Realised};
use model::id::{TaskName, WorkloadName};
use model::reason::Reason;
use model::workload::Workload;
use serde::Serialize;

use crate::assess::Assessment;
use crate::decide::Decided;
use crate::event::{Followed, Time};

/// Decisions kept for `explain`.
const DECISIONS_KEPT: usize = 64;

/// What makes a decision worth saying again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kind: DecisionKind,
    act: bool,
    before: u32,
    after: u32,
    codes: Vec<&'static str>,
}

/// The newest decisions.
#[derive(Debug, Default)]
pub(crate) struct Record {
    last: Option<Key>,
    decisions: VecDeque<Decision>,
    /// Acts whose predicted time has not come: which, taken when, due when.
    awaited: VecDeque<(DecisionId, Time, Time)>,
}

impl Record {
    /// All of them, newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// The newest.
    pub(crate) fn newest(&self) -> Option<&Decision> {
        self.decisions.front()
    }

    /// Things are different now: the next one is said also if it repeats the last.
    pub(crate) fn say_again(&mut self) {
        self.last = None;
    }

    /// Keeps it, unless it is a non-act that only repeats the last one: then false.
    pub(crate) fn say(&mut self, decision: &Decision) -> bool {
        // The two first: what holds it, and the main reason. Those behind come and go with noise.
        let mut codes: Vec<&'static str> = decision.reasons.iter().take(2).map(Reason::code).collect();
        codes.extend(decision.binding.iter().map(Reason::code));
        let key = Key {
            kind: decision.kind,
            act: decision.act,
            before: decision.before,
            after: decision.after,
            codes,
        };
        if !decision.act && self.last.as_ref() == Some(&key) {
            return false;
        }
        self.last = Some(key);
        self.keep(decision.clone());
        true
    }

    /// Keeps a decision for `explain`, and to compare what follows from it.
    pub(crate) fn keep(&mut self, decision: Decision) {
        if let Some(predicted) =
            decision.predicted.filter(|_| decision.act && decision.before != decision.after)
        {
            let at = Time(decision.at_ms);
            self.awaited.push_back((decision.id, at, at.after(predicted.after_ms)));
            self.awaited.truncate(DECISIONS_KEPT);
        }
        self.decisions.push_front(decision);
        if self.decisions.len() > DECISIONS_KEPT {
            // Acts are what people ask about: the oldest non-act goes first.
            let oldest = self.decisions.iter().rposition(|d| !d.act).unwrap_or(DECISIONS_KEPT);
            self.decisions.remove(oldest);
        }
    }

    /// What followed from decisions whose predicted time has come, by fresh numbers of now: use, load, and replicas that serve.
    pub(crate) fn followed(
        &mut self,
        workload: &WorkloadName,
        (utilisation, load, serving): (f64, f64, u32),
        now: Time,
    ) -> Vec<Followed> {
        let mut followed = Vec::new();
        while let Some((id, at, _)) = self.awaited.front().copied().filter(|(_, _, due)| *due <= now) {
            self.awaited.pop_front();
            let realised = Realised { after_ms: now.since(at), utilisation, load, serving };
            if !(utilisation.is_finite() && load.is_finite()) {
                continue;
            }
            if let Some(decision) = self.decisions.iter_mut().find(|decision| decision.id == id) {
                decision.realised = Some(realised);
            }
            followed.push(Followed { decision: id, workload: workload.clone(), at_ms: at.0, realised });
        }
        followed
    }
}

/// Ids of decisions: unique for the life of the store, like those of commands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DecisionIds {
    pub(crate) epoch: u64,
    pub(crate) given: u64,
}

impl DecisionIds {
    pub(crate) fn next(&mut self) -> DecisionId {
        self.given += 1;
        DecisionId(self.epoch << 32 | self.given)
    }
    /// The decision, with everything that explains it.
    pub(crate) fn decision<I: Serialize>(
        &mut self,
        decided: Decided,
        from: Grounds<'_, I>,
        now: Time,
    ) -> Decision {
        // The order of fields and of maps is fixed, and floats print the shortest form that reads back: canonical.
        let inputs_hash = InputsHash::of(&serde_json::to_vec(&from.inputs).unwrap_or_default());
        Decision {
            id: self.next(),
            at_ms: now.0,
            workload: from.workload.name.clone(),
            act: decided.act,
            kind: decided.kind,
            before: from.before,
            after: decided.to,
            tasks: from.tasks,
            size: None,
            parts: from.said.map(|said| said.parts.clone()).unwrap_or_default(),
            binding: decided.binding,
            alternatives: decided.alternatives,
            predicted: from.predicted.filter(|p| p.utilisation.is_finite()),
            realised: None,
            reasons: decided.reasons,
            inputs_hash,
            policy: from.workload.spec.policy,
        }
    }
}

/// What something was decided on.
pub(crate) struct Grounds<'a, I> {
    pub(crate) workload: &'a Workload,
    /// Replicas or members before.
    pub(crate) before: u32,
    /// Tasks that it is about.
    pub(crate) tasks: Vec<TaskName>,
    pub(crate) said: Option<&'a Assessment>,
    pub(crate) predicted: Option<Prediction>,
    /// All that it follows from; its hash tells whether two decisions had the same.
    pub(crate) inputs: I,
}
