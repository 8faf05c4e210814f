//! Containers: of each all its cgroups together.

use std::collections::BTreeMap;

use autoscaler_core::fleet::TaskView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Containers that run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Containers {
    /// `trimtab/v1`.
    pub api_version: String,
    /// By node, then number.
    pub items: Vec<Container>,
}

/// A container that runs, with what all its cgroups use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// On which node.
    pub node: String,
    /// The runtime's number of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image by the name that it was started with.
    pub image: String,
    /// Its labels, 32 at most.
    pub labels: BTreeMap<String, String>,
    /// The workload that a rule puts it into.
    pub workload: Option<String>,
    /// CPU in use, cores; absent until each of its cgroups has two samples.
    pub cpu_cores: Option<f64>,
    /// Memory charged, of all in it.
    pub memory_bytes: Option<u64>,
    /// CPU total of its live cgroups, by the kernel's ledger, µs.
    pub cpu_total_us: Option<u64>,
    /// Live cgroups: its own and those inside of it.
    pub cgroups: usize,
}

impl Containers {
    /// Gathers the tasks that are containers or parts of one.
    #[must_use]
    pub fn of(tasks: impl IntoIterator<Item = TaskView>) -> Self {
        let mut items: BTreeMap<(String, String), Container> = BTreeMap::new();
        for task in tasks {
            let Some(container) = &task.info.class.container else { continue };
            let key = (task.node.to_string(), container.id.clone());
            match items.get_mut(&key) {
                Some(item) => item.add(&task),
                None => drop(items.insert(key, Container::new(&task, container))),
            }
        }
        Self { api_version: super::API_VERSION.to_owned(), items: items.into_values().collect() }
    }
}

impl Container {
    fn new(task: &TaskView, container: &model::node::Container) -> Self {
        Self {
            node: task.node.to_string(),
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            labels: container.labels.clone(),
            workload: task.info.class.workload.as_ref().map(ToString::to_string),
            cpu_cores: task.usage.and_then(|usage| usage.cpu_cores),
            memory_bytes: task.totals.get("memory_current_bytes").copied(),
            cpu_total_us: task.totals.get("cpu_time_us").copied(),
            cgroups: 1,
        }
    }

    /// CPU time belongs to one cgroup each and adds up; the memory of the outermost one holds that of the others.
    fn add(&mut self, task: &TaskView) {
        let cores = task.usage.and_then(|usage| usage.cpu_cores);
        self.cpu_cores = self.cpu_cores.zip(cores).map(|(a, b)| a + b);
        let total = task.totals.get("cpu_time_us");
        self.cpu_total_us = self.cpu_total_us.zip(total).map(|(a, b)| a + b);
        self.memory_bytes = self.memory_bytes.max(task.totals.get("memory_current_bytes").copied());
        if self.workload.is_none() {
            self.workload = task.info.class.workload.as_ref().map(ToString::to_string);
        }
        self.cgroups += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::CgroupId;
    use model::node::{TaskClass, TaskInfo};

    fn task(cgroup: u64, container: Option<u8>, totals: &[(&'static str, u64)]) -> TaskView {
        let mut class = TaskClass::new("docker", "c");
        class.container = container.map(|n| {
            Box::new(model::node::Container {
                id: format!("{n:064}"),
                name: format!("c{n}"),
                image: "app:1".into(),
                labels: BTreeMap::new(),
            })
        });
        TaskView {
            node: "n1".parse().unwrap(),
            info: TaskInfo { cgroup: CgroupId(cgroup), since_ns: 0, class },
            usage: None,
            totals: totals.iter().copied().collect(),
            age_ms: None,
        }
    }

    #[test]
    fn all_cgroups_of_a_container_are_one() {
        let (cpu, memory) = ("cpu_time_us", "memory_current_bytes");
        let containers = Containers::of([
            task(1, None, &[(cpu, 9)]),
            task(2, Some(1), &[(cpu, 100), (memory, 50)]),
            task(3, Some(1), &[(cpu, 7), (memory, 40)]),
            task(4, Some(2), &[(cpu, 1)]),
            task(5, Some(2), &[]),
        ]);
        let seen = containers.items.iter().map(|c| (&*c.name, c.cpu_total_us, c.memory_bytes, c.cgroups));
        let seen: Vec<_> = seen.collect();
        assert_eq!(
            seen,
            [("c1", Some(107), Some(50), 2), ("c2", None, None, 2)],
            "memory is not added up, and what is not known of a part is not known of the whole"
        );
    }
}
