//! Rails: Puma clusters behind HAProxy.
//!
//! Problem: Puma's own backlog reads 0 at any overload (workloads.md, seen in every sample at 7–10×); what users feel is
//! the wait for a free thread. Method: HAProxy holds each server to `workers × threads` requests, so the wait is at the
//! balancer and is measured there; demand is the requests that come and those that wait; the number of replicas is the
//! smallest whose wait keeps the target by the queue model of threads and CPU with learned efficiency
//! ([`crate::horizontal`]), for now and for the time when a new replica would be ready. Puma's own busy threads and the
//! kernel's accept queue corroborate: what the balancer does not show, they do. Bounds: the database's connections,
//! counting old and new processes.

use std::collections::{BTreeMap, BTreeSet};

use model::action::{BalancerStep, Size, Verb};
use model::id::TaskName;
use model::reason::{Reason, Signal};
use model::workload::{Class, RailsSpec, WorkloadSpec};

use crate::assess::{Assessment, samples};
use crate::event::{Digest, ReplicaDigest};
use crate::horizontal::{Capacity, smallest};
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
pub fn start(
    rails: &RailsSpec,
    size: Size,
    startup_cpu_millis: Option<u32>,
    class: Class,
    replica: &Replica,
) -> Verb {
    let mut parameters = rails.parameters.clone();
    let mut set = |name: &str, value: String| parameters.insert(name.to_owned(), value);
    set("workers", rails.workers.to_string());
    set("threads", rails.threads.to_string());
    if let (Some(port), Some(control)) = (replica.port, replica.control_port) {
        set("port", port.to_string());
        set("control_port", control.to_string());
    }
    Verb::Start { launcher: rails.launcher.clone(), parameters, size, startup_cpu_millis, class }
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
    /// Demand at t + τ, requests per second, at the quantile of the risk.
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

/// What the wishes follow from, wherever the load was seen.
pub(crate) struct Seen<'a> {
    /// The specification.
    pub(crate) spec: &'a WorkloadSpec,
    /// Numbers of the load.
    pub(crate) load: &'a Load,
    /// Learned capacity.
    pub(crate) capacity: &'a Capacity,
    /// Demand at t + τ, requests per second, at the quantile of the risk; and τ, ms.
    pub(crate) ahead: Option<(f64, u64)>,
    /// Replicas that take requests.
    pub(crate) serving: u32,
    /// Replicas wanted so far.
    pub(crate) wanted: u32,
}

/// What the signals say.
#[must_use]
pub fn assess(round: &Round<'_>) -> Assessment {
    let Round { spec, load, capacity, wanted, .. } = *round;
    let frozen = fresh(round);
    if round.digest.balancer.as_ref().is_none_or(|b| b.age_ms > round.stale_ms) {
        return Assessment::blind(wanted, frozen);
    }
    let (work, target) = (load.work(), target_ms(spec));
    let serving = u32::try_from(round.serving.len()).unwrap_or(u32::MAX);
    let ahead = round.ahead.map(|ahead| (ahead, round.ahead_ms));
    let seen = Seen { spec, load, capacity, ahead, serving, wanted };
    wishes(&seen, |replicas| capacity.carries(replicas, work, target), frozen)
}

/// What the signals wish; `carries` says how many requests per second so many replicas carry within the target, `frozen` why nothing
/// may shrink.
pub(crate) fn wishes(
    seen: &Seen<'_>,
    mut carries: impl FnMut(u32) -> f64,
    frozen: Vec<Reason>,
) -> Assessment {
    let Seen { spec, load, capacity, serving, wanted, .. } = *seen;
    let Some(demand) = load.demand() else { return Assessment::blind(wanted, frozen) };
    // One step beyond the maximum shows that the maximum binds.
    let limit = spec.replicas.max.saturating_add(1);
    let one = carries(serving.max(1)) / f64::from(serving.max(1));
    let mut said = Assessment::blind(1, frozen);
    said.utilisation = utilisation(load, capacity, serving);
    said.load = demand / one.max(1e-9);

    let wish = smallest(demand, limit, &mut carries);
    said.wish(Signal::Demand, wish, demand_detail(demand, load, capacity));
    if wish > wanted {
        let (level, signal) = (said.load / f64::from(wanted.max(1)), Signal::Demand);
        said.grow.push(Reason::LevelAbove { signal, level, target: 1.0, held_ms: 0 });
    }
    if let Some((ahead, ahead_ms)) = seen.ahead {
        said.ahead = ahead / one.max(1e-9);
        let wish = smallest(ahead, limit, &mut carries);
        said.wish(Signal::Forecast, wish, format!("{ahead:.0} requests/s in {ahead_ms} ms"));
        if wish > wanted {
            let (load, capacity) = (said.ahead, f64::from(wanted));
            said.grow.push(Reason::ForecastAbove { load, capacity, ahead_ms });
        }
    }
    queue(seen, &mut said);
    if let Some(cpu) = spec.target.cpu {
        crate::service::cpu(spec, load, cpu.0, serving, wanted, &mut said);
    }
    said
}

