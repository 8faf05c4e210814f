//! The words of each reason: what a newcomer reads.

use std::fmt;

use super::{GapKind, Reason, needed, percent, replicas, seconds, there};

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::QueueDelayAbove { p95_ms, target_ms, held_ms } => write!(
                f,
                "95 % of requests wait up to {p95_ms:.0} ms for a free thread, the target is {target_ms:.0} ms, and it has been above for {}",
                seconds(*held_ms)
            ),
            Reason::LevelAbove { signal, level, target, held_ms } => write!(
                f,
                "{signal} at {} is above the target of {} for {}",
                percent(*level),
                percent(*target),
                seconds(*held_ms)
            ),
            Reason::ForecastAbove { load, capacity, ahead_ms } => write!(
                f,
                "in {}, when a new replica would be ready, the load is expected to need {load:.1} replicas, and {capacity:.0} are there",
                seconds(*ahead_ms)
            ),
            Reason::Panic { signal, level } => {
                write!(f, "{signal} at {} of what is there: acting at once", percent(*level))
            }
            Reason::LostReplica { task, why } => write!(f, "replica {task} is gone ({why}) and is replaced"),
            Reason::BelowMin { have, min } => {
                write!(f, "{} there, at least {min} asked for", there(*have))
            }
            Reason::AboveMax { have, max } => {
                write!(f, "{} there, at most {max} allowed", there(*have))
            }
            Reason::ProvenIdle { window_ms, largest_need, survivors } => write!(
                f,
                "for {} no more than {} needed; the others will be {} busy",
                seconds(*window_ms),
                needed(*largest_need),
                percent(*survivors)
            ),
            Reason::SizeDiffers { resource, given, recommended } => {
                write!(f, "{resource}: {given} is given, {recommended} would do")
            }
            Reason::SizeStep { resource, to, recommended } => {
                write!(f, "{resource} goes to {to} in this step on the way to {recommended}")
            }
            Reason::SizeCanary { task, verify_ms } => {
                write!(f, "replica {task} first; the others follow when it held for {}", seconds(*verify_ms))
            }
            Reason::SizeVerified { held_ms } => {
                write!(f, "the first replica held the new size for {}", seconds(*held_ms))
            }
            Reason::SizeReturned { why, hold_ms } => {
                write!(f, "back to the size before ({why}); not tried again for {}", seconds(*hold_ms))
            }
            Reason::ContainersWait { waited_ms, target_ms, pending } => write!(
                f,
                "containers have waited for {} without a pause, the target is {}; {pending} wait now and no node has room",
                seconds(*waited_ms),
                seconds(*target_ms)
            ),
            Reason::Advertises { member, memory_mib, vcores, others: (used, all), by } => {
                write!(
                    f,
                    "{member} advertises {} MiB and {} vcores instead of {} and {}: others count with {used:.1} of its node's {all:.0} cores",
                    memory_mib.1, vcores.1, memory_mib.0, vcores.0
                )?;
                for (n, (workload, cores)) in by.iter().enumerate() {
                    write!(f, "{} {workload} uses {cores:.1}", if n == 0 { ", now" } else { "," })?;
                }
                f.write_str("; what runs there runs on")
            }
            Reason::Approved => f.write_str("approved by an operator"),
            Reason::Declined { why, left_ms } => {
                let (left, unit) = match left_ms.div_ceil(60_000) {
                    minutes @ 0..=120 => (minutes, "min"),
                    minutes => (minutes.div_ceil(60), "h"),
                };
                write!(
                    f,
                    "declined by an operator ({why}), and for {left} {unit} not offered again unless it becomes another change"
                )
            }
            Reason::Cancelled { why } => write!(f, "cancelled by an operator: {why}"),
            Reason::Price { member, seconds, bytes, risk } => {
                let gib = *bytes as f64 / f64::from(1 << 30);
                write!(f, "{member}: about {seconds} s, {gib:.2} GiB to move; {risk}")
            }
            Reason::Gate { member, why } if member.is_empty() => write!(f, "not now: {why}"),
            Reason::Gate { member, why } => write!(f, "{member} stays as it is: {why}"),
            Reason::NoLauncher => {
                f.write_str("no launcher is given: members are seen, and none is started or ended")
            }
            Reason::Told { member, what } => write!(f, "{member}: {what}"),
            Reason::SurvivorFailing { task, check } => {
                write!(
                    f,
                    "replica {task} fails its check ({check}), so the draining one takes requests again"
                )
            }
            Reason::HpaRatio { ratio } => {
                write!(f, "use is {ratio:.2} times the target (rule of the Horizontal Pod Autoscaler)")
            }
            Reason::WithinTarget => f.write_str("everything is within its target"),
            Reason::ObserveOnly => f.write_str("mode is observe: it only measures"),
            Reason::RecommendOnly => f.write_str("mode is recommend: it only says what it would do"),
            Reason::Paused { why, left_ms: Some(left) } => {
                write!(f, "paused by an operator for another {}: {why}", seconds(*left))
            }
            Reason::Paused { why, left_ms: None } => write!(f, "paused by an operator until resumed: {why}"),
            Reason::Stale { signal, age_ms, limit_ms } => write!(
                f,
                "nothing shrinks: {signal} is {} old, and more than {} is too old to trust",
                seconds(*age_ms),
                seconds(*limit_ms)
            ),
            Reason::Missing { signal } => write!(f, "nothing shrinks: {signal} is missing"),
            Reason::DataGap { node, kind, left_ms } => {
                let kind = match kind {
                    GapKind::Stale => "nothing arrived for a while",
                    GapKind::Lost => "samples were lost",
                    GapKind::Restarted => "the agent or a task restarted",
                    GapKind::Partial => "some values could not be read",
                    GapKind::ClockStepped => "the wall clock was set",
                    GapKind::Merged => "samples were merged",
                };
                write!(
                    f,
                    "nothing shrinks for another {}: hole in the data of node {node} ({kind})",
                    seconds(*left_ms)
                )
            }
            Reason::WarmingUp { left_ms } => {
                write!(
                    f,
                    "nothing shrinks for another {}: not enough was seen since the start",
                    seconds(*left_ms)
                )
            }
            Reason::NotYetLong { signal, held_ms, needed_ms } => write!(
                f,
                "{signal} has asked for more for {}, it acts after {}",
                seconds(*held_ms),
                seconds(*needed_ms)
            ),
            Reason::Cooldown { direction, left_ms } => {
                write!(
                    f,
                    "after the last change it waits another {} before it may {direction}",
                    seconds(*left_ms)
                )
            }
            Reason::HoldWindow { largest_need, left_ms } => write!(
                f,
                "{} needed a short while ago; that stops counting in {}",
                needed(*largest_need),
                seconds(*left_ms)
            ),
            Reason::ChangeUnderway { task, state } => {
                write!(f, "one change at a time: replica {task} is {state}")
            }
            Reason::AtMax { max, wanted } => {
                write!(f, "{} would be needed, but {max} is the maximum", replicas(*wanted))
            }
            Reason::AtMin { min, wanted } => {
                write!(f, "{} would do, but {min} is the minimum", replicas(*wanted))
            }
            Reason::StepLimit { direction, step, wanted } => {
                write!(f, "{wanted} replicas are wanted, but it may {direction} by at most {step} at once")
            }
            Reason::DatabaseCeiling { connections, available } => write!(
                f,
                "one more replica would bring database connections to {connections}, and {available} are available"
            ),
            Reason::SurvivorsTooBusy { predicted, limit } => write!(
                f,
                "without it the others would be {} busy, at most {} is allowed",
                percent(*predicted),
                percent(*limit)
            ),
            Reason::TooFewUp { left, needed } => {
                write!(f, "only {} would be left to take requests, {needed} must be", replicas(*left))
            }
            Reason::NodeDrained { node, why } if why.is_empty() => {
                write!(f, "node {node} is being emptied: its replicas run elsewhere before they end there")
            }
            Reason::NodeDrained { node, why } => {
                write!(
                    f,
                    "node {node} is being emptied ({why}): its replicas run elsewhere before they end there"
                )
            }
            Reason::NoNodeWithLauncher { launcher } => {
                write!(f, "no connected node that may act lists the launcher {launcher}")
            }
            Reason::NoFreePort { from, span } => {
                write!(f, "no free port among the {span} from {from}")
            }
            Reason::StartBackoff { failures, left_ms, why } => write!(
                f,
                "{failures} starts failed in a row ({why}); the next try is in {}",
                seconds(*left_ms)
            ),
            Reason::NodeAwaited { node, left_ms: 0 } => {
                write!(f, "nothing shrinks: node {node} is silent, and its replicas still take requests")
            }
            Reason::NodeAwaited { node, left_ms } => write!(
                f,
                "node {node} has not connected since the controller's start; its replicas count as lost in {}",
                seconds(*left_ms)
            ),
            Reason::NoBalancer { backend } => {
                write!(f, "no connected agent reports the balancer's backend {backend}")
            }
            Reason::PlanRefused { finding } => {
                write!(f, "the plan was not carried out, it breaks a rule: {finding}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Signal;

    #[test]
    fn a_reason_reads_as_a_sentence() {
        let reason = Reason::QueueDelayAbove { p95_ms: 31.4, target_ms: 20.0, held_ms: 2_000 };
        assert_eq!(
            reason.to_string(),
            "95 % of requests wait up to 31 ms for a free thread, the target is 20 ms, and it has been above for 2 s"
        );
        let reason = Reason::Stale { signal: Signal::Balancer, age_ms: 4_260, limit_ms: 3_000 };
        assert_eq!(
            reason.to_string(),
            "nothing shrinks: the balancer's report is 4.3 s old, and more than 3 s is too old to trust"
        );
        let reason = Reason::Declined { why: "not before the audit".into(), left_ms: 82_000_000 };
        assert_eq!(
            reason.to_string(),
            "declined by an operator (not before the audit), and for 23 h not offered again unless it becomes another change"
        );
        let reason = Reason::Declined { why: "after lunch".into(), left_ms: 3_540_001 };
        assert_eq!(
            reason.to_string(),
            "declined by an operator (after lunch), and for 60 min not offered again unless it becomes another change"
        );
    }
}
