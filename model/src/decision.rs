//! One act or non-act, with everything needed to judge it later.
//!
//! A decision names what each signal wished, which constraint bound, what else was possible and why it was not taken, what
//! should follow, and a hash of the inputs: replaying the journal must give the same hash and the same decision.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::action::Size;
use crate::id::{TaskName, WorkloadName};
use crate::reason::{Reason, Signal};
use crate::workload::Policy;

/// Numbers the decisions of one controller's store, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecisionId(pub u64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// FNV-1a over the inputs' canonical JSON; 16 hex digits in JSON, because a double cannot hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InputsHash(pub u64);

impl InputsHash {
    /// Hashes bytes. Offset and prime are those of 64-bit FNV-1a (Fowler, Noll, Vo; RFC 9923).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }
}

impl fmt::Display for InputsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for InputsHash {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InputsHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// More replicas.
    ScaleOut,
    /// Fewer replicas.
    ScaleIn,
    /// As many as before: a lost one is started again.
    Replace,
    /// As many as before, elsewhere: a node is being emptied.
    Move,
    /// A drain is cancelled: the replica takes requests again.
    CancelDrain,
    /// Another size of a replica.
    Resize,
    /// Nothing.
    Hold,
}

impl fmt::Display for DecisionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecisionKind::ScaleOut => "scale out",
            DecisionKind::ScaleIn => "scale in",
            DecisionKind::Replace => "replace",
            DecisionKind::Move => "move",
            DecisionKind::CancelDrain => "cancel drain",
            DecisionKind::Resize => "resize",
            DecisionKind::Hold => "hold",
        })
    }
}

/// What one signal wished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which signal.
    pub signal: Signal,
    /// Replicas by this signal alone; absent when it says nothing now.
    pub wish: Option<u32>,
    /// How it came to it, with numbers.
    pub detail: String,
}

/// Something else that could have been done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Replicas.
    pub replicas: u32,
    /// Why it was not taken.
    pub why: Reason,
}

/// What should follow from a decision; compared with what did follow once `after_ms` have passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// When it should be so, ms after the decision.
    pub after_ms: u64,
    /// Use of the replicas then, share of what they can carry.
    pub utilisation: f64,
    /// Load then, in replicas' worth at the target.
    pub load: f64,
}

/// What did follow from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Realised {
    /// When it was looked at, ms after the decision: the first fresh numbers after the predicted time.
    pub after_ms: u64,
    /// Use of the replicas then, share of what they can carry.
    pub utilisation: f64,
    /// Load then, in replicas' worth at the target.
    pub load: f64,
    /// Replicas that took requests then.
    pub serving: u32,
}

/// A decision about one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number.
    pub id: DecisionId,
    /// When, ms of controller time.
    pub at_ms: u64,
    /// About which workload.
    pub workload: WorkloadName,
    /// True when it is carried out; false for a non-act, and for an act that is only recommended.
    pub act: bool,
    /// What.
    pub kind: DecisionKind,
    /// Replicas that were wanted before.
    pub before: u32,
    /// Replicas that are wanted now.
    pub after: u32,
    /// Which replicas it starts, stops or resizes, in the order of execution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskName>,
    /// The size it recommends or sets, for a resize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What each signal wished.
    pub parts: Vec<Part>,
    /// What kept it from the largest wish, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Reason>,
    /// What else was possible.
    pub alternatives: Vec<Alternative>,
    /// What should follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
    /// What did follow, once its time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realised: Option<Realised>,
    /// Why, most important first.
    pub reasons: Vec<Reason>,
    /// Hash of everything that went into it.
    pub inputs_hash: InputsHash,
    /// By which policy.
    pub policy: Policy,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.workload, self.kind)?;
        if self.before != self.after {
            write!(f, " {} -> {}", self.before, self.after)?;
        }
        if !self.act && self.kind != DecisionKind::Hold {
            f.write_str(" (not carried out)")?;
        }
        for (at, reason) in self.reasons.iter().enumerate() {
            write!(f, "{} {reason}", if at == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        Decision {
            id: DecisionId(7),
            at_ms: 1_000,
            workload: WorkloadName::new("web").unwrap(),
            act: true,
            kind: DecisionKind::ScaleOut,
            before: 2,
            after: 4,
            tasks: vec![TaskName::new("web-3").unwrap(), TaskName::new("web-4").unwrap()],
            size: None,
            parts: vec![Part {
                signal: Signal::QueueDelay,
                wish: Some(4),
                detail: "p95 31 ms of 20 ms".to_owned(),
            }],
            binding: Some(Reason::AtMax { max: 4, wanted: 5 }),
            alternatives: vec![Alternative { replicas: 2, why: Reason::WithinTarget }],
            predicted: Some(Prediction { after_ms: 4_000, utilisation: 0.5, load: 1.9 }),
            realised: None,
            reasons: vec![Reason::QueueDelayAbove { p95_ms: 31.0, target_ms: 20.0, held_ms: 2_000 }],
            inputs_hash: InputsHash::of(b"a"),
            policy: Policy::Trimtab,
        }
    }

    #[test]
    fn its_json_is_a_contract() {
        let json = serde_json::to_string_pretty(&decision()).unwrap();
        assert_eq!(json, include_str!("decision.json").trim_end());
        assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision());
    }

    #[test]
    fn its_line_says_what_and_why() {
        assert_eq!(
            decision().to_string(),
            "web: scale out 2 -> 4: 95 % of requests wait up to 31 ms for a free thread, the target is 20 ms, \
             and it has been above for 2 s"
        );
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(InputsHash::of(b"").to_string(), "cbf29ce484222325");
        assert_eq!(InputsHash::of(b"foobar").to_string(), "85944171f73967e8");
    }
}
