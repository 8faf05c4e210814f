//! The reduction of full-rate samples to one value per workload and round: the only thing that the brain sees of them.

use std::collections::BTreeMap;

use model::id::{TaskName, WorkloadName};
use model::metric::Metric;
use model::workload::Workload;

use super::Fleet;
use crate::event::{BalancerDigest, Digest, NodeDigest, ReplicaDigest, Time};

impl Fleet {
    /// One digest per workload, for all of them in one pass over the tables. Call it once a round: usage is counted
    /// since the last call.
    #[must_use]
    pub fn digests<'a>(
        &mut self,
        workloads: impl IntoIterator<Item = &'a Workload>,
        now: Time,
    ) -> Vec<Digest> {
        let mut digests: BTreeMap<WorkloadName, Digest> = workloads
            .into_iter()
            .map(|workload| {
                let backend = workload.spec.rails.as_ref().map(|rails| rails.balancer.backend.as_str());
                let balancer =
                    backend.and_then(|backend| self.balancers.get(backend)).map(|(node, at, report)| {
                        BalancerDigest { node: node.clone(), report: report.clone(), age_ms: now.since(*at) }
                    });
                let name = workload.name.clone();
                (name.clone(), Digest { workload: name, replicas: Vec::new(), balancer })
            })
            .collect();
        for (node, table) in &mut self.nodes {
            // What containers in leaves of their own use is their task's use, too.
            let mut parts: Vec<(WorkloadName, TaskName, Option<f64>, Option<u64>)> = Vec::new();
            for round in table.rounds(now) {
                let (Some(task), Some(workload)) = (&round.info.class.task, &round.info.class.workload)
                else {
                    continue;
                };
                if round.info.class.container.is_some() {
                    let cores = round.usage.and_then(|usage| usage.cpu_cores);
                    parts.push((workload.clone(), task.clone(), cores, round.memory_bytes()));
                    continue;
                }
                let Some(digest) = digests.get_mut(workload) else { continue };
                digest.replicas.push(ReplicaDigest {
                    task: task.clone(),
                    node: node.clone(),
                    age_ms: round.age_ms,
                    cpu_cores: round.usage.and_then(|u| u.cpu_cores),
                    throttled_ratio: round.usage.and_then(|u| u.throttled_ratio),
                    run_delay_mean_seconds: round.usage.and_then(|u| u.run_delay_mean_seconds),
                    memory_bytes: round.memory_bytes(),
                    oom_kills: round.values.and_then(|v| v.get(Metric::OomKills)),
                    puma: self.pumas.get(task).map(|(at, report)| (report.clone(), now.since(*at))),
                });
            }
            for (workload, task, cores, bytes) in parts {
                let Some(digest) = digests.get_mut(&workload) else { continue };
                // This node's are the last ones.
                let here = digest.replicas.iter_mut().rev().take_while(|replica| replica.node == *node);
                for replica in here.filter(|replica| replica.task == task) {
                    replica.cpu_cores = replica.cpu_cores.map(|whole| whole + cores.unwrap_or(0.0));
                    let more = bytes.unwrap_or(0);
                    replica.memory_bytes = replica.memory_bytes.map(|whole| whole.saturating_add(more));
                }
            }
        }
        digests
            .into_values()
            .map(|mut digest| {
                digest.replicas.sort_by(|a, b| a.task.cmp(&b.task).then_with(|| a.node.cmp(&b.node)));
                digest
            })
            .collect()
    }

    /// What each node uses, for placement and the idle ledger.
    #[must_use]
    pub fn node_digests(&self, now: Time) -> Vec<NodeDigest> {
        self.nodes
            .iter()
            .map(|(node, table)| {
                let (cpu_cores, memory_bytes) = table.in_use();
                NodeDigest {
                    node: node.clone(),
                    age_ms: table.age_ms(now),
                    cpu_cores,
                    memory_bytes,
                    tasks: table.live(),
                }
            })
            .collect()
    }
}
