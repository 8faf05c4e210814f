//! Rails: Puma clusters behind HAProxy.
//!
//! Problem: Puma's own backlog reads 0 at any overload (workloads.md, seen in every sample at 7–10×); what users feel is
//! the wait for a free thread. Method: HAProxy holds each server to `workers × threads` requests, so the wait is at the
//! balancer and is measured there; demand in threads is what serves plus what waits; the number of replicas is the
//! smallest whose wait keeps the target by the queue model with learned efficiency ([`crate::horizontal`]), for now and
//! for the time when a new replica would be ready. Bounds: the database's connections, counting old and new processes.

use std::collections::{BTreeMap, BTreeSet};

use model::action::{BalancerStep, Size, Verb};
use model::id::TaskName;
use model::reason::{Reason, Signal};
use model::workload::{RailsSpec, WorkloadSpec};

use crate::assess::{Assessment, samples};
use crate::event::{Digest, ReplicaDigest};
use crate::horizontal::Capacity;
use crate::replica::Step;
use crate::rollout::Replica;
use crate::signal::Load;

/// Wait that is aimed at when no target for it is given, ms (face.md's example).
pub const TARGET_MS: f64 = 20.0;
/// Busy threads at which it cannot wait, when as many requests again are queued: more than one service time of backlog.
pub const PANIC: f64 = 2.0;
/// While a shrink is considered, the wait must be under this share of the target (workloads.md start values).
pub const QUIET: f64 = 0.25;

/// Verb of a start.
#[must_use]
pub fn start(rails: &RailsSpec, size: Size, replica: &Replica) -> Verb {
    let mut parameters = rails.parameters.clone();
    let mut set = |name: &str, value: String| parameters.insert(name.to_owned(), value);
    set("workers", rails.workers.to_string());
    set("threads", rails.threads.to_string());
    if let (Some(port), Some(control)) = (replica.port, replica.control_port) {
        set("port", port.to_string());
        set("control_port", control.to_string());
    }
    Verb::Start { launcher: rails.launcher.clone(), parameters, size }
}

/// Verb of a step on the balancer; `None` when the replica's address is not known.
#[must_use]
pub fn balancer(rails: &RailsSpec, step: Step, replica: &Replica) -> Option<Verb> {
    let step = match step {
        Step::Add => BalancerStep::Add {
            host: replica.host.clone()?,
            port: replica.port?,
            check_port: replica.control_port?,
            limit: rails.workers.saturating_mul(rails.threads),
        },
        Step::Ready => BalancerStep::Ready,
        Step::Drain => BalancerStep::Drain,
        Step::Maintenance => BalancerStep::Maintenance,
        Step::Remove => BalancerStep::Remove,
        Step::Start | Step::Stop => return None,
    };
    Some(Verb::Balancer { backend: rails.balancer.backend.clone(), step })
}

/// Most processes that the database's connections allow, old and new together.
#[must_use]
pub fn ceiling(rails: &RailsSpec) -> Option<u32> {
    let limit = rails.database?;
    let each = rails.workers.max(1).saturating_mul(limit.pool.max(1));
    Some(limit.max_connections.saturating_sub(limit.reserved) / each)
}

/// The same as a reason: what one more process than `processes` would open.
#[must_use]
pub fn ceiling_reason(rails: &RailsSpec, processes: u32) -> Option<Reason> {
    let limit = rails.database?;
    Some(Reason::DatabaseCeiling {
        connections: (processes + 1) * rails.workers.max(1) * limit.pool.max(1),
        available: limit.max_connections.saturating_sub(limit.reserved),
    })
}

/// What the assessment looks at.
#[derive(Debug)]
pub struct Round<'a> {
    /// The specification.
    pub spec: &'a WorkloadSpec,
    /// This round's numbers.
    pub digest: &'a Digest,
    /// Smoothed numbers.
    pub load: &'a Load,
    /// Learned capacity.
    pub capacity: &'a Capacity,
    /// Demand at t + τ, erlangs, at the quantile of the risk.
    pub ahead: Option<f64>,
    /// τ, ms.
    pub ahead_ms: u64,
    /// Replicas that take requests.
    pub serving: &'a BTreeSet<TaskName>,
    /// Replicas wanted so far.
    pub wanted: u32,
    /// Older data is stale, ms.
    pub stale_ms: u64,
}

/// The target for the wait, ms.
#[must_use]
pub fn target_ms(spec: &WorkloadSpec) -> f64 {
    spec.target.queue_delay_p95.map_or(TARGET_MS, |target| target.0 as f64)
}

