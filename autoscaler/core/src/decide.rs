//! From an assessment to one decision about one workload: bounds, then patience, then the gates of a shrink.
//!
//! The order is the policy, and it is all here: what the signals wish (the kind's `assess`), what the bounds and shared
//! ceilings leave of it, whether it may be now ([`crate::stabilise`]), how large a step, and, for a shrink only, whether
//! every gate is open: fresh proof, nothing else changing, enough replicas left, the survivors not too busy. Growing
//! beats shrinking; whatever is refused stays in the answer with its reason.

use model::decision::{Alternative, DecisionKind};
use model::id::TaskName;
use model::reason::{Direction, Reason};
use model::workload::{Policy, WorkloadSpec};

use crate::assess::Assessment;
use crate::event::Time;
use crate::hpa::Hpa;
use crate::stabilise::{Round, Stabiliser, Verdict};

/// Where a workload stands before the decision.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// Its specification.
    pub spec: &'a WorkloadSpec,
    /// Replicas wanted so far.
    pub wanted: u32,
    /// Replicas that take requests.
    pub serving: u32,
    /// Most processes that a shared ceiling allows, with the reason to give.
    pub ceiling: Option<(u32, Reason)>,
    /// A replica on its way up or out or failing its checks, and what it is doing.
    pub changing: Option<(TaskName, String)>,
    /// Why acting is not allowed, if it is not.
    pub held: Option<Reason>,
    /// What the HPA's rule desires, when that policy is chosen.
    pub hpa: Option<u32>,
}

/// A decision, before replicas are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What.
    pub kind: DecisionKind,
    /// Replicas wanted now.
    pub to: u32,
    /// It is to be carried out.
    pub act: bool,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What kept it from the largest wish.
    pub binding: Option<Reason>,
    /// What else was possible.
    pub alternatives: Vec<Alternative>,
}

/// Decides.
pub fn decide(
    standing: &Standing<'_>,
    said: &Assessment,
    stabiliser: &mut Stabiliser,
    hpa: &mut Hpa,
    now: Time,
) -> Decided {
    let spec = standing.spec;
    let mut decided = Decided {
        kind: DecisionKind::Hold,
        to: standing.wanted,
        act: false,
        reasons: Vec::new(),
        binding: None,
        alternatives: Vec::new(),
    };
    let need = bounded(standing, said.need, &mut decided.binding);
    let round = Round {
        wanted: standing.wanted,
        need,
        signal: said.signal,
        panic: said.panic,
        fresh: said.frozen.is_empty(),
    };
    let mut verdict = stabiliser.judge(round, &spec.behavior, now);
    if let (Policy::Hpa, Some(desired)) = (spec.policy, standing.hpa) {
        verdict = parity(standing, desired, hpa, now);
        // Its own window begins with what it saw first, and is no proof.
        if matches!(verdict, Verdict::Shrink(_))
            && let Some(reason) = stabiliser.warming_up(&spec.behavior, now)
        {
            verdict = Verdict::Stay(reason);
        }
    }
    match verdict {
        Verdict::Grow(to) => grow(standing, said, to, stabiliser.above_ms(now), &mut decided),
        Verdict::Shrink(to) => shrink(standing, said, to, stabiliser.largest_need(), &mut decided),
        Verdict::Stay(reason) => {
            // What keeps it from shrinking is said also while nothing asks for less: it is why it could not.
            decided.reasons.extend(said.frozen.iter().cloned());
            if need < standing.wanted {
                decided.alternatives.push(Alternative { replicas: need, why: reason.clone() });
            }
            match (&reason, &decided.binding) {
                (Reason::WithinTarget, Some(binding)) => decided.reasons.push(binding.clone()),
                // On data that may be old nothing can be said to be within its target.
                (Reason::WithinTarget, None) if !said.frozen.is_empty() => {}
                _ => decided.reasons.push(reason),
            }
        }
    }
    if let Some(held) = &standing.held {
        decided.act = false;
        decided.reasons.insert(0, held.clone());
    }
    decided
}

