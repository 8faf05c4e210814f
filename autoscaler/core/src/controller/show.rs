//! What people are shown of a workload.

use std::collections::BTreeMap;

use model::id::NodeId;
use model::reason::Reason;
use model::units::{Millis, Share};

use super::{Context, Controller};
use crate::course::Glance;
use crate::event::Time;
use crate::replica::State;
use crate::rollout::Replica;
use crate::view::{Explanation, LoadView, ReplicaView, SizeView, WorkloadView};
use crate::what_if::{Subject, Uses};
use crate::{rails, resize, service};

impl Controller {
    pub(crate) fn view(&self, context: &Context<'_>) -> WorkloadView {
        let spec = &self.workload.spec;
        WorkloadView {
            name: self.workload.name.clone(),
            kind: spec.kind,
            mode: spec.mode,
            policy: spec.policy,
            min: spec.replicas.min,
            max: spec.replicas.max,
            wanted: self.wanted,
            up: self.number(|r| r.state.serves()),
            starting: self.number(|r| r.state.rises()),
            leaving: self.number(|r| r.state.leaves()),
            replicas: self
                .replicas
                .values()
                .map(|r| ReplicaView {
                    task: r.task.clone(),
                    node: r.node.clone(),
                    state: r.state.name(),
                    since: r.state.since(),
                    port: r.port,
                    detail: detail(r, context.now),
                })
                .collect(),
            paused: context.pause(self.pause.as_ref()).map(|pause| pause.why.clone()),
            frozen: self.frozen.clone(),
            load: self.load_view(),
            size: self.size_view(context),
            last: self.record.newest().cloned(),
            cluster: None,
        }
    }

    pub(crate) fn explain(&self, context: &Context<'_>) -> Explanation {
        let mut blocks: Vec<Reason> = self.held(context).into_iter().collect();
        blocks.extend(self.frozen.iter().cloned());
        blocks.extend(self.record.newest().and_then(|decision| decision.binding.clone()));
        blocks.dedup();
        Explanation {
            workload: self.view(context),
            decisions: self.record.all().cloned().collect(),
            blocks,
            would_act: self.would_act(),
            anomalies: self.anomalies.iter().cloned().collect(),
        }
    }

    fn size_view(&self, context: &Context<'_>) -> SizeView {
        let (to, canary) = match &self.resize {
            resize::State::Steady => (None, None),
            resize::State::Canary { task, to, .. } => (Some(*to), Some(task.clone())),
            resize::State::Spreading { to, .. } | resize::State::Returning { to, .. } => (Some(*to), None),
        };
        let held = self.size_hold.as_ref().filter(|(until, _)| *until > context.now);
        SizeView {
            mode: self.workload.spec.size.mode,
            given: self.size_in_force(),
            phase: self.resize.name(),
            to,
            canary,
            held: held.map(|(until, why)| (why.clone(), *until)),
            advice: self.size_advice(),
        }
    }

    fn load_view(&self) -> LoadView {
        let balanced = self.balanced();
        let there = f64::from(self.number(|r| r.state.serves()).max(1));
        let spec = &self.workload.spec;
        let work = self.load.work();
        let target = rails::target_ms(spec);
        let serving = self.number(|r| r.state.serves()).max(1);
        let capacity = if balanced {
            self.capacity.carries(serving, work, target) / f64::from(serving)
        } else {
            service::cores(spec) * spec.target.cpu.map_or(service::TARGET, |share| share.0)
        };
        let busy = self.load.busy().map(|_| rails::utilisation(&self.load, &self.capacity, serving));
        let cpu = self.load.cpu_cores().map(|cpu| cpu / (service::cores(spec) * there));
        LoadView {
            requests_per_second: self.load.rate(),
            queue_delay_p95_ms: self.load.delay_p95_ms(),
            queued: balanced.then_some(self.load.queued),
            utilisation: if balanced { busy } else { cpu },
            cpu_cores: self.load.cpu_cores(),
            memory_bytes: self.load.memory_bytes,
            load: if balanced { self.load.demand() } else { self.load.cpu_cores() },
            forecast: self.forecast.upper(),
            capacity: Some(capacity),
            ready_after_ms: self.ready_ms as u64,
            ..LoadView::default()
        }
    }

