//! `type: service`: replicas of a launcher without a balancer or a queue signal.
//!
//! The only signal is CPU: demand (throttling added back) against what a replica is given times the target share. A
//! replica without a CPU size counts as one core: it is one process of one launcher, and the owner can say otherwise.

use std::collections::BTreeSet;

use model::action::{Size, Verb};
use model::id::TaskName;
use model::reason::{Reason, Signal};
use model::workload::{Class, ServiceSpec, WorkloadSpec};

use crate::assess::{Assessment, samples};
use crate::event::Digest;
use crate::horizontal::replicas_for;
use crate::rollout::Replica;
use crate::signal::Load;

/// Cores of a replica that has no CPU size.
pub const CORES: f64 = 1.0;
/// CPU share that is aimed at when the target names none (HPA's documentation uses 50–80 %).
pub const TARGET: f64 = 0.65;
/// Use of all that is given at which it cannot wait: there is no room at all.
pub const PANIC: f64 = 0.97;

/// Verb of a start.
#[must_use]
pub fn start(
    service: &ServiceSpec,
    size: Size,
    startup_cpu_millis: Option<u32>,
    class: Class,
    replica: &Replica,
) -> Verb {
    let mut parameters = service.parameters.clone();
    if let Some(port) = replica.port {
        parameters.insert("port".to_owned(), port.to_string());
    }
    Verb::Start { launcher: service.launcher.clone(), parameters, size, startup_cpu_millis, class }
}

/// What one replica is given, cores.
#[must_use]
pub fn cores(spec: &WorkloadSpec) -> f64 {
    spec.size.cpu.map_or(CORES, |cpu| f64::from(cpu.0.max(1)) / 1_000.0)
}

/// Adds the CPU signal to an assessment.
pub fn cpu(spec: &WorkloadSpec, load: &Load, target: f64, serving: u32, wanted: u32, said: &mut Assessment) {
    let Some(used) = load.cpu_cores() else { return };
    let given = cores(spec);
    let wish = replicas_for(used, given * target, spec.replicas.max.saturating_add(1));
    let level = used / (given * f64::from(serving.max(1)));
    said.wish(
        Signal::Cpu,
        wish,
        format!(
            "{used:.2} cores used, {given:.2} given to each of {serving}, target {:.0} %",
            target * 100.0
        ),
    );
    if wish > wanted {
        said.grow.push(Reason::LevelAbove { signal: Signal::Cpu, level, target, held_ms: 0 });
    }
}

/// What the signals say. `ahead` is the CPU demand at t + τ, cores.
#[must_use]
pub fn assess(
    spec: &WorkloadSpec,
    digest: &Digest,
    load: &Load,
    ahead: Option<(f64, u64)>,
    serving: &BTreeSet<TaskName>,
    wanted: u32,
    stale_ms: u64,
) -> Assessment {
    let frozen: Vec<Reason> = samples(&digest.replicas, serving, stale_ms).into_iter().collect();
    if digest.replicas.is_empty() {
        return Assessment::blind(wanted, frozen);
    }
    let there = u32::try_from(serving.len()).unwrap_or(u32::MAX);
    wishes(spec, load, ahead, there, wanted, frozen)
}

/// What the signals wish of `there` replicas that serve; `frozen` is why nothing may shrink.
pub(crate) fn wishes(
    spec: &WorkloadSpec,
    load: &Load,
    ahead: Option<(f64, u64)>,
    there: u32,
    wanted: u32,
    frozen: Vec<Reason>,
) -> Assessment {
    let Some(used) = load.cpu_cores() else { return Assessment::blind(wanted, frozen) };
    let target = spec.target.cpu.map_or(TARGET, |share| share.0);
    let one = cores(spec) * target;
    let mut said = Assessment::blind(1, frozen);
    said.utilisation = used / (cores(spec) * f64::from(there.max(1)));
    said.load = used / one;
    cpu(spec, load, target, there, wanted, &mut said);
    if let Some((ahead, ahead_ms)) = ahead {
        said.ahead = ahead / one;
        let wish = replicas_for(ahead, one, spec.replicas.max.saturating_add(1));
        said.wish(Signal::Forecast, wish, format!("{ahead:.2} cores in {ahead_ms} ms"));
        if wish > wanted {
            let (load, capacity) = (said.ahead, f64::from(wanted));
            said.grow.push(Reason::ForecastAbove { load, capacity, ahead_ms });
        }
    }
    if said.utilisation >= PANIC && there > 0 {
        said.panic = true;
        // One more than serves: not one more each time while those that were ordered are still on their way.
        said.need = said.need.max(there + 1);
        said.grow.insert(0, Reason::Panic { signal: Signal::Cpu, level: said.utilisation });
    }
    said
}
