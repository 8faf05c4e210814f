//! Who uses a node: the CPU of each workload on each node, by its newest measurements.

use std::collections::BTreeMap;

use model::id::{NodeId, WorkloadName};

use crate::event::Digest;

/// CPU of workloads on nodes, cores.
#[derive(Debug, Default)]
pub(crate) struct Uses(BTreeMap<WorkloadName, BTreeMap<NodeId, f64>>);

impl Uses {
    /// Takes in a workload's newest measurements, instead of all before.
    pub(crate) fn take(&mut self, digest: &Digest) {
        let mut on: BTreeMap<NodeId, f64> = BTreeMap::new();
        for replica in &digest.replicas {
            if let Some(cores) = replica.cpu_cores {
                *on.entry(replica.node.clone()).or_default() += cores;
            }
        }
        self.0.insert(digest.workload.clone(), on);
    }

    /// Nothing more is measured of it.
    pub(crate) fn forget(&mut self, workload: &WorkloadName) {
        self.0.remove(workload);
    }

    /// Workloads that use a node, but for `except`: the `most` that use most of it, most first.
    pub(crate) fn of(&self, node: &NodeId, except: &WorkloadName, most: usize) -> Vec<(WorkloadName, f64)> {
        let others = self.0.iter().filter(|(workload, _)| *workload != except);
        let mut uses: Vec<(WorkloadName, f64)> =
            others.filter_map(|(workload, on)| Some((workload.clone(), *on.get(node)?))).collect();
        uses.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        uses.truncate(most);
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReplicaDigest;
    use model::id::TaskName;

    fn digest(workload: &str, on: &[(&str, Option<f64>)]) -> Digest {
        let replica = |(n, (node, cores)): (usize, &(&str, Option<f64>))| ReplicaDigest {
            task: TaskName::new(format!("{workload}-{n}")).unwrap(),
            node: NodeId::new(*node).unwrap(),
            age_ms: Some(0),
            cpu_cores: *cores,
            throttled_ratio: None,
            run_delay_mean_seconds: None,
            memory_bytes: None,
            oom_kills: None,
            puma: None,
        };
        let replicas = on.iter().enumerate().map(replica).collect();
        Digest { workload: WorkloadName::new(workload).unwrap(), replicas, balancer: None }
    }

    #[test]
    fn the_others_on_a_node_are_named_by_what_they_use_now() {
        let mut uses = Uses::default();
        uses.take(&digest("web", &[("n1", Some(0.5)), ("n1", Some(0.25)), ("n2", Some(2.0)), ("n1", None)]));
        uses.take(&digest("batch", &[("n1", Some(1.0))]));
        uses.take(&digest("ring", &[("n1", Some(0.9))]));
        let (n1, batch) = (NodeId::new("n1").unwrap(), WorkloadName::new("batch").unwrap());
        let named = |uses: &Uses, most| -> Vec<(String, f64)> {
            uses.of(&n1, &batch, most).into_iter().map(|(name, cores)| (name.to_string(), cores)).collect()
        };
        assert_eq!(named(&uses, 9), [("ring".to_owned(), 0.9), ("web".to_owned(), 0.75)]);
        assert_eq!(named(&uses, 1), [("ring".to_owned(), 0.9)]);
        uses.take(&digest("ring", &[]));
        assert_eq!(named(&uses, 9), [("web".to_owned(), 0.75)]);
        uses.forget(&WorkloadName::new("web").unwrap());
        assert_eq!(named(&uses, 9), []);
    }
}