    /// The numbers behind the newest decision.
    pub(crate) fn glance(&self) -> Glance {
        let (view, up) = (self.load_view(), self.number(|r| r.state.serves()));
        Glance {
            load: view.load,
            expected: self.forecast.expected(),
            upper: view.forecast,
            ahead_ms: view.ready_after_ms,
            carried: view.capacity.map(|capacity| capacity * f64::from(up)),
            queue_delay_p95_ms: view.queue_delay_p95_ms,
            utilisation: view.utilisation,
            up,
            wanted: self.wanted,
        }
    }

    /// What a replay of the past needs to know.
    pub(crate) fn subject(&self) -> Subject {
        let mut uses: BTreeMap<NodeId, Uses> = BTreeMap::new();
        for replica in self.digest.iter().flat_map(|digest| &digest.replicas) {
            // Of what is known in part the sum is not known.
            let mut of = Uses { cores: Some(0.0), memory_bytes: Some(0) };
            of = uses.get(&replica.node).copied().unwrap_or(of);
            of.cores = of.cores.zip(replica.cpu_cores).map(|(sum, more)| sum + more);
            of.memory_bytes = of.memory_bytes.zip(replica.memory_bytes).map(|(sum, more)| sum + more);
            uses.insert(replica.node.clone(), of);
        }
        Subject {
            workload: self.workload.clone(),
            wanted: self.wanted,
            capacity: self.capacity,
            work: self.load.work(),
            ready_ms: self.ready_ms as u64,
            uses,
        }
    }

    fn would_act(&self) -> Vec<String> {
        let spec = &self.workload.spec;
        let behavior = &spec.behavior;
        let mut lines = Vec::new();
        if self.wanted < spec.replicas.max {
            let cpu = |share: Share| format!("CPU use above {share}");
            let (target, at_once) = if spec.service.is_some() {
                let at_once = format!("they use {} of what they are given", Share(service::PANIC));
                (cpu(spec.target.cpu.unwrap_or(Share(service::TARGET))), at_once)
            } else {
                let delay = Millis(rails::target_ms(spec) as u64);
                let delay = format!("the 95th percentile of the queue delay above {delay}");
                let target =
                    [Some(delay), spec.target.cpu.map(cpu)].into_iter().flatten().collect::<Vec<_>>();
                (target.join(", "), "twice as many requests as threads are there".to_owned())
            };
            lines.push(format!(
                "more replicas: {target}, or a forecast that asks for more than {}, for {}; at once when {at_once}",
                self.wanted, behavior.grow_after
            ));
        }
        if self.wanted > spec.replicas.min {
            lines.push(format!(
                "fewer replicas: every signal asks for fewer than {} for {} of fresh data, {} after the last change, \
                 and the others stay under {} busy",
                self.wanted,
                behavior.shrink_after,
                crate::stabilise::shrink_cooldown(behavior),
                behavior.survivors_below
            ));
        }
        lines.push("a replica that is lost is replaced at once".to_owned());
        lines
    }
}

/// A word about a replica's limits is shown for so long, ms.
const STRAIN_SHOWN_MS: u64 = 600_000;
/// A word about waiting for disks is shown for so long, ms: it is said again every ten seconds.
const CROWDED_SHOWN_MS: u64 = 15_000;

fn detail(replica: &Replica, now: Time) -> String {
    let what = replica.trouble.clone().unwrap_or_else(|| waits_for(replica.state).to_owned());
    let word = |said: String, at: Time, shown_ms: u64| {
        let age_ms = now.since(at);
        (age_ms <= shown_ms).then(|| format!("{} s ago: {said}", age_ms / 1000))
    };
    let strain = replica.strain.and_then(|(strain, at)| word(strain.to_string(), at, STRAIN_SHOWN_MS));
    let crowded =
        replica.crowded.as_ref().and_then(|(crowded, at)| word(crowded.to_string(), *at, CROWDED_SHOWN_MS));
    [Some(what), strain, crowded].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn waits_for(state: State) -> &'static str {
    match state {
        State::New { .. } => "its start is ordered",
        State::Booting { .. } => "waits for its health check",
        State::Added { .. } => "waits for the balancer to call it up",
        State::Settle { .. } => "takes requests, warming up",
        State::Up { .. } => "takes requests",
        State::Down { .. } => "its checks fail",
        State::Away { .. } => "its node is silent; it is used again if the node comes back with it",
        State::Draining { .. } => "finishes its requests",
        State::Returning { .. } => "comes back from a cancelled drain",
        State::Term { .. } => "its process ends",
        State::Maint { .. } => "its server goes into maintenance",
        State::Deleting { .. } => "its server is deleted",
        State::Deleted { .. } => "gone",
    }
}
