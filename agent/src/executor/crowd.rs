//! Tasks that wait for disks: what a round says of them, and the word about it.

use agent_core::crowd;
use model::action::{Crowded, TaskEvent, TaskEventKind};
use model::id::{CgroupId, TaskName};
use model::metric::Metric;
use model::sample::Values;

use super::{Executor, TaskFile};

impl Executor {
    /// What a round says of the disks of the tasks that run; `of` gives what was read of a cgroup.
    pub fn disks<'a>(&self, of: impl Fn(CgroupId) -> Option<&'a Values>) -> Vec<crowd::Reading> {
        let reading = |file: &TaskFile| {
            let values = of(CgroupId(file.cgroup))?;
            let get = |metric| values.get(metric);
            let bytes = get(Metric::IoRead).zip(get(Metric::IoWritten)).map(|(r, w)| r.saturating_add(w));
            Some(crowd::Reading { task: file.task.clone(), stall_us: get(Metric::IoStall), bytes })
        };
        self.running().filter_map(|(file, _, _)| reading(file)).collect()
    }

    /// The words about tasks that wait for disks.
    pub fn crowded(&self, told: Vec<(TaskName, Crowded)>) -> Vec<TaskEvent> {
        let event = |(task, crowded): (TaskName, Crowded)| {
            tracing::warn!(%task, "{crowded}");
            Some(self.tasks.get(&task)?.event(TaskEventKind::Crowded { crowded }))
        };
        told.into_iter().filter_map(event).collect()
    }
}