/// What the signals say.
#[must_use]
pub fn assess(round: &Round<'_>) -> Assessment {
    let Round { spec, load, capacity, wanted, .. } = *round;
    let frozen = fresh(round);
    let usable = round.digest.balancer.as_ref().is_some_and(|b| b.age_ms <= round.stale_ms);
    let (Some(erlangs), true) = (load.erlangs(), usable) else {
        return Assessment::blind(wanted, frozen);
    };
    let (service, target) = (load.service_ms(), target_ms(spec));
    let serving = u32::try_from(round.serving.len()).unwrap_or(u32::MAX);
    // One step beyond the maximum shows that the maximum binds.
    let limit = spec.replicas.max.saturating_add(1);
    let one = capacity.carries(serving.max(1), service, target) / f64::from(serving.max(1));
    let mut said = Assessment::blind(1, frozen);
    said.utilisation = load.busy().unwrap_or(0.0) / (load.threads.max(1) as f64);
    said.load = erlangs / one.max(1e-9);

    let wish = capacity.replicas_for(erlangs, service, target, limit);
    said.wish(
        Signal::BusyThreads,
        wish,
        format!("{erlangs:.1} threads' worth of load, {} threads there, {service:.0} ms each", load.threads),
    );
    if wish > wanted {
        let (level, signal) = (said.load / f64::from(wanted.max(1)), Signal::BusyThreads);
        said.grow.push(Reason::LevelAbove { signal, level, target: 1.0, held_ms: 0 });
    }
    if let Some(ahead) = round.ahead {
        said.ahead = ahead / one.max(1e-9);
        let wish = capacity.replicas_for(ahead, service, target, limit);
        said.wish(Signal::Forecast, wish, format!("{ahead:.1} threads' worth in {} ms", round.ahead_ms));
        if wish > wanted {
            let (load, capacity) = (said.ahead, f64::from(wanted));
            said.grow.push(Reason::ForecastAbove { load, capacity, ahead_ms: round.ahead_ms });
        }
    }
    queue(round, target, serving, &mut said);
    if let Some(cpu) = spec.target.cpu {
        crate::service::cpu(spec, load, cpu.0, serving, wanted, &mut said);
    }
    said
}

fn queue(round: &Round<'_>, target: f64, serving: u32, said: &mut Assessment) {
    let (load, wanted) = (round.load, round.wanted);
    match load.delay_p95_ms() {
        Some(p95_ms) if p95_ms > target => {
            // The model may see room where users wait: then one more than there are, and it learns.
            let wish = said.need.max(serving.max(1) + 1).max(wanted.min(serving + 1));
            said.wish(Signal::QueueDelay, wish, format!("{p95_ms:.0} ms, target {target:.0} ms"));
            let reason = Reason::QueueDelayAbove { p95_ms, target_ms: target, held_ms: 0 };
            said.grow.insert(0, reason);
        }
        Some(p95_ms) if p95_ms > QUIET * target => {
            said.wish(
                Signal::QueueDelay,
                wanted,
                format!("{p95_ms:.0} ms, quiet under {:.0} ms", QUIET * target),
            );
        }
        Some(p95_ms) => said.wish(Signal::QueueDelay, 1, format!("{p95_ms:.0} ms, target {target:.0} ms")),
        None => said.wish(Signal::QueueDelay, 1, "no requests".to_owned()),
    }
    let level = (load.busy().unwrap_or(0.0) + load.queued as f64) / (load.threads.max(1) as f64);
    // Without a server that is up there is nothing to measure, and what is missing is on its way.
    if load.queued > 0 && load.threads > 0 {
        let wish = if level >= PANIC { said.need.max(wanted + 1) } else { said.need.min(wanted) };
        said.wish(Signal::BackendQueue, wish, format!("{} queued", load.queued));
    }
    if level >= PANIC && load.threads > 0 {
        said.panic = true;
        said.grow.insert(0, Reason::Panic { signal: Signal::BackendQueue, level });
    }
}

fn fresh(round: &Round<'_>) -> Vec<Reason> {
    let mut frozen = Vec::new();
    match &round.digest.balancer {
        None => frozen.push(Reason::Missing { signal: Signal::Balancer }),
        Some(balancer) if balancer.age_ms > round.stale_ms => frozen.push(Reason::Stale {
            signal: Signal::Balancer,
            age_ms: balancer.age_ms,
            limit_ms: round.stale_ms,
        }),
        Some(_) => {}
    }
    frozen.extend(samples(&round.digest.replicas, round.serving, round.stale_ms));
    frozen
}

/// CPU of each replica for the HPA's rule.
#[must_use]
pub fn usage(replicas: &[ReplicaDigest]) -> BTreeMap<TaskName, Option<f64>> {
    replicas.iter().map(|r| (r.task.clone(), r.cpu_cores)).collect()
}