/// The need within the bounds and the shared ceiling; what bound it is noted.
fn bounded(standing: &Standing<'_>, need: u32, binding: &mut Option<Reason>) -> u32 {
    let replicas = standing.spec.replicas;
    if need > replicas.max {
        *binding = Some(Reason::AtMax { max: replicas.max, wanted: need });
    } else if need < replicas.min {
        *binding = Some(Reason::AtMin { min: replicas.min, wanted: need });
    }
    let need = need.clamp(replicas.min, replicas.max);
    match &standing.ceiling {
        // A ceiling stops growth; it never takes away what is there.
        Some((ceiling, why)) if need > (*ceiling).max(standing.wanted) => {
            *binding = Some(why.clone());
            (*ceiling).max(standing.wanted)
        }
        _ => need,
    }
}

fn parity(standing: &Standing<'_>, desired: u32, hpa: &mut Hpa, now: Time) -> Verdict {
    let bounds = (standing.spec.replicas.min, standing.spec.replicas.max);
    let to = hpa.stabilise(standing.wanted, desired, bounds, now);
    match to.cmp(&standing.wanted) {
        std::cmp::Ordering::Greater => Verdict::Grow(to),
        std::cmp::Ordering::Less => Verdict::Shrink(to),
        std::cmp::Ordering::Equal => Verdict::Stay(Reason::WithinTarget),
    }
}

fn grow(standing: &Standing<'_>, said: &Assessment, to: u32, above_ms: u64, decided: &mut Decided) {
    let behavior = &standing.spec.behavior;
    let most = standing.wanted.saturating_add(behavior.step_up.max(1));
    if to > most && standing.hpa.is_none() {
        let step = behavior.step_up.max(1);
        decided.binding = Some(Reason::StepLimit { direction: Direction::Grow, step, wanted: to });
    }
    decided.kind = DecisionKind::ScaleOut;
    decided.to = if standing.hpa.is_none() { to.min(most) } else { to };
    decided.act = true;
    decided.reasons.extend(said.grow.iter().cloned().map(|reason| held_for(reason, above_ms)));
    if let Some(desired) = standing.hpa {
        decided.reasons =
            vec![Reason::HpaRatio { ratio: f64::from(desired) / f64::from(standing.wanted.max(1)) }];
    }
    if decided.reasons.is_empty() {
        let (level, target) = (f64::from(said.need) / f64::from(standing.wanted.max(1)), 1.0);
        decided.reasons.push(Reason::LevelAbove { signal: said.signal, level, target, held_ms: above_ms });
    }
    decided.alternatives.push(Alternative {
        replicas: standing.wanted,
        why: Reason::LevelAbove {
            signal: said.signal,
            level: said.ahead.max(said.load) / f64::from(standing.wanted.max(1)),
            target: 1.0,
            held_ms: above_ms,
        },
    });
}

fn held_for(reason: Reason, above_ms: u64) -> Reason {
    match reason {
        Reason::QueueDelayAbove { p95_ms, target_ms, .. } => {
            Reason::QueueDelayAbove { p95_ms, target_ms, held_ms: above_ms }
        }
        Reason::LevelAbove { signal, level, target, .. } => {
            Reason::LevelAbove { signal, level, target, held_ms: above_ms }
        }
        reason => reason,
    }
}

