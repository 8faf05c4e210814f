//! What was decided, said once until it changes, and what followed from it.

use model::decision::{Decision, DecisionId, DecisionKind, Realised};
use model::reason::Reason;

use super::{Controller, DECISIONS_KEPT};
use crate::event::{Followed, Time};

/// What makes a decision worth saying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    kind: DecisionKind,
    act: bool,
    before: u32,
    after: u32,
    codes: Vec<&'static str>,
}

impl Controller {
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

    /// What followed from decisions whose predicted time has come; nothing while there are no fresh numbers.
    pub(super) fn followed(&mut self, now: Time) -> Vec<Followed> {
        let serving = self.number(|r| r.state.serves());
        let Some(said) = self.said.as_ref().filter(|said| said.frozen.is_empty()) else { return Vec::new() };
        let (utilisation, load) = (said.utilisation, said.load);
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
            let workload = self.workload.name.clone();
            followed.push(Followed { decision: id, workload, at_ms: at.0, realised });
        }
        followed
    }

    /// Keeps a decision for `explain`, and to compare what follows from it.
    pub(super) fn keep(&mut self, decision: Decision) {
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
}
