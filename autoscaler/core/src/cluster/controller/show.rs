//! What people are shown of a cluster.

use model::action::Size;
use model::reason::Reason;
use model::workload::{SizeMode, WorkloadKind};

use super::{Controller, Own};
use crate::cluster::change::Machine;
use crate::cluster::space;
use crate::controller::Context;
use crate::course::Glance;
use crate::view::{ChangeView, ClusterView, Explanation, LoadView, ReplicaView, SizeView, WorkloadView};

impl Controller {
    pub(crate) fn view(&self, context: &Context<'_>) -> WorkloadView {
        let spec = &self.workload.spec;
        let there = u32::try_from(self.seen.there().len()).unwrap_or(u32::MAX);
        let size = &spec.size;
        WorkloadView {
            name: self.workload.name.clone(),
            kind: spec.kind,
            mode: spec.mode,
            policy: spec.policy,
            min: spec.replicas.min,
            max: spec.replicas.max,
            wanted: self.wanted.unwrap_or(there),
            up: there,
            starting: u32::from(self.grows()),
            leaving: u32::from(self.leaves()),
            replicas: self.own.values().map(|own| self.member(own)).collect(),
            paused: context.pause(self.pause.as_ref()).map(|pause| pause.why.clone()),
            frozen: self.frozen.clone(),
            load: self.load_view(context),
            size: SizeView {
                mode: SizeMode::Recommend,
                given: Size {
                    cpu_max_millis: size.cpu.map(|cpu| cpu.0),
                    memory_max_bytes: size.memory.map(|memory| memory.0),
                    ..Size::default()
                },
                phase: "steady",
                to: None,
                canary: None,
                held: None,
                advice: None,
            },
            last: self.record.newest().cloned(),
            cluster: Some(self.cluster_view(context)),
        }
    }

    /// Signals of reports that are fresh, whether there are targets for them or not.
    fn load_view(&self, context: &Context<'_>) -> LoadView {
        let mut view = LoadView {
            utilisation: self.said.as_ref().map(|said| said.utilisation),
            load: self.said.as_ref().map(|said| said.load),
            capacity: Some(1.0),
            ready_after_ms: (self.rates.fixed_s * 1_000.0) as u64,
            ..LoadView::default()
        };
        if self.seen.doubt(context.now).is_some() {
            return view;
        }
        match self.kind() {
            WorkloadKind::Hdfs => {
                view.disk = self.seen.hdfs.as_ref().and_then(|seen| space::hdfs_disk(&seen.report));
            }
            WorkloadKind::Cassandra => {
                let ring = self.seen.fresh_ring(context.now);
                (view.disk, view.latency_p99_ms) = (space::ring_disk(&ring), space::ring_latency_ms(&ring));
            }
            _ => {
                let known = self.seen.yarn.is_some();
                view.container_wait_ms = known.then(|| self.seen.means.waited_ms() as f64);
            }
        }
        view
    }

    /// The numbers behind the newest decision; a cluster's load is in members that it needs.
    pub(crate) fn glance(&self) -> Glance {
        let up = u32::try_from(self.seen.there().len()).unwrap_or(u32::MAX);
        Glance {
            load: self.said.as_ref().map(|said| said.load),
            utilisation: self.said.as_ref().map(|said| said.utilisation),
            carried: Some(f64::from(up)),
            up,
            wanted: self.wanted.unwrap_or(up),
            ..Glance::default()
        }
    }

    fn cluster_view(&self, context: &Context<'_>) -> ClusterView {
        let change = self.underway.as_ref().map(|underway| ChangeView {
            member: underway.change.member.clone(),
            direction: underway.direction,
            state: underway.change.machine.name(),
            since: underway.change.machine.since(),
            began: underway.change.began,
            elapsed_ms: context.now.since(underway.change.began),
            price: underway.price.clone(),
            detail: detail(underway.change.machine, underway.change.trouble.as_deref()),
        });
        ClusterView {
            cluster: self.cluster().map(|spec| spec.cluster.clone()).unwrap_or_default(),
            found: self.found().into_iter().collect(),
            change,
            past: self.past.iter().cloned().collect(),
            recommends: self.recommends(),
        }
    }