fn shrink(standing: &Standing<'_>, said: &Assessment, to: u32, largest_need: u32, decided: &mut Decided) {
    let behavior = &standing.spec.behavior;
    let least = standing.wanted.saturating_sub(behavior.step_down.max(1));
    let to = to.max(least);
    let leaving = standing.wanted - to;
    let survivors = said.survivors(standing.serving, leaving);
    let left = standing.serving.saturating_sub(leaving);
    let needed = standing.spec.replicas.min.max(1);
    let limit = behavior.survivors_below.0;
    let closed = if let Some(frozen) = said.frozen.first() {
        Some(frozen.clone())
    } else if let Some((task, state)) = &standing.changing {
        Some(Reason::ChangeUnderway { task: task.clone(), state: state.clone() })
    } else if left < needed {
        Some(Reason::TooFewUp { left, needed })
    } else if survivors > limit && standing.hpa.is_none() {
        Some(Reason::SurvivorsTooBusy { predicted: survivors, limit })
    } else {
        None
    };
    if let Some(why) = closed {
        decided.alternatives.push(Alternative { replicas: to, why: why.clone() });
        decided.binding = Some(why.clone());
        decided.reasons.push(why);
        return;
    }
    decided.kind = DecisionKind::ScaleIn;
    decided.to = to;
    decided.act = true;
    let window_ms = behavior.shrink_after.0;
    decided.reasons.push(Reason::ProvenIdle { window_ms, largest_need, survivors });
    decided.alternatives.push(Alternative {
        replicas: standing.wanted,
        why: Reason::ProvenIdle { window_ms, largest_need, survivors: said.utilisation },
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::reason::Signal;
    use model::units::Millis;
    use model::workload::Behavior;

    fn spec(max: u32) -> WorkloadSpec {
        let json = serde_json::json!({
            "type": "service", "replicas": {"min": 1, "max": max}, "target": {"cpu": 0.65}, "mode": "auto",
            "service": {"launcher": "worker"}
        });
        let behavior = Behavior {
            grow_after: Millis(0),
            shrink_after: Millis(0),
            shrink_cooldown: Millis(0),
            grow_cooldown: Millis(0),
            ..Behavior::default()
        };
        WorkloadSpec { behavior, ..serde_json::from_value(json).unwrap() }
    }

    fn standing(spec: &WorkloadSpec) -> Standing<'_> {
        Standing { spec, wanted: 2, serving: 2, ceiling: None, changing: None, held: None, hpa: None }
    }

    fn said(need: u32, utilisation: f64) -> Assessment {
        let mut said = Assessment::blind(1, vec![]);
        said.wish(Signal::Cpu, need, String::new());
        said.utilisation = utilisation;
        said
    }

    fn run(standing: &Standing<'_>, said: &Assessment) -> Decided {
        decide(standing, said, &mut Stabiliser::default(), &mut Hpa::default(), Time(1_000))
    }

    #[test]
    fn growth_keeps_to_step_maximum_and_ceiling_and_says_which_bound_it() {
        let spec = spec(40);
        let decided = run(&standing(&spec), &said(30, 1.0));
        assert_eq!((decided.to, decided.act), (6, true));
        assert!(matches!(decided.binding, Some(Reason::StepLimit { wanted: 30, .. })));
        let ceiling = Reason::DatabaseCeiling { connections: 20, available: 15 };
        let limited = Standing { ceiling: Some((3, ceiling.clone())), ..standing(&spec) };
        let decided = run(&limited, &said(30, 1.0));
        assert_eq!((decided.to, decided.binding), (3, Some(ceiling)));
    }

    #[test]
    fn each_gate_of_a_shrink_closes_it() {
        let spec = spec(40);
        assert_eq!(run(&standing(&spec), &said(1, 0.2)).kind, DecisionKind::ScaleIn);
        let busy = run(&standing(&spec), &said(1, 0.6));
        assert!(matches!(busy.reasons[0], Reason::SurvivorsTooBusy { .. }), "{busy:?}");
        let frozen = Assessment { frozen: vec![Reason::Missing { signal: Signal::Samples }], ..said(1, 0.2) };
        assert_eq!(run(&standing(&spec), &frozen).kind, DecisionKind::Hold);
        let task = TaskName::new("web-1").unwrap();
        let changing = Standing { changing: Some((task, "booting".to_owned())), ..standing(&spec) };
        assert!(matches!(run(&changing, &said(1, 0.2)).reasons[0], Reason::ChangeUnderway { .. }));
    }

    /// HPA's own window begins with its first desire: alone it would shrink in the first round after a start.
    #[test]
    fn no_policy_shrinks_before_the_window_is_full_of_fresh_data() {
        let mut spec = spec(40);
        spec.policy = Policy::Hpa;
        let hpa = Standing { hpa: Some(1), ..standing(&spec) };
        assert_eq!(run(&hpa, &said(1, 0.2)).kind, DecisionKind::ScaleIn, "the window has no length");
        let mut slow = spec.clone();
        slow.behavior.shrink_after = Millis(3_000);
        let early = run(&Standing { spec: &slow, ..hpa }, &said(1, 0.2));
        assert_eq!((early.kind, early.act), (DecisionKind::Hold, false));
        assert_eq!(early.reasons, vec![Reason::WarmingUp { left_ms: 3_000 }]);
    }

    #[test]
    fn what_may_not_be_carried_out_is_still_said() {
        let spec = spec(40);
        let held = Standing { held: Some(Reason::RecommendOnly), ..standing(&spec) };
        let decided = run(&held, &said(4, 1.0));
        assert_eq!((decided.kind, decided.to, decided.act), (DecisionKind::ScaleOut, 4, false));
        assert_eq!(decided.reasons[0], Reason::RecommendOnly);
    }
}