/// Busy share of what is there: of threads as the balancer and as Puma count them, and of the CPU quota. The tightest
/// counts: a replica whose quota is used up is busy whatever its threads do.
#[must_use]
pub fn utilisation(load: &Load, capacity: &Capacity, serving: u32) -> f64 {
    let threads = load.busy().unwrap_or(0.0) / (load.threads.max(1) as f64);
    let given = capacity.cores.map(|cores| cores * f64::from(serving.max(1)));
    let cpu = given.zip(load.cpu_cores()).map_or(0.0, |(given, used)| used / given);
    threads.max(load.puma_busy().unwrap_or(0.0)).max(cpu)
}

fn demand_detail(demand: f64, load: &Load, capacity: &Capacity) -> String {
    let work = load.work();
    let mut text =
        format!("{demand:.0} requests/s, each {:.0} ms on one of {} threads", work.service_ms, load.threads);
    if let (Some(cpu_ms), Some(cores)) = (work.cpu_ms, capacity.cores) {
        text.push_str(&format!(" and {cpu_ms:.1} ms of the {cores:.2} cores of a replica"));
    }
    text
}

fn queue(seen: &Seen<'_>, said: &mut Assessment) {
    let Seen { load, serving, wanted, .. } = *seen;
    let target = target_ms(seen.spec);
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
    let waiting = load.queued + load.accept_queue.unwrap_or(0);
    let level = (load.busy().unwrap_or(0.0) + waiting as f64) / (load.threads.max(1) as f64);
    // Without a server that is up there is nothing to measure, and what is missing is on its way.
    if waiting > 0 && load.threads > 0 {
        // What the model asks for now, or one more than serves when it sees room: not one more each time while those that
        // were ordered are still on their way.
        let wish = if level >= PANIC { said.need.max(serving + 1) } else { said.need.min(wanted) };
        said.wish(Signal::BackendQueue, wish, format!("{waiting} queued"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BalancerDigest, Time};
    use crate::signal::Warmth;
    use model::adapter::{BalancerReport, PumaReport, ServerReport, ServerState};

    fn spec() -> WorkloadSpec {
        serde_json::from_value(serde_json::json!({
            "type": "rails", "mode": "auto", "replicas": {"min": 1, "max": 9}, "target": {"queueDelayP95": "100ms"},
            "size": {"cpu": "300m"},
            "rails": {
                "balancer": {"haproxy": "/run/haproxy.sock", "backend": "web"}, "launcher": "puma", "threads": 3
            }
        }))
        .unwrap()
    }

    /// Two replicas of three threads; no request's own delay is measured.
    struct Seen {
        rate: u64,
        queued: u64,
        cores: f64,
        puma: Option<(u32, Option<u32>)>,
    }

    fn digest(seen: &Seen, second: u64) -> Digest {
        let task = |n: u32| TaskName::new(format!("web-{n}")).unwrap();
        let server = |n: u32| ServerReport {
            server: task(n).to_string(),
            address: String::new(),
            state: ServerState::Up,
            active: 0,
            queued: 0,
            limit: 3,
            check: "L7OK".into(),
        };
        let replica = |n: u32| ReplicaDigest {
            task: task(n),
            node: "a".parse().unwrap(),
            age_ms: Some(0),
            cpu_cores: Some(seen.cores / 2.0),
            throttled_ratio: None,
            run_delay_mean_seconds: None,
            memory_bytes: None,
            oom_kills: None,
            puma: seen.puma.map(|(busy_threads, accept_queue)| {
                let report = PumaReport {
                    task: task(n),
                    booted_workers: 1,
                    workers: 1,
                    max_threads: 3,
                    busy_threads,
                    accept_queue,
                };
                (report, 0)
            }),
        };
        Digest {
            workload: "web".parse().unwrap(),
            replicas: vec![replica(1), replica(2)],
            balancer: Some(BalancerDigest {
                node: "a".parse().unwrap(),
                age_ms: 0,
                report: BalancerReport {
                    backend: "web".into(),
                    queued: seen.queued,
                    requests_total: second * seen.rate,
                    errors_5xx_total: 0,
                    errors_connection_total: 0,
                    queue_delay: None,
                    response_time: None,
                    servers: vec![server(1), server(2)],
                    started_ms: 1,
                },
            }),
        }
    }

    fn said(seen: &Seen, wanted: u32) -> Assessment {
        let spec = spec();
        let (mut load, capacity) = (Load::default(), Capacity::new(3, Some(0.3)));
        for second in 0..60 {
            load.observe(&digest(seen, second), |_| Warmth::Warm, 2_000, Time(second * 1_000));
        }
        let digest = digest(seen, 60);
        let serving = digest.replicas.iter().map(|r| r.task.clone()).collect();
        assess(&Round {
            spec: &spec,
            digest: &digest,
            load: &load,
            capacity: &capacity,
            ahead: None,
            ahead_ms: 3_000,
            serving: &serving,
            wanted,
            stale_ms: 3_000,
        })
    }

    fn wish(said: &Assessment, signal: Signal) -> Option<u32> {
        said.parts.iter().find(|part| part.signal == signal).and_then(|part| part.wish)
    }

    #[test]
    fn a_full_quota_asks_for_more_although_the_threads_are_idle() {
        let seen = Seen { rate: 100, queued: 0, cores: 0.58, puma: None };
        let said = said(&seen, 2);
        assert_eq!(wish(&said, Signal::Demand), Some(3), "{said:?}");
        assert!(said.utilisation > 0.9, "{said:?}");
        assert!(said.survivors(2, 1) > 1.8);
    }

    #[test]
    fn pumas_own_busy_threads_count_where_the_balancer_sees_none() {
        let seen = Seen { rate: 10, queued: 0, cores: 0.06, puma: Some((2, None)) };
        let said = said(&seen, 2);
        assert!((said.utilisation - 2.0 / 3.0).abs() < 0.01, "{said:?}");
        assert!(said.survivors(2, 1) > 1.3, "one replica fewer would be overloaded: {said:?}");
    }

    #[test]
    fn the_accept_queue_stands_in_for_a_queue_delay_that_nobody_measures() {
        let calm = Seen { rate: 20, queued: 0, cores: 0.1, puma: Some((1, Some(0))) };
        assert_eq!(wish(&said(&calm, 2), Signal::QueueDelay), Some(1));
        // Four wait in the two kernels at 20 requests per second: 0.4 s on average by Little's law.
        let full = Seen { puma: Some((1, Some(4))), ..calm };
        let said = said(&full, 2);
        assert_eq!(wish(&said, Signal::QueueDelay), Some(3), "{said:?}");
        assert!(
            said.grow
                .iter()
                .any(|why| matches!(why, Reason::QueueDelayAbove { p95_ms, .. } if *p95_ms > 400.0))
        );
        assert_eq!(wish(&said, Signal::BackendQueue).map(|n| n >= 2), Some(true));
    }

    #[test]
    fn a_panic_does_not_order_one_more_each_round_while_replicas_are_on_their_way() {
        let seen = Seen { rate: 2, queued: 13, cores: 0.02, puma: None };
        let on_their_way = said(&seen, 4);
        assert!(on_their_way.panic, "{on_their_way:?}");
        assert!(wish(&on_their_way, Signal::BackendQueue) <= Some(4), "{on_their_way:?}");
        assert_eq!(wish(&said(&seen, 2), Signal::BackendQueue), Some(3), "nothing is on its way");
    }
}