    fn member(&self, own: &Own) -> ReplicaView {
        let change = self.underway.as_ref().filter(|u| u.change.task.as_ref() == Some(&own.task));
        let there = self.seen.there().contains(&own.member);
        let (state, since, detail) = match change {
            Some(underway) => {
                let machine = underway.change.machine;
                (machine.name(), machine.since(), detail(machine, underway.change.trouble.as_deref()))
            }
            None if there => ("member", own.since, "in service".to_owned()),
            None if own.runs => ("stranded", own.since, "runs, and is no member".to_owned()),
            None => ("ended", own.since, "its process ended".to_owned()),
        };
        let detail = format!("{}: {detail}", own.member);
        ReplicaView { task: own.task.clone(), node: own.node.clone(), state, since, port: None, detail }
    }

    pub(crate) fn explain(&self, context: &Context<'_>) -> Explanation {
        let mut blocks: Vec<Reason> = self.held(context).into_iter().collect();
        blocks.extend(self.frozen.iter().cloned());
        blocks.extend(self.record.newest().and_then(|decision| decision.binding.clone()));
        if let Some(host) = self.drains_unasked() {
            let why = "it is being drained, and not by Trimtab".to_owned();
            blocks.push(Reason::Gate { member: host, why });
        }
        blocks.dedup();
        Explanation {
            workload: self.view(context),
            decisions: self.record.all().cloned().collect(),
            blocks,
            would_act: self.would_act(),
            anomalies: self.anomalies.iter().cloned().collect(),
        }
    }

    fn would_act(&self) -> Vec<String> {
        let (spec, wanted) = (&self.workload.spec, self.wanted.unwrap_or(0));
        let (behavior, target) = (&spec.behavior, &spec.target);
        let mut above = Vec::new();
        above.extend(
            target.container_wait.map(|wait| format!("containers wait for {wait} and no node has room")),
        );
        above.extend(target.disk.map(|disk| format!("disks are more than {disk} full")));
        above.extend(target.latency_p99.map(|p99| format!("99 % of requests take up to more than {p99}")));
        let mut lines = Vec::new();
        if wanted < spec.replicas.max && !above.is_empty() {
            lines.push(format!("more members: {}, for {}", above.join(", or "), behavior.grow_after));
        }
        if wanted > spec.replicas.min {
            lines.push(format!(
                "fewer members: fewer than {wanted} would do for {} of fresh reports, {} after the last change, and nothing stands in \
                 the way of the one that leaves",
                behavior.shrink_after,
                crate::stabilise::shrink_cooldown(behavior)
            ));
        }
        if self.recommends().is_some() {
            let name = &self.workload.name;
            lines.push(format!("what is recommended: `trimtab approve {name}`; `trimtab reject {name} --reason WHY` if it is not wanted"));
        }
        if self.leaves() {
            lines.push(format!("the change on its way goes back: `trimtab cancel {}`", self.workload.name));
        }
        lines
    }
}

fn detail(machine: Machine, trouble: Option<&str>) -> String {
    let what = match machine.name() {
        "excluding" => "goes on the exclude list",
        "draining" => "takes no more containers, and waits for those that it has",
        "ending" => "is out, and its process ends by itself",
        "vanished" => "its process ended; the ResourceManager has not said anything of it yet",
        "returning" => "is taken back into service",
        "clearing" => "is taken off the list before it starts",
        "starting" => "its start is ordered",
        "registering" => "runs, and is not in service yet",
        "listing" => "goes on the list of nodes that leave",
        "copying" => "its blocks are copied elsewhere",
        "stopping" => "is out, and its process is ended",
        "asking" => "is asked to leave the ring",
        "leaving" => "hands over what it owns",
        "mending" => "its process ended, and is started again with its data",
        "reviving" => "died while it left, and is started again with its data",
        "joining" => "receives what it will own",
        "settling" => "is a full member, and finishes its compactions",
        "cleaning" => "the others delete what they do not own any more",
        "aborting" => "its join is given up, its process is ended",
        "done" => "done",
        "cancelled" => "as before",
        _ => "failed",
    };
    trouble.map_or_else(|| what.to_owned(), |trouble| format!("{what}; {trouble}"))
}
