//! What was asked about a task, kept on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_core::launcher::{Health, PumaControl};
use model::action::{Size, Strain};
use model::id::{Generation, TaskName, WorkloadName};
use model::workload::Class;
use serde::{Deserialize, Serialize};

/// What was asked, on disk before anything happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskFile {
    /// Its name.
    pub task: TaskName,
    /// Whose.
    pub workload: WorkloadName,
    /// Under which generation.
    pub generation: Generation,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// User to run as.
    pub user: Option<String>,
    /// `cgroup.procs` files to join, in order.
    pub join: Vec<PathBuf>,
    /// The cgroup; 0, which is no cgroup's, until it is there.
    pub cgroup: u64,
    /// Its path below the top of the hierarchies.
    pub path: String,
    /// Its limits, once it is healthy.
    pub size: Size,
    /// It has this CPU quota until then, thousandths of a core.
    pub startup_cpu_millis: Option<u32>,
    /// How it stands to other tasks of the node.
    #[serde(default)]
    pub class: Class,
    /// While it is best-effort: what the isolation loop leaves it, thousandths of a core.
    #[serde(default)]
    pub capped_cpu_millis: Option<u32>,
    /// A command froze it: it is not for the isolation loop to thaw.
    #[serde(default)]
    pub frozen: bool,
    /// Most processes and threads; `None` in files of an agent that knew no such limit.
    #[serde(default)]
    pub processes: Option<u32>,
    /// What its limits have done to it, as far as that was reported.
    #[serde(default)]
    pub strain: Strain,
    /// How its health is found.
    pub health: Option<Health>,
    /// Puma's control server.
    pub puma: Option<PumaControl>,
    /// Its YARN containers have cgroups of their own below its own.
    #[serde(default)]
    pub leaves: bool,
}

impl TaskFile {
    /// The limits in force now.
    pub(super) fn size_now(&self) -> Size {
        Size { cpu_max_millis: self.cpu_in_force(), ..self.in_kernel(&self.size) }
    }

    /// Its own CPU quota, or no quota: what is in force when the isolation loop leaves it alone, thousandths of a core.
    #[must_use]
    pub fn own_cpu_millis(&self) -> Option<u32> {
        self.startup_cpu_millis.or(self.size.cpu_max_millis)
    }

    /// Its CPU quota now, thousandths of a core: its own, or what the isolation loop leaves it.
    pub(super) fn cpu_in_force(&self) -> Option<u32> {
        let capped = self.capped_cpu_millis.filter(|_| self.class == Class::BestEffort);
        [self.own_cpu_millis(), capped].into_iter().flatten().min()
    }

    /// Limits as the kernel takes them: an idle group has no weight, and a quota is what is left to it.
    pub(super) fn in_kernel(&self, size: &Size) -> Size {
        if self.class != Class::BestEffort {
            return *size;
        }
        let cpu_max_millis =
            size.cpu_max_millis.map(|own| self.capped_cpu_millis.map_or(own, |cap| own.min(cap)));
        Size { cpu_weight: None, cpu_max_millis, ..*size }
    }

    /// Takes over limits that are in force now.
    pub(super) fn resized(&mut self, size: &Size) {
        self.size = Size {
            cpu_weight: size.cpu_weight.or(self.size.cpu_weight),
            cpu_max_millis: size.cpu_max_millis.or(self.size.cpu_max_millis),
            memory_high_bytes: size.memory_high_bytes.or(self.size.memory_high_bytes),
            memory_max_bytes: size.memory_max_bytes.or(self.size.memory_max_bytes),
        };
        if size.cpu_max_millis.is_some() {
            self.startup_cpu_millis = None;
        }
    }
}
