//! What a node remembers of commands: one small file per task, and the highest controller epoch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::guard::Fence;
use model::id::{ControllerEpoch, TaskName};

use crate::durable::{self, DurableError};

/// A fence is forgotten this long after its last change, when its task is gone.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// All fences of this node.
#[derive(Debug)]
pub struct Fences {
    directory: PathBuf,
    controller: ControllerEpoch,
    fences: BTreeMap<TaskName, Fence>,
}

impl Fences {
    /// Reads what is on disk; forgets what is older than a day.
    ///
    /// # Errors
    /// [`DurableError`] when the directory cannot be had or a file is damaged.
    pub fn open(state: &std::path::Path) -> Result<Self, DurableError> {
        let directory = state.join("fences");
        let io = |error| DurableError::Io { path: directory.clone(), error };
        std::fs::create_dir_all(&directory).map_err(io)?;
        let mut fences = BTreeMap::new();
        for entry in std::fs::read_dir(&directory).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let Some(task) =
                path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<TaskName>().ok())
            else {
                continue;
            };
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let age = path.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > KEEP) && !state.join("tasks").join(task.as_str()).exists() {
                std::fs::remove_file(&path).map_err(io)?;
                continue;
            }
            if let Some(fence) = durable::read(&path)? {
                fences.insert(task, fence);
            }
        }
        let controller = durable::read(&state.join("controller.json"))?.unwrap_or_default();
        Ok(Self { directory, controller, fences })
    }

    /// The highest epoch seen.
    #[must_use]
    pub fn controller(&self) -> ControllerEpoch {
        self.controller
    }

    /// Notes a controller's epoch, on disk first.
    ///
    /// # Errors
    /// [`DurableError`]: nothing is noted then.
    pub fn saw(&mut self, epoch: ControllerEpoch) -> Result<(), DurableError> {
        if epoch > self.controller {
            let path = self.directory.with_file_name("controller.json");
            durable::write(&path, &epoch)?;
            self.controller = epoch;
        }
        Ok(())
    }

    /// What is remembered of a task.
    #[must_use]
    pub fn get(&self, task: &TaskName) -> Option<&Fence> {
        self.fences.get(task)
    }

    /// Remembers a fence, on disk first.
    ///
    /// # Errors
    /// [`DurableError`]: the command must not take effect then.
    pub fn set(&mut self, task: &TaskName, fence: Fence) -> Result<(), DurableError> {
        durable::write(&self.directory.join(format!("{task}.json")), &fence)?;
        self.fences.insert(task.clone(), fence);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::Generation;

    #[test]
    fn fences_and_the_epoch_survive() {
        let dir = tempfile::tempdir().unwrap();
        let task: TaskName = "web-1".parse().unwrap();
        let fence = Fence { epoch: ControllerEpoch(2), generation: Generation(9), content: 5, outcome: None };
        {
            let mut fences = Fences::open(dir.path()).unwrap();
            fences.saw(ControllerEpoch(2)).unwrap();
            fences.saw(ControllerEpoch(1)).unwrap();
            fences.set(&task, fence.clone()).unwrap();
        }
        let fences = Fences::open(dir.path()).unwrap();
        assert_eq!((fences.controller(), fences.get(&task)), (ControllerEpoch(2), Some(&fence)));
    }
}
